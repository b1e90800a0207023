/** POST /introspect (RFC 7662), as raw as the RFC is exact. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Answer, Broker } from '../support/broker.ts';
import {
  assertion,
  basic,
  bearer,
  type Fields,
  grantTokenIn,
  jwtAgent,
  jwtConnection,
  type Listener,
  listen,
  makeKey,
  must,
  post,
  startProtocolBroker,
  tokenIn,
  withAssertion,
} from './support.ts';

const inactive = '{"active":false}';

describe('introspection', () => {
  let broker: Broker;
  let upstream: Listener;
  type Client = { clientId: string; clientSecret: string };
  let holder: Client;
  let service: Client;
  let other: Client;
  let tokens: { agent: string; gateway: string; jwt: string };
  let grantIds: { gateway: string; jwt: string };

  const authorization = (client: Client) => ({ authorization: basic(client.clientId, client.clientSecret) });
  const ask = (client: Client, token: string, more: Record<string, string> = {}): Promise<Answer> =>
    post(`${broker.url}/introspect`, { token, ...more }, authorization(client));
  const raw = (fields: Fields | string, headers: Record<string, string> = {}): Promise<Answer> =>
    post(`${broker.url}/introspect`, fields, headers);

  beforeAll(async () => {
    upstream = await listen(() => ({ ok: true }));
    broker = await startProtocolBroker();
    holder = await broker.agent('holder');
    service = await broker.agent('service');
    other = await broker.agent('other');
    must(await broker.connection('stripe', upstream.url), 201);
    await jwtConnection(broker, 'orders', {
      audience: 'https://orders.example',
      scopes: ['read', 'write'],
      introspectors: ['service'],
    });
    must(await broker.entitle('holder', 'stripe', ['all']), 201);
    must(await broker.entitle('holder', 'orders', ['read', 'write']), 201);
    const agent = await broker.agentToken(holder);
    const ofStripe = must(await broker.grant(agent, { connection: 'stripe', scopes: ['all'], ttl_seconds: 60 }), 201);
    const ofOrders = must(await broker.grant(agent, { connection: 'orders', scopes: ['read', 'write'] }), 201);
    const idIn = (answer: Answer): string => String((answer.body['grant'] as { id: string }).id);
    tokens = { agent, gateway: grantTokenIn(ofStripe), jwt: grantTokenIn(ofOrders) };
    grantIds = { gateway: idIn(ofStripe), jwt: idIn(ofOrders) };
  });
  afterAll(async () => {
    await broker.close();
    await upstream.close();
  });

  test('tells the holder everything of a live token, uncached', async () => {
    const agent = await ask(holder, tokens.agent);
    expect(agent.status).toBe(200);
    expect(agent.headers.get('content-type')).toBe('application/json');
    expect(agent.headers.get('cache-control')).toBe('no-store');
    expect(agent.headers.get('pragma')).toBe('no-cache');
    const issued = Number(agent.body['iat']);
    expect(agent.body).toEqual({
      active: true,
      iss: broker.url,
      client_id: 'holder',
      sub: 'holder',
      token_type: 'Bearer',
      iat: expect.any(Number),
      exp: issued + 300,
      jti: expect.stringMatching(/^tok_/),
    });
    expect(Math.abs(issued - Date.now() / 1000)).toBeLessThan(30);
    const gateway = await ask(holder, tokens.gateway);
    expect(gateway.body).toEqual({
      active: true,
      iss: broker.url,
      client_id: 'holder',
      sub: 'holder',
      aud: `${broker.url}/connections/stripe`,
      scope: 'all',
      token_type: 'Bearer',
      iat: expect.any(Number),
      exp: Number(gateway.body['iat']) + 60,
      jti: grantIds.gateway,
      grant_id: grantIds.gateway,
    });
  });

  test('says of a JWT what the JWT says', async () => {
    const { body } = await ask(holder, tokens.jwt);
    const claims = JSON.parse(Buffer.from(tokens.jwt.split('.')[1] ?? '', 'base64url').toString());
    expect(body).toEqual({ ...claims, active: true, token_type: 'Bearer', grant_id: grantIds.jwt });
  });

  test('tells the services a connection names of its JWTs, and of nothing else', async () => {
    expect((await ask(service, tokens.jwt)).body).toEqual((await ask(holder, tokens.jwt)).body);
    expect((await ask(service, tokens.gateway)).text).toBe(inactive);
    expect((await ask(service, tokens.agent)).text).toBe(inactive);
  });

  test('knows a token whatever the hint says, and takes unknown parameters', async () => {
    for (const token_type_hint of ['access_token', 'refresh_token', 'nonsense', '']) {
      expect((await ask(holder, tokens.jwt, { token_type_hint, foo: 'bar' })).body['active']).toBe(true);
    }
  });

  test('answers for any client authentication of the token endpoint', async () => {
    const key = makeKey('Ed25519');
    await jwtAgent(broker, 'robot', { jwks: { keys: [key.publicJwk] } });
    const fresh = () => withAssertion(assertion(broker.url, 'robot', key));
    const token = tokenIn(await post(`${broker.url}/token`, fresh()));
    expect((await raw({ ...fresh(), token })).body).toMatchObject({ active: true, client_id: 'robot' });
    // The assertion is spent whatever it was used for.
    const spent = fresh();
    expect((await raw({ ...spent, token })).body['active']).toBe(true);
    expect((await raw({ ...spent, token })).status).toBe(401);
  });

  test('answers exactly the same for unknown, foreign, returned, revoked and expired tokens', async () => {
    const answers = new Map<string, Answer>();
    answers.set('unknown', await ask(holder, 'wdr_at_unknown'));
    answers.set('unknown JWT', await ask(holder, 'eyJhbGciOiJub25lIn0.e30.'));
    for (const [kind, token] of Object.entries(tokens)) answers.set(`foreign ${kind}`, await ask(other, token));
    answers.set('an operator’s', await ask(holder, broker.adminToken));
    answers.set('its own secret', await ask(holder, holder.clientSecret));
    const grant = async (ttl: number): Promise<string> =>
      grantTokenIn(await broker.grant(tokens.agent, { connection: 'orders', scopes: ['read'], ttl_seconds: ttl }));
    const short = await grant(1);
    const returned = await grant(60);
    must(await post(`${broker.url}/revoke`, { token: returned }, authorization(holder)), 200);
    answers.set('returned', await ask(holder, returned));
    answers.set('returned, asked by a service', await ask(service, returned));
    const fenced = await grant(60);
    const revocation = { selector: { grant: JSON.parse(claimsOf(fenced)).jti }, reason: 'test' };
    must(await broker.admin('POST', '/revocations', revocation), 201);
    answers.set('revoked', await ask(holder, fenced));
    await new Promise((resolve) => setTimeout(resolve, 1050));
    answers.set('expired', await ask(holder, short));
    answers.set('expired, asked by a service', await ask(service, short));
    const varying = new Set(['date', 'request-id']);
    const seen = ({ status, headers, text }: Answer): unknown => [
      status,
      text,
      [...headers].filter(([name]) => !varying.has(name)),
    ];
    const [first] = answers.values();
    for (const [name, answer] of answers) {
      expect([name, answer.text]).toEqual([name, inactive]);
      expect([name, seen(answer)]).toEqual([name, first && seen(first)]);
    }
  });

  test('is refused without authentication, or with a wrong one, as at the token endpoint', async () => {
    const without = await raw({ token: tokens.agent });
    expect([without.status, without.body['error'], without.headers.get('www-authenticate')]).toEqual([
      401,
      'invalid_client',
      null,
    ]);
    const wrong = await raw({ token: tokens.agent }, { authorization: basic('holder', 'wrong') });
    expect([wrong.status, wrong.body['error']]).toEqual([401, 'invalid_client']);
    expect(wrong.headers.get('www-authenticate')).toMatch(/^Basic /);
    // A token is no way to ask about tokens here.
    for (const token of [tokens.agent, broker.adminToken]) {
      expect((await raw({ token: tokens.agent }, bearer(token))).status).toBe(401);
    }
  });

  test('needs a token, once', async () => {
    const errors = [
      await raw({}, authorization(holder)),
      await raw({ token: '' }, authorization(holder)),
      await raw(
        [
          ['token', tokens.agent],
          ['token', tokens.agent],
        ],
        authorization(holder),
      ),
      await raw(JSON.stringify({ token: tokens.agent }), {
        ...authorization(holder),
        'content-type': 'application/json',
      }),
    ];
    for (const { status, body, headers } of errors) {
      expect([status, body['error'], headers.has('www-authenticate')]).toEqual([400, 'invalid_request', false]);
    }
  });

  test('follows the connection: no longer an introspector, suspended, deleted', async () => {
    await jwtConnection(broker, 'moving', {
      audience: 'https://m.example',
      scopes: ['read'],
      introspectors: ['service'],
    });
    must(await broker.entitle('holder', 'moving', ['read']), 201);
    const grant = async (): Promise<string> =>
      grantTokenIn(await broker.grant(tokens.agent, { connection: 'moving', scopes: ['read'] }));
    const old = await grant();
    expect((await ask(service, old)).body['active']).toBe(true);
    must(await broker.admin('PATCH', '/connections/moving', { status: 'suspended' }), 200);
    expect((await ask(service, old)).text).toBe(inactive);
    expect((await ask(holder, old)).text).toBe(inactive);
    must(await broker.admin('PATCH', '/connections/moving', { status: 'active' }), 200);
    expect((await ask(service, old)).body['active']).toBe(true);
    const settings = { audience: 'https://m.example', scopes: ['read'], introspectors: ['other'] };
    must(await broker.admin('PATCH', '/connections/moving', { settings }), 200);
    const fresh = await grant();
    expect((await ask(service, fresh)).text).toBe(inactive);
    expect((await ask(other, fresh)).body['active']).toBe(true);
    must(await broker.admin('DELETE', '/connections/moving'), 204);
    expect((await ask(holder, fresh)).text).toBe(inactive);
    expect((await ask(other, fresh)).text).toBe(inactive);
  });

  test('tells a suspended service nothing', async () => {
    must(await broker.admin('PATCH', '/agents/service', { status: 'suspended' }), 200);
    expect((await ask(service, tokens.jwt)).text).toBe(inactive);
    must(await broker.admin('PATCH', '/agents/service', { status: 'active' }), 200);
    expect((await ask(service, tokens.jwt)).body['active']).toBe(true);
  });
});

const claimsOf = (jwt: string): string => Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString();
