/** Bearer tokens at the protected resources (RFC 6750): where they are taken from, and how a refusal is worded. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Answer, Broker } from '../support/broker.ts';
import {
  answerTo,
  bearer,
  formOf,
  grantTokenIn,
  type Listener,
  listen,
  must,
  newAddress,
  rawRequest,
  startProtocolBroker,
} from './support.ts';

describe('a bearer token', () => {
  let broker: Broker;
  let upstream: Listener;
  let agent: string;
  let gateway: string;

  beforeAll(async () => {
    upstream = await listen(() => ({ ok: true }));
    broker = await startProtocolBroker();
    const client = await broker.agent('reporter');
    const scopes = { read: [{ methods: ['GET'], path: '/v1/**' }], write: [{ methods: ['POST'], path: '/v1/**' }] };
    must(await broker.connection('stripe', upstream.url, { scopes }), 201);
    must(await broker.entitle('reporter', 'stripe', ['read']), 201);
    agent = await broker.agentToken(client);
    gateway = grantTokenIn(await broker.grant(agent, { connection: 'stripe', scopes: ['read'] }));
  });
  afterAll(async () => {
    await broker.close();
    await upstream.close();
  });

  const get = (path: string, headers: Record<string, string> = {}): Promise<Answer> =>
    answerTo(`${broker.url}${path}`, { headers });
  const challengeOf = ({ headers }: Answer): string => headers.get('www-authenticate') ?? 'none';
  const metadata = (resource: string): string =>
    `resource_metadata="${broker.url}/.well-known/oauth-protected-resource${resource}"`;

  test('is taken from the Authorization header, the scheme in any case', async () => {
    for (const scheme of ['Bearer', 'bearer', 'BEARER', 'Bearer ']) {
      must(await get('/v1/connections', { authorization: `${scheme} ${agent}` }), 200);
      must(await get('/gateway/stripe/v1/x', { authorization: `${scheme} ${gateway}` }), 200);
    }
  });

  test('is not taken from the query (section 2.3)', async () => {
    for (const name of ['access_token', 'token', 'authorization']) {
      const { status } = await get(`/v1/connections?${formOf({ [name]: agent })}`);
      expect(status).toBe(401);
      // The gateway objects to a token of Warder's in what would go upstream before it looks for one in the header.
      expect([400, 401]).toContain((await get(`/gateway/stripe/v1/x?${formOf({ [name]: gateway })}`)).status);
      expect((await get(`/admin/v1/agents?${formOf({ [name]: broker.adminToken })}`)).status).toBe(401);
    }
  });

  test('is not taken from the body (section 2.2), a cookie or another header', async () => {
    const send = (path: string, type: string, body: string): Promise<Answer> =>
      answerTo(`${broker.url}${path}`, { method: 'POST', headers: { 'content-type': type }, body });
    const form = 'application/x-www-form-urlencoded';
    expect((await send('/v1/grants', form, formOf({ access_token: agent }))).status).toBe(401);
    expect((await send('/gateway/stripe/v1/x', form, formOf({ access_token: gateway }))).status).toBe(401);
    const json = JSON.stringify({ access_token: agent, connection: 'stripe', scopes: ['read'] });
    expect((await send('/v1/grants', 'application/json', json)).status).toBe(401);
    const others: Record<string, string>[] = [
      { cookie: `access_token=${agent}` },
      { 'proxy-authorization': `Bearer ${agent}` },
      { 'x-authorization': `Bearer ${agent}` },
      { 'x-api-key': agent },
      { 'sec-websocket-protocol': `bearer, ${agent}` },
    ];
    for (const headers of others) expect((await get('/v1/connections', headers)).status).toBe(401);
  });

  test('that is missing is asked for without an error code (section 3.1)', async () => {
    for (const [path, resource] of [
      ['/v1/connections', '/v1'],
      ['/v1/grants/grt_x', '/v1'],
      ['/gateway/stripe/v1/x', '/gateway'],
      ['/gateway/nothing/', '/gateway'],
    ] as const) {
      const answer = await get(path);
      expect([answer.status, answer.body['code'], challengeOf(answer)]).toEqual([
        401,
        'unauthenticated',
        `Bearer ${metadata(resource)}`,
      ]);
      expect(answer.headers.get('content-type')).toBe('application/problem+json');
    }
    for (const [method, path] of [
      ['POST', '/v1/grants'],
      ['DELETE', '/v1/grants/grt_x'],
      ['POST', '/v1/grants/grt_x/renew'],
      ['PUT', '/gateway/stripe/v1/x'],
    ] as const) {
      const answer = await answerTo(`${broker.url}${path}`, { method });
      expect([answer.status, challengeOf(answer)]).toEqual([401, expect.stringMatching(/^Bearer resource_metadata="/)]);
    }
  });

  test('is asked for in the same words of whoever tried another scheme (section 3.1)', async () => {
    for (const authorization of ['Basic cmVwb3J0ZXI6eA==', 'Digest username="x"', 'Bearers x', 'x']) {
      const answer = await get('/v1/connections', { authorization });
      expect([authorization, answer.status, challengeOf(answer)]).toEqual([
        authorization,
        401,
        `Bearer ${metadata('/v1')}`,
      ]);
      const through = await get('/gateway/stripe/v1/x', { authorization });
      expect([through.status, challengeOf(through)]).toEqual([401, `Bearer ${metadata('/gateway')}`]);
    }
  });

  test('that is not good is invalid_token', async () => {
    for (const token of ['x', gateway, 'a.b.c', '', 'two words', `"${agent}"`]) {
      const answer = await get('/v1/connections', bearer(token));
      expect([token, answer.status, challengeOf(answer)]).toEqual([
        token,
        401,
        `Bearer error="invalid_token", ${metadata('/v1')}`,
      ]);
    }
    const through = await get('/gateway/stripe/v1/x', bearer(agent));
    expect([through.status, challengeOf(through)]).toEqual([
      401,
      `Bearer error="invalid_token", ${metadata('/gateway')}`,
    ]);
  });

  test('that reaches less than is asked is 403 insufficient_scope', async () => {
    const through = await answerTo(`${broker.url}/gateway/stripe/v1/x`, { method: 'POST', headers: bearer(gateway) });
    expect([through.status, through.body['code']]).toEqual([403, 'scope_not_allowed']);
    expect(challengeOf(through)).toMatch(/^Bearer error="insufficient_scope"/);
    const asked = await answerTo(`${broker.url}/v1/grants`, {
      method: 'POST',
      headers: { ...bearer(agent), 'content-type': 'application/json' },
      body: JSON.stringify({ connection: 'stripe', scopes: ['write'] }),
    });
    expect([asked.status, asked.body['code']]).toEqual([403, 'scope_not_allowed']);
    expect(challengeOf(asked)).toMatch(/^Bearer error="insufficient_scope"/);
  });

  test('that reaches less than is asked is told the scope that would do (section 3)', async () => {
    const through = await answerTo(`${broker.url}/gateway/stripe/v1/x`, { method: 'POST', headers: bearer(gateway) });
    expect(challengeOf(through)).toContain('scope="write"');
    const asked = await answerTo(`${broker.url}/v1/grants`, {
      method: 'POST',
      headers: { ...bearer(agent), 'content-type': 'application/json' },
      body: JSON.stringify({ connection: 'stripe', scopes: ['write'] }),
    });
    expect(challengeOf(asked)).toContain('scope="write"');
  });

  test('is not asked for where another one would not help', async () => {
    const unknown = await get('/v1/grants/grt_x', bearer(agent));
    expect([unknown.status, challengeOf(unknown)]).toEqual([404, 'none']);
    const other = await get('/gateway/other/v1/x', bearer(gateway));
    expect([other.status, challengeOf(other)]).toEqual([403, 'none']);
  });

  test('in two headers is refused, whichever is good', async () => {
    const before = upstream.requests.length;
    for (const [path, token] of [
      ['/v1/connections', agent],
      ['/gateway/stripe/v1/x', gateway],
      ['/admin/v1/agents', broker.adminToken],
    ] as const) {
      const lines = (...tokens: string[]): string[] => [
        `GET ${path} HTTP/1.1`,
        'Host: broker',
        `X-Forwarded-For: ${newAddress()}`,
        ...tokens.map((one) => `Authorization: Bearer ${one}`),
      ];
      expect((await rawRequest(broker.url, lines(token))).status).toBe(200);
      for (const two of [lines(token, 'x'), lines('x', token), lines(token, token)]) {
        expect((await rawRequest(broker.url, two)).status).toBe(400);
      }
    }
    expect(upstream.requests).toHaveLength(before + 1);
  });

  test('never comes back in an answer, nor into the log', async () => {
    const secret = 'wdr_at_0123456789abcdefghjkmnpqrs0123456789012345678901234567890123456789012';
    const answers = [
      await get('/v1/connections', bearer(secret)),
      await get('/gateway/stripe/v1/x', bearer(secret)),
      await get('/admin/v1/agents', bearer(secret)),
      await get(`/v1/connections?access_token=${secret}`),
      await get(`/token?token=${secret}`),
    ];
    for (const { text, headers } of answers) {
      expect(text).not.toContain(secret.slice(7, 40));
      expect([...headers].flat().join()).not.toContain(secret.slice(7, 40));
    }
    for (const token of [secret, agent, gateway, broker.adminToken])
      expect(broker.log()).not.toContain(token.slice(33));
  });
});
