/**
 * Secrets of every shape go in wherever one goes in, or gets in by mistake; then everything that comes out or stays is
 * searched for them, in every encoding.
 */
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { SignJWT } from 'jose';
import { type Broker, temporaryDir } from '../support/broker.ts';
import {
  closeConnections,
  type Furniture,
  formType,
  furnish,
  jsonType,
  type Sent,
  send,
  startEdgeBroker,
} from './support.ts';

let broker: Broker;
let furniture: Furniture;
let upstream: Server;
let upstreamUrl: string;
const dataDir = temporaryDir();

/** What must not be found anywhere, by what it is. */
const canaries = new Map<string, string>();
/** Everything anybody was answered in this file, except the answers that hand out a secret for the first time. */
const answers: { what: string; text: string }[] = [];

const canary = (what: string, shape: (random: string) => string = (random) => random): string => {
  const secret = shape(randomBytes(15).toString('base64url').replaceAll(/[-_]/g, 'Q'));
  canaries.set(what, secret);
  return secret;
};
const known = (what: string, secret: unknown): string => {
  if (typeof secret !== 'string' || secret.length < 20) throw new Error(`no secret: ${what} ${JSON.stringify(secret)}`);
  canaries.set(what, secret);
  return secret;
};

/** The shapes secrets have. All are printable ASCII, which is all a header can carry. */
const shapes: Record<string, (random: string) => string> = {
  'an API key': (random) => `sk_live_${random}`,
  'a cloud key': (random) => `AKIA${random.toUpperCase()}/+${random}=`,
  'a password with everything in it': (random) => `p"a's\\s {w}<o>&r%41;d+${random}#?/$\``,
  'a number': () => `4929${BigInt(`0x${randomBytes(12).toString('hex')}`)}`,
  'a hexadecimal key': () => randomBytes(24).toString('hex'),
  'a URL with a password': (random) => `https://user:${random}@db.example.com/x?y=${random}`,
  'a JWT': (random) => `eyJhbGciOiJIUzI1NiJ9.${Buffer.from(`{"k":"${random}"}`).toString('base64url')}.${random}`,
  'a formula': (random) => `=HYPERLINK("http://x/${random}")`,
};

/** Every spelling of a secret in which software repeats it. */
const spellings = (secret: string): string[] => {
  const bytes = Buffer.from(secret);
  const base64 = [0, 1, 2].flatMap((offset) => {
    const text = Buffer.concat([Buffer.alloc(offset), bytes]).toString('base64');
    // The first and last characters depend on the neighbours.
    const inner = text.slice(offset === 0 ? 0 : 4, -4);
    return [inner, inner.replaceAll('+', '-').replaceAll('/', '_')];
  });
  const hex = bytes.toString('hex');
  const found = [
    secret,
    JSON.stringify(secret).slice(1, -1),
    encodeURIComponent(secret),
    encodeURI(secret),
    new URLSearchParams([['', secret]]).toString().slice(1),
    secret.replaceAll('"', '""'),
    ...base64,
    hex,
    hex.toUpperCase(),
    bytes.toString('utf16le'),
  ];
  return [...new Set(found)].filter((text) => text.length >= 8);
};

const foundIn = (haystack: string | Buffer): string[] => {
  const bytes = Buffer.from(haystack as Buffer);
  return [...canaries].flatMap(([what, secret]) =>
    spellings(secret)
      .filter((text) => bytes.includes(text))
      .map((text) => `${what} as ${text.slice(0, 60)}`),
  );
};

const say = async (what: string, sent: Sent): Promise<Awaited<ReturnType<typeof send>>> => {
  const received = await send(broker.url, sent);
  answers.push({ what, text: `${JSON.stringify(received.headers)}\n${received.text}` });
  return received;
};
const admin = (what: string, method: string, path: string, body?: unknown) =>
  say(what, {
    method,
    path: `/admin/v1${path}`,
    token: broker.adminToken,
    ...(body === undefined ? {} : { body: JSON.stringify(body), headers: jsonType }),
  });
const form = (what: string, path: string, fields: Record<string, string>, headers: Record<string, string> = {}) =>
  say(what, {
    method: 'POST',
    path,
    body: new URLSearchParams(fields).toString(),
    headers: { ...formType, ...headers },
  });

beforeAll(async () => {
  upstream = createServer((req, res) => {
    if (req.url?.includes('break')) res.destroy();
    else res.end('{"ok":true}');
  });
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
  const address = upstream.address();
  upstreamUrl = `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`;
  broker = await startEdgeBroker({ dataDir });
  known('the admin token', broker.adminToken);
  furniture = await furnish(broker, upstreamUrl);
  known('the secret of a connection', furniture.secret);
  known('a client secret', furniture.agent.clientSecret);
  known('an agent token', furniture.agentToken);
  known('a gateway token', furniture.gatewayToken);
});
afterAll(async () => {
  closeConnections();
  await broker.close().catch(() => undefined);
  upstream.close();
});

describe('secrets go in', () => {
  test('as secrets of connections: made, replaced, applied, in every shape', async () => {
    for (const [i, [what, shape]] of Object.entries(shapes).entries()) {
      const name = `canary-${i}`;
      const settings = {
        base_url: upstreamUrl,
        allow_private_network: true,
        scopes: { all: [{ methods: ['*'], path: '/**' }] },
      };
      const inject = [{ header: 'X-Key', value: 'Token {secret}' }, { query: 'key' }, { basic: { username: 'me' } }][
        i % 3
      ];
      const made = await admin(what, 'POST', '/connections', {
        name,
        provider: 'api-key',
        settings: { ...settings, inject },
        secret: { value: canary(`${what}, made`, shape) },
      });
      expect(made.status).toBe(201);
      expect(
        (await admin(what, 'PUT', `/connections/${name}/secret`, { value: canary(`${what}, replaced`, shape) })).status,
      ).toBe(200);
      const applied = await admin(what, 'POST', '/apply', {
        connections: [
          {
            name,
            provider: 'api-key',
            settings: { ...settings, inject },
            secret: { value: canary(`${what}, applied`, shape) },
          },
        ],
      });
      expect(applied.json).toMatchObject({ applied: true });
      await broker.entitle('reporter', name, ['all']);
      const granted = await broker.grant(furniture.agentToken, { connection: name, scopes: ['all'] });
      const token = known(`the gateway token for ${what}`, (granted.body['credential'] as { token: string }).token);
      for (const path of ['/v1/x?a=1', '/v1/break', `/v1/x/${token}`, `/v1/x/${furniture.agent.clientSecret}`]) {
        await say(`${what} through the gateway`, { method: 'GET', path: `/gateway/${name}${path}`, token });
      }
    }
  });

  test('as secrets of webhooks and of receivers of signals', async () => {
    const hook = { name: 'hook', url: `${upstreamUrl}/hook`, allow_private_network: true };
    const made = await broker.admin('POST', '/webhooks', hook);
    known('a signing secret', made.body['signing_secret']);
    const rotated = await broker.admin('POST', '/webhooks/hook/secret', {});
    known('a rotated signing secret', rotated.body['signing_secret']);
    await admin('a webhook', 'POST', '/webhooks/hook/test');
    const delivery = {
      method: 'push',
      endpoint_url: `${upstreamUrl}/events`,
      authorization_header: canary('the header of a receiver', (random) => `Bearer ${random}`),
    };
    const receiver = { name: 'rp', aud: ['rp'], allow_private_network: true, delivery };
    known('a receiver token', (await broker.admin('POST', '/streams', receiver)).body['token']);
    const token = known('a renewed receiver token', (await broker.admin('POST', '/streams/rp/token')).body['token']);
    await admin('a stream', 'POST', '/streams/rp/verify');
    await say('its stream', { method: 'GET', path: '/ssf/stream', token });
    await say('a token as a verification state', {
      method: 'POST',
      path: '/ssf/verify',
      token,
      body: JSON.stringify({ stream_id: String(made.body['id']), state: token }),
      headers: jsonType,
    });
    for (const path of [
      '/webhooks',
      '/webhooks/hook',
      '/webhooks/hook/deliveries',
      '/streams',
      '/streams/rp/deliveries',
    ]) {
      await admin('what is told', 'GET', path);
    }
  });

  test('as secrets of clients and tokens of operators: shown once, presented right and wrong', async () => {
    const renewed = await broker.admin('POST', '/agents/reporter/secret');
    const secret = known('a renewed client secret', renewed.body['client_secret']);
    const applied = await broker.admin('POST', '/apply', { agents: [{ name: 'applied', owner: 'x@example.com' }] });
    const [first] = applied.body['client_secrets'] as { client_secret: string }[];
    known('an applied client secret', first?.client_secret);
    const patched = await broker.admin('PATCH', '/agents/applied', { auth: { method: 'client_secret_post' } });
    known('a client secret after a change', patched.body['client_secret']);
    const made = await broker.admin('POST', '/operators', { name: 'olaf', roles: ['auditor'] });
    known('an operator token', made.body['token']);
    known('a renewed operator token', (await broker.admin('POST', '/operators/olaf/token')).body['token']);

    const basic = (id: string, given: string) => ({
      authorization: `Basic ${Buffer.from(`${id}:${given}`).toString('base64')}`,
    });
    const grantType = { grant_type: 'client_credentials' };
    const token = await broker.agentToken({ clientId: 'reporter', clientSecret: secret });
    known('another agent token', token);
    furniture.agentToken = token;
    for (const given of [
      furniture.agent.clientSecret,
      secret.slice(0, -1),
      canary('a wrong client secret', (random) => `wrong/${random}+=`),
    ]) {
      await form('a wrong client secret', '/token', grantType, basic('reporter', given));
      await form('a wrong client secret', '/token', { ...grantType, client_id: 'reporter', client_secret: given });
      await form('secret and id swapped', '/token', grantType, basic(given, 'reporter'));
      await form('a secret as id', '/token', { ...grantType, client_id: given, client_secret: 'x' });
      await form(
        'a secret in every field',
        '/token',
        { grant_type: given, scope: given, resource: given },
        basic('reporter', secret),
      );
      await form(
        'a secret as resource',
        '/token',
        { ...grantType, scope: 'read', resource: `${broker.url}/connections/${given}` },
        basic('reporter', secret),
      );
      await form(
        'a secret as token',
        '/introspect',
        { token: given, token_type_hint: given },
        basic('reporter', secret),
      );
      await form('a secret as token', '/revoke', { token: given, token_type_hint: given }, basic('reporter', secret));
      await form('a secret twice', '/token', { ...grantType, client_secret: given }, basic('reporter', given));
    }
  });

  test('as tokens of an issuer, in every place for them, and as proofs of possession', async () => {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    const jwk = { ...publicKey.export({ format: 'jwk' }), kid: 'k' };
    const issuer = {
      name: 'corp',
      issuer: 'https://login.example.com',
      jwks: { keys: [jwk] },
      uses: ['workload', 'subject'],
    };
    await broker.admin('POST', '/issuers', issuer);
    const auth = { method: 'workload', issuer: 'corp', claims: { sub: 'pod' } };
    await broker.admin('POST', '/agents', { name: 'pod', owner: 'x@example.com', auth });
    const claims = { iss: issuer.issuer, sub: 'pod', aud: broker.url, iat: Math.floor(Date.now() / 1000) };
    const sign = async (more: object) =>
      new SignJWT({ ...claims, ...more })
        .setProtectedHeader({ alg: 'Ed25519', kid: 'k' })
        .setExpirationTime('1m')
        .sign(privateKey);
    const urn = 'urn:ietf:params:oauth:';
    for (const more of [
      {},
      { jti: canary('a jti of a workload'), note: canary('a claim nobody asked for') },
      { aud: canary('an audience of a workload') },
      { sub: canary('a subject of a workload') },
      { cnf: { jkt: canary('a thumbprint') } },
      { may_act: { sub: canary('an actor') } },
    ]) {
      for (const fields of [
        (token: string) => ({ grant_type: `${urn}grant-type:jwt-bearer`, assertion: token }),
        (token: string) => ({
          grant_type: 'client_credentials',
          client_assertion_type: `${urn}client-assertion-type:jwt-bearer`,
          client_assertion: token,
        }),
        (token: string) => ({
          grant_type: `${urn}grant-type:token-exchange`,
          subject_token: token,
          subject_token_type: `${urn}token-type:jwt`,
          actor_token: token,
          actor_token_type: `${urn}token-type:jwt`,
        }),
      ]) {
        await form(
          'a token of an issuer',
          '/token',
          fields(known(`a token with ${JSON.stringify(more)}`, await sign(more))),
        );
      }
    }
    const proof = known('a proof', await sign({ htu: canary('an address'), htm: canary('a method') }));
    for (const [path, authorization] of [
      ['/token', undefined],
      ['/v1/connections', `DPoP ${furniture.agentToken}`],
      ['/gateway/stripe/x', `DPoP ${furniture.gatewayToken}`],
    ] as const) {
      const headers = { dpop: proof, ...(authorization === undefined ? {} : { authorization }) };
      await form('a proof', path, { grant_type: 'client_credentials', assertion: proof }, headers);
    }
    const details = JSON.stringify([
      { type: canary('a type of details'), connection: canary('a connection in details') },
    ]);
    const authorization = `Basic ${Buffer.from(`${furniture.agent.clientId}:${furniture.agent.clientSecret}`).toString('base64')}`;
    await form(
      'details',
      '/token',
      { grant_type: 'client_credentials', authorization_details: details },
      { authorization },
    );
  });

  test('as assertions: good, bad, with secrets in their claims', async () => {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    const jwk = { ...publicKey.export({ format: 'jwk' }), kid: 'k' };
    const { d } = privateKey.export({ format: 'jwk' });
    known('a private key', d);
    await broker.admin('POST', '/agents', {
      name: 'signer',
      owner: 'x@example.com',
      auth: { method: 'private_key_jwt', jwks: { keys: [jwk] } },
    });
    const sign = (claims: object, key = privateKey) =>
      new SignJWT({ ...claims }).setProtectedHeader({ alg: 'Ed25519', kid: 'k', typ: canary('a typ') }).sign(key);
    const claims = { iss: 'signer', sub: 'signer', aud: broker.url, exp: Math.floor(Date.now() / 1000) + 60 };
    for (const more of [
      {},
      { jti: canary('a jti') },
      { aud: canary('an audience') },
      { iss: canary('an issuer') },
      { exp: 1 },
    ]) {
      const assertion = known(`an assertion with ${JSON.stringify(more)}`, await sign({ ...claims, ...more }));
      await form('an assertion', '/token', {
        grant_type: 'client_credentials',
        client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
        client_assertion: assertion,
      });
    }
    const sub = canary('a subject');
    await form('an assertion of nobody', '/token', {
      grant_type: 'client_credentials',
      client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
      client_assertion: await sign({ ...claims, sub, iss: sub }),
      client_id: sub,
    });
    const privateJwk = { ...jwk, d };
    for (const keys of [
      [privateJwk],
      [{ ...jwk, extra: canary('an unknown member') }],
      [{ kty: 'oct', k: canary('a shared key') }],
    ]) {
      await admin('a private key', 'POST', '/agents', {
        name: 'signer-2',
        owner: 'x@example.com',
        auth: { method: 'private_key_jwt', jwks: { keys } },
      });
    }
  });

  test('into fields they do not belong into', async () => {
    for (const [what, shape] of Object.entries(shapes)) {
      // What is spelled like a name is one: with this character no name, scope or path is.
      const secret = canary(`${what}, misplaced`, (random) => `${shape(random)}"`);
      const bodies: [string, string, unknown][] = [
        ['POST', '/agents', { name: secret, owner: 'x' }],
        ['POST', '/agents', { name: 'x', owner: 'x', secret }],
        ['POST', '/agents', { name: 'x', owner: 'x', auth: { method: secret } }],
        [
          'POST',
          '/agents',
          {
            name: 'x',
            owner: 'x',
            auth: { method: 'private_key_jwt', jwks_uri: `https://me:${encodeURIComponent(secret)}@example.com/jwks` },
          },
        ],
        ['POST', '/connections', { name: 'x', provider: secret }],
        ['POST', '/connections', { name: 'x', provider: 'api-key', settings: { api_key: secret } }],
        ['POST', '/connections', { name: 'x', provider: 'api-key', secret, settings: {} }],
        [
          'POST',
          '/connections',
          {
            name: 'x',
            provider: 'api-key',
            settings: {
              base_url: `https://u:${encodeURIComponent(secret)}@api.example.com`,
              scopes: { a: [{ methods: ['GET'], path: '/' }] },
            },
          },
        ],
        [
          'POST',
          '/connections',
          {
            name: 'x',
            provider: 'api-key',
            settings: {
              base_url: 'https://api.example.com',
              inject: { header: 'Authorization', value: secret },
              scopes: { a: [{ methods: [secret], path: secret }] },
            },
          },
        ],
        [
          'POST',
          '/connections',
          {
            name: 'x',
            provider: 'internal-jwt',
            settings: { audience: 'a', scopes: ['a'] },
            secret: { value: secret },
          },
        ],
        ['PUT', '/connections/stripe/secret', { vlaue: secret }],
        ['PUT', '/connections/stripe/secret', { value: [secret] }],
        ['PUT', '/connections/stripe/secret', { value: `${secret}\n` }],
        ['PUT', '/connections/orders/secret', { value: secret }],
        ['PATCH', '/connections/stripe', { secret }],
        ['PATCH', '/connections/stripe', { settings: secret }],
        ['POST', '/entitlements', { agent: secret, connection: secret, scopes: [secret] }],
        [
          'POST',
          '/entitlements',
          { agent: 'reporter', connection: 'stripe', scopes: [secret], max_ttl_seconds: secret },
        ],
        ['POST', '/operators', { name: 'x', roles: [secret] }],
        ['POST', '/operators', { name: 'x', roles: ['admin'], token: secret, expires_at: secret }],
        ['POST', '/revocations', { selector: { agent: secret, grant: secret }, reason: 'x' }],
        ['POST', '/revocations', { selector: { [`x${'y'.repeat(3)}`]: secret }, reason: 'x', token: secret }],
        ['POST', '/apply', { agents: [{ name: 'x', owner: 'x', secret }] }],
        ['POST', '/apply', { entitlements: [{ agent: secret, connection: secret, scopes: ['a'] }] }],
        [
          'POST',
          '/apply',
          {
            connections: [
              {
                name: 'orders',
                provider: 'internal-jwt',
                settings: { audience: 'a', scopes: ['a'] },
                secret: { value: secret },
              },
            ],
          },
        ],
      ];
      for (const [method, path, body] of bodies) {
        const { status } = await admin(`${what} in ${JSON.stringify(body).slice(0, 60)}`, method, path, body);
        expect(status).toBeGreaterThanOrEqual(400);
        expect(status).toBeLessThan(500);
      }
      const inUrl = encodeURIComponent(secret);
      for (const path of [
        `/agents/${inUrl}`,
        `/agents?cursor=${inUrl}`,
        `/agents?token=${inUrl}`,
        `/audit?agent=${inUrl}&type=${inUrl}`,
        `/grants?status=${inUrl}`,
        `/audit/export?format=${inUrl}`,
        `/audit/proof/${inUrl}`,
        `/${inUrl}`,
        `/revocations/${inUrl}`,
      ]) {
        for (const method of ['GET', 'DELETE']) await admin(`${what} in ${path.slice(0, 20)}`, method, path);
      }
      const agentBodies: unknown[] = [
        { connection: 'stripe', scopes: ['read'], token: secret },
        { connection: 'stripe', scopes: ['read'], ttl_seconds: secret },
        { connection: 'stripe', scopes: [`${secret} `] },
        { connection: `${secret}X`, scopes: ['read'] },
        secret,
        [secret],
      ];
      for (const body of agentBodies) {
        await say(`${what} in a request of an agent`, {
          method: 'POST',
          path: '/v1/grants',
          token: furniture.agentToken,
          body: JSON.stringify(body),
          headers: jsonType,
        });
      }
      for (const path of [
        `/v1/grants/${inUrl}`,
        `/v1/connections?key=${inUrl}`,
        `/${inUrl}`,
        `/metrics?token=${inUrl}`,
        `/healthz?${inUrl}`,
      ]) {
        await say(`${what} in the path of an agent`, { method: 'GET', path, token: furniture.agentToken });
      }
      // Cut off in the middle of the secret, and as bytes that are no text.
      const raw = Buffer.concat([Buffer.from(`{"value":"${secret}`), Buffer.from([0xff])]);
      for (const body of [raw, `{"value":"${secret}`, `{"value":${secret}}`, `{"${inUrl}":1}{`]) {
        for (const headers of [jsonType, { 'content-type': 'text/plain' }]) {
          await say(`${what} in a broken body`, {
            method: 'PUT',
            path: '/admin/v1/connections/stripe/secret',
            token: broker.adminToken,
            body,
            headers,
          });
        }
      }
    }
  });

  test('in headers nobody asked for', async () => {
    for (const [what, shape] of Object.entries(shapes)) {
      const secret = canary(`${what}, in a header`, shape);
      const headers = Object.fromEntries(
        [
          'user-agent',
          'referer',
          'cookie',
          'x-api-key',
          'x-request-id',
          'proxy-authorization',
          'origin',
          'accept',
          'accept-language',
          'x-forwarded-host',
          'via',
          'if-match',
          'traceparent',
        ].map((name) => [name, secret]),
      );
      for (const authorization of [
        undefined,
        `Bearer ${secret}`,
        `Basic ${Buffer.from(`me:${secret}`).toString('base64')}`,
        secret,
      ]) {
        for (const [method, path] of [
          ['POST', '/admin/v1/agents'],
          ['POST', '/v1/grants'],
          ['GET', '/metrics'],
          ['POST', '/token'],
          ['GET', '/nothing'],
          ['GET', '/gateway/stripe/v1/x'],
        ] as const) {
          await say(`${what} in headers`, {
            method,
            path,
            headers: {
              ...headers,
              ...(authorization === undefined ? {} : { authorization }),
              ...(path === '/token' ? formType : {}),
            },
          });
        }
      }
      await say(`${what} as a type`, {
        method: 'POST',
        path: '/admin/v1/agents',
        token: broker.adminToken,
        body: '{}',
        headers: { 'content-type': secret, 'content-encoding': secret },
      });
    }
  });

  test('and tokens of Warder typed where a person writes are refused, whole or in part', async () => {
    const tokens = [broker.adminToken, furniture.agentToken, furniture.gatewayToken, furniture.agent.clientSecret];
    for (const token of tokens.flatMap((one) => [one, one.slice(0, 40)])) {
      for (const [method, path, body] of [
        ['POST', '/agents', { name: 'x', owner: token }],
        ['POST', '/agents', { name: 'x', owner: 'x', purpose: `uses ${token}` }],
        ['PATCH', '/agents/reporter', { purpose: token }],
        ['POST', '/connections', { name: 'x', provider: 'internal-jwt', settings: { audience: token, scopes: ['a'] } }],
        [
          'POST',
          '/connections',
          { name: 'x', provider: 'internal-jwt', settings: { audience: 'a', scopes: [token.slice(0, 90)] } },
        ],
        [
          'POST',
          '/connections',
          { name: 'x', owner: token, provider: 'internal-jwt', settings: { audience: 'a', scopes: ['a'] } },
        ],
        ['PATCH', '/connections/stripe', { owner: token }],
        ['POST', '/entitlements', { agent: 'reporter', connection: 'stripe', scopes: ['read'], reason: token }],
        ['POST', '/entitlements', { agent: 'reporter', connection: 'stripe', scopes: [token] }],
        ['POST', '/revocations', { selector: { agent: 'reporter' }, reason: `leaked: ${token}` }],
        ['POST', '/revocations', { selector: { subject: token }, reason: 'x' }],
        ['POST', '/apply', { agents: [{ name: 'x', owner: 'x', purpose: token }] }],
      ] as [string, string, unknown][]) {
        const refused = await admin(`a token in ${path}`, method, path, body);
        expect(refused).toMatchObject({ status: 400, json: { code: 'invalid_request' } });
      }
      for (const body of [
        { connection: 'stripe', scopes: ['read'], reason: `with ${token}` },
        { connection: token, scopes: ['read'] },
        { connection: 'stripe', scopes: [token] },
      ]) {
        const sent = {
          method: 'POST',
          path: '/v1/grants',
          token: furniture.agentToken,
          body: JSON.stringify(body),
          headers: jsonType,
        };
        expect(await say('a token in a request', sent)).toMatchObject({
          status: 400,
          json: { code: 'invalid_request' },
        });
      }
    }
  });
});

describe('and none comes out', () => {
  test('of any answer, error or challenge', () => {
    expect(answers.length).toBeGreaterThan(800);
    expect(
      answers.flatMap(({ what, text }) => foundIn(text).map((found) => `${what}: ${found} in ${text.slice(0, 500)}`)),
    ).toEqual([]);
  });

  test('of anything an operator can list', async () => {
    for (const path of ['/agents', '/connections', '/entitlements', '/operators', '/grants', '/revocations']) {
      expect(foundIn((await broker.admin('GET', `${path}?limit=500`)).text)).toEqual([]);
    }
    expect(foundIn((await broker.admin('GET', '/keys')).text)).toEqual([]);
  });

  test.each(['/audit?limit=1000', '/audit/export?format=jsonl', '/audit/export?format=csv', '/audit/checkpoint'])(
    'of the audit log at %s',
    async (path) => {
      const { status, text } = await send(broker.url, {
        method: 'GET',
        path: `/admin/v1${path}`,
        token: broker.adminToken,
      });
      expect(status).toBe(200);
      expect(foundIn(text)).toEqual([]);
    },
  );

  test.each(['/metrics', '/openapi.json', '/readyz', '/healthz', '/jwks'])('of %s', async (path) => {
    expect(foundIn((await send(broker.url, { method: 'GET', path, token: broker.adminToken })).text)).toEqual([]);
  });

  test('of the log, at its most talkative', () => {
    expect(broker.log().length).toBeGreaterThan(100_000);
    expect(broker.log()).toContain('"level":20');
    expect(foundIn(broker.log())).toEqual([]);
  });

  test('of a diagnostic report of the process', () => {
    const report = process.report.getReport() as { environmentVariables?: Record<string, string> };
    expect(foundIn(JSON.stringify(report))).toEqual([]);
  });

  test('of any file it keeps, while it runs and after it has stopped; only the root key is one', async () => {
    const scan = (): string[] =>
      readdirSync(dataDir, { recursive: true, encoding: 'utf8' })
        .filter((name) => name !== 'root.key')
        .flatMap((name) => foundIn(readFileSync(join(dataDir, name))).map((found) => `${name}: ${found}`));
    expect(readdirSync(dataDir)).toEqual(expect.arrayContaining(['root.key', 'warder.db', 'warder.db-wal']));
    known('the root key', readFileSync(join(dataDir, 'root.key'), 'utf8').trim());
    expect(scan()).toEqual([]);
    await broker.close();
    expect(scan()).toEqual([]);
    expect(foundIn(broker.log())).toEqual([]);
  });

  test('although the search finds them where they are', () => {
    const [[what, secret] = ['', '']] = canaries;
    for (const text of [
      secret,
      encodeURIComponent(secret),
      Buffer.from(`ab${secret}cd`).toString('base64'),
      Buffer.from(secret).toString('hex'),
    ]) {
      expect(foundIn(`before ${text} after`).join()).toContain(what);
    }
  });
});
