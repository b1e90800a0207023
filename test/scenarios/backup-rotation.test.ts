/**
 * A backup from the middle of a rotation, or from its grace, that is restored when the rotation has long ended: the
 * restored broker does nothing upstream of its own accord, so it ends no key that is in force now.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import type { RestoreReport } from '../../src/domain/backup.ts';
import { backupTo, restore } from '../support/backups.ts';
import { type Broker, removeTemporaryDirs, startBroker, temporaryDir } from '../support/broker.ts';
import { eventually, pause } from '../support/eventually.ts';
import { keyedProvider } from '../support/keyed-provider.ts';
import { startUpstream, type Upstream } from '../support/upstream-provider.ts';

let upstream: Upstream;
let broker: Broker;
const dataDir = temporaryDir();
const file = (name: string): string => join(dataDir, `${name}.backup`);
const start = (at: { port?: number } = {}): Promise<Broker> =>
  startBroker({ dataDir, extraProviders: [keyedProvider], ...at });

beforeAll(async () => {
  [upstream, broker] = await Promise.all([startUpstream(), start()]);
}, 30_000);
afterAll(async () => {
  await broker.close();
  await upstream.stop();
  removeTemporaryDirs();
});

const admin = (method: string, path: string, body?: unknown) => broker.admin(method, path, body, broker.adminToken);
const current = async () => {
  const items = (await admin('GET', '/rotations')).body['items'] as { current: { status: string } | null }[];
  return items[0]?.current?.status ?? 'none';
};
const reaches = (wanted: string) => eventually(`the rotation is ${wanted}`, current, (status) => status === wanted);
const ask = async (): Promise<void> => {
  const asked = await admin('POST', '/rotations', { connection: 'cloud', now: true, reason: 'a person' });
  expect(asked.status).toBe(201);
};
const audited = async (type: string): Promise<unknown[]> =>
  (await admin('GET', `/audit?type=${type}&limit=100`)).body['items'] as unknown[];

/** What was done upstream, and what it accepts. */
const upstreamNow = async () => {
  const { calls } = await upstream.stats();
  return { made: calls['key-create'], ended: calls['key-delete'], keys: await upstream.keys() };
};

const comeBack = async (name: string): Promise<RestoreReport> => {
  const { url } = broker;
  await broker.close();
  const report = await restore({ file: file(name), dataDir, url, replace: true });
  // The next rotation has been due for a while.
  const db = new Database(join(dataDir, 'warder.db'));
  db.prepare('UPDATE rotation_policies SET created_at = 1, rotated_at = NULL, overdue_reported = NULL').run();
  db.close();
  broker = { ...(await start({ port: Number(new URL(url).port) })), adminToken: report.fenced?.admin_token ?? '' };
  await eventually(
    'the engine has looked',
    () => audited('rotation.overdue'),
    (entries) => entries.length > 0,
  );
  return report;
};

beforeAll(async () => {
  const secret = { id: 'first', value: 'made by hand' };
  await upstream.keys(secret);
  const settings = { url: upstream.url, scopes: ['read'] };
  const made = await admin('POST', '/connections', { name: 'cloud', provider: 'test-keyed', settings, secret });
  expect(made.status).toBe(201);
  const policy = { grace_seconds: 3600, every_seconds: 86_400 };
  expect((await admin('PUT', '/connections/cloud/rotation', policy)).status).toBe(200);
  await upstream.behave('key-test', { kind: 'hold' });
  await ask();
  await upstream.held(1);
  await backupTo(broker, file('running'));
  await upstream.behave('key-test', { kind: 'ok' });
  await upstream.release();
  await reaches('grace');
  await backupTo(broker, file('grace'));
  // It ends, and so does the next: what is in force now is in neither backup.
  await ask();
  await eventually(
    'two have been finished',
    () => audited('rotation.finished'),
    (entries) => entries.length === 2,
  );
}, 30_000);

test.each(['running', 'grace'])(
  'from a backup with one that was %s',
  async (name) => {
    const before = await upstreamNow();
    expect(before.keys.map(({ id }) => id)).not.toContain('first');
    const report = await comeBack(name);
    expect(report.fenced?.rotations).toHaveLength(1);
    await pause(300);
    expect(await upstreamNow()).toEqual(before);
    // Lifted by somebody who set no newer secret: what is due begins, is refused, and ends nothing.
    await admin('POST', `/freezes/${report.fenced?.freeze}/lift`, { reason: 'looked through' });
    await admin('POST', '/rotations', { connection: 'cloud', now: true });
    await eventually(
      'it is refused',
      async () => [...(await audited('rotation.failed')), ...(await audited('rotation.stuck'))],
      (entries) => entries.length > 1,
    );
    expect((await upstreamNow()).keys).toEqual(before.keys);
  },
  30_000,
);
