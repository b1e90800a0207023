/** A ledger that cannot write: whoever asks is refused in time, nothing is acknowledged, and nothing half-done stays. */
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { type Answer, type BrokerClient, freePort, removeTemporaryDirs, temporaryDir } from '../support/broker.ts';
import { type ChildBroker, newAdminToken, startChildBroker } from '../support/child-broker.ts';
import { eventually } from '../support/eventually.ts';
import { startUpstream, type Upstream } from '../support/upstream-provider.ts';
import { canMount, needing } from './strace.ts';

let upstream: Upstream;
let target: Server;
let targetUrl: string;
beforeAll(async () => {
  upstream = await startUpstream();
  target = createServer((_req, res) => res.end('{}'));
  await new Promise<void>((resolve) => target.listen(0, '127.0.0.1', resolve));
  const address = target.address();
  targetUrl = `http://127.0.0.1:${address && typeof address === 'object' ? address.port : 0}`;
});
afterAll(async () => {
  await upstream.stop();
  target.closeAllConnections();
  target.close();
  removeTemporaryDirs();
});

const running: ChildBroker[] = [];
afterEach(async () => {
  for (const one of running.splice(0)) if (one.child.process.exitCode === null) await one.kill();
});
const kept = (broker: ChildBroker): ChildBroker => {
  running.push(broker);
  return broker;
};

interface Ready {
  token: string;
  gateway: string;
  grant: string;
}

const setUp = async (broker: BrokerClient): Promise<Ready> => {
  const agent = await broker.agent('worker', 'owner@example.com');
  await broker.connection('gate', targetUrl);
  const settings = { url: upstream.url, scopes: ['all'] };
  await broker.admin('POST', '/connections', { name: 'made', provider: 'test-account', settings });
  for (const name of ['gate', 'made']) await broker.entitle('worker', name, ['all']);
  const token = await broker.agentToken(agent);
  const answer = await broker.grant(token, { connection: 'gate', scopes: ['all'] });
  const { id } = answer.body['grant'] as { id: string };
  return { token, grant: id, gateway: (answer.body['credential'] as { token: string }).token };
};

const use = async (broker: BrokerClient, { gateway }: Ready): Promise<number> => {
  const response = await broker.fetch('/gateway/gate/x', { headers: { authorization: `Bearer ${gateway}` } });
  await response.arrayBuffer();
  return response.status;
};

/** Every kind of request that has to be written down. */
const mutations = (broker: BrokerClient, { token, grant }: Ready): Record<string, () => Promise<Answer>> => ({
  revoke: () => broker.admin('POST', '/revocations', { selector: { agent: 'worker' }, reason: 'a test' }),
  'revoke everything': () =>
    broker.admin('POST', '/revocations', { selector: { everything: true }, reason: 'a test', suspend: true }),
  issue: () => broker.grant(token, { connection: 'gate', scopes: ['all'] }),
  'issue upstream': () => broker.grant(token, { connection: 'made', scopes: ['all'] }),
  renew: () => broker.json('POST', `/v1/grants/${grant}/renew`, token, {}),
  return: () => broker.json('DELETE', `/v1/grants/${grant}`, token),
  'add an agent': () => broker.admin('POST', '/agents', { name: 'another', owner: 'o@example.com' }),
  'delete an agent': () => broker.admin('DELETE', '/agents/worker'),
});

test('when every write fails, a revocation is never answered as done, and the process ends rather than guess', async () => {
  const options = { dataDir: temporaryDir(), port: await freePort(), adminToken: newAdminToken() };
  // Beyond the limit a write fails with EFBIG; without this it would be the end of the process, by signal.
  const under = ['bash', '-c', `trap '' XFSZ; exec "$@"`, 'bash'];
  const broker = kept(await startChildBroker({ ...options, under }));
  const ready = await setUp(broker);
  expect(await use(broker, ready)).toBe(200);
  const limited = spawnSync('prlimit', ['--pid', String(broker.greeting.pid), '--fsize=1']);
  expect(limited.status).toBe(0);
  const answers = await Promise.all(
    Object.entries(mutations(broker, ready)).map(async ([name, ask]) => {
      const began = performance.now();
      const status = await ask().then(
        (answer) => answer.status,
        () => 'cut off',
      );
      return { name, status, inTime: performance.now() - began < 2_500 };
    }),
  );
  for (const answer of answers)
    expect([
      { ...answer, status: 503 },
      { ...answer, status: 'cut off' },
    ]).toContainEqual(answer);
  expect(answers.filter(({ inTime }) => !inTime)).toEqual([]);
  expect(await upstream.accounts()).toEqual([]);
  expect(await broker.child.ended).toMatchObject({ code: 1 });

  // Nothing was acknowledged, so nothing has changed; and now it can be done.
  const next = kept(await startChildBroker(options));
  expect(await use(next, ready)).toBe(200);
  expect((await next.admin('POST', '/revocations', { selector: { agent: 'worker' }, reason: 'a test' })).status).toBe(
    201,
  );
  expect(await use(next, ready)).toBe(401);
}, 30_000);

(canMount ? test : test.skip)(
  needing(canMount, 'unshare', 'when the disk is full everything is refused with 503, and goes on when there is room'),
  async () => {
    const dataDir = temporaryDir();
    const options = { dataDir, port: await freePort(), adminToken: newAdminToken() };
    const mount = `mount -t tmpfs -o size=6m none "$0" && exec "$@"`;
    const under = ['unshare', '-rm', 'sh', '-c', mount, dataDir];
    const broker = kept(await startChildBroker({ ...options, under }));
    const ready = await setUp(broker);
    const ballast = join(`/proc/${broker.greeting.pid}/root`, dataDir, 'ballast');
    const fill = (): void => {
      const file = openSync(ballast, 'w');
      try {
        for (const size of [65_536, 1_024, 1]) {
          const piece = Buffer.alloc(size);
          try {
            for (;;) writeSync(file, piece);
          } catch (error) {
            if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
          }
        }
      } finally {
        closeSync(file);
      }
    };
    const revoke = () => broker.admin('POST', '/revocations', { selector: { agent: 'worker' }, reason: 'a test' });
    fill();
    // What room the log still has is used up first; each of those is acknowledged and stands.
    await eventually(
      'the disk is full',
      () => broker.admin('PATCH', '/connections/gate', { owner: 'x'.repeat(1 + Math.floor(Math.random() * 190)) }),
      ({ status }) => status === 503,
    );
    for (const [name, ask] of Object.entries(mutations(broker, ready))) {
      const began = performance.now();
      const answer = await ask();
      expect({ name, status: answer.status, code: answer.body['code'] }).toEqual({
        name,
        status: 503,
        code: 'ledger_unavailable',
      });
      expect(performance.now() - began).toBeLessThan(2_500);
    }
    expect(await upstream.accounts()).toEqual([]);
    expect((await broker.fetch('/readyz')).status).toBe(503);
    expect(await use(broker, ready)).toBe(503);

    rmSync(ballast);
    expect((await eventually('there is room again', revoke, ({ status }) => status === 201)).status).toBe(201);
    expect(await use(broker, ready)).toBe(401);
    expect((await broker.fetch('/readyz')).status).toBe(200);
  },
  30_000,
);
