/** What the audit log says of each call, and what an agent is told that may not do what it asked. */
import { once } from 'node:events';
import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { HOSTILE_TARGETS } from '../corpora/paths.ts';
import { freePort } from '../support/broker.ts';
import {
  type Access,
  type AuditItem,
  call,
  eventually,
  httpUpstream,
  type Rig,
  raw,
  SECRET,
  startRig,
  type Upstream,
} from './rig.ts';

let rig: Rig;
let upstream: Upstream;

beforeAll(async () => {
  upstream = await httpUpstream((req, res) => {
    req.resume();
    req.on('end', () => {
      if (req.url === '/forever') res.write('for');
      else if (req.url === '/broken') {
        res.writeHead(200, { 'Content-Length': '10' });
        res.write('part', () => res.destroy());
      } else if (req.url === '/slow') setTimeout(() => res.end('slow'), 150);
      else res.writeHead(req.url === '/teapot' ? 418 : 200).end('twelve bytes');
    });
  });
  rig = await startRig();
});
afterAll(async () => {
  await rig.close();
  await upstream.close();
});

/** The entries of the gateway about one connection, once there are so many. */
const entriesOf = async (access: Access, count: number): Promise<AuditItem[]> => {
  let entries: AuditItem[] = [];
  await eventually(async () => {
    entries = (await rig.audit(access.connection)).filter(({ type }) => type.startsWith('gateway.'));
    return entries.length >= count;
  });
  return entries;
};

const names = ({ agent, connection, grantId }: Access) => ({
  actor: { kind: 'agent', id: agent.id, name: agent.name },
  agent: { id: agent.id, name: agent.name },
  connection: { id: expect.stringMatching(/^con_/), name: connection },
  grant: grantId,
  request_id: expect.stringMatching(/^req_/),
});

describe('a call', () => {
  test('is recorded when it begins and when it ends: who, under what, where to, how much, how long', async () => {
    const access = await rig.access(upstream.url);
    const reply = await access.use('/slow?token=personal', { method: 'POST', body: 'x'.repeat(1_000) });
    expect(reply.status).toBe(200);
    const [began, ended, ...more] = await entriesOf(access, 2);
    expect(more).toEqual([]);
    expect(began).toMatchObject({ ...names(access), type: 'gateway.call', outcome: 'done' });
    expect(began?.data).toEqual({ method: 'POST', path: '/slow' });
    expect(ended).toMatchObject({ ...names(access), type: 'gateway.completed', outcome: 'done' });
    expect(ended?.data).toEqual({
      call: expect.any(Number),
      method: 'POST',
      path: '/slow',
      outcome: 'done',
      status: 200,
      bytes_in: 1_000,
      bytes_out: 12,
      duration_ms: expect.any(Number),
    });
    expect(ended?.request_id).toBe(began?.request_id);
    expect(ended?.request_id).toBe(reply.headers['warder-request-id']);
    expect(JSON.stringify([began, ended])).not.toContain('personal');
  });

  test('that took a while says how long', async () => {
    const access = await rig.access(upstream.url);
    await access.use('/slow');
    const [, ended] = await entriesOf(access, 2);
    expect(ended?.data).toMatchObject({ status: 200, bytes_in: 0, bytes_out: 4 });
    expect(ended?.data['duration_ms']).toBeGreaterThanOrEqual(140);
    expect(ended?.data['duration_ms']).toBeLessThan(2_000);
  });

  test('that the upstream refused is done, with the upstream’s status', async () => {
    const access = await rig.access(upstream.url);
    await access.use('/teapot');
    const [, ended] = await entriesOf(access, 2);
    expect(ended?.data).toMatchObject({ outcome: 'done', status: 418, bytes_out: 12 });
    expect(ended?.data).not.toHaveProperty('why');
  });

  test('that failed says why, with what went over the wire until then', async () => {
    const access = await rig.access(upstream.url);
    await access.use('/broken');
    const nowhere = await rig.access(`http://127.0.0.1:${await freePort()}`);
    await nowhere.use('/x', { method: 'PUT', body: 'abc' });
    const [, broken] = await entriesOf(access, 2);
    expect(broken?.data).toMatchObject({ outcome: 'failed', status: 200, bytes_out: 4, why: 'upstream_unavailable' });
    const [, refused] = await entriesOf(nowhere, 2);
    expect(refused?.data).toMatchObject({ outcome: 'failed', status: null, bytes_out: 0, why: 'upstream_unavailable' });
  });

  test('that was cut says by what, and one that was left says so', async () => {
    const access = await rig.access(upstream.url);
    const other = await rig.share(access);
    const begin = async (who: Access) => {
      const req = request(`${who.baseUrl}/forever`, {
        headers: { authorization: `Bearer ${who.token}` },
        agent: false,
      });
      req.on('error', () => undefined);
      req.end();
      const [res] = await once(req, 'response');
      res.on('error', () => undefined);
      await once(res, 'data');
      return req;
    };
    const cut = await begin(access);
    const left = await begin(other);
    left.destroy();
    await eventually(async () => (await entriesOf(access, 0)).length === 3);
    await rig.broker.admin('POST', '/revocations', { selector: { grant: access.grantId }, reason: 'a test' });
    await eventually(async () => (await entriesOf(access, 0)).length === 4);
    cut.destroy();
    const ends = (await entriesOf(access, 4)).filter(({ type }) => type === 'gateway.completed');
    expect(ends[0]).toMatchObject({ ...names(other), data: { outcome: 'cut', why: 'agent_left', bytes_out: 3 } });
    expect(ends[1]).toMatchObject({ ...names(access), data: { outcome: 'cut', why: 'revoked', bytes_out: 3 } });
  });

  test('each has an entry of its own behind the one that began it', async () => {
    const access = await rig.access(upstream.url);
    await Promise.all(Array.from({ length: 50 }, (_, n) => access.use(`/${n}`)));
    await rig.completed(access, 50);
    const page = await rig.broker.admin('GET', `/audit?limit=500&connection=${access.connection}`);
    const entries = page.body['items'] as (AuditItem & { seq: number })[];
    const begun = new Map(entries.filter(({ type }) => type === 'gateway.call').map((one) => [one.seq, one]));
    const ended = entries.filter(({ type }) => type === 'gateway.completed');
    expect([begun.size, ended.length]).toEqual([50, 50]);
    for (const { data, seq, request_id } of ended) {
      const first = begun.get(Number(data['call']));
      expect([first?.data['path'], first?.request_id]).toEqual([data['path'], request_id]);
      expect(seq).toBeGreaterThan(Number(data['call']));
      begun.delete(Number(data['call']));
    }
  });
});

describe('a refusal', () => {
  const scopes = {
    'charges:read': [{ methods: ['GET'], path: '/v1/charges/**' }],
    'charges:write': [{ methods: ['GET', 'POST'], path: '/v1/charges/**' }],
    'everything:read': [{ methods: ['GET'], path: '/**' }],
    refunds: [{ methods: ['POST'], path: '/v1/refunds' }],
  };

  test('of what the scopes do not allow names method and path, and the scopes that would', async () => {
    const access = await rig.access(upstream.url, { scopes, granted: ['charges:read'] });
    const challengeOf = async (method: string, path: string): Promise<string | undefined> => {
      const reply = await access.use(path, { method });
      expect([reply.status, reply.headers['warder-error']]).toEqual([403, 'scope_not_allowed']);
      return reply.headers['www-authenticate'];
    };
    const metadata = `resource_metadata="${rig.broker.url}/.well-known/oauth-protected-resource/gateway"`;
    expect(await challengeOf('POST', '/v1/charges/ch_1')).toBe(
      `Bearer error="insufficient_scope", scope="charges:write", ${metadata}`,
    );
    expect(await challengeOf('GET', '/v1/refunds')).toBe(
      `Bearer error="insufficient_scope", scope="everything:read", ${metadata}`,
    );
    expect(await challengeOf('POST', '/v1/refunds')).toBe(
      `Bearer error="insufficient_scope", scope="refunds", ${metadata}`,
    );
    // No scope would do: asking for more is no help.
    expect(await challengeOf('DELETE', '/v1/refunds')).toBe(`Bearer ${metadata}`);
    expect(await challengeOf('TRACE', '/v1/charges')).toBe(`Bearer ${metadata}`);
    const entries = await entriesOf(access, 5);
    expect(entries).toHaveLength(5);
    expect(entries[0]).toMatchObject({ ...names(access), type: 'gateway.refused', outcome: 'refused' });
    expect(entries[0]?.data).toEqual({
      asked: access.connection,
      code: 'scope_not_allowed',
      method: 'POST',
      path: '/v1/charges/ch_1',
    });
  });

  test('of what several scopes would allow names each, and never more than fit into a header', async () => {
    const two = await rig.access(upstream.url, { scopes, granted: ['refunds'] });
    const reply = await two.use('/v1/charges/ch_1');
    expect(reply.headers['www-authenticate']).toContain('scope="charges:read charges:write everything:read"');
    const many = Object.fromEntries(
      Array.from({ length: 300 }, (_, n) => [`${'s'.repeat(95)}${n}`, [{ methods: ['GET'], path: '/**' }]]),
    );
    const access = await rig.access(upstream.url, {
      scopes: { ...many, none: [{ methods: ['GET'], path: '/none' }] },
      granted: ['none'],
    });
    const refused = await access.use('/x');
    expect(refused.status).toBe(403);
    expect(refused.headers['www-authenticate']?.length).toBeLessThan(3_000);
  });

  test('of a target that could be read in two ways says why, and does not repeat the target', async () => {
    const access = await rig.access(upstream.url);
    // What no HTTP client would let through, and what belongs to other routes of Warder, is tested elsewhere.
    const hostile = HOSTILE_TARGETS.filter(
      ({ target, why }) => target.startsWith('/gateway/') && /^[\x21-\x7e]*$/.test(target) && why !== 'too_long',
    );
    expect(hostile.length).toBeGreaterThan(100);
    const replies = await Promise.all(
      hostile.map(async ({ target }) => {
        const { text } = await raw(
          rig.port,
          `GET ${target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${access.token}\r\nConnection: close\r\n\r\n`,
          { quietMs: 5_000 },
        );
        return text;
      }),
    );
    for (const text of replies) expect(text).toContain('HTTP/1.1 400 ');
    const entries = await entriesOf(access, hostile.length);
    expect(entries).toHaveLength(hostile.length);
    for (const entry of entries) {
      expect(entry).toMatchObject({ ...names(access), type: 'gateway.refused', outcome: 'refused' });
      expect(Object.keys(entry.data).sort()).toEqual(['code', 'method', 'why']);
    }
    const whys = (list: { why: unknown }[]) => list.map(({ why }) => String(why)).sort();
    expect(whys(entries.map(({ data }) => ({ why: data['why'] })))).toEqual(whys(hostile));
  });

  test('of a stranger names his address, and nobody else', async () => {
    const access = await rig.access(upstream.url);
    const forged = `${access.token.slice(0, -4)}AAAA`;
    const url = `${access.baseUrl}/x`;
    const replies = [
      await call(url),
      await call(url, { token: forged }),
      await call(url, { headers: { authorization: 'Basic eDp5' } }),
      await call(url, { token: access.agentToken }),
      await call(url, { token: rig.broker.adminToken }),
      await call(`${access.baseUrl}//x`),
    ];
    expect(replies.map(({ status }) => status)).toEqual([401, 401, 401, 401, 401, 400]);
    // RFC 6750 section 3.1: without a bearer token there is no error code.
    const errors = replies.map(
      ({ headers }) => /^Bearer (?:error="(\w+)", )?resource_metadata=/.exec(String(headers['www-authenticate']))?.[1],
    );
    const invalid = 'invalid_token';
    expect(errors).toEqual([undefined, invalid, undefined, invalid, invalid, undefined]);
    const entries = (await rig.audit()).filter(
      ({ type, actor }) => type === 'gateway.refused' && actor['kind'] === 'anonymous',
    );
    expect(entries).toHaveLength(6);
    for (const entry of entries) {
      expect(entry.actor).toEqual({ kind: 'anonymous', address: '127.0.0.1' });
      expect([entry.agent, entry.connection, entry.grant]).toEqual([undefined, undefined, undefined]);
    }
    expect(entries[0]?.data).toEqual({ code: 'unauthenticated', method: 'GET', path: '/x', asked: access.connection });
    expect(entries[5]?.data).toEqual({ code: 'invalid_request', method: 'GET', why: 'empty_segment' });
  });

  test('of a token for another connection does not tell whether that connection exists', async () => {
    const access = await rig.access(upstream.url);
    const other = await rig.access(upstream.url);
    const there = await call(`${other.baseUrl}/x`, { token: access.token });
    const nowhere = await call(`${rig.broker.url}/gateway/no-such-connection/x`, { token: access.token });
    const body = (text: string) => ({ ...JSON.parse(text), request_id: '' });
    expect([there.status, nowhere.status]).toEqual([403, 403]);
    expect(body(there.text)).toEqual(body(nowhere.text));
    const entries = await entriesOf(access, 2);
    expect(entries.map(({ data }) => data['asked'])).toEqual([other.connection, 'no-such-connection']);
  });

  test('of strangers’ guesses is limited, so that nobody can fill the log', async () => {
    const count = async () => (await rig.audit()).filter(({ type }) => type === 'gateway.refused').length;
    const before = await count();
    const from = performance.now();
    const guesses = Array.from({ length: 300 }, (_, n) =>
      call(`${rig.broker.url}/gateway/con-1/${n % 2 === 0 ? 'x' : '/x'}`, { token: 'wdr_gw_guess' }),
    );
    const statuses = (await Promise.all(guesses)).map(({ status }) => status);
    const seconds = Math.ceil((performance.now() - from) / 1_000) + 1;
    expect(new Set(statuses)).toEqual(new Set([400, 401, 429]));
    expect((await count()) - before).toBeLessThanOrEqual(20 * seconds);
    // Others are served meanwhile, from the same address, too.
    const access = await rig.access(upstream.url);
    expect((await access.use('/x')).status).toBe(200);
  });

  test('nothing of the secret or of a token stands anywhere', async () => {
    const text = JSON.stringify(await rig.audit()) + rig.broker.log();
    expect(text).not.toContain(SECRET);
    expect(text).not.toMatch(/wdr_(?:at|gw|op)_[0-9a-z]{26}/);
  });
});
