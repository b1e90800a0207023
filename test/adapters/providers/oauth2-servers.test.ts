/** `oauth2` at servers that differ: which narrow and say so, which do not, and which answer what no protocol knows. */
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import { type Network, openNetwork } from '../../../adapters/network.ts';
import { openOauth2Provider } from '../../../adapters/providers/oauth2.ts';
import type { Connection } from '../../../src/domain/model.ts';
import { SecretText } from '../../../src/domain/secret-text.ts';
import type { HeldTokens, NewTokens } from '../../../src/ports/authorization.ts';
import {
  AuthorizationDead,
  type Handle,
  type Provider,
  type ProviderContext,
  ProviderFailure,
} from '../../../src/ports/provider.ts';

const canaries = {
  client: 'canary-client-secret-0123456789',
  refresh: 'canary-refresh-token-0123456789',
  access: 'canary-access-token-0123456789',
  said: 'canary-what-the-server-said',
};

type Handler = (form: URLSearchParams, req: IncomingMessage, res: ServerResponse) => void;
const json = (res: ServerResponse, status: number, body: unknown): void =>
  void res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
const token = (more: object = {}) => ({
  access_token: canaries.access,
  token_type: 'Bearer',
  expires_in: 600,
  ...more,
});

/** What is behind each path; what is not set answers 404. */
const endpoints = new Map<string, Handler>();
/** The forms that came, by path. */
const seen: [string, URLSearchParams][] = [];
let url: string;
let network: Network;
let provider: Provider;

const server = createServer(async (req, res) => {
  let text = '';
  for await (const chunk of req) text += String(chunk);
  const path = (req.url ?? '').split('?', 1)[0] ?? '';
  const form = new URLSearchParams(text);
  seen.push([path, form]);
  const handler = endpoints.get(path);
  if (handler) handler(form, req, res);
  else res.writeHead(404).end();
});

beforeAll(async () => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  network = openNetwork();
  provider = openOauth2Provider(network);
});
beforeEach(() => {
  endpoints.clear();
  seen.length = 0;
});
afterAll(async () => {
  await network.close();
  server.closeAllConnections();
  server.close();
});

const settingsOf = (more: object = {}): Record<string, unknown> => {
  const checked = provider.checkSettings({
    authorization_endpoint: `${url}/authorize`,
    token_endpoint: `${url}/token`,
    client_id: 'warder',
    scopes: { read: { oauth_scopes: ['r'] }, write: { oauth_scopes: ['w', 'r'] } },
    allow_private_network: true,
    ...more,
  });
  if (!checked.ok) throw new Error(checked.problems.join('\n'));
  return checked.value;
};
const connectionOf = (settings: Record<string, unknown>): Connection => ({
  id: 'con_1',
  name: 'svc',
  provider: 'oauth2',
  owner: null,
  settings,
  status: 'active',
  secret_version: 1,
  secret_source: null,
  version: 1,
  created_at: 0,
  updated_at: 0,
});

interface Kept {
  journalled: { handle: Handle; keep: Record<string, string> | undefined }[];
  tokens: NewTokens[];
}

const contextOf = (
  kept: Kept,
  secret: Record<string, string> = { client_secret: canaries.client },
): ProviderContext => ({
  now: () => Date.now(),
  signal: AbortSignal.timeout(5_000),
  secret: async () => ({
    version: 1,
    fields: Object.fromEntries(Object.entries(secret).map(([name, value]) => [name, new SecretText(value)])),
  }),
  journal: async (handle, keep) => void kept.journalled.push({ handle, keep }),
  kept: async () => {
    const keep = kept.journalled.at(-1)?.keep;
    return keep && Object.fromEntries(Object.entries(keep).map(([name, value]) => [name, new SecretText(value)]));
  },
  replaceSecret: async () => undefined,
  authorization: {
    redeem: async (_subject, work) => {
      const held: HeldTokens = {
        accessToken: new SecretText('the-access-token-before'),
        refreshToken: new SecretText(canaries.refresh),
        expiresAt: null,
        scopes: ['r', 'w'],
      };
      const { tokens, result } = await work(held, AbortSignal.timeout(5_000));
      kept.tokens.push(tokens);
      return result;
    },
  },
  signJwt: async () => '',
});

/** Mints for these scopes. */
const mint = async (
  scopes: string[],
  more: object = {},
  kept: Kept = { journalled: [], tokens: [] },
  secret?: Record<string, string>,
) => {
  const request = {
    grantId: 'grt_1',
    agent: { id: 'agt_1', name: 'worker' },
    connection: connectionOf(settingsOf(more)),
    scopes,
    subject: null,
    issuedAt: Date.now(),
    expiresAt: Date.now() + 60_000,
  };
  return provider.mint(request, provider.plan(request), contextOf(kept, secret));
};
const failing = async (work: Promise<unknown>): Promise<ProviderFailure> => {
  const error: unknown = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof ProviderFailure)) throw new Error(`no failure of a provider: ${String(error)}`);
  return error;
};
/** All that a log could show of an error. */
const shown = (error: unknown): string => {
  const texts: string[] = [];
  for (let at = error; at instanceof Error; at = at.cause) {
    texts.push(at.message, at.stack ?? '', JSON.stringify(at, Object.getOwnPropertyNames(at)));
  }
  return texts.join('\n');
};

describe('a narrowed token', () => {
  test('is asked for with the scopes of the grant alone, and what rotates is kept', async () => {
    endpoints.set('/token', (_form, _req, res) =>
      json(res, 200, token({ scope: 'r', refresh_token: 'a-new-refresh-token' })),
    );
    const kept: Kept = { journalled: [], tokens: [] };
    const minted = await mint(['read'], {}, kept);
    expect(minted.credential).toEqual({ type: 'bearer', token: canaries.access, expires_at: expect.any(String) });
    expect(Object.fromEntries(seen.at(-1)?.[1] ?? [])).toEqual({
      grant_type: 'refresh_token',
      refresh_token: canaries.refresh,
      scope: 'r',
    });
    expect(kept.tokens).toMatchObject([
      { refreshToken: 'a-new-refresh-token', accessToken: 'the-access-token-before' },
    ]);
    expect(kept.journalled).toMatchObject([{ keep: { access_token: canaries.access } }]);
    expect(JSON.stringify(kept.journalled.map(({ handle }) => handle))).not.toContain(canaries.access);
  });

  test('that is wider than asked is never delivered, and left to the undo', async () => {
    endpoints.set('/token', (_form, _req, res) => json(res, 200, token({ scope: 'r w' })));
    const kept: Kept = { journalled: [], tokens: [] };
    const failure = await failing(mint(['read'], {}, kept));
    expect(failure).toMatchObject({ kind: 'refused', made: true });
    expect(failure.message).toContain('it does not narrow; set narrowing: gateway');
    expect(kept.journalled).toMatchObject([{ keep: { access_token: canaries.access } }]);
  });

  test('whose width the server does not say is delivered only when introspection confirms it', async () => {
    // An empty text is what GitHub says of every token, whatever it can do.
    for (const scope of [{ scope: '' }, {}]) {
      endpoints.set('/token', (_form, _req, res) => json(res, 200, token(scope)));
      const refused = await failing(mint(['read']));
      expect([refused.kind, refused.message]).toEqual([
        'refused',
        expect.stringContaining('does not say whether it narrowed'),
      ]);
    }
    const introspected = { introspection_endpoint: `${url}/introspect` };
    for (const [facts, delivered] of [
      [{ active: true, scope: 'r' }, true],
      [{ active: true, scope: 'r w' }, false],
      [{ active: true }, false],
      [{ active: true, scope: '' }, false],
      [{ active: false, scope: 'r' }, false],
    ] as const) {
      endpoints.set('/introspect', (_form, _req, res) => json(res, 200, facts));
      const outcome = await mint(['read'], introspected).then(
        () => true,
        () => false,
      );
      expect([facts, outcome]).toEqual([facts, delivered]);
    }
  });

  test('is taken as asked for where nothing was to be narrowed, and from client credentials', async () => {
    endpoints.set('/token', (_form, _req, res) => json(res, 200, token()));
    expect((await mint(['read', 'write'])).credential['token']).toBe(canaries.access);
    expect((await mint(['read'], { grant: 'client_credentials' })).credential['token']).toBe(canaries.access);
    endpoints.set('/token', (_form, _req, res) => json(res, 200, token({ scope: 'r w admin' })));
    expect((await failing(mint(['read'], { grant: 'client_credentials' }))).made).toBe(true);
  });
});

describe('taking a token back', () => {
  const issued = { handle: { ends_by: Date.now() + 60_000 }, keep: { access_token: canaries.access } };
  /** @param before the settings it was made with, where they were others */
  const revoke = (more: object, before = more) => {
    const connection = connectionOf(settingsOf(before));
    const request = { grantId: 'grt_1', agent: { id: 'agt_1', name: 'worker' }, connection, scopes: ['read'] };
    const planned = provider.plan({ ...request, subject: null, issuedAt: Date.now(), expiresAt: Date.now() + 60_000 });
    const handle = { ...planned.handle, ...issued.handle };
    const kept: Kept = { journalled: [{ ...issued, handle }], tokens: [] };
    return provider.revoke({ id: 'grt_1', handle }, connectionOf(settingsOf(more)), contextOf(kept));
  };
  const endpoint = () => ({ revocation_endpoint: `${url}/revoke` });

  test('is RFC 7009, where that does not take the account along', async () => {
    endpoints.set('/revoke', (_form, _req, res) => res.writeHead(200).end());
    expect(await revoke({ ...endpoint(), revoke_access_tokens: true })).toBeUndefined();
    expect(Object.fromEntries(seen.at(-1)?.[1] ?? [])).toEqual({
      token: canaries.access,
      token_type_hint: 'access_token',
    });
    expect(await revoke({ ...endpoint(), grant: 'client_credentials' })).toBeUndefined();
  });

  test('is left to its life, and said, where it would, could not, or nobody says', async () => {
    const livesOn = { endsBy: issued.handle.ends_by };
    expect(await revoke(endpoint())).toEqual(livesOn);
    expect(await revoke({ revoke_access_tokens: true })).toEqual(livesOn);
    expect(seen).toEqual([]);
    endpoints.set('/revoke', (_form, _req, res) => json(res, 400, { error: 'unsupported_token_type' }));
    expect(await revoke({ ...endpoint(), revoke_access_tokens: true })).toEqual(livesOn);
  });

  test('is never asked of a server that the settings lead to only since then: it would be shown the token', async () => {
    endpoints.set('/revoke', (_form, _req, res) => res.writeHead(200).end());
    const before = { revocation_endpoint: 'https://id.example.com/revoke', revoke_access_tokens: true };
    expect(await revoke({ ...before, ...endpoint() }, before)).toEqual({ endsBy: issued.handle.ends_by });
    expect(seen).toEqual([]);
  });

  test('of what is gone already is done, also where the server calls that an error (Google)', async () => {
    endpoints.set('/revoke', (_form, _req, res) => json(res, 400, { error: 'invalid_token' }));
    expect(await revoke({ ...endpoint(), revoke_access_tokens: true })).toBeUndefined();
  });

  test('is repeated when the server is not available', async () => {
    endpoints.set('/revoke', (_form, _req, res) => res.writeHead(503, { 'retry-after': '1' }).end());
    expect((await failing(Promise.resolve(revoke({ ...endpoint(), revoke_access_tokens: true })))).kind).toBe(
      'unavailable',
    );
  });
});

describe('an answer of the token endpoint', () => {
  const deaths: [string, number, unknown][] = [
    ['invalid_grant', 400, { error: 'invalid_grant', error_description: canaries.said }],
    ['an error in disguise (GitHub)', 200, { error: 'bad_refresh_token', error_description: canaries.said }],
  ];
  test.each(deaths)('%s means the end of the refresh token', async (_what, status, body) => {
    endpoints.set('/token', (_form, _req, res) => json(res, status, body));
    expect(await failing(mint(['read']))).toBeInstanceOf(AuthorizationDead);
  });

  const others: [string, 'unavailable' | 'refused', Handler][] = [
    ['429 with invalid_grant in it', 'unavailable', (_f, _q, res) => json(res, 429, { error: 'invalid_grant' })],
    ['500', 'unavailable', (_f, _q, res) => json(res, 500, { error: 'invalid_grant' })],
    ['503 with a page', 'unavailable', (_f, _q, res) => res.writeHead(503).end('<h1>')],
    ['temporarily_unavailable', 'unavailable', (_f, _q, res) => json(res, 400, { error: 'temporarily_unavailable' })],
    [
      'invalid_client',
      'refused',
      (_f, _q, res) => json(res, 401, { error: 'invalid_client', error_description: canaries.said }),
    ],
    [
      'invalid_client with its challenge (RFC 6749 section 5.2)',
      'refused',
      (_f, _q, res) => {
        res.setHeader(
          'www-authenticate',
          `Basic realm="x", error="invalid_client", error_description="${canaries.said}"`,
        );
        json(res, 401, { error: 'invalid_client' });
      },
    ],
    ['invalid_scope', 'refused', (_f, _q, res) => json(res, 400, { error: 'invalid_scope' })],
    ['an error nobody knows', 'refused', (_f, _q, res) => json(res, 400, { error: canaries.said })],
    ['a redirect', 'unavailable', (_f, _q, res) => res.writeHead(307, { location: `${url}/elsewhere` }).end()],
    [
      'text',
      'unavailable',
      (_f, _q, res) => res.writeHead(200, { 'content-type': 'text/plain' }).end('access_token=x'),
    ],
    [
      'half a JSON',
      'unavailable',
      (_f, _q, res) => res.writeHead(200, { 'content-type': 'application/json' }).end('{"acc'),
    ],
    ['a list', 'unavailable', (_f, _q, res) => json(res, 200, [token()])],
    ['no token', 'unavailable', (_f, _q, res) => json(res, 200, { token_type: 'bearer' })],
    ['a token that is a number', 'unavailable', (_f, _q, res) => json(res, 200, token({ access_token: 5 }))],
    [
      'a token with a line break',
      'unavailable',
      (_f, _q, res) => json(res, 200, token({ access_token: 'abcdefgh\r\nX: y' })),
    ],
    [
      'a token that is too short to be masked',
      'unavailable',
      (_f, _q, res) => json(res, 200, token({ access_token: 'a' })),
    ],
    ['a token of another kind', 'unavailable', (_f, _q, res) => json(res, 200, token({ token_type: 'mac' }))],
    ['a DPoP-bound token', 'unavailable', (_f, _q, res) => json(res, 200, token({ token_type: 'DPoP' }))],
    ['a life that is none', 'unavailable', (_f, _q, res) => json(res, 200, token({ expires_in: 'soon' }))],
    ['a negative life', 'unavailable', (_f, _q, res) => json(res, 200, token({ expires_in: -5 }))],
    ['a scope that is a list', 'unavailable', (_f, _q, res) => json(res, 200, token({ scope: ['r'] }))],
    ['a megabyte', 'unavailable', (_f, _q, res) => json(res, 200, token({ padding: 'x'.repeat(1_000_000) }))],
  ];
  test.each(others)('%s is a failure of no account, and repeats nothing', async (_what, kind, handler) => {
    endpoints.set('/token', handler);
    endpoints.set('/elsewhere', (_f, _q, res) => json(res, 200, token({ scope: 'r' })));
    const failure = await failing(mint(['read']));
    expect(failure).not.toBeInstanceOf(AuthorizationDead);
    expect(failure.kind).toBe(kind);
    expect(seen.some(([path]) => path === '/elsewhere')).toBe(false);
    for (const canary of Object.values(canaries)) expect(shown(failure)).not.toContain(canary);
  });

  describe('to the code of a consent', () => {
    const exchanged = (scope: string | undefined) => {
      const answer = token({ refresh_token: canaries.refresh, ...(scope === undefined ? {} : { scope }) });
      endpoints.set('/token', (_f, _q, res) => json(res, 200, answer));
      const flow = { state: 's', nonce: 'n', codeVerifier: 'v'.repeat(43), redirectUri: `${url}/callback` };
      const context = contextOf({ journalled: [], tokens: [] });
      const { authorizations } = provider;
      if (!authorizations) throw new Error('oauth2 has authorizations');
      const code = new URLSearchParams({ code: 'c', state: 's' });
      return authorizations.exchange(connectionOf(settingsOf()), flow, code, context);
    };

    test('says what was consented to, or that it is what was asked for', async () => {
      expect((await exchanged(' r  admin:org ')).scopes).toEqual(['r', 'admin:org']);
      for (const nothing of [undefined, '', ' ']) expect((await exchanged(nothing)).scopes).toEqual(['r', 'w']);
    });

    test.each([
      ['with control characters', 'r \u001b[2Jw'],
      ['in two lines', 'r\nw'],
      ['with invisible characters', 'r \u202ew'],
      ['with the access token', `r x${canaries.access}`],
      ['with the refresh token', canaries.refresh],
      ['without an end', 'r '.repeat(50_000)],
    ])('is not recorded with scopes %s', async (_what, scope) => {
      const failure = await failing(exchanged(scope));
      expect(failure.message).toBe('the authorization server answered with scopes that are none');
      for (const canary of Object.values(canaries)) expect(shown(failure)).not.toContain(canary);
    });
  });

  test('that never comes ends with the signal', async () => {
    endpoints.set('/token', () => undefined);
    const request = {
      grantId: 'grt_1',
      agent: { id: 'agt_1', name: 'worker' },
      connection: connectionOf(settingsOf({ grant: 'client_credentials' })),
      scopes: ['read'],
      subject: null,
      issuedAt: Date.now(),
      expiresAt: Date.now() + 60_000,
    };
    const context = { ...contextOf({ journalled: [], tokens: [] }), signal: AbortSignal.timeout(100) };
    const began = performance.now();
    const failure = await failing(provider.mint(request, provider.plan(request), context));
    expect([failure.kind, performance.now() - began < 1_500]).toEqual(['timeout', true]);
  });
});

describe('proving the client', () => {
  test('with a secret in the header is form-encoded first (RFC 6749 section 2.3.1)', async () => {
    let header = '';
    endpoints.set('/token', (_form, req, res) => {
      header = req.headers.authorization ?? '';
      json(res, 200, token());
    });
    const secret = { client_secret: 'a+b:c/d e%20"&=äß'.replace(/[^\x20-\x7e]/g, '') };
    await mint(['read'], { grant: 'client_credentials', client_id: 'me: and+you' }, undefined, secret);
    const [id = '', password = ''] = Buffer.from(header.replace('Basic ', ''), 'base64').toString().split(':');
    const decoded = [id, password].map((part) => new URLSearchParams(`x=${part}`).get('x'));
    expect(decoded).toEqual(['me: and+you', secret.client_secret]);
  });

  const keys = {
    RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
    ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    ES384: generateKeyPairSync('ec', { namedCurve: 'P-384' }),
    Ed25519: generateKeyPairSync('ed25519'),
  };
  test.each(Object.entries(keys))(
    'with a key is a JWT that verifies: %s',
    async (algorithm, { publicKey, privateKey }) => {
      endpoints.set('/jwks', (_f, _q, res) =>
        json(res, 200, { keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'k1' }] }),
      );
      let assertion = '';
      endpoints.set('/token', (form, _req, res) => {
        assertion = form.get('client_assertion') ?? '';
        json(res, 200, token());
      });
      const given = provider.checkSecret({
        private_key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
        key_id: 'k1',
      });
      if (!given.ok || !given.value) throw new Error('the key was refused');
      await mint(['read'], { grant: 'client_credentials', client_auth: 'private_key_jwt' }, undefined, given.value);
      const { payload, protectedHeader } = await jwtVerify(assertion, createRemoteJWKSet(new URL(`${url}/jwks`)), {
        audience: `${url}/token`,
        issuer: 'warder',
        subject: 'warder',
      });
      expect(protectedHeader).toMatchObject({ alg: algorithm, kid: 'k1' });
      expect(payload).toMatchObject({ jti: expect.any(String), exp: expect.any(Number) });
    },
  );

  test('with what the connection does not have says what is missing', async () => {
    const failure = await failing(mint(['read'], { client_auth: 'private_key_jwt' }));
    expect([failure.kind, failure.message]).toEqual(['refused', expect.stringContaining('has no private_key')]);
  });
});

describe('a secret', () => {
  test('is given anew for another issuer on the same host, and not for another path of the API', () => {
    const to = (more: object) =>
      provider.secretDestination?.(
        settingsOf({ authorization_endpoint: undefined, token_endpoint: undefined, issuer: `${url}/a`, ...more }),
      );
    const base = { base_url: `${url}/v1` };
    expect(to({ issuer: `${url}/b` })).not.toBe(to({}));
    expect(to({ base_url: `${url}/v2` })).toBe(to(base));
    expect(to(base)).not.toBe(to({}));
  });

  const weak = generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey.export({ type: 'pkcs8', format: 'pem' });
  const bad: [string, unknown][] = [
    ['a text', 'secret'],
    ['a short one', { client_secret: 'abc' }],
    ['with a line break', { client_secret: 'abcdefghijk\nlm' }],
    ['two at once', { client_secret: canaries.client, private_key: 'x' }],
    ['no key', { private_key: canaries.client }],
    ['a weak key', { private_key: weak.toString() }],
  ];
  test.each(bad)('that is %s is refused, and not repeated', (_what, given) => {
    const checked = provider.checkSecret(given);
    expect(checked.ok).toBe(false);
    expect(JSON.stringify(checked)).not.toContain(canaries.client);
  });
});

describe('settings', () => {
  const good = {
    issuer: 'https://as.example.com',
    client_id: 'warder',
    scopes: { read: { oauth_scopes: ['r'], rules: [{ methods: ['GET'], path: '/**' }] } },
  };
  test('of the two ways to name a server, and both ways to narrow, are fine', () => {
    expect(provider.checkSettings(good)).toMatchObject({
      ok: true,
      value: { narrowing: 'upstream', grant: 'authorization_code' },
    });
    expect(provider.checkSettings({ ...good, narrowing: 'gateway', base_url: 'https://api.example.com' }).ok).toBe(
      true,
    );
  });
  const bad: [string, object, string][] = [
    ['no server', { issuer: undefined }, 'settings.issuer'],
    ['half a server', { issuer: undefined, authorization_endpoint: 'https://a.example' }, 'settings.token_endpoint'],
    ['no place to consent', { token_endpoint: 'https://a.example' }, 'settings.authorization_endpoint'],
    ['clear text', { issuer: 'http://as.example.com' }, 'https only'],
    ['a private address', { issuer: 'https://10.0.0.1' }, 'not on the public internet'],
    [
      'the machine’s own credentials',
      { issuer: 'http://169.254.169.254', allow_private_network: true },
      'credentials of the machine',
    ],
    ['a password in the address', { issuer: 'https://a:b@as.example.com' }, 'no credentials in a URL'],
    ['a scope that would be two', { scopes: { read: { oauth_scopes: ['r w'] } } }, 'not a scope'],
    ['a scope of nothing', { scopes: { read: {} } }, 'settings.scopes.read.oauth_scopes'],
    ['no scopes', { scopes: {} }, 'at least one scope'],
    [
      'a gateway without rules',
      { narrowing: 'gateway', base_url: 'https://a.example', scopes: { read: {} } },
      'settings.scopes.read.rules',
    ],
    ['a gateway to nowhere', { narrowing: 'gateway' }, 'settings.base_url'],
    ['client credentials of nobody', { grant: 'client_credentials', client_auth: 'none' }, 'settings.client_auth'],
    [
      'a parameter the protocol rests on',
      { authorize_params: { redirect_uri: 'https://evil.example' } },
      'settings.authorize_params',
    ],
    ['a parameter with a line break', { authorize_params: { prompt: 'a\nb' } }, 'printable ASCII only'],
    ['what nobody knows', { client_secret: 'x' }, 'settings'],
  ];
  test.each(bad)('with %s are refused, and the field is named', (_what, more, problem) => {
    const checked = provider.checkSettings({ ...good, ...more });
    expect(checked.ok ? 'accepted' : checked.problems.join('\n')).toContain(problem);
  });
});
