/** Bad tokens of every kind, at every place that takes one: all refused, and told apart by nothing. */
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { type BadToken, badAccessTokens, badAssertions, badOpaqueTokens } from '../corpora/tokens.ts';
import type { Broker } from '../support/broker.ts';
import {
  answerTo,
  assertion,
  basic,
  bearer,
  type ClientKey,
  eachOf,
  grantTokenIn,
  jwtAgent,
  jwtConnection,
  type Listener,
  listen,
  makeKey,
  must,
  newAddress,
  post,
  rawRequest,
  seconds,
  startProtocolBroker,
  troubleIn,
  withAssertion,
} from './support.ts';

const inactive = '{"active":false}';
const invalidClient = '{"error":"invalid_client","error_description":"client authentication failed"}';

/** HTTP itself takes blanks away at the ends of a field, and ends it at CR LF: there such a token is the good one. */
const changedByHttp = (token: string): boolean => /^[ \t]|[ \t]$|\r\n[\w-]+:/.test(token);
const fitsInHeader = (token: string): boolean => /^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/.test(token);

interface Outcome {
  status: number;
  challenge: string;
  code: unknown;
}

describe('a bad token', () => {
  let broker: Broker;
  let upstream: Listener;
  let trap: Listener;
  let client: { clientId: string; clientSecret: string };
  let good: { agent: string; otherAgent: string; gateway: string; otherGateway: string; jwt: string };
  let brokerJwk: Record<string, unknown>;
  let key: ClientKey;
  let rsaKey: ClientKey;
  let stranger: ClientKey;
  let opaque: BadToken[];
  let accessTokens: BadToken[];
  let assertions: BadToken[];

  beforeAll(async () => {
    trap = await listen(() => ({ keys: [stranger.publicJwk] }));
    upstream = await listen(() => ({ ok: true }));
    broker = await startProtocolBroker();
    client = await broker.agent('reporter');
    key = makeKey('ES256', 'key-1');
    rsaKey = makeKey('PS256', 'rsa-1');
    stranger = makeKey('ES256', 'key-1');
    await jwtAgent(broker, 'robot', { jwks: { keys: [key.publicJwk] } });
    await jwtAgent(broker, 'robot-rsa', { jwks: { keys: [rsaKey.publicJwk] }, algorithms: ['PS256'] });
    must(await broker.connection('echo', upstream.url), 201);
    await jwtConnection(broker, 'api', { audience: 'https://api.example', scopes: ['read'] });
    must(await broker.entitle('reporter', 'echo', ['all']), 201);
    must(await broker.entitle('reporter', 'api', ['read']), 201);
    const agent = await broker.agentToken(client);
    const ask = async (connection: string, scope: string): Promise<string> =>
      grantTokenIn(await broker.grant(agent, { connection, scopes: [scope] }));
    good = {
      agent,
      otherAgent: await broker.agentToken(client),
      gateway: await ask('echo', 'all'),
      otherGateway: await ask('echo', 'all'),
      jwt: await ask('api', 'read'),
    };
    const { keys } = must(await answerTo(`${broker.url}/jwks`), 200).body as { keys: Record<string, unknown>[] };
    brokerJwk = keys[0] ?? {};
    opaque = badOpaqueTokens({ ...good, operator: broker.adminToken, clientSecret: client.clientSecret });
    accessTokens = badAccessTokens(good.jwt, brokerJwk, { ...stranger, kid: String(brokerJwk['kid']) });
    assertions = badAssertions({
      issuer: broker.url,
      tokenEndpoint: `${broker.url}/token`,
      clientId: 'robot',
      key,
      rsaClientId: 'robot-rsa',
      rsaKey,
      secretClientId: 'reporter',
      stranger,
      trap: trap.url,
      now: seconds(),
    });
  });
  afterAll(async () => {
    await broker.close();
    await upstream.close();
    await trap.close();
  });

  const every = (): BadToken[] => [...opaque, ...accessTokens, ...assertions];

  /** As a bearer token; characters that no HTTP library sends go over a plain socket. */
  const asBearer = async (path: string, token: string): Promise<Outcome> => {
    if (fitsInHeader(token)) {
      const { status, headers, body } = await answerTo(`${broker.url}${path}`, { headers: bearer(token) });
      return { status, challenge: headers.get('www-authenticate') ?? '', code: body['code'] };
    }
    const { status, text } = await rawRequest(broker.url, [
      `GET ${path} HTTP/1.1`,
      'Host: broker',
      `X-Forwarded-For: ${newAddress()}`,
      `Authorization: Bearer ${token}`,
    ]);
    return {
      status,
      challenge: /^www-authenticate: (.*)$/im.exec(text)?.[1] ?? '',
      code: /"code":"(\w+)"/.exec(text)?.[1],
    };
  };

  /** What was not refused, with the answer, to read in a failure. */
  const acceptedAt = async (path: string, tokens: readonly BadToken[], challenge: RegExp): Promise<string[]> => {
    const sent = tokens.filter(({ token }) => !changedByHttp(token));
    const outcomes = await eachOf(sent, ({ token }) => asBearer(path, token));
    return outcomes.flatMap((outcome, index) => {
      const { status, code } = outcome;
      const byWarder = status === 401 && code === 'unauthenticated' && challenge.test(outcome.challenge);
      // Node itself answers what is no HTTP, before there is a request.
      const byNode = status === 431 || (status === 400 && !fitsInHeader(sent[index]?.token ?? ''));
      return byWarder || (byNode && code === undefined) ? [] : [`${sent[index]?.name}: ${JSON.stringify(outcome)}`];
    });
  };

  const introspected = (token: string) =>
    post(`${broker.url}/introspect`, { token }, { authorization: basic(client.clientId, client.clientSecret) });

  test('comes in more than two hundred forms of each kind that is signed, and as many that are not', () => {
    expect(assertions.length).toBeGreaterThan(300);
    expect(opaque.length).toBeGreaterThan(200);
    expect(accessTokens.length).toBeGreaterThan(100);
    for (const list of [assertions, opaque, accessTokens]) {
      expect(new Set(list.map(({ token }) => token)).size).toBe(list.length);
    }
  });

  test('is made from good ones, which are accepted where they belong', async () => {
    expect((await asBearer('/v1/connections', good.agent)).status).toBe(200);
    expect((await asBearer('/v1/connections', good.otherAgent)).status).toBe(200);
    expect((await asBearer('/gateway/echo/x', good.gateway)).status).toBe(200);
    expect((await asBearer('/gateway/echo/x', good.otherGateway)).status).toBe(200);
    expect((await asBearer('/admin/v1/agents', broker.adminToken)).status).toBe(200);
    for (const token of [good.agent, good.gateway, good.jwt]) {
      expect((await introspected(token)).body['active']).toBe(true);
    }
    must(await post(`${broker.url}/token`, withAssertion(assertion(broker.url, 'robot', key))), 200);
    must(await post(`${broker.url}/token`, withAssertion(assertion(broker.url, 'robot-rsa', rsaKey))), 200);
    for (const header of [{ typ: 'JWT' }, { typ: 'client-authentication+jwt' }, { kid: undefined }]) {
      must(await post(`${broker.url}/token`, withAssertion(assertion(broker.url, 'robot', key, {}, header))), 200);
    }
    // RFC 7519 section 2: a NumericDate may have a fraction; Python's time.time() does.
    for (const claims of [
      { aud: [broker.url] },
      { exp: seconds() + 60.123456 },
      { iat: undefined },
      { nbf: seconds() },
    ]) {
      must(await post(`${broker.url}/token`, withAssertion(assertion(broker.url, 'robot', key, claims))), 200);
    }
  });

  test('does not open the agent API', async () => {
    const others = { gateway: good.gateway, jwt: good.jwt, operator: broker.adminToken };
    const tokens = [...every(), ...Object.entries(others).map(([name, token]) => ({ name, token }))];
    const challenge = /^Bearer error="invalid_token", resource_metadata="[^"]+\/v1"$/;
    expect(await acceptedAt('/v1/connections', tokens, challenge)).toEqual([]);
  });

  test('does not open the operators’ API', async () => {
    const tokens = [...every(), ...Object.entries(good).map(([name, token]) => ({ name, token }))];
    expect(await acceptedAt('/admin/v1/agents', tokens, /^Bearer/)).toEqual([]);
  });

  test('does not open the gateway, and nothing goes upstream', async () => {
    const others = { agent: good.agent, jwt: good.jwt, operator: broker.adminToken };
    const tokens = [...every(), ...Object.entries(others).map(([name, token]) => ({ name, token }))];
    const before = upstream.requests.length;
    const challenge = /^Bearer error="invalid_token", resource_metadata="[^"]+\/gateway"$/;
    expect(await acceptedAt('/gateway/echo/x', tokens, challenge)).toEqual([]);
    expect(upstream.requests).toHaveLength(before);
  });

  test('is inactive at introspection, in the very same bytes', async () => {
    const tokens = [...every(), { name: 'operator', token: broker.adminToken }];
    const answers = await eachOf(tokens, async ({ token }) => introspected(token));
    const different = answers.flatMap(({ status, text }, index) =>
      status === 200 && text === inactive ? [] : [`${tokens[index]?.name}: ${status} ${text}`],
    );
    expect(different).toEqual([]);
  });

  test('is revoked with 200 and touches nothing', async () => {
    const tokens = every().filter((_, index) => index % 5 === 0);
    const authorization = basic(client.clientId, client.clientSecret);
    const answers = await eachOf(tokens, ({ token }) => post(`${broker.url}/revoke`, { token }, { authorization }));
    expect(answers.filter(({ status, text }) => status !== 200 || text !== '')).toEqual([]);
    for (const token of [good.agent, good.otherAgent, good.gateway, good.otherGateway, good.jwt]) {
      expect((await introspected(token)).body['active']).toBe(true);
    }
  });

  test('does not authenticate a client', async () => {
    const used = assertion(broker.url, 'robot', key);
    must(await post(`${broker.url}/token`, withAssertion(used)), 200);
    const others = { ...good, operator: broker.adminToken, used };
    const tokens = [...every(), ...Object.entries(others).map(([name, token]) => ({ name, token }))];
    const answers = await eachOf(tokens, ({ token }) => post(`${broker.url}/token`, withAssertion(token)));
    const different = answers.flatMap(({ status, text, headers }, index) =>
      status === 401 && text === invalidClient && !headers.has('www-authenticate')
        ? []
        : [`${tokens[index]?.name}: ${status} ${text}`],
    );
    expect(different).toEqual([]);
  });

  test('is no client secret either', async () => {
    const tokens = [...opaque.slice(0, 60), { name: 'agent', token: good.agent }].filter(
      ({ token }) => token !== client.clientSecret,
    );
    const answers = await eachOf(tokens, ({ token }) =>
      post(
        `${broker.url}/token`,
        { grant_type: 'client_credentials' },
        { authorization: basic(encodeURIComponent(client.clientId), encodeURIComponent(token)) },
      ),
    );
    expect(answers.filter(({ status, text }) => status !== 401 || text !== invalidClient)).toEqual([]);
  });

  test('never leads the broker to an address in its header', () => {
    expect(trap.requests).toEqual([]);
  });

  test('leaves nothing behind that was not refused', async () => {
    const agents = must(await broker.admin('GET', '/agents'), 200).body['items'] as object[];
    const operators = must(await broker.admin('GET', '/operators'), 200).body['items'] as object[];
    expect([agents.length, operators.length]).toEqual([3, 1]);
    expect(troubleIn(broker.log())).toEqual([]);
  });
});

describe('a token that was good', () => {
  let broker: Broker;
  let upstream: Listener;

  beforeAll(async () => {
    upstream = await listen(() => ({ ok: true }));
    // The last test lets an hour pass: a key service confirmed an hour ago is not what it is about.
    broker = await startProtocolBroker({ env: { WARDER_KEY_MAX_AGE_SECONDS: '86400' } });
    must(await broker.connection('echo', upstream.url), 201);
    await jwtConnection(broker, 'api', { audience: 'https://api.example', scopes: ['read'] });
  });
  afterAll(async () => {
    await broker.close();
    await upstream.close();
  });

  interface Held {
    client: { clientId: string; clientSecret: string };
    agent: string;
    gateway: string;
    jwt: string;
  }

  /** An agent with a token of each kind. */
  const holder = async (name: string, grantSeconds = 600): Promise<Held> => {
    const client = await broker.agent(name);
    must(await broker.entitle(name, 'echo', ['all']), 201);
    must(await broker.entitle(name, 'api', ['read']), 201);
    const agent = await broker.agentToken(client);
    const ask = async (connection: string, scope: string): Promise<string> =>
      grantTokenIn(await broker.grant(agent, { connection, scopes: [scope], ttl_seconds: grantSeconds }));
    return { client, agent, gateway: await ask('echo', 'all'), jwt: await ask('api', 'read') };
  };

  const activity = async ({ client, agent, gateway, jwt }: Held): Promise<unknown[]> => {
    const active: unknown[] = [];
    for (const token of [agent, gateway, jwt]) {
      const { text, body } = await post(
        `${broker.url}/introspect`,
        { token },
        { authorization: basic(client.clientId, client.clientSecret) },
      );
      active.push(text === inactive ? false : body['active']);
    }
    return active;
  };
  const codeAt = async (path: string, token: string): Promise<string> => {
    const { status, headers, body } = await answerTo(`${broker.url}${path}`, { headers: bearer(token) });
    const { error } = /error="(?<error>\w+)"/.exec(headers.get('www-authenticate') ?? '')?.groups ?? {};
    return [status, body['code'], error].filter((one) => one !== undefined).join(' ');
  };
  const codes = async (held: Held): Promise<string[]> => [
    await codeAt('/v1/connections', held.agent),
    await codeAt('/gateway/echo/x', held.gateway),
  ];

  test('is refused when its grant has expired', async () => {
    const held = await holder('short', 3);
    expect(await activity(held)).toEqual([true, true, true]);
    await new Promise((resolve) => setTimeout(resolve, 3100));
    expect(await activity(held)).toEqual([true, false, false]);
    expect(await codes(held)).toEqual(['200', '401 expired invalid_token']);
  });

  test('is refused when its grant was given back', async () => {
    const held = await holder('returner');
    for (const id of [held.gateway, held.jwt].map((token) => grantIdOf(token))) {
      must(await answerTo(`${broker.url}/v1/grants/${id}`, { method: 'DELETE', headers: bearer(held.agent) }), 204);
    }
    expect(await activity(held)).toEqual([true, false, false]);
    expect(await codes(held)).toEqual(['200', '401 revoked invalid_token']);
  });

  test('is refused when its client revoked it', async () => {
    const held = await holder('revoker');
    const authorization = basic(held.client.clientId, held.client.clientSecret);
    for (const token of [held.agent, held.gateway, held.jwt]) {
      must(await post(`${broker.url}/revoke`, { token }, { authorization }), 200);
    }
    expect(await activity(held)).toEqual([false, false, false]);
    expect(await codes(held)).toEqual(['401 revoked invalid_token', '401 revoked invalid_token']);
  });

  test('is refused when an operator revoked all of its agent', async () => {
    const held = await holder('revoked');
    must(await broker.admin('POST', '/revocations', { selector: { agent: 'revoked' }, reason: 'test' }), 201);
    expect(await activity(held)).toEqual([false, false, false]);
    expect(await codes(held)).toEqual(['401 revoked invalid_token', '401 revoked invalid_token']);
  });

  test('is refused when an operator revoked its connection, and tokens of the agent itself are not', async () => {
    const held = await holder('connected');
    must(await broker.admin('POST', '/revocations', { selector: { connection: 'echo' }, reason: 'test' }), 201);
    expect(await activity(held)).toEqual([true, false, true]);
    expect(await codes(held)).toEqual(['200', '401 revoked invalid_token']);
  });

  test('is refused while its agent is suspended', async () => {
    const held = await holder('sleeper');
    must(await broker.admin('PATCH', '/agents/sleeper', { status: 'suspended' }), 200);
    expect(await codes(held)).toEqual(['403 agent_suspended', '403 agent_suspended']);
    const { client } = await holder('observer');
    expect(await activity({ ...held, client })).toEqual([false, false, false]);
  });

  test('is refused when its agent has a new secret', async () => {
    const held = await holder('renewed');
    const { body } = must(await broker.admin('POST', '/agents/renewed/secret'), 201);
    expect(await codes(held)).toEqual(['401 revoked invalid_token', '401 revoked invalid_token']);
    const client = { clientId: 'renewed', clientSecret: String(body['client_secret']) };
    expect(await activity({ ...held, client })).toEqual([false, false, false]);
  });

  test('is refused when its agent is gone, even if another took the name', async () => {
    const held = await holder('gone');
    must(await broker.admin('DELETE', '/agents/gone'), 204);
    const client = await broker.agent('gone');
    expect(await codes(held)).toEqual(['401 revoked invalid_token', '401 revoked invalid_token']);
    expect(await activity({ ...held, client })).toEqual([false, false, false]);
  });

  test('is refused when it is an operator’s and has expired, was replaced, suspended or deleted', async () => {
    const operator = async (name: string, more: object = {}): Promise<string> =>
      String(must(await broker.admin('POST', '/operators', { name, roles: ['auditor'], ...more }), 201).body['token']);
    const status = async (token: string): Promise<number> =>
      (await broker.admin('GET', '/agents', undefined, token)).status;
    const expiring = await operator('expiring', { expires_at: new Date(Date.now() + 3000).toISOString() });
    const replaced = await operator('replaced');
    const suspended = await operator('suspended');
    const deleted = await operator('deleted');
    const all = [expiring, replaced, suspended, deleted];
    expect(await Promise.all(all.map(status))).toEqual([200, 200, 200, 200]);
    must(await broker.admin('POST', '/operators/replaced/token'), 201);
    must(await broker.admin('PATCH', '/operators/suspended', { status: 'suspended' }), 200);
    must(await broker.admin('DELETE', '/operators/deleted'), 204);
    await new Promise((resolve) => setTimeout(resolve, 3100));
    expect(await Promise.all(all.map(status))).toEqual([401, 401, 401, 401]);
  });

  test('is refused when the wall clock has passed its end, wherever the clock goes then', async () => {
    const held = await holder('aged', 3600);
    const now = Date.now;
    const clock = jest.spyOn(Date, 'now');
    try {
      // The broker follows the wall clock forward and never back.
      clock.mockImplementation(() => now.call(Date) + 250_000);
      expect(await activity(held)).toEqual([true, true, true]);
      clock.mockImplementation(() => now.call(Date) + 301_000);
      expect(await activity(held)).toEqual([false, true, true]);
      expect(await codes(held)).toEqual(['401 expired invalid_token', '200']);
      clock.mockImplementation(() => now.call(Date) + 3_601_000);
      expect(await activity(held)).toEqual([false, false, false]);
      expect(await codes(held)).toEqual(['401 expired invalid_token', '401 expired invalid_token']);
      clock.mockImplementation(() => now.call(Date));
      expect(await activity(held)).toEqual([false, false, false]);
      expect(await codes(held)).toEqual(['401 expired invalid_token', '401 expired invalid_token']);
    } finally {
      clock.mockRestore();
    }
  });
});

/** The id of the grant a token belongs to: in a gateway token by its spelling, in a JWT as `jti`. */
const grantIdOf = (token: string): string => {
  if (token.startsWith('wdr_gw_')) return `grt_${token.slice(7, 33)}`;
  const claims: { jti: string } = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());
  return claims.jti;
};
