/** Folders of presets as somebody might write them, by mistake or on purpose. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import { CatalogRefused, openCatalog } from '../../../adapters/catalog/load.ts';
import { apiKeyProvider } from '../../../adapters/providers/api-key.ts';
import { removeTemporaryDirs, temporaryDir } from '../../support/broker.ts';

afterAll(removeTemporaryDirs);

const providers = new Map([['api-key', apiKeyProvider]]);
const good = `name: desk
title: Desk
category: support
documentation: https://desk.example/docs
base_url: https://{tenant}.desk.example/v1
variables:
  tenant:
    description: the first part of the address
    pattern: dns-label
api_key:
  obtain: Settings
  inject: { header: Authorization, value: 'Bearer {secret}' }
  rotation: { api: false, overlap: true, how: by hand }
  revocation: { api: false, how: by hand }
scopes:
  tickets:read:
    risk: read
    description: Tickets
    rules:
      - { methods: [GET], path: /tickets/** }
  tickets:write:
    risk: write
    description: Tickets
    rules:
      - { methods: [POST], path: /tickets }
`;

const folderOf = (files: Record<string, string | Uint8Array>): string => {
  const folder = temporaryDir();
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
  return folder;
};
/** Every problem of a folder, with the path of the folder cut off. */
const problemsIn = (folder: string): string[] => {
  try {
    openCatalog({ customDir: folder, providers });
  } catch (error) {
    if (!(error instanceof CatalogRefused)) throw error;
    expect(error.message.split('\n')).toEqual(error.problems);
    return error.problems.map((problem) => problem.replace(`${folder}/`, ''));
  }
  return [];
};
const problems = (content: string | Uint8Array): string[] => problemsIn(folderOf({ 'desk.yaml': content }));
const changed = (from: string | RegExp, to: string): string => {
  const text = good.replace(from, to);
  if (text === good) throw new Error('nothing was changed');
  return text;
};

describe('a folder of presets', () => {
  test('is read beside the built-in ones, and its presets are marked', async () => {
    const catalog = openCatalog({ customDir: folderOf({ 'desk.yaml': good }), providers });
    expect(catalog.named('desk')).toMatchObject({ source: 'custom', preset: { title: 'Desk' } });
    expect(catalog.named('stripe')).toMatchObject({ source: 'built-in' });
    expect(catalog.named('nobody')).toBeUndefined();
    for (const name of ['__proto__', 'constructor', '../load', 'stripe.yaml', 'STRIPE', '']) {
      expect(catalog.named(name)).toBeUndefined();
    }
    const all = (await catalog.entries()).map(({ preset }) => preset.name);
    expect(all).toEqual([...all].sort());
    expect(all).toContain('desk');
  });

  test('gives the same preset the same digest, however it is written down, and another one another', () => {
    const digest = (content: string) =>
      openCatalog({ customDir: folderOf({ 'desk.yaml': content }), providers }).named('desk')?.digest;
    const reordered = good.replace('title: Desk\ncategory: support\n', 'category: "support" # ours\ntitle: Desk\n');
    expect(digest(good)).toMatch(/^[0-9a-f]{64}$/);
    expect(digest(reordered)).toBe(digest(good));
    expect(digest(changed('/tickets/**', '/tickets/*'))).not.toBe(digest(good));
  });

  test('may be empty, and may hold what is no preset by its name', () => {
    expect(problemsIn(temporaryDir())).toEqual([]);
    const folder = folderOf({ 'README.md': '# ours', 'desk.yaml~': '{{{', '.desk.yaml.swp': '\0' });
    mkdirSync(join(folder, 'old'));
    expect(problemsIn(folder)).toEqual([]);
  });

  test('may be mounted from a ConfigMap, whose files are links within it', () => {
    const folder = temporaryDir();
    mkdirSync(join(folder, '..2026'));
    writeFileSync(join(folder, '..2026', 'desk.yaml'), good);
    symlinkSync('..2026', join(folder, '..data'));
    symlinkSync('..data/desk.yaml', join(folder, 'desk.yaml'));
    expect(openCatalog({ customDir: folder, providers }).named('desk')?.source).toBe('custom');
  });

  test('that is missing, or is a file, is said by its path', () => {
    const folder = folderOf({ 'desk.yaml': good });
    expect(problemsIn(join(folder, 'none'))).toEqual([
      expect.stringMatching(/none: cannot be read as a folder \(ENOENT\)$/),
    ]);
    expect(problemsIn(join(folder, 'desk.yaml'))).toEqual([
      expect.stringMatching(/desk.yaml: cannot be read as a folder \(ENOTDIR\)$/),
    ]);
  });

  test('may not have a preset of the name of a built-in one, nor two of one name', () => {
    expect(problemsIn(folderOf({ 'stripe.yaml': good.replace('name: desk', 'name: stripe') }))).toEqual([
      'stripe.yaml: there is a preset stripe already; give this one another name',
    ]);
    expect(problemsIn(folderOf({ 'desk.yaml': good, 'desk.yml': good }))).toEqual([
      'desk.yml: there is a preset desk already; give this one another name',
    ]);
  });

  test('with something wrong in several files says all of it, and loads none', () => {
    const folder = folderOf({
      'a.yaml': good.replace('name: desk', 'name: a').replace('/tickets/**', '/tickets/%2f'),
      'b.yaml': '- just a list\n',
      'c.yaml': good.replace('name: desk', 'name: c'),
      'd.yaml': good,
    });
    expect(problemsIn(folder)).toEqual([
      'a.yaml line 20: scopes.tickets:read.rules.0: encoded_delimiter',
      'b.yaml line 1: Invalid input: expected object, received array',
      'd.yaml line 1: name: must be the name of the file',
    ]);
  });
});

describe('what is no plain file of bounded size', () => {
  test('is refused without being read', () => {
    const folder = folderOf({ 'large.yaml': `${good}# ${'x'.repeat(70_000)}` });
    mkdirSync(join(folder, 'folder.yaml'));
    symlinkSync('/etc/passwd', join(folder, 'outside.yaml'));
    symlinkSync('nowhere', join(folder, 'dangling.yaml'));
    symlinkSync('loop.yaml', join(folder, 'loop.yaml'));
    symlinkSync('/dev/zero', join(folder, 'zero.yaml'));
    expect(spawnSync('mkfifo', [join(folder, 'fifo.yaml')]).status).toBe(0);
    expect(problemsIn(folder)).toEqual([
      'dangling.yaml: cannot be read (ENOENT)',
      'fifo.yaml: not a file',
      'folder.yaml: not a file',
      'large.yaml: larger than 65536 bytes',
      'loop.yaml: cannot be read (ELOOP)',
      'outside.yaml: a link that leads elsewhere',
      'zero.yaml: a link that leads elsewhere',
    ]);
  });

  test('more files than any company has are refused at once', () => {
    const folder = folderOf(Object.fromEntries(Array.from({ length: 501 }, (_, i) => [`p${i}.yaml`, ''])));
    expect(problemsIn(folder)).toEqual([expect.stringContaining('more than 500 presets')]);
  });

  test('a sibling folder whose name begins alike is elsewhere', () => {
    const folder = folderOf({});
    const sibling = `${folder}-evil`;
    mkdirSync(sibling);
    writeFileSync(join(sibling, 'desk.yaml'), good);
    symlinkSync(join(sibling, 'desk.yaml'), join(folder, 'desk.yaml'));
    expect(problemsIn(folder)).toEqual(['desk.yaml: a link that leads elsewhere']);
    rmSync(sibling, { recursive: true });
  });

  (process.getuid?.() === 0 ? test.skip : test)('one that may not be read is said (not as root)', () => {
    const folder = folderOf({ 'desk.yaml': good });
    chmodSync(join(folder, 'desk.yaml'), 0);
    expect(problemsIn(folder)).toEqual(['desk.yaml: cannot be read (EACCES)']);
  });
});

describe('YAML beyond the plain', () => {
  const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\n${[...'bcdefghi']
    .map((name, i) => `${name}: &${name} [${`*${'abcdefgh'[i]},`.repeat(9)}]`)
    .join('\n')}\n`;
  const cases: [string, string | Uint8Array, string | RegExp][] = [
    ['an alias bomb', bomb, /no aliases|no anchors/],
    ['an alias', `${good}notes: *x\n`, /not valid YAML|no aliases/],
    ['an anchor', good.replace('title: Desk', 'title: &t Desk'), 'desk.yaml line 2: no anchors'],
    ['a merge key', good.replace('title: Desk', '<<: { title: Desk }'), 'desk.yaml line 2: …: unknown key'],
    ['a tag', good.replace('title: Desk', 'title: !!binary Desk'), /desk.yaml line 2: (no tags|not valid YAML)/],
    ['a tag of somebody’s own', good.replace('title: Desk', 'title: !env DESK'), /desk.yaml line 2: /],
    ['a directive', `%YAML 1.1\n---\n${good}`, 'desk.yaml line 1: no directives'],
    ['a tag directive', `%TAG ! tag:evil.example,2026:\n---\n${good}`, 'desk.yaml line 1: no directives'],
    ['two documents', `${good}---\n${good}`, /desk.yaml line 2\d: not valid YAML \(MULTIPLE_DOCS\)/],
    [
      'the same key twice',
      good.replace('title: Desk', 'title: Desk\ntitle: Desk'),
      'desk.yaml line 3: the same key twice',
    ],
    ['a prototype', good.replace('title: Desk', '__proto__: { title: Desk }'), 'line 2: this key is not allowed'],
    ['a constructor', good.replace('tickets:read:', 'constructor:'), 'line 16: this key is not allowed'],
    ['a key that is a list', good.replace('title: Desk', '? [a, b]\n: Desk'), 'line 2: a key must be a plain text'],
    ['a key that is a number', good.replace('title: Desk', '7: Desk'), 'line 2: a key must be a plain text'],
    ['a key that is null', good.replace('title: Desk', '~: Desk'), 'line 2: a key must be a plain text'],
    ['deep brackets', `notes: ${'['.repeat(20_000)}`, 'line 1: nested deeper than 32 levels'],
    ['deep braces', `notes: ${'{a: '.repeat(10_000)}`, 'line 1: nested deeper than 32 levels'],
    ['deep compact lists', `notes:\n  ${'- '.repeat(20_000)}x`, 'line 1: nested deeper than 32 levels'],
    ['bytes that are not UTF-8', new Uint8Array([0x6e, 0x3a, 0x20, 0xff, 0xfe]), 'line 1: not YAML in UTF-8'],
    ['UTF-16', Buffer.from(good, 'utf16le'), /desk.yaml line 1: /],
    ['NUL', `${good}\0`, /desk.yaml line \d+: /],
    ['nothing', '', 'desk.yaml line 1: Invalid input: expected object'],
    ['a tab for indentation', good.replace('    rules:', '\t rules:'), /desk.yaml line \d+: not valid YAML/],
  ];
  test.each(cases)('%s is refused, with the line', (_, content, expected) => {
    const found = problems(content);
    expect(found.length).toBeGreaterThan(0);
    for (const line of found) expect(line).toMatch(/^desk\.yaml(?: line \d+: |: and \d+ more problems$)/);
    if (typeof expected === 'string') expect(found.join('\n')).toContain(expected);
    else expect(found.join('\n')).toMatch(expected);
  });

  test('64 KiB of anything cost less than two seconds, and are told in few lines', () => {
    const size = 65_000;
    for (const unit of [
      '- ',
      '? ',
      ': ',
      '"',
      "'",
      '|\n',
      '>\n ',
      '[[',
      '{,',
      '- [',
      '&a ',
      '*a ',
      '!',
      '#',
      '%',
      'a: ',
      ' \n',
      '\t',
      '- - ',
      'a: 1\n',
      '*a\n',
    ]) {
      const before = process.cpuUsage();
      const found = problems(unit.repeat(Math.floor(size / unit.length)));
      const { user, system } = process.cpuUsage(before);
      expect([unit, (user + system) / 1_000_000 < 2]).toEqual([unit, true]);
      expect(found.length).toBeLessThanOrEqual(21);
    }
  });

  test('a file of another kind is told in few lines', () => {
    const other = Array.from({ length: 3000 }, (_, i) => `key${i}: value`).join('\n');
    const found = problems(other);
    expect(found).toHaveLength(21);
    expect(found.at(-1)).toMatch(/^desk\.yaml: and \d+ more problems$/);
  });

  test('no message repeats what stands in the file', () => {
    const canary = 'sk_live_canary_0123456789';
    for (const content of [
      good.replace('title: Desk', `title: ${canary}\n${canary}: x`),
      good.replace('title: Desk', `title: [${canary}]`),
      good.replace('support', canary),
      good.replace('https://desk.example/docs', `http://${canary}.example`),
      good.replace('/tickets/**', `/%2f${canary}`),
      good.replace('risk: read', `risk: ${canary}`),
      good.replace('pattern: dns-label', `pattern: dns-label\n    default: ${canary.toUpperCase()}!`),
      `${canary}\n`,
      `"${canary}`,
    ]) {
      const found = problems(content).join('\n');
      expect(found).not.toBe('');
      expect(found.replaceAll(`${canary}: unknown key`, '')).not.toContain(canary);
    }
  });
});

describe('what a preset says', () => {
  const cases: [string, string, string][] = [
    ['an unknown field', good.replace('title: Desk', 'title: Desk\ntitel: Desk'), 'line 3: titel: unknown key'],
    ['http', good.replace('https://{tenant}', 'http://{tenant}'), 'line 5: base_url: an https:// URL'],
    ['a port', good.replace('.desk.example/v1', '.desk.example:8443/v1'), 'line 5: base_url: https:// with a host'],
    ['a user', good.replace('https://{tenant}', 'https://a@{tenant}'), 'line 5: base_url: https:// with a host'],
    ['a query', good.replace('/v1', '/v1?a=b'), 'line 5: base_url: https:// with a host'],
    ['half a label', good.replace('{tenant}', 'x-{tenant}'), 'line 5: base_url: a variable must be a whole label'],
    ['a label at the top', good.replace('{tenant}.desk.example', '{tenant}.com'), 'before a domain of two labels'],
    [
      'a label for a top-level domain',
      good.replace('{tenant}.desk.example', 'desk.{tenant}'),
      'before a domain of two',
    ],
    [
      'a host that does not begin one',
      changed('dns-label', 'dns-name').replace('{tenant}.desk', 'a.{tenant}.desk'),
      'a dns-name can only begin a host',
    ],
    ['an email in a host', changed('dns-label', 'email'), 'a variable of pattern email cannot stand in the host'],
    ['an undeclared variable', good.replace('/v1', '/{version}'), 'line 5: base_url: names a variable that is not'],
    ['a variable nobody names', good.replace('{tenant}', 'acme'), 'line 7: variables.tenant: is named nowhere'],
    [
      'a default that does not fit',
      changed('dns-label', 'dns-label\n    default: a.b'),
      'variables.tenant.default: one label',
    ],
    ['a variable called secret', good.replaceAll('tenant', 'secret'), 'have a meaning of their own'],
    ['choices without a choice', changed('dns-label', 'choice'), 'choices are given exactly where'],
    ['no way in', good.replace(/api_key:[\s\S]*(?=scopes:)/, ''), 'api_key or oauth2 is needed'],
    ['a POST among the reads', changed('methods: [GET]', 'methods: [POST]'), 'a read scope has GET, HEAD, OPTIONS'],
    [
      'a DELETE marked as a search',
      changed('methods: [GET]', 'search: true, methods: [DELETE]'),
      'a read scope has GET',
    ],
    ['a DELETE among the writes', changed('methods: [POST]', 'methods: [DELETE]'), 'DELETE belongs into a destructive'],
    ['a star among the writes', changed('methods: [POST]', "methods: ['*']"), 'DELETE belongs into a destructive'],
    ['a secret put twice', changed("'Bearer {secret}'", "'{secret} {secret}'"), 'as api-key: settings.inject'],
    ['a secret put nowhere', changed("'Bearer {secret}'", 'Bearer'), 'as api-key: settings.inject'],
    ['a header that frames', changed('header: Authorization', 'header: Host'), 'as api-key: settings.inject'],
    ['text that hides', changed('title: Desk', 'title: "De\\u202Esk"'), 'line 2: title: one line'],
    ['a text of several lines', changed('title: Desk', 'title: "De\\nsk"'), 'line 2: title: one line'],
    ['a number for a text', changed('title: Desk', 'title: 7'), 'line 2: title: '],
    ['no for a truth', changed('api: false', "api: 'no'"), 'api_key.rotation.api: '],
    [
      'a page that is not https',
      changed('https://desk.example/docs', 'javascript:alert(1)'),
      'documentation: an https',
    ],
    ['a private address', changed('{tenant}.desk.example/v1', '127.0.0.1/{tenant}'), 'base_url: '],
    ['metadata', changed('{tenant}.desk.example/v1', '169.254.169.254/{tenant}'), 'base_url: '],
  ];
  test.each(cases)('%s is refused with its place', (_, content, expected) => {
    expect(problems(content).join('\n')).toContain(expected);
  });

  test('an act that a calmer scope allows as well is refused: its mark would say too little', () => {
    const wide = `${changed('path: /tickets }', 'path: /tickets/** }')}  tickets:close:
    risk: destructive
    description: Close
    rules:
      - { methods: [POST], path: /tickets/*/close }
`;
    expect(problems(wide)).toEqual([
      'desk.yaml line 30: scopes.tickets:close.rules.0: is destructive, and allowed by tickets:write as well',
    ]);
  });

  test('the example of the documentation is taken', () => {
    const [, example = ''] =
      /```yaml\n# yaml-language-server[^\n]*\n([\s\S]*?)```/.exec(
        readFileSync(join(import.meta.dirname, '../../../docs/catalog.md'), 'utf8'),
      ) ?? [];
    const name = /^name: (\S+)/m.exec(example)?.[1] ?? '';
    expect(name).not.toBe('');
    expect(problemsIn(folderOf({ [`${name}.yaml`]: example }))).toEqual([]);
  });
});
