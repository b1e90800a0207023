/** The transmitter of Shared Signals as a receiver meets it: over the wire, knowing nothing but the issuer's URL. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { createRemoteJWKSet, decodeJwt, type JWTPayload, jwtVerify } from 'jose';
import { type Endpoint, hurried, startEndpoint, status } from '../services/alerts/rig.ts';
import { type Broker, freePort, removeTemporaryDirs, startBroker, temporaryDir } from '../support/broker.ts';
import { type ChildBroker, newAdminToken, startChildBroker } from '../support/child-broker.ts';
import { eventually, pause } from '../support/eventually.ts';
import { answerTo, bearer } from './support.ts';

const caep = 'https://schemas.openid.net/secevent/caep/event-type/';
const sessionRevoked = `${caep}session-revoked`;
const credentialChange = `${caep}credential-change`;
const verification = 'https://schemas.openid.net/secevent/ssf/event-type/verification';
const streamUpdated = 'https://schemas.openid.net/secevent/ssf/event-type/stream-updated';
const [push, poll] = ['urn:ietf:rfc:8935', 'urn:ietf:rfc:8936'];

let broker: Broker;
let endpoint: Endpoint;
let made = 0;
beforeAll(async () => {
  broker = await startBroker({ retrySchedule: hurried, env: { WARDER_TRUST_PROXY: '127.0.0.1' } });
  endpoint = await startEndpoint();
});
afterEach(async () => {
  endpoint.got.length = 0;
  endpoint.answer(status(202));
  const { body } = await broker.admin('GET', '/streams?limit=500');
  for (const { name } of body['items'] as { name: string }[]) await broker.admin('DELETE', `/streams/${name}`);
});
afterAll(async () => {
  await broker.close();
  await endpoint.close();
  removeTemporaryDirs();
});

type Json = Record<string, unknown>;
interface Receiver {
  name: string;
  id: string;
  token: string;
  call(method: string, path: string, body?: unknown): Promise<{ status: number; body: Json; headers: Headers }>;
  poll(body?: object): Promise<{ sets: Record<string, string>; moreAvailable: boolean }>;
}

const receiver = async (more: object = {}): Promise<Receiver> => {
  made += 1;
  const name = `receiver-${made}`;
  const asked = { name, aud: ['https://rp.example.com'], allow_private_network: true, ...more };
  const answer = await broker.admin('POST', '/streams', asked);
  if (answer.status !== 201) throw new Error(answer.text);
  const [id, token] = [String(answer.body['id']), String(answer.body['token'])];
  const call = (method: string, path: string, body?: unknown) => broker.json(method, path, token, body);
  return {
    name,
    id,
    token,
    call,
    poll: async (body = {}) => {
      const polled = await call('POST', `/ssf/poll/${id}`, { returnImmediately: true, ...body });
      if (polled.status !== 200) throw new Error(`${polled.status} ${JSON.stringify(polled.body)}`);
      return polled.body as unknown as { sets: Record<string, string>; moreAvailable: boolean };
    },
  };
};
const polled = (more: object = {}) => receiver({ delivery: { method: 'poll' }, ...more });
const pushed = (more: object = {}) => receiver({ delivery: { method: 'push', endpoint_url: endpoint.url }, ...more });

const verify = async (set: string): Promise<JWTPayload> => {
  const { body: metadata } = await broker.json('GET', '/.well-known/ssf-configuration', 'none');
  const keys = createRemoteJWKSet(new URL(String(metadata['jwks_uri'])));
  const issuer = String(metadata['issuer']);
  return (await jwtVerify(set, keys, { issuer, audience: 'https://rp.example.com', typ: 'secevent+jwt' })).payload;
};
const eventsIn = (payload: JWTPayload): Record<string, Json> => payload['events'] as Record<string, Json>;
const revoke = (selector: object, reason = 'leaked on a forum') =>
  broker.admin('POST', '/revocations', { selector, reason });

describe('the metadata', () => {
  test('says what works, and nothing else', async () => {
    const { body, headers } = await broker.json('GET', '/.well-known/ssf-configuration', 'none');
    expect(headers.get('content-type')).toMatch(/^application\/json/);
    expect(body).toEqual({
      spec_version: '1_0',
      issuer: broker.url,
      jwks_uri: `${broker.url}/jwks`,
      delivery_methods_supported: [push, poll],
      configuration_endpoint: `${broker.url}/ssf/stream`,
      status_endpoint: `${broker.url}/ssf/status`,
      verification_endpoint: `${broker.url}/ssf/verify`,
      authorization_schemes: [{ spec_urn: 'urn:ietf:rfc:6750' }],
      default_subjects: 'ALL',
    });
  });

  test('of an issuer with a path lies between its host and its path', async () => {
    const port = await freePort();
    const other = await startBroker({ port, env: { WARDER_PUBLIC_URL: `http://127.0.0.1:${port}/warder` } });
    const { body } = await other.json('GET', '/.well-known/ssf-configuration/warder', 'none');
    expect(body).toMatchObject({ issuer: `http://127.0.0.1:${port}/warder` });
    expect((await other.json('GET', '/.well-known/ssf-configuration', 'none')).status).toBe(404);
    await other.close();
  });
});

describe('a receiver that pushes are sent to', () => {
  test('makes its stream, verifies it, and learns of a revocation in a token that it can check', async () => {
    const rp = await receiver();
    expect((await rp.call('GET', '/ssf/stream')).body).toEqual([]);
    const opened = await rp.call('POST', '/ssf/stream', {
      delivery: { method: push, endpoint_url: endpoint.url, authorization_header: 'Bearer of-the-receiver' },
      events_requested: [sessionRevoked, 'https://example.com/unknown'],
      description: 'orders',
      some_extension: true,
    });
    expect(opened.status).toBe(201);
    expect(opened.body).toEqual({
      stream_id: rp.id,
      iss: broker.url,
      aud: 'https://rp.example.com',
      events_supported: [sessionRevoked, credentialChange],
      events_requested: [sessionRevoked, 'https://example.com/unknown'],
      events_delivered: [sessionRevoked],
      delivery: { method: push, endpoint_url: endpoint.url },
      min_verification_interval: 30,
      description: 'orders',
    });
    expect((await rp.call('POST', '/ssf/stream', {})).status).toBe(409);
    expect((await rp.call('POST', '/ssf/verify', { stream_id: rp.id, state: 'VGhpcyBpcyBh' })).status).toBe(204);
    const tooSoon = await rp.call('POST', '/ssf/verify', { stream_id: rp.id });
    expect(tooSoon.status).toBe(429);
    expect(Number(tooSoon.headers.get('retry-after'))).toBeGreaterThan(20);

    const agent = await broker.agent('pushed-about');
    await broker.admin('POST', `/agents/${agent.name}/secret`);
    await revoke({ agent: agent.name });
    await eventually(
      'three events',
      () => endpoint.got.length,
      (got) => got === 3,
    );
    for (const { headers } of endpoint.got) {
      expect(headers).toMatchObject({
        'content-type': 'application/secevent+jwt',
        accept: 'application/json',
        authorization: 'Bearer of-the-receiver',
      });
    }
    const [first, second, third] = await Promise.all(endpoint.got.map(({ body }) => verify(body)));
    if (!first || !second || !third) throw new Error('three came');
    expect(eventsIn(first)).toEqual({ [verification]: { state: 'VGhpcyBpcyBh' } });
    expect(first['sub_id']).toEqual({ format: 'opaque', id: rp.id });
    // New authentication ends sessions, too; the credential change itself was not asked for.
    expect(Object.keys(eventsIn(second))).toEqual([sessionRevoked]);
    expect(third).toMatchObject({
      iss: broker.url,
      aud: 'https://rp.example.com',
      sub_id: { format: 'iss_sub', iss: broker.url, sub: agent.name },
      events: {
        [sessionRevoked]: {
          initiating_entity: 'admin',
          reason_admin: { en: 'Access was revoked.' },
          event_timestamp: expect.any(Number),
        },
      },
    });
    expect(third).not.toHaveProperty('exp');
    expect(third).not.toHaveProperty('sub');
    expect(new Set([first, second, third].map(({ jti }) => jti)).size).toBe(3);
    expect(JSON.stringify(third)).not.toContain('forum');
  });

  test('that was away is told all of it, in order; that refuses an event is told the next', async () => {
    const rp = await pushed({ share_reasons: true });
    const agents = [await broker.agent('away-1'), await broker.agent('away-2'), await broker.agent('away-3')];
    let failures = 2;
    endpoint.answer((received, res) => {
      const { sub_id: about } = decodeJwt(received.body) as unknown as { sub_id: { sub: string } };
      if (about.sub === 'away-2') {
        res.writeHead(400, { 'content-type': 'application/json' }).end('{"err":"invalid_request","description":"no"}');
        return;
      }
      failures -= 1;
      status(failures < 0 ? 202 : 503)(received, res);
    });
    for (const { name } of agents) await revoke({ agent: name });
    const subjects = (): string[] =>
      endpoint.got.map(({ body }) => (decodeJwt(body) as unknown as { sub_id: { sub: string } }).sub_id.sub);
    await eventually('the last one', subjects, (all) => all.includes('away-3'));
    expect(subjects()).toEqual(['away-1', 'away-1', 'away-1', 'away-2', 'away-2', 'away-3']);
    expect(endpoint.got[0]?.body).not.toBe('');
    const jtis = endpoint.got.map(({ body }) => decodeJwt(body).jti);
    expect(jtis[0]).toBe(jtis[2]);
    const { events } = decodeJwt(endpoint.got[0]?.body ?? '') as { events: Record<string, Json> };
    expect(events[sessionRevoked]).toMatchObject({ reason_admin: { en: 'leaked on a forum' } });
    const failed = await broker.admin('GET', '/audit?type=stream.failed');
    expect((failed.body['items'] as Json[])[0]).toMatchObject({
      data: { stream: { name: rp.name }, failure: 'refused_invalid_request' },
    });
  });

  test('may be where the operator lets it be, and nowhere else', async () => {
    const rp = await receiver({ allow_private_network: false });
    const lax = await receiver();
    for (const url of [endpoint.url, 'https://10.0.0.1/', 'http://example.com/', 'https://a:b@example.com/', 'x']) {
      const delivery = { method: push, endpoint_url: url };
      expect((await rp.call('POST', '/ssf/stream', { delivery })).status).toBe(400);
    }
    const metadata = { method: push, endpoint_url: 'http://169.254.169.254/latest/' };
    expect((await lax.call('POST', '/ssf/stream', { delivery: metadata })).status).toBe(400);
    expect((await lax.call('POST', '/ssf/stream', { delivery: { method: 'urn:x' } })).status).toBe(400);
    expect((await lax.call('GET', '/ssf/stream')).body).toEqual([]);
  });
});

describe('a receiver that polls', () => {
  test('is given an event until it acknowledges it, once each, in whatever order it acknowledges', async () => {
    const rp = await polled();
    for (const name of ['poll-1', 'poll-2', 'poll-3', 'poll-4'])
      await revoke({ agent: (await broker.agent(name)).name });
    const first = await rp.poll({ maxEvents: 3 });
    expect(first.moreAvailable).toBe(true);
    const names = Object.keys(first.sets);
    expect(names).toHaveLength(3);
    for (const [name, set] of Object.entries(first.sets)) expect((await verify(set)).jti).toBe(name);
    expect(Object.keys((await rp.poll({ maxEvents: 3 })).sets)).toEqual(names);

    const [a = '', b = '', c = ''] = names;
    const afterB = await rp.poll({ ack: [b, b, 'evt_unknown', names[1]], maxEvents: 10 });
    expect(Object.keys(afterB.sets)).toHaveLength(3);
    expect(Object.keys(afterB.sets)).not.toContain(b);
    expect(await rp.poll({ ack: [b], maxEvents: 0 })).toEqual({ sets: {}, moreAvailable: false });
    const rest = await rp.poll({ ack: [a], setErrs: { [c]: { err: 'invalid_key', description: 'no' } } });
    expect(Object.keys(rest.sets)).toHaveLength(1);
    expect(await rp.poll({ ack: Object.keys(rest.sets) })).toEqual({ sets: {}, moreAvailable: false });
    expect(await rp.poll({ ack: [...names, ...Object.keys(rest.sets)] })).toEqual({ sets: {}, moreAvailable: false });
    expect((await broker.admin('GET', `/streams/${rp.name}`)).body).toMatchObject({ delivered: 3, failed: 1 });
  });

  test('and waits is answered when something happens; of two polls that wait the older gives way', async () => {
    const rp = await polled();
    const older = rp.poll({ returnImmediately: false });
    const newer = rp.poll({ returnImmediately: false });
    expect(await older).toEqual({ sets: {}, moreAvailable: false });
    const began = performance.now();
    await revoke({ agent: (await broker.agent('waited-for')).name });
    expect(Object.keys((await newer).sets)).toHaveLength(1);
    expect(performance.now() - began).toBeLessThan(3_000);
  });

  test('and waits gets nothing when its token is replaced or its stream is gone', async () => {
    const rp = await polled();
    const waiting = rp.call('POST', `/ssf/poll/${rp.id}`, {});
    await pause(50);
    await broker.admin('POST', `/streams/${rp.name}/token`);
    await revoke({ agent: (await broker.agent('too-late')).name });
    expect((await waiting).status).toBe(401);
    const gone = await polled();
    const orphan = gone.call('POST', `/ssf/poll/${gone.id}`, {});
    await pause(50);
    await broker.admin('DELETE', `/streams/${gone.name}`);
    expect((await orphan).status).toBe(401);
  });

  test('and never acknowledges holds up nobody, and is given no more than a window at a time', async () => {
    const [never, other] = [await polled(), await polled()];
    const size = 205;
    const agent = await broker.agent('revoked-often');
    await Promise.all(Array.from({ length: size }, () => revoke({ agent: agent.name })));
    const got = new Set<string>();
    for (let last: string[] = ['']; last.length > 0; ) {
      const { sets } = await other.poll({ ack: last });
      last = Object.keys(sets);
      for (const jti of last) got.add(jti);
    }
    expect(got.size).toBe(size);
    const once = await never.poll();
    expect(Object.keys(once.sets)).toHaveLength(100);
    expect(once.moreAvailable).toBe(true);
    expect(Object.keys((await never.poll()).sets)).toEqual(Object.keys(once.sets));
  });
});

describe('what is signalled', () => {
  const next = async (rp: Receiver): Promise<JWTPayload[]> => {
    const { sets } = await rp.poll();
    await rp.poll({ ack: Object.keys(sets), maxEvents: 0 });
    return Promise.all(Object.values(sets).map(verify));
  };
  const settings = { audience: 'https://rp.example.com', scopes: ['a'] };

  test('of a connection is each agent that holds something of it; of a grant its token, of a person that person', async () => {
    await broker.admin('POST', '/connections', { name: 'orders', provider: 'internal-jwt', settings });
    const agents = [await broker.agent('has-one'), await broker.agent('has-two'), await broker.agent('has-none')];
    const grants: string[] = [];
    for (const agent of agents) {
      await broker.entitle(agent.name, 'orders', ['a']);
      if (agent.name === 'has-none') continue;
      const { body } = await broker.grant(await broker.agentToken(agent), { connection: 'orders', scopes: ['a'] });
      grants.push(String((body['grant'] as Json)['id']));
    }
    const rp = await polled();
    await revoke({ connection: 'orders' });
    const about = (await next(rp)).map((payload) => payload['sub_id'] as Json);
    expect(about.map(({ sub }) => sub).sort()).toEqual(['has-one', 'has-two']);
    await revoke({ grant: grants[0] });
    await revoke({ subject: 'corp:alice@example.com' });
    expect((await next(rp)).map((payload) => payload['sub_id'])).toEqual([
      { format: 'jwt_id', iss: broker.url, jti: grants[0] },
      { format: 'iss_sub', iss: broker.url, sub: 'corp:alice@example.com' },
    ]);
  });

  test('of secrets and of agents is that a credential changed', async () => {
    const agent = await broker.agent('renewed');
    await broker.connection('stripe', 'https://api.example.com', { settings: { allow_private_network: false } });
    const rp = await polled({ events: ['credential-change'] });
    await broker.admin('PUT', '/connections/stripe/secret', { value: 'sk_new_0123456789' });
    await broker.admin('POST', `/agents/${agent.name}/secret`);
    await revoke({ agent: agent.name });
    const [secret, login, ...more] = await next(rp);
    expect(more).toEqual([]);
    expect(secret).toMatchObject({
      sub_id: { format: 'uri', uri: `${broker.url}/connections/stripe` },
      events: { [credentialChange]: { credential_type: 'password', change_type: 'update', friendly_name: 'stripe' } },
    });
    expect(login).toMatchObject({
      sub_id: { sub: 'renewed' },
      events: { [credentialChange]: { credential_type: 'password', change_type: 'update' } },
    });
  });

  test('is no token of any other kind', async () => {
    const rp = await polled();
    const agent = await broker.agent('impostor');
    await revoke({ agent: agent.name });
    const [set = ''] = Object.values((await rp.poll()).sets);
    expect((await broker.json('GET', '/v1/connections', set)).status).toBe(401);
    expect((await broker.json('GET', '/admin/v1/agents', set)).status).toBe(401);
    expect((await broker.json('POST', `/ssf/poll/${rp.id}`, set, {})).status).toBe(401);
    const asked = await broker.form('/introspect', { token: set }, agent);
    expect(asked.body).toEqual({ active: false });
    const assertion = await broker.form('/token', {
      grant_type: 'client_credentials',
      client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
      client_assertion: set,
    });
    expect(assertion.body).toMatchObject({ error: 'invalid_client' });
    const exchange = await broker.form(
      '/token',
      {
        grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
        subject_token: set,
        subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
      },
      agent,
    );
    expect(exchange.status).toBe(400);
  });
});

describe('a stream', () => {
  test('that is paused holds what comes; that is disabled does not', async () => {
    const rp = await polled();
    const agent = await broker.agent('seldom');
    const set = (status: string) => rp.call('POST', '/ssf/status', { stream_id: rp.id, status, reason: 'night' });
    expect((await set('paused')).body).toEqual({ stream_id: rp.id, status: 'paused', reason: 'night' });
    await revoke({ agent: agent.name });
    expect((await rp.poll()).sets).toEqual({});
    await set('enabled');
    expect(Object.keys((await rp.poll()).sets)).toHaveLength(1);
    await set('disabled');
    await revoke({ agent: agent.name });
    await set('enabled');
    await revoke({ agent: agent.name });
    expect(Object.keys((await rp.poll()).sets)).toHaveLength(1);
    expect((await rp.call('GET', `/ssf/status?stream_id=${rp.id}`)).body).toMatchObject({ status: 'enabled' });
  });

  test('that an operator has go on says so in its place', async () => {
    const rp = await polled();
    await rp.call('POST', '/ssf/status', { stream_id: rp.id, status: 'paused' });
    await revoke({ agent: (await broker.agent('meanwhile')).name });
    expect((await broker.admin('POST', `/streams/${rp.name}/resume`)).body).toMatchObject({ status: 'enabled' });
    const sets = await Promise.all(Object.values((await rp.poll()).sets).map(verify));
    expect(sets.map((payload) => Object.keys(eventsIn(payload))[0])).toEqual([sessionRevoked, streamUpdated]);
    expect(eventsIn(sets[1] ?? {})[streamUpdated]).toEqual({ status: 'enabled' });
  });

  test('is changed in part or replaced; what the transmitter says must stand as it is', async () => {
    const rp = await receiver();
    await rp.call('POST', '/ssf/stream', { events_requested: [sessionRevoked], description: 'one' });
    const change = (method: string, body: object) => rp.call(method, '/ssf/stream', { stream_id: rp.id, ...body });
    const { body: read } = await rp.call('GET', `/ssf/stream?stream_id=${rp.id}`);
    expect(read).toMatchObject({ delivery: { method: poll, endpoint_url: `${broker.url}/ssf/poll/${rp.id}` } });
    expect((await rp.call('PUT', '/ssf/stream', read)).body).toEqual(read);
    expect((await change('PATCH', { description: 'two' })).body).toEqual({ ...read, description: 'two' });
    const wrong = [{ iss: 'https://evil.example' }, { aud: ['x'] }, { events_delivered: [] }, { events_supported: 1 }];
    for (const body of [...wrong, { delivery: { method: poll, endpoint_url: 'https://evil.example' } }]) {
      expect((await change('PATCH', body)).status).toBe(400);
    }
    const { body: replaced } = await change('PUT', {});
    expect(replaced).not.toHaveProperty('description');
    expect(replaced).toMatchObject({ events_delivered: [sessionRevoked, credentialChange] });
    expect((await rp.call('DELETE', `/ssf/stream?stream_id=${rp.id}`)).status).toBe(204);
    expect((await rp.call('GET', `/ssf/stream?stream_id=${rp.id}`)).status).toBe(404);
    expect((await rp.call('POST', `/ssf/poll/${rp.id}`, {})).status).toBe(404);
    expect((await rp.call('POST', '/ssf/stream', {})).status).toBe(201);
  });

  test('is its receiver’s alone: everybody else is refused in one shape, and that is recorded', async () => {
    const [mine, other] = [await polled(), await polled()];
    await revoke({ agent: (await broker.agent('secret-agent')).name });
    const agent = await broker.agent('stranger');
    const strangers = [
      'x',
      mine.token.slice(0, -1),
      mine.token.toUpperCase(),
      broker.adminToken,
      await broker.agentToken(agent),
    ];
    const routes: [string, string, object | undefined][] = [
      ['GET', '/ssf/stream', undefined],
      ['POST', '/ssf/stream', {}],
      ['PATCH', '/ssf/stream', { stream_id: mine.id }],
      ['PUT', '/ssf/stream', { stream_id: mine.id }],
      ['DELETE', `/ssf/stream?stream_id=${mine.id}`, undefined],
      ['GET', `/ssf/status?stream_id=${mine.id}`, undefined],
      ['POST', '/ssf/status', { stream_id: mine.id, status: 'disabled' }],
      ['POST', '/ssf/verify', { stream_id: mine.id }],
      ['POST', `/ssf/poll/${mine.id}`, { returnImmediately: true }],
    ];
    for (const [method, path, body] of routes) {
      for (const token of strangers) {
        const init = body === undefined ? {} : { body: JSON.stringify(body) };
        const headers = { ...bearer(token), 'content-type': 'application/json' };
        const refused = await answerTo(`${broker.url}${path}`, { method, headers, ...init });
        expect([method, path, refused.status, refused.body['detail']]).toEqual([
          method,
          path,
          401,
          'no valid token was presented',
        ]);
        expect(refused.headers.get('www-authenticate')).toBe('Bearer');
      }
      if (body === undefined && path === '/ssf/stream') continue;
      const foreign = await other.call(method, path, body);
      expect([method, path, foreign.status]).toEqual([
        method,
        path,
        path === '/ssf/stream' && method === 'POST' ? 409 : 404,
      ]);
    }
    expect(Object.keys((await mine.poll()).sets)).toHaveLength(1);
    const { body } = await broker.admin('GET', '/audit?type=request.refused&limit=500');
    const recorded = (body['items'] as { data: { route: string; method: string } }[]).map(
      ({ data }) => `${data.method} ${data.route}`,
    );
    for (const [method, path] of routes) {
      if (method === 'GET') continue;
      expect(recorded).toContain(`${method} ${path.replace(/\?.*/, '').replace(mine.id, ':id')}`);
    }
    expect(broker.log()).not.toContain(mine.token);
  });

  test('takes no request that is not one', async () => {
    const rp = await polled();
    const bad: [string, string, unknown][] = [
      ['POST', `/ssf/poll/${rp.id}`, { ack: 'x' }],
      ['POST', `/ssf/poll/${rp.id}`, { maxEvents: -1 }],
      ['POST', `/ssf/poll/${rp.id}`, { setErrs: { a: { err: 'no\u0000' } } }],
      ['POST', `/ssf/poll/${rp.id}`, { ack: Array.from({ length: 2_000 }, () => 'x') }],
      ['POST', '/ssf/status', { stream_id: rp.id, status: 'absent' }],
      ['POST', '/ssf/verify', { stream_id: rp.id, state: 'a\u202eb' }],
      ['POST', '/ssf/verify', { stream_id: rp.id, state: rp.token }],
      ['PATCH', '/ssf/stream', {}],
      [
        'PATCH',
        '/ssf/stream',
        { stream_id: rp.id, delivery: { method: push, endpoint_url: endpoint.url, authorization_header: 'a\r\nb: c' } },
      ],
      ['DELETE', '/ssf/stream', undefined],
    ];
    for (const [method, path, body] of bad) {
      const refused = await rp.call(method, path, body);
      expect([method, path, body, refused.status]).toEqual([method, path, body, 400]);
    }
    expect((await rp.call('GET', `/ssf/poll/${rp.id}`)).status).toBe(405);
    expect((await rp.call('POST', '/ssf/nothing')).status).toBe(404);
  });
});

test('a broker that is killed tells the rest when it is back, to webhooks, pushes and polls', async () => {
  const dataDir = temporaryDir();
  const options = { dataDir, port: await freePort(), adminToken: newAdminToken() };
  let child: ChildBroker = await startChildBroker(options);
  const push = { delivery: { method: 'push', endpoint_url: endpoint.url }, aud: ['a'], allow_private_network: true };
  const hook = { name: 'hook', url: endpoint.url, events: ['revocation.created'], allow_private_network: true };
  const hooked = (): string[] => endpoint.got.flatMap(({ headers }) => headers['webhook-id'] ?? []).map(String);
  const signalled = (): string[] =>
    endpoint.got.flatMap(({ headers, body }) => (headers['webhook-id'] ? [] : [String(decodeJwt(body).jti)]));
  await child.admin('POST', '/webhooks', hook);
  await child.admin('POST', '/streams', { name: 'pushed', ...push });
  const made = await child.admin('POST', '/streams', { name: 'polled', aud: ['a'], delivery: { method: 'poll' } });
  const [id, token] = [String(made.body['id']), String(made.body['token'])];
  const agent = await child.agent('much-revoked');
  const revokeMore = (count: number) =>
    Promise.all(
      Array.from({ length: count }, () =>
        child.admin('POST', '/revocations', { selector: { agent: agent.name }, reason: 'x' }),
      ),
    );
  await revokeMore(20);
  await eventually(
    'some are told',
    () => [hooked().length, signalled().length],
    (got) => Math.min(...got) >= 3,
  );
  const polledBefore = await child.json('POST', `/ssf/poll/${id}`, token, { maxEvents: 5, returnImmediately: true });
  const acked = Object.keys(polledBefore.body['sets'] as Json);
  await child.json('POST', `/ssf/poll/${id}`, token, { ack: acked.slice(1), maxEvents: 0 });
  endpoint.answer(() => undefined);
  await revokeMore(20);
  await child.kill();
  endpoint.answer(status(202));
  child = await startChildBroker(options);
  await eventually(
    'all webhooks',
    () => new Set(hooked()).size,
    (got) => got === 40,
    15_000,
  );
  await eventually(
    'all pushes',
    () => new Set(signalled()).size,
    (got) => got === 40,
    15_000,
  );
  const left = await child.json('POST', `/ssf/poll/${id}`, token, { returnImmediately: true });
  const sets = Object.keys(left.body['sets'] as Json);
  expect(sets).toHaveLength(40 - acked.length + 1);
  expect(sets[0]).toBe(acked[0]);
  await child.stop();
});
