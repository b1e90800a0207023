import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { expandPreset, type Preset } from '../../src/domain/preset.ts';
import { type VariablePattern, variableFault } from '../../src/domain/preset-variables.ts';

const preset: Preset = {
  name: 'desk',
  title: 'Desk',
  category: 'support',
  documentation: 'https://desk.example/docs',
  base_url: 'https://{tenant}.desk.example/{account}/v1',
  variables: {
    tenant: { description: 'the first part of the address', pattern: 'dns-label' },
    account: { description: 'the number of the account', pattern: 'id', default: 'main' },
    email: { description: 'whose token it is', pattern: 'email' },
  },
  api_key: {
    obtain: 'Settings',
    inject: { basic: { username: '{email}/token' } },
    rotation: { api: false, overlap: true, how: 'by hand' },
    revocation: { api: false, how: 'by hand' },
  },
  oauth2: {
    obtain: 'Settings',
    documentation: 'https://desk.example/oauth',
    grant: 'authorization_code',
    authorization_endpoint: 'https://{tenant}.desk.example/authorize',
    token_endpoint: 'https://{tenant}.desk.example/token',
    pkce: true,
    scope_separator: 'space',
    client_authentication: 'client_secret_post',
    refresh_tokens: 'rotating',
    connect_scopes: ['offline_access'],
  },
  scopes: {
    'tickets:read': {
      risk: 'read',
      description: 'Tickets',
      rules: [
        { methods: ['GET'], path: '/tickets/**' },
        { methods: ['POST'], path: '/search', search: true },
      ],
      oauth2: ['tickets.read', 'search'],
    },
    'tickets:write': { risk: 'write', description: 'Tickets', rules: [{ methods: ['POST'], path: '/tickets' }] },
  },
};
const given = { tenant: 'acme', email: 'bot@example.com' };

const problems = (...args: Parameters<typeof expandPreset>): string[] => {
  const expanded = expandPreset(...args);
  return expanded.ok ? [] : expanded.problems;
};
const settings = (...args: Parameters<typeof expandPreset>): Record<string, unknown> => {
  const expanded = expandPreset(...args);
  if (!expanded.ok) throw new Error(expanded.problems.join('\n'));
  return expanded.settings;
};

describe('a preset expands', () => {
  test('for its first provider, unless another one is named', () => {
    expect(expandPreset(preset, { variables: given })).toEqual({
      ok: true,
      provider: 'api-key',
      settings: {
        base_url: 'https://acme.desk.example/main/v1',
        inject: { basic: { username: 'bot@example.com/token' } },
        scopes: {
          'tickets:read': [
            { methods: ['GET'], path: '/tickets/**' },
            { methods: ['POST'], path: '/search' },
          ],
          'tickets:write': [{ methods: ['POST'], path: '/tickets' }],
        },
      },
    });
    expect(expandPreset(preset, { provider: 'oauth2', variables: { tenant: 'acme', client_id: 'app.1' } })).toEqual({
      ok: true,
      provider: 'oauth2',
      settings: {
        base_url: 'https://acme.desk.example/main/v1',
        authorization_endpoint: 'https://acme.desk.example/authorize',
        token_endpoint: 'https://acme.desk.example/token',
        client_id: 'app.1',
        client_auth: 'client_secret_post',
        grant: 'authorization_code',
        narrowing: 'gateway',
        connect_scopes: ['offline_access'],
        scopes: {
          'tickets:read': {
            oauth_scopes: ['tickets.read', 'search'],
            rules: [
              { methods: ['GET'], path: '/tickets/**' },
              { methods: ['POST'], path: '/search' },
            ],
          },
          'tickets:write': { oauth_scopes: [], rules: [{ methods: ['POST'], path: '/tickets' }] },
        },
      },
    });
    expect(problems(preset, { provider: 'postgres', variables: given })).toEqual([
      'provider: preset desk is for api-key or oauth2',
    ]);
  });

  test('to the scopes that are chosen, and says which there are', () => {
    const { scopes } = settings(preset, { variables: given, scopes: ['tickets:write'] });
    expect(Object.keys(Object(scopes))).toEqual(['tickets:write']);
    for (const unknown of [['tickets:delete'], ['tickets:read', 'constructor'], ['__proto__']]) {
      expect(problems(preset, { variables: given, scopes: unknown })).toEqual([
        'scopes: preset desk has tickets:read, tickets:write',
      ]);
    }
    expect(problems(preset, { variables: given, scopes: ['tickets:read'], settings: { scopes: {} } })).toEqual([
      'scopes: settings.scopes replaces those of the preset; give one of the two',
    ]);
  });

  test('with given settings in place of its own, key by key, and then needs no variable of theirs', () => {
    const changed = settings(preset, {
      variables: { email: 'bot@example.com' },
      settings: { base_url: 'http://127.0.0.1:9/{tenant}', allow_private_network: true },
    });
    expect(changed).toMatchObject({
      base_url: 'http://127.0.0.1:9/{tenant}',
      allow_private_network: true,
      inject: { basic: { username: 'bot@example.com/token' } },
    });
  });

  test('or tells every problem at once, without the values', () => {
    expect(
      problems(preset, {
        variables: { account: 'a/../b', shop: 'acme', tenant: 'acme.evil.example' },
        scopes: ['nothing'],
      }),
    ).toEqual([
      'scopes: preset desk has tickets:read, tickets:write',
      'variables: preset desk has tenant, account, email',
      'variables.tenant: one label of a host name: lower-case letters, digits and -, at most 63, no dot',
      'variables.account: letters, digits, _ and -, single dots between them, at most 200',
      'variables.email: is needed: whose token it is',
    ]);
    expect(problems(preset, { provider: 'oauth2', variables: { tenant: 'acme' } })).toEqual([
      'variables.client_id: is needed: the id of the client you registered with the vendor',
    ]);
  });

  test('without looking for placeholders in what was filled in', () => {
    const sly: Preset = {
      ...preset,
      variables: {
        ...preset.variables,
        tenant: { description: 'x', pattern: 'choice', choices: ['{account}', 'acme'] },
      },
    };
    expect(settings(sly, { variables: { ...given, tenant: '{account}' } })['base_url']).toBe(
      'https://{account}.desk.example/main/v1',
    );
  });
});

describe('whatever is given for a variable', () => {
  const hostile = fc.oneof(
    fc.string(),
    fc.string({ unit: 'binary' }),
    fc
      .array(fc.constantFrom('a', 'A', '0', '-', '--', '.', '..', '/', '\\', '@', ':', '?', '#', '%2f', '%', ' ', '\t'))
      .map((parts) => parts.join('')),
    fc.constantFrom(
      ...[
        'evil.example/',
        'evil.example#',
        'evil.example?',
        'a@evil.example',
        'user:pw@x',
        'x:443',
        '[::1]',
        '127.0.0.1',
      ],
      ...[
        'http://evil.example',
        '//evil.example',
        'a\r\nHost: evil',
        'ａcme',
        'acme。evil',
        'a\u200bb',
        'xn--a',
        '..',
        '.',
      ],
      ...['169.254.169.254', '0x7f.1', '2130706433', 'localhost', 'metadata.google.internal.', '-a', 'a-', '{secret}'],
    ),
  );
  const reserved = /[:/?#[\]@\\\s%]/;

  test('a label changes nothing of the URL but its label, and is one', () => {
    fc.assert(
      fc.property(hostile, (tenant) => {
        const expanded = expandPreset(preset, { variables: { ...given, tenant } });
        if (!expanded.ok) return;
        const url = new URL(String(expanded.settings['base_url']));
        expect(url.href).toBe(`https://${tenant}.desk.example/main/v1`);
        expect(url.hostname.split('.')).toEqual([tenant, 'desk', 'example']);
        expect([url.protocol, url.port, url.username, url.password, url.search, url.hash].join('')).toBe('https:');
      }),
      { numRuns: 2000 },
    );
  });

  test('a segment stays one segment of the path', () => {
    fc.assert(
      fc.property(hostile, (account) => {
        const expanded = expandPreset(preset, { variables: { ...given, account } });
        if (!expanded.ok) return;
        const url = new URL(String(expanded.settings['base_url']));
        expect(url.href).toBe(`https://acme.desk.example/${account}/v1`);
        expect(url.pathname.split('/')).toEqual(['', account, 'v1']);
      }),
      { numRuns: 2000 },
    );
  });

  test('a host is a host name, never an address, a port or a path', () => {
    const self: Preset = {
      ...preset,
      base_url: 'https://{host}/api',
      variables: { host: { description: 'x', pattern: 'dns-name' }, email: { description: 'x', pattern: 'email' } },
    };
    const taken: string[] = [];
    fc.assert(
      fc.property(fc.oneof(hostile, fc.domain()), (host) => {
        const expanded = expandPreset(self, { variables: { email: given.email, host } });
        if (!expanded.ok) return;
        taken.push(host);
        const url = new URL(String(expanded.settings['base_url']));
        expect(url.href).toBe(`https://${host}/api`);
        expect(url.hostname).toBe(host);
        expect(host).toMatch(/\.[a-z][a-z0-9-]*$/);
      }),
      { numRuns: 2000 },
    );
    expect(taken.length).toBeGreaterThan(100);
    for (const address of ['127.0.0.1', '0x7f.0.0.0x1', '127.1', '[::1]', 'localhost', '10.0.0.1.', '1.2.3.0x4']) {
      expect(problems(self, { variables: { email: given.email, host: address } })).toHaveLength(1);
    }
  });

  test('a user name has no colon and no control character', () => {
    fc.assert(
      fc.property(fc.oneof(hostile, fc.emailAddress()), (email) => {
        if (variableFault({ pattern: 'email' }, email) !== undefined) return;
        expect(email.replace('@', '')).not.toMatch(reserved);
        expect(email).toMatch(/^[\x21-\x7e]+$/);
      }),
      { numRuns: 2000 },
    );
  });

  test('every pattern is decided at once, however long the value', () => {
    const patterns: VariablePattern[] = ['dns-label', 'dns-name', 'id', 'number', 'email'];
    const long = [...'a.-_@0'].flatMap((character) => [character.repeat(200_000), `a${character}`.repeat(100_000)]);
    const before = process.cpuUsage();
    for (const pattern of patterns) {
      for (const value of long) expect(variableFault({ pattern }, value)).toBeDefined();
    }
    expect(process.cpuUsage(before).user).toBeLessThan(2_000_000);
  });
});
