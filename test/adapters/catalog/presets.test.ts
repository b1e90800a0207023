/** Every preset that is shipped, held to what a preset promises. Whether the vendor agrees is a person's to check. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import { z } from 'zod';
import { openCatalog } from '../../../adapters/catalog/load.ts';
import { presetSchema } from '../../../adapters/catalog/schema.ts';
import { openNetwork } from '../../../adapters/network.ts';
import { openProviders } from '../../../adapters/registry.ts';
import { compileRule, matches } from '../../../src/domain/gateway-rules.ts';
import { expandPreset, type Preset, presetCategories, providersOf } from '../../../src/domain/preset.ts';

const root = join(import.meta.dirname, '../../..');
const folder = join(root, 'adapters/catalog');
const files = readdirSync(folder).filter((name) => !name.endsWith('.ts'));
const names = files.map((name) => name.replace(/\.yaml$/, ''));

const network = openNetwork();
const providers = openProviders({ network });
const catalog = openCatalog({ customDir: undefined, providers });
afterAll(() => network.close());

const preset = (name: string): Preset => {
  const entry = catalog.named(name);
  if (!entry) throw new Error(`no preset ${name}`);
  return entry.preset;
};

/** What somebody would answer for each variable that has no default. */
const answers: Record<string, Record<string, string>> = {
  auth0: { host: 'acme.eu.auth0.com' },
  docusign: { host: 'eu.docusign.net', account_id: '0a1b' },
  twilio: { account_sid: 'AC0', key_sid: 'SK0' },
};
const samples: Record<string, string> = {
  'dns-label': 'acme',
  'dns-name': 'acme.example.com',
  id: 'a-1',
  number: '7',
  email: 'bot@example.com',
};
const variablesFor = (one: Preset): Record<string, string> => ({
  ...Object.fromEntries(
    Object.entries(one.variables ?? {}).flatMap(([name, { pattern, default: usual }]) =>
      usual === undefined && pattern !== 'choice' ? [[name, samples[pattern] ?? '']] : [],
    ),
  ),
  ...answers[one.name],
});

describe('the catalogue', () => {
  test('has at least sixty services, and says so many in its documentation', () => {
    expect(names.length).toBeGreaterThanOrEqual(60);
    expect(readFileSync(join(root, 'docs/catalog.md'), 'utf8')).toContain(`${names.length} presets`);
  });

  test('has nothing but presets, each in a file of its name', async () => {
    expect(files.filter((name) => !name.endsWith('.yaml'))).toEqual([]);
    const entries = await catalog.entries();
    expect(entries.map((entry) => entry.preset.name)).toEqual(names.sort());
    expect(new Set(entries.map((entry) => entry.preset.title)).size).toBe(entries.length);
    expect(new Set(entries.map((entry) => entry.digest)).size).toBe(entries.length);
  });

  test('has something of every category', async () => {
    const used = new Set((await catalog.entries()).map((entry) => entry.preset.category));
    expect([...presetCategories].filter((category) => !used.has(category))).toEqual([]);
  });

  test('is described by the JSON Schema that editors are given', () => {
    const file = join(root, 'docs/catalog.schema.json');
    const schema = `${JSON.stringify(z.toJSONSchema(presetSchema, { io: 'input' }), null, 2)}\n`;
    if (process.env['WARDER_UPDATE_GOLDEN']) writeFileSync(file, schema);
    expect(readFileSync(file, 'utf8')).toBe(schema);
  });
});

describe.each(names)('preset %s', (name) => {
  test('expands to settings its providers take, and to the scopes it names', () => {
    const one = preset(name);
    const claimed = providersOf(one);
    expect(claimed.length).toBeGreaterThan(0);
    for (const type of claimed) {
      const variables = { ...variablesFor(one), ...(type === 'oauth2' ? { client_id: 'client' } : {}) };
      const expanded = expandPreset(one, { provider: type, variables });
      if (!expanded.ok) throw new Error(expanded.problems.join('\n'));
      const provider = providers.get(type);
      if (!provider) throw new Error(`no provider ${type}`);
      const checked = provider.checkSettings(expanded.settings);
      if (!checked.ok) throw new Error(checked.problems.join('\n'));
      expect(provider.enforcement(checked.value)).toBe('gateway');
      expect(provider.scopes(checked.value).sort()).toEqual(Object.keys(one.scopes).sort());
      for (const scope of Object.keys(one.scopes)) {
        expect(provider.gatewayRules?.(checked.value, scope)).toEqual(
          one.scopes[scope]?.rules.map(({ methods, path }) => ({ methods, path })),
        );
      }
      expect(JSON.stringify(checked.value).replaceAll('{secret}', '')).not.toMatch(/\{[a-z_]+\}/);
    }
  });

  test('lets nothing but looking through its read scopes, and no DELETE through its write scopes', () => {
    for (const { risk, rules } of Object.values(preset(name).scopes)) {
      for (const { methods, search } of rules) {
        const acting = methods.filter((method) => !['GET', 'HEAD', 'OPTIONS'].includes(method));
        if (risk === 'read') expect(acting.length === 0 || (search && acting.join() === 'POST')).toBe(true);
        if (risk === 'write') expect(acting).not.toContain('DELETE');
        if (risk !== 'read') expect(search).toBeUndefined();
      }
    }
  });

  test('grants no place as a whole: every rule begins with a path of its own', () => {
    for (const { rules } of Object.values(preset(name).scopes)) {
      for (const rule of rules) {
        const compiled = compileRule(rule);
        if (!compiled.ok) throw new Error(`${rule.path}: ${compiled.why}`);
        expect(matches(compiled.rule, rule.methods[0] ?? '', '/a/path/that/no/vendor/has/at/all')).toBe(false);
        expect(rule.methods).not.toContain('*');
      }
    }
  });

  test('names pages and endpoints that are https', () => {
    const one = preset(name);
    const { oauth2 } = one;
    const urls = [
      ...[one.documentation, one.base_url, oauth2?.documentation],
      ...[oauth2?.authorization_endpoint, oauth2?.token_endpoint, oauth2?.revocation_endpoint],
    ];
    for (const url of urls) if (url !== undefined) expect(url).toMatch(/^https:\/\/[a-z{]/);
  });
});
