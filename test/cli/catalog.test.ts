/** `warder catalog`, and connections from presets: the command line against a real broker. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Broker, startBroker } from '../support/broker.ts';
import { type Ended, type Options, run } from './harness.ts';
import { warder } from './real-warder.ts';

let broker: Broker;
let cwd = '';

const on = (args: readonly string[], options: Options = {}): Promise<Ended> =>
  run(args, {
    ...options,
    env: { WARDER_URL: broker.url, WARDER_TOKEN: broker.adminToken, STRIPE_KEY: 'rk_live_0123456789', ...options.env },
  });
const done = async (...args: string[]): Promise<string> => {
  const ended = await on(args);
  if (ended.code !== 0) throw new Error(`${args.join(' ')} ended with ${ended.code}: ${ended.err}`);
  return ended.out;
};

beforeAll(async () => {
  cwd = mkdtempSync(join(tmpdir(), 'warder-catalog-'));
  broker = await startBroker();
});
afterAll(async () => {
  await broker.close();
  rmSync(cwd, { recursive: true, force: true });
});

describe('catalog list', () => {
  test('shows every preset on a line, or those that are searched for', async () => {
    const all = await done('catalog', 'list');
    expect(all.split('\n')[0]).toMatch(/^NAME +SERVICE +CATEGORY +PROVIDERS +SCOPES +VARIABLES +SOURCE$/);
    expect(all.trim().split('\n').length).toBeGreaterThan(60);
    expect(await done('catalog', 'list', '--search', 'zendesk')).toMatch(
      /^zendesk +Zendesk Support +support +api-key +\d+ +subdomain email +built-in$/m,
    );
    const payments = await done('catalog', 'list', '--category', 'payments');
    expect(
      payments
        .trim()
        .split('\n')
        .slice(1)
        .map((line) => line.split(' ')[0]),
    ).toEqual(['paypal', 'square', 'stripe']);
  });

  test('says so when nothing is found, and what categories there are', async () => {
    expect(await on(['catalog', 'list', '--search', 'nothing at all'])).toMatchObject({
      code: 0,
      out: '',
      err: 'none\n',
    });
    const wrong = await on(['catalog', 'list', '--category', 'misc']);
    expect(wrong.code).toBe(1);
    expect(wrong.err).toContain('"observability"');
  });
});

describe('catalog show', () => {
  test('tells how to get a key, what each scope lets through, and the command that comes next', async () => {
    const out = await done('catalog', 'show', 'gitlab');
    for (const line of [
      /^address +https:\/\/\{host\}\/api\/v4$/m,
      /^ {2}host \(default: gitlab\.com\): The host of the GitLab instance$/m,
      /^ {2}Looks like: glpat-…$/m,
      /^ {2}Sent as: header PRIVATE-TOKEN: \{secret\}$/m,
      /^ {2}Rotation: by API; the old key ends when the new begins\. POST /m,
      /^ {2}Revocation: by API\. DELETE /m,
      /^ {2}Grant: authorization_code; PKCE: yes$/m,
      /^ {2}issues:delete \(destructive\): Delete issues$/m,
      /^ {4}DELETE \/projects\/\*\/issues\/\*$/m,
      /^ {4}OAuth: api$/m,
      /^warder connection add NAME --preset gitlab --secret env:NAME\nwarder connection add NAME --preset gitlab --provider oauth2 --var client_id=… --secret env:NAME\nwarder connection connect NAME$/m,
    ]) {
      expect(out).toMatch(line);
    }
    expect(await done('catalog', 'show', 'zendesk')).toMatch(
      / --preset zendesk --var subdomain=… --var email=… --secret/,
    );
    expect(await done('catalog', 'show', 'notion')).toContain('POST /v1/search (only looks)');
  });

  test('colours the risks on a terminal, and nowhere else', async () => {
    const args = ['catalog', 'show', 'stripe'];
    const coloured = (await on(args, { terminal: true })).out;
    const plain = await done(...args);
    expect(coloured).toContain('\x1b[32mread\x1b[39m');
    expect(coloured).toContain('\x1b[33mwrite\x1b[39m');
    expect(coloured).toContain('\x1b[91mdestructive\x1b[39m');
    expect(plain).not.toContain('\x1b');
    expect(stripVTControlCharacters(coloured)).toBe(plain);
    expect((await on(args, { terminal: true, env: { NO_COLOR: '1' } })).out).toBe(plain);
  });

  test('prints with --json what the API answers', async () => {
    const { text } = await broker.admin('GET', '/catalog/stripe');
    expect(await done('catalog', 'show', 'stripe', '--json')).toBe(text);
    const page = await broker.admin('GET', '/catalog?search=git');
    expect(await done('catalog', 'list', '--search', 'git', '--json')).toBe(page.text);
  });

  test('fails for what is no preset', async () => {
    const ended = await on(['catalog', 'show', 'nothing']);
    expect([ended.code, ended.out]).toEqual([1, '']);
    expect(ended.err).toContain('there is no such preset');
  });
});

describe('connection add --preset', () => {
  test('needs a name and a secret, and nothing else', async () => {
    const added = await on(['connection', 'add', 'stripe', '--preset', 'stripe', '--secret', 'env:STRIPE_KEY']);
    expect(added).toMatchObject({ code: 0, err: '' });
    expect(added.out).toMatch(/^Scopes: balance:read, /m);
    const shown = await done('connection', 'show', 'stripe');
    expect(shown).toMatch(/^provider +api-key$/m);
    expect(shown).toMatch(/^secret +version 1$/m);
  });

  test('takes variables, a choice of scopes, and settings of its own', async () => {
    const variables = ['--var', 'subdomain=acme', '--var', 'email=bot@acme.example'];
    await done('connection', 'add', 'desk', '--preset', 'zendesk', ...variables, '--scopes', 'tickets:read,users:read');
    expect(await done('connection', 'show', 'desk')).toMatch(/^scopes +tickets:read users:read$/m);
    await done('connection', 'add', 'lab', '--preset', 'gitlab', '--base-url', 'https://gitlab.example.com/api/v4');
    expect(await done('connection', 'show', 'lab')).toContain('"https://gitlab.example.com/api/v4"');
  });

  test('says that the secret is missing, whichever provider the preset is for', async () => {
    const added = await on(['connection', 'add', 'later', '--preset', 'sendgrid']);
    expect(added.code).toBe(0);
    expect(added.err).toContain('warder connection set-secret later');
  });

  test('is refused with the reason, or is wrong usage', async () => {
    const add = async (...args: string[]): Promise<[number, string]> => {
      const { code, err } = await on(['connection', 'add', 'x', ...args]);
      return [code, err];
    };
    expect(await add('--preset', 'zendesk')).toEqual([1, expect.stringContaining('variables.subdomain: is needed')]);
    expect(await add('--preset', 'nothing')).toEqual([1, expect.stringContaining('there is none of this name')]);
    expect(await add('--preset', 'stripe', '--scopes', 'all')).toEqual([1, expect.stringContaining('scopes: preset')]);
    expect(await add('--provider', 'api-key', '--var', 'a=b')).toEqual([
      2,
      expect.stringContaining('belong to --preset'),
    ]);
    expect(await add()).toEqual([2, expect.stringContaining('--provider or --preset is missing')]);
    for (const wrong of ['subdomain', '=acme', 'A=b', '__proto__=x']) {
      expect(await add('--preset', 'zendesk', '--var', wrong)).toEqual([2, expect.any(String)]);
    }
    expect(await add('--preset', 'zendesk', '--var', 'email=a', '--var', 'email=b')).toEqual([2, expect.any(String)]);
  });
});

describe('serve with a folder of presets that is wrong', () => {
  test('says every problem with file and line, and ends with 2', async () => {
    const presets = mkdtempSync(join(cwd, 'presets-'));
    writeFileSync(join(presets, 'one.yaml'), 'name: one\ntitle: [\n');
    writeFileSync(join(presets, 'two.yaml'), 'name: two\nname: two\n');
    const env = { WARDER_CATALOG_DIR: presets, WARDER_DATA_DIR: join(cwd, 'data'), WARDER_LISTEN: '127.0.0.1:0' };
    const { code, out, err } = await warder(['serve'], {
      cwd,
      env: { ...env, WARDER_PUBLIC_URL: 'http://127.0.0.1:7300', WARDER_LOG_LEVEL: 'silent' },
    });
    expect([code, out]).toEqual([2, '']);
    expect(err).toContain('the presets are wrong:\n');
    expect(err).toMatch(/^ {2}- \S+one\.yaml line \d: not valid YAML \(/m);
    expect(err).toMatch(/^ {2}- \S+two\.yaml line 2: the same key twice$/m);
  });
});
