/**
 * A broker that is killed with -9 at each step of a rotation, before the upstream did what it was asked and after: when
 * it is back, the secret in force is accepted upstream, and it alone.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { freePort, removeTemporaryDirs, temporaryDir } from '../support/broker.ts';
import { type ChildBroker, newAdminToken, startChildBroker } from '../support/child-broker.ts';
import { eventually, pause } from '../support/eventually.ts';
import { shortOrLong } from '../support/length.ts';
import { startUpstream, type Upstream } from '../support/upstream-provider.ts';
import type { UpstreamOperation } from '../support/upstream-service.ts';

let upstream: Upstream;
let broker: ChildBroker;
let start: () => Promise<ChildBroker>;

beforeAll(async () => {
  const options = { dataDir: temporaryDir(), port: await freePort(), adminToken: newAdminToken() };
  start = () => startChildBroker(options);
  [upstream, broker] = await Promise.all([startUpstream(), start()]);
  const secret = { id: 'first', value: 'made by hand' };
  await upstream.keys(secret);
  const settings = { url: upstream.url, scopes: ['read'] };
  const connection = { name: 'cloud', provider: 'test-keyed', settings, secret };
  expect((await broker.admin('POST', '/connections', connection)).status).toBe(201);
  await broker.admin('PUT', '/connections/cloud/rotation', { grace_seconds: 0 });
}, 30_000);
afterAll(async () => {
  await broker?.kill();
  await upstream?.stop();
  removeTemporaryDirs();
});

const operations = ['key-create', 'key-test', 'key-delete'] as const satisfies UpstreamOperation[];

const ask = async (): Promise<void> => {
  const asked = await broker.admin('POST', '/rotations', { connection: 'cloud', now: true });
  expect(asked.status).toBe(201);
};

/** Starts it again, and waits until nothing is under way. @returns how the rotations ended, newest first */
const comesBack = async (): Promise<Record<string, unknown>[]> => {
  broker = await start();
  const { body } = await eventually(
    'everything has ended',
    () => broker.admin('GET', '/rotations'),
    ({ body: { items } }) => (items as { current: unknown }[]).every(({ current }) => current === null),
    20_000,
  );
  expect(body['items']).toHaveLength(1);
  const history = await broker.admin('GET', '/rotations/history?connection=cloud&limit=5');
  return history.body['items'] as Record<string, unknown>[];
};

const oneKeyThatWorks = async (): Promise<void> => {
  const tried = await broker.admin('POST', '/rotations', { connection: 'cloud', dry_run: true });
  expect(tried.body['test']).toEqual({ ok: true });
  expect(await upstream.keys()).toHaveLength(1);
};

/** Where it dies: in which call, and what brings a rotation there. */
const places: ['create' | 'test' | 'retire' | 'undo', (typeof operations)[number], boolean][] = [
  ['create', 'key-create', false],
  ['test', 'key-test', false],
  ['retire', 'key-delete', false],
  ['undo', 'key-delete', true],
];

/** `hang`: it did not happen. `hold`, let go when the broker is dead: it happened, unheard. */
const kinds = {
  create: ['hold', 'hang'],
  test: ['hang', 'hold'],
  retire: ['hold', 'hang'],
  undo: ['hang', 'hold'],
} as const;

describe.each(places)('killed at %s', (step, operation, undoing) => {
  test.each(kinds[step].slice(0, shortOrLong(1, 2)))('while the upstream is on %s', async (kind) => {
    if (undoing) await upstream.behave('key-create', { kind: 'fail-after' });
    await upstream.behave(operation, { kind });
    const before = (await upstream.stats()).calls[operation];
    await ask();
    await eventually('it is asked', upstream.stats, ({ calls }) => calls[operation] > before);
    await broker.kill();
    for (const one of operations) await upstream.behave(one, { kind: 'ok' });
    await upstream.release();
    const [last] = await comesBack();
    expect(last).toMatchObject({ status: 'done' });
    await oneKeyThatWorks();
  });
});

test('killed at any moment, again and again, it never loses the secret', async () => {
  const kills = shortOrLong(1, 40);
  for (let round = 0; round < kills; round += 1) {
    await ask();
    await pause((round * 7) % 40);
    await broker.kill();
    const [last] = await comesBack();
    expect(last).toMatchObject({ status: 'done' });
    await oneKeyThatWorks();
  }
}, 200_000);
