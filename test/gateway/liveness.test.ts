/** What kills a grant ends its calls at once, wherever they are, and the next one does not begin. */
import { once } from 'node:events';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { type Access, eventually, httpUpstream, type Rig, sleep, startRig, type Upstream } from './rig.ts';

let rig: Rig;
let upstream: Upstream;
/** Paths of requests as they arrive; those whose answer or body is not over yet. */
let arrived: string[] = [];
const open = new Map<string, number>();
const count = (path: string, by: number): void => {
  open.set(path, (open.get(path) ?? 0) + by);
};
const openNow = (): number => [...open.values()].reduce((sum, each) => sum + each, 0);

beforeAll(async () => {
  upstream = await httpUpstream((req, res) => {
    const path = req.url ?? '';
    arrived.push(path);
    count(path, 1);
    res.on('close', () => count(path, -1));
    req.on('error', () => undefined);
    req.resume();
    if (path.startsWith('/talking')) {
      const timer = setInterval(() => res.write('data: x\n\n'), 20);
      res.on('close', () => clearInterval(timer));
    } else if (path.startsWith('/silent')) res.flushHeaders();
    else if (!path.startsWith('/upload') && !path.startsWith('/waiting')) res.end('ok');
  });
  rig = await startRig();
});
const running: ClientRequest[] = [];
afterEach(async () => {
  for (const req of running.splice(0)) req.destroy();
  await eventually(() => openNow() === 0);
  arrived = [];
});
afterAll(async () => {
  await rig.close();
  await upstream.close();
});

interface Running {
  path: string;
  /** When the agent saw it end, or undefined while it runs. */
  endedAt: number | undefined;
  status: number | undefined;
  complete: boolean | undefined;
}

/** Begins a call and waits until it is upstream, and its answer, where one begins, is here. */
const begin = async (access: Access, path: string): Promise<Running> => {
  const state: Running = { path, endedAt: undefined, status: undefined, complete: undefined };
  const ended = (): void => {
    state.endedAt ??= performance.now();
  };
  const req = request(`${access.baseUrl}${path}`, {
    method: path.startsWith('/upload') ? 'POST' : 'GET',
    headers: { authorization: `Bearer ${access.token}` },
    agent: false,
  });
  running.push(req);
  req.on('error', ended);
  req.on('response', (res: IncomingMessage) => {
    state.status = res.statusCode;
    res.resume();
    res.on('error', () => undefined);
    res.on('close', () => {
      state.complete = res.complete;
      ended();
    });
  });
  if (path.startsWith('/upload')) req.write('a part');
  else req.end();
  if (path.startsWith('/talking') || path.startsWith('/silent')) await once(req, 'response');
  await eventually(() => arrived.includes(path));
  return state;
};

let serial = 0;
/** One call of each kind: an answer that flows, one that is silent, an upload, one that waits for the head. */
const beginAll = async (access: Access): Promise<Running[]> => {
  serial += 1;
  return Promise.all(
    ['/talking', '/silent', '/upload', '/waiting'].map((path) =>
      begin(access, `${path}/${serial}-${access.connection}`),
    ),
  );
};

const revoke = async (selector: object, more: object = {}): Promise<void> => {
  const answer = await rig.broker.admin('POST', '/revocations', { selector, reason: 'a test', ...more });
  if (answer.status !== 201) throw new Error(answer.text);
};
const change = async (path: string, body: object): Promise<void> => {
  const answer = await rig.broker.admin('PATCH', path, body);
  if (answer.status !== 200) throw new Error(answer.text);
};
const remove = async (path: string): Promise<void> => {
  const answer = await rig.broker.admin('DELETE', path);
  if (answer.status !== 204) throw new Error(answer.text);
};

/** A machine under load needs this long to let the news through to both ends of a socket. */
const atOnceMs = 1_500;

/** Status and code of the next call after each way of dying, and why the running ones were cut. */
const killers: [string, (access: Access) => Promise<void>, number, string][] = [
  ['revoking everything', () => revoke({ everything: true }), 401, 'revoked'],
  ['revoking its agent', ({ agent }) => revoke({ agent: agent.name }), 401, 'revoked'],
  ['revoking its connection', ({ connection }) => revoke({ connection }), 401, 'revoked'],
  ['revoking its provider', () => revoke({ provider: 'api-key' }), 401, 'revoked'],
  ['revoking its owner', () => revoke({ owner: 'owner@example.com' }), 401, 'revoked'],
  ['revoking its entitlement', ({ entitlementId }) => revoke({ entitlement: entitlementId }), 401, 'revoked'],
  ['revoking the grant itself', ({ grantId }) => revoke({ grant: grantId }), 401, 'revoked'],
  [
    'revoking its agent on its connection',
    ({ agent, connection }) => revoke({ agent: agent.id, connection }),
    401,
    'revoked',
  ],
  ['revoking with suspension', ({ agent }) => revoke({ agent: agent.name }, { suspend: true }), 401, 'revoked'],
  [
    'suspending its agent',
    ({ agent }) => change(`/agents/${agent.name}`, { status: 'suspended' }),
    403,
    'agent_suspended',
  ],
  ['deleting its agent', ({ agent }) => remove(`/agents/${agent.name}`), 401, 'revoked'],
  [
    'suspending its connection',
    ({ connection }) => change(`/connections/${connection}`, { status: 'suspended' }),
    403,
    'not_entitled',
  ],
  [
    'changing the settings of its connection',
    ({ connection }) =>
      change(`/connections/${connection}`, {
        settings: {
          base_url: upstream.url,
          allow_private_network: true,
          scopes: { all: [{ methods: ['GET'], path: '/**' }] },
        },
      }),
    401,
    'revoked',
  ],
  ['deleting its connection', ({ connection }) => remove(`/connections/${connection}`), 401, 'revoked'],
  [
    'narrowing the scopes of its entitlement',
    ({ entitlementId }) => change(`/entitlements/${entitlementId}`, { scopes: ['read'] }),
    401,
    'revoked',
  ],
  [
    'shortening the life its entitlement allows',
    ({ entitlementId }) => change(`/entitlements/${entitlementId}`, { max_ttl_seconds: 60 }),
    401,
    'revoked',
  ],
  ['deleting its entitlement', ({ entitlementId }) => remove(`/entitlements/${entitlementId}`), 401, 'revoked'],
  [
    'giving the grant back',
    async ({ agentToken, grantId }) => {
      const answer = await rig.broker.fetch(`/v1/grants/${grantId}`, {
        method: 'DELETE',
        headers: { authorization: `Bearer ${agentToken}` },
      });
      expect(answer.status).toBe(204);
    },
    401,
    'revoked',
  ],
  [
    'revoking its token (RFC 7009)',
    async ({ agent, token }) => {
      expect((await rig.broker.form('/revoke', { token }, agent)).status).toBe(200);
    },
    401,
    'revoked',
  ],
];

const scopes = {
  all: [{ methods: ['*'], path: '/**' }],
  read: [{ methods: ['GET'], path: '/**' }],
};

describe('every call under way ends', () => {
  test.each(killers)('by %s, before it is acknowledged or right after', async (_name, kill, status, code) => {
    const access = await rig.access(upstream.url, { scopes, owner: 'owner@example.com' });
    const calls = await beginAll(access);
    await kill(access);
    const acknowledged = performance.now();
    const before = arrived.length;
    const next = await access.use('/next');
    expect([next.status, next.headers['warder-error']]).toEqual([status, code]);
    if (status === 401) expect(next.headers['www-authenticate']).toContain('error="invalid_token"');

    await eventually(() => calls.every(({ endedAt }) => endedAt !== undefined));
    for (const call of calls) expect((call.endedAt ?? Infinity) - acknowledged).toBeLessThan(atOnceMs);
    const [talking, silent, upload, waiting] = calls;
    // What had begun is broken off; what had not is told why.
    for (const call of [talking, silent]) expect(call).toMatchObject({ status: 200, complete: false });
    for (const call of [upload, waiting]) expect(call).toMatchObject({ status });
    await eventually(() => openNow() === 0);
    expect(arrived.slice(before)).toEqual([]);
    const entries = (await rig.audit())
      .filter(({ type, grant }) => type === 'gateway.completed' && grant === access.grantId)
      .map(({ data }) => [data['outcome'], data['why']]);
    expect(entries).toEqual(calls.map(() => ['cut', code]));
  });

  test('by expiry, also when nothing flows', async () => {
    const access = await rig.access(upstream.url, { ttlSeconds: 2 });
    const from = performance.now();
    const calls = await beginAll(access);
    await eventually(() => calls.every(({ endedAt }) => endedAt !== undefined));
    for (const { endedAt = Infinity } of calls) {
      expect(endedAt - from).toBeGreaterThan(1_000);
      expect(endedAt - from).toBeLessThan(2_000 + atOnceMs);
    }
    expect(calls[0]).toMatchObject({ status: 200, complete: false });
    expect(calls[3]).toMatchObject({ status: 401 });
    const next = await access.use('/next');
    expect([next.status, next.headers['warder-error']]).toEqual([401, 'expired']);
    for (const data of await rig.completed(access, 4)) expect(data).toMatchObject({ outcome: 'cut', why: 'expired' });
  });
});

describe('every other call goes on', () => {
  test('when what is killed is somebody else’s', async () => {
    const access = await rig.access(upstream.url, { owner: 'other@example.com', scopes });
    const neighbour = await rig.share(access, { owner: 'another@example.com', granted: ['all'] });
    const calls = await beginAll(access);
    await revoke({ agent: neighbour.agent.name });
    await revoke({ grant: neighbour.grantId });
    await revoke({ owner: 'another@example.com' });
    await revoke({ subject: 'somebody' });
    await revoke({ provider: 'internal-jwt' });
    await revoke({ agent: access.agent.name, owner: 'another@example.com' });
    await change(`/agents/${neighbour.agent.name}`, { status: 'suspended' });
    await change(`/entitlements/${access.entitlementId}`, { reason: 'looked at', max_ttl_seconds: 7_200 });
    await sleep(100);
    expect(calls.map(({ endedAt }) => endedAt)).toEqual([undefined, undefined, undefined, undefined]);
    expect((await access.use('/next')).text).toBe('ok');
  });

  test('when the secret of its connection is replaced', async () => {
    const access = await rig.access(upstream.url);
    const calls = await beginAll(access);
    const set = await rig.broker.admin('PUT', `/connections/${access.connection}/secret`, { value: 'sk_live_another' });
    expect(set.status).toBe(200);
    await sleep(100);
    expect(calls.map(({ endedAt }) => endedAt)).toEqual([undefined, undefined, undefined, undefined]);
    expect((await access.use('/next')).text).toBe('ok');
  });

  test('past its first end, once its grant is renewed, and to its new end', async () => {
    const access = await rig.access(upstream.url, { ttlSeconds: 2 });
    const from = performance.now();
    const calls = await beginAll(access);
    const renewed = await rig.broker.fetch(`/v1/grants/${access.grantId}/renew`, {
      method: 'POST',
      headers: { authorization: `Bearer ${access.agentToken}`, 'content-type': 'application/json' },
      body: '{"ttl_seconds":4}',
    });
    expect(renewed.status).toBe(200);
    await sleep(3_000 - (performance.now() - from));
    expect(calls.map(({ endedAt }) => endedAt)).toEqual([undefined, undefined, undefined, undefined]);
    await eventually(() => calls.every(({ endedAt }) => endedAt !== undefined));
    for (const { endedAt = 0 } of calls) expect(endedAt - from).toBeGreaterThan(3_500);
  });
});

describe('a call that begins in the very moment of its death', () => {
  test('ends, too: those recorded in the same commit as a suspension, just before it', async () => {
    const access = await rig.access(upstream.url);
    for (let round = 0; round < 10; round++) {
      const calls = Array.from({ length: 40 }, () => access.use('/silent').catch(() => undefined));
      // By now some wait for their record, some have it, some are upstream.
      await sleep(round);
      await change(`/connections/${access.connection}`, { status: 'suspended' });
      // None of them would ever end by itself.
      for (const reply of await Promise.all(calls)) expect(reply?.complete && reply.status === 200).not.toBe(true);
      await change(`/connections/${access.connection}`, { status: 'active' });
    }
    await eventually(() => openNow() === 0);
    expect((await access.use('/next')).text).toBe('ok');
  });
});

describe('while a revocation commits', () => {
  test('of two hundred calls at once, none that begins after the acknowledgement reaches the upstream', async () => {
    const access = await rig.access(upstream.url);
    let acknowledgedAt = Infinity;
    const outcomes = { before: 0, refused: 0, cut: 0 };
    /** A call that begins now; afterwards, where it may have gone. */
    const one = async (n: number): Promise<void> => {
      const path = `/one/${n}`;
      const began = performance.now();
      const reply = await access.use(path).catch(() => undefined);
      if (began > acknowledgedAt) {
        expect([path, reply?.status, arrived.includes(path)]).toEqual([path, 401, false]);
        outcomes.refused += 1;
      } else if (reply?.status === 200 && reply.complete) outcomes.before += 1;
      else outcomes.cut += 1;
    };
    // Two hundred agents' worth of workers, each calling again and again, over the moment of the commit.
    let next = 0;
    let stop = false;
    const workers = Array.from({ length: 200 }, async () => {
      while (!stop) await one(next++);
    });
    await eventually(() => outcomes.before > 100, 10_000);
    await revoke({ everything: true });
    acknowledgedAt = performance.now();
    await eventually(() => outcomes.refused >= 400, 10_000);
    stop = true;
    await Promise.all(workers);
    expect(outcomes.before).toBeGreaterThan(100);
    await eventually(() => openNow() === 0);

    // Nothing was recorded as begun behind the fence, either.
    const entries = await rig.audit();
    const fence = entries.findLastIndex(({ type }) => type === 'revocation.created');
    expect(entries.slice(fence).filter(({ type }) => type === 'gateway.call')).toEqual([]);
  });
});
