/** What an operator may write about a Vault, and what it is taken for. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { openNetwork } from '../../../adapters/network.ts';
import { mayBeRead, parsedVaultSettings } from '../../../adapters/providers/vault/settings.ts';
import { openVaultProvider } from '../../../adapters/providers/vault.ts';
import { encodePath, isKvPath, isVaultPath, leavesVaultAlone } from '../../../adapters/vault/path.ts';
import { authority } from '../../vendors/vault/certificates.ts';

const provider = openVaultProvider(openNetwork());
const good = {
  address: 'https://vault.example.com:8200',
  scopes: { readonly: { path: 'database/creds/readonly' } },
};
const problemsOf = (over: object): string[] => {
  const checked = provider.checkSettings({ ...good, ...over });
  return checked.ok ? [] : checked.problems;
};

test('the shortest settings are enough, and are written out', () => {
  const checked = provider.checkSettings(good);
  expect(checked).toEqual({
    ok: true,
    value: {
      ...good,
      allow_private_network: false,
      auth: { method: 'token' },
      child_tokens: true,
      readable: [],
      scopes: { readonly: { path: 'database/creds/readonly', method: 'read', parameters: {} } },
    },
  });
});

test('an authority in PEM is kept in single lines, and understood again as it is kept', () => {
  const checked = provider.checkSettings({ ...good, ca: `${authority}\n${authority}` });
  if (!checked.ok) throw new Error(checked.problems.join());
  expect(checked.value['ca']).toEqual([expect.not.stringContaining('\n'), expect.any(String)]);
  expect(provider.checkSettings(checked.value)).toEqual(checked);
});

describe('refused, with the name of the field', () => {
  const scope = (over: object) => ({ scopes: { s: { path: 'database/creds/x', ...over } } });
  const cases: [string, object, string][] = [
    ['a path', { address: 'https://vault.example.com/vault' }, 'settings.address'],
    ['a query', { address: 'https://vault.example.com?x=1' }, 'settings.address'],
    ['credentials in the address', { address: 'https://a:b@vault.example.com' }, 'settings.address'],
    ['capitals in the address', { address: 'https://VAULT.example.com' }, 'settings.address'],
    ['clear text', { address: 'http://vault.example.com' }, 'settings.address'],
    ['a private address', { address: 'https://10.0.0.1:8200' }, 'settings.address'],
    ['the metadata of a cloud', { address: 'http://169.254.169.254', allow_private_network: true }, 'settings.address'],
    ['another protocol', { address: 'ftp://vault.example.com' }, 'settings.address'],
    ['no address', { address: 'vault' }, 'settings.address'],
    ['a namespace that leaves', { namespace: '../root' }, 'settings.namespace'],
    ['a namespace of two lines', { namespace: 'a\nX-Vault-Token: x' }, 'settings.namespace'],
    [
      'an authority that is none',
      { ca: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----' },
      'settings.ca',
    ],
    ['an unknown way in', { auth: { method: 'ldap' } }, 'settings.auth.method'],
    ['a mount that leaves', { auth: { method: 'approle', mount: '../sys' } }, 'settings.auth.mount'],
    ['a mount that is Vault’s own', { auth: { method: 'approle', mount: 'sys/seal' } }, 'settings.auth.mount'],
    ['a role with a slash', { auth: { method: 'kubernetes', role: 'a/b' } }, 'settings.auth.role'],
    ['policies of tokens that are not made', { child_tokens: false, child_policies: ['x'] }, 'settings.child_policies'],
    ['the policy root', { child_policies: ['root'] }, 'settings.child_policies'],
    ['nothing to do', { scopes: {} }, 'settings.scopes'],
    ['a path of sys', scope({ path: 'sys/policies/acl/x' }), 'settings.scopes.s.path'],
    ['a path of sys behind a namespace', scope({ path: 'team/sys/seal' }), 'settings.scopes.s.path'],
    ['a path of auth', scope({ path: 'auth/token/create' }), 'settings.scopes.s.path'],
    ['a path of identity', scope({ path: 'Identity/oidc/token/x' }), 'settings.scopes.s.path'],
    ['a leading slash', scope({ path: '/database/creds/x' }), 'settings.scopes.s.path'],
    ['a trailing slash', scope({ path: 'database/creds/' }), 'settings.scopes.s.path'],
    ['dots', scope({ path: 'database/../sys/seal' }), 'settings.scopes.s.path'],
    ['encoded dots', scope({ path: 'database/%2e%2e/sys' }), 'settings.scopes.s.path'],
    ['a query in a path', scope({ path: 'database/creds/x?list=true' }), 'settings.scopes.s.path'],
    ['an unknown method', scope({ method: 'delete' }), 'settings.scopes.s.method'],
    ['a list in a query', scope({ parameters: { a: ['b'] } }), 'settings.scopes.s.parameters.a'],
    [
      'the life given twice',
      scope({ parameters: { ttl: '1h' }, ttl_parameter: 'ttl' }),
      'settings.scopes.s.parameters.ttl',
    ],
    ['a deep parameter', scope({ method: 'write', parameters: { a: { b: 1 } } }), 'settings.scopes.s.parameters.a'],
    ['__proto__ as a scope', { scopes: JSON.parse('{"__proto__":{"path":"a/b"}}') }, 'settings.scopes'],
    ['a readable path outside a KV engine', { readable: ['database/creds/x'] }, 'settings.readable.0'],
    ['a readable path of sys', { readable: ['sys/data/x'] }, 'settings.readable.0'],
    ['all of a mount’s metadata', { readable: ['secret/metadata/*'] }, 'settings.readable.0'],
    ['a star in the middle', { readable: ['secret/data/*/x'] }, 'settings.readable.0'],
    ['everything', { readable: ['*'] }, 'settings.readable.0'],
    ['a field that does not exist', { policies: [] }, 'settings'],
  ];
  test.each(cases)('%s', (_what, over, place) => {
    const problems = problemsOf(over);
    expect(problems.map((problem) => problem.split(':')[0])).toContain(place);
  });
});

test('the secret is a token, or both halves of an AppRole', () => {
  const accepts = (secret: unknown): boolean => provider.checkSecret(secret).ok;
  expect([{ token: 'hvs.x' }, { role_id: 'a', secret_id: 'b' }, undefined].map(accepts)).toEqual([true, true, true]);
  for (const secret of [
    {},
    { token: '' },
    { token: 'a\nb' },
    { role_id: 'a' },
    { token: 'a', role_id: 'b' },
    'hvs.x',
  ]) {
    const checked = provider.checkSecret(secret);
    expect(checked).toEqual({ ok: false, problems: [expect.stringMatching(/^secret/)] });
  }
});

test('the secret is for this Vault, this namespace and this way in', () => {
  const of = (over: object): string | undefined => {
    const checked = provider.checkSettings({ ...good, ...over });
    return checked.ok ? provider.secretDestination?.(checked.value) : undefined;
  };
  const destinations = [
    {},
    { address: 'https://vault.example.org:8200' },
    { namespace: 'team-a' },
    { auth: { method: 'approle' } },
    { auth: { method: 'approle', mount: 'other' } },
  ].map(of);
  expect(new Set(destinations).size).toBe(5);
  expect(of({ address: 'https://vault.example.com:8200/' })).toBe(destinations[0]);
  expect(of({ scopes: { other: { path: 'a/b' } } })).toBe(destinations[0]);
});

test('several scopes of a grant are refused before anything is made', () => {
  const ask = (scopes: string[]) =>
    provider.checkRequest?.({ scopes } as Parameters<NonNullable<typeof provider.checkRequest>>[0]);
  expect(ask(['a'])).toEqual({ ok: true, value: {} });
  expect(ask(['a', 'b'])).toEqual({ ok: false, problems: [expect.stringContaining('scopes: one a grant')] });
});

describe('paths', () => {
  test('whatever is accepted is sent as it was judged: Vault decodes it to the same segments', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[A-Za-z0-9_.@:+=,~ /%?#\\-]{1,40}$/)), (path) => {
        if (!isVaultPath(path)) return;
        const url = new URL(`https://vault.example.com/v1/${encodePath(path)}`);
        expect(url.search + url.hash).toBe('');
        expect(decodeURIComponent(url.pathname)).toBe(`/v1/${path}`);
        expect(path.split('/')).not.toContain('..');
      }),
      { numRuns: 2000 },
    );
  });

  test('no KV path leads into what Vault is managed by', () => {
    const part = fc.constantFrom('sys', 'auth', 'identity', 'cubbyhole', 'SYS', 'data', 'secret', 'a', '..', '');
    fc.assert(
      fc.property(fc.array(part, { maxLength: 5 }), (parts) => {
        const path = parts.join('/');
        if (!isKvPath(path)) return;
        expect(leavesVaultAlone(path.slice(0, path.indexOf('data')))).toBe(true);
        expect(path.split('/').indexOf('data')).toBeGreaterThan(0);
      }),
      { numRuns: 2000 },
    );
  });

  test('only what is named as readable is read', () => {
    const settings = parsedVaultSettings({ ...good, readable: ['secret/data/stripe', 'team/kv/data/warder/*'] });
    const reads = (path: string): boolean => mayBeRead(settings, path);
    expect(['secret/data/stripe', 'team/kv/data/warder/a', 'team/kv/data/warder/a/b'].map(reads)).toEqual([
      true,
      true,
      true,
    ]);
    for (const path of [
      ...['secret/data/stripe2', 'secret/data/stripe/x', 'secret/data', 'secret/metadata/stripe', 'secret/stripe'],
      ...['team/kv/data/warder', 'team/kv/data/warder/', 'team/kv/data/warder/../x', 'team/kv/data/warder/%2e%2e/x'],
      ...['team/kv/data/warderx/a', 'Secret/data/stripe', '/secret/data/stripe'],
    ]) {
      expect([path, reads(path)]).toEqual([path, false]);
    }
  });
});
