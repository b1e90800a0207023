/** POST /revoke (RFC 7009), as raw as the RFC is exact. */
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Answer, type Broker, freePort, temporaryDir } from '../support/broker.ts';
import {
  answerTo,
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

describe('revocation by the client', () => {
  let broker: Broker;
  let upstream: Listener;
  type Client = { clientId: string; clientSecret: string };
  let holder: Client;
  let other: Client;

  const authorization = (client: Client) => ({ authorization: basic(client.clientId, client.clientSecret) });
  const revoke = (client: Client, token: string, more: Record<string, string> = {}): Promise<Answer> =>
    post(`${broker.url}/revoke`, { token, ...more }, authorization(client));
  const raw = (fields: Fields | string, headers: Record<string, string> = {}): Promise<Answer> =>
    post(`${broker.url}/revoke`, fields, headers);
  const isActive = async (token: string): Promise<unknown> =>
    (await post(`${broker.url}/introspect`, { token }, authorization(holder))).body['active'];
  const gatewayStatus = async (token: string): Promise<number> =>
    (await answerTo(`${broker.url}/gateway/stripe/x`, { headers: bearer(token) })).status;
  const apiStatus = async (token: string): Promise<number> =>
    (await answerTo(`${broker.url}/v1/connections`, { headers: bearer(token) })).status;

  const three = async () => {
    const agent = await broker.agentToken(holder);
    return {
      agent,
      gateway: grantTokenIn(await broker.grant(agent, { connection: 'stripe', scopes: ['all'] })),
      jwt: grantTokenIn(await broker.grant(agent, { connection: 'orders', scopes: ['read'] })),
    };
  };

  beforeAll(async () => {
    upstream = await listen(() => ({ ok: true }));
    broker = await startProtocolBroker();
    holder = await broker.agent('holder');
    other = await broker.agent('other');
    must(await broker.connection('stripe', upstream.url), 201);
    await jwtConnection(broker, 'orders', {
      audience: 'https://orders.example',
      scopes: ['read'],
      introspectors: ['other'],
    });
    must(await broker.entitle('holder', 'stripe', ['all']), 201);
    must(await broker.entitle('holder', 'orders', ['read']), 201);
  });
  afterAll(async () => {
    await broker.close();
    await upstream.close();
  });

  test('takes effect at once, for each kind of token, and answers 200 with nothing in it', async () => {
    const tokens = await three();
    for (const token of Object.values(tokens)) {
      expect(await isActive(token)).toBe(true);
      const { status, text, headers } = await revoke(holder, token);
      expect([status, text]).toEqual([200, '']);
      expect(headers.get('cache-control')).toBe('no-store');
      expect(await isActive(token)).toBe(false);
    }
    expect(await apiStatus(tokens.agent)).toBe(401);
    expect(await gatewayStatus(tokens.gateway)).toBe(401);
  });

  test('answers 200 again, and one hundred times at once', async () => {
    const { agent, gateway } = await three();
    for (const token of [agent, gateway]) {
      const answers = await Promise.all(Array.from({ length: 50 }, () => revoke(holder, token)));
      expect(new Set(answers.map(({ status, text }) => `${status} ${text}`))).toEqual(new Set(['200 ']));
      expect((await revoke(holder, token)).status).toBe(200);
      expect(await isActive(token)).toBe(false);
    }
    const { body } = must(await broker.admin('GET', '/audit?type=grant.returned&limit=500'), 200);
    const ids = (body['items'] as { grant: string }[]).map(({ grant }) => grant);
    expect(new Set(ids).size).toBe(ids.length);
  });

  test('answers 200 for a token nobody knows', async () => {
    for (const token of ['x', 'wdr_at_', 'eyJhbGciOiJub25lIn0.e30.', broker.adminToken, holder.clientSecret]) {
      const { status, text } = await revoke(holder, token);
      expect([status, text]).toEqual([200, '']);
    }
    must(await broker.admin('GET', '/agents'), 200);
  });

  test('does not touch another client’s token, not even for a service that may introspect it', async () => {
    const tokens = await three();
    for (const token of Object.values(tokens)) {
      const { status, text } = await revoke(other, token);
      expect([status, text]).toEqual([200, '']);
      expect(await isActive(token)).toBe(true);
    }
    expect(await apiStatus(tokens.agent)).toBe(200);
    expect(await gatewayStatus(tokens.gateway)).toBe(200);
    const { body } = must(await broker.admin('GET', '/audit?agent=other&type=token.revocation_ignored'), 200);
    expect(body['items']).toHaveLength(3);
  });

  test('leaves the other tokens of the client alone', async () => {
    const first = await three();
    const second = await three();
    await revoke(holder, first.agent);
    expect(await Promise.all([first.gateway, first.jwt, ...Object.values(second)].map(isActive))).toEqual([
      true,
      true,
      true,
      true,
      true,
    ]);
  });

  test('finds the token whatever the hint says (section 2.1)', async () => {
    for (const token_type_hint of ['refresh_token', 'access_token', 'nonsense']) {
      const { gateway } = await three();
      expect((await revoke(holder, gateway, { token_type_hint, foo: 'bar' })).status).toBe(200);
      expect(await isActive(gateway)).toBe(false);
    }
  });

  test('works with an assertion, and for a suspended agent: giving back is always allowed', async () => {
    const key = makeKey('ES256');
    await jwtAgent(broker, 'robot', { jwks: { keys: [key.publicJwk] } });
    const fresh = () => withAssertion(assertion(broker.url, 'robot', key));
    const token = tokenIn(await post(`${broker.url}/token`, fresh()));
    expect(await apiStatus(token)).toBe(200);
    must(await broker.admin('PATCH', '/agents/robot', { status: 'suspended' }), 200);
    expect((await raw({ ...fresh(), token })).status).toBe(200);
    must(await broker.admin('PATCH', '/agents/robot', { status: 'active' }), 200);
    expect(await apiStatus(token)).toBe(401);
  });

  test('is refused without authentication, or with a wrong one, and nothing is touched', async () => {
    const { agent } = await three();
    const without = await raw({ token: agent });
    expect([without.status, without.body['error'], without.headers.has('www-authenticate')]).toEqual([
      401,
      'invalid_client',
      false,
    ]);
    const wrong = await raw({ token: agent }, { authorization: basic('holder', 'wrong') });
    expect([wrong.status, wrong.headers.get('www-authenticate')]).toEqual([
      401,
      'Basic realm="warder", charset="UTF-8"',
    ]);
    expect((await raw({ token: agent }, bearer(agent))).status).toBe(401);
    expect(await apiStatus(agent)).toBe(200);
  });

  test('needs a token, once', async () => {
    const { agent } = await three();
    const twice: Fields = [
      ['token', agent],
      ['token', 'x'],
    ];
    for (const fields of [{}, { token: '' }, twice]) {
      const { status, body } = await raw(fields, authorization(holder));
      expect([status, body['error']]).toEqual([400, 'invalid_request']);
    }
    expect(await apiStatus(agent)).toBe(200);
  });

  test('survives a restart', async () => {
    const dataDir = temporaryDir();
    const port = await freePort();
    let running = await startProtocolBroker({ dataDir, port });
    const client = await running.agent('holder');
    const [revoked, kept] = [await running.agentToken(client), await running.agentToken(client)];
    must(await post(`${running.url}/revoke`, { token: revoked }, authorization(client)), 200);
    await running.close();
    running = await startProtocolBroker({ dataDir, port });
    const status = async (token: string): Promise<number> =>
      (await answerTo(`${running.url}/v1/connections`, { headers: bearer(token) })).status;
    expect([await status(revoked), await status(kept)]).toEqual([401, 200]);
    await running.close();
    rmSync(dataDir, { recursive: true });
  });
});
