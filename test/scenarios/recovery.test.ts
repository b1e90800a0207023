/**
 * The drain and recovery: what is dead here is taken back upstream too, however long that takes, across restarts, and
 * where it cannot be, everybody sees it.
 */
import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, expect, test } from '@jest/globals';
import { openForWriting } from '../../adapters/stores/sqlite/connection.ts';
import { Writer } from '../../adapters/stores/sqlite/writer.ts';
import type { Grant } from '../../src/domain/model.ts';
import { type Caller, record } from '../../src/services/core.ts';
import * as make from '../conformance/ledger-rows.ts';
import {
  type Answer,
  type Broker,
  type BrokerOptions,
  removeTemporaryDirs,
  startBroker,
  temporaryDir,
} from '../support/broker.ts';
import { eventually, pause } from '../support/eventually.ts';
import { startUpstream, type Upstream, upstreamProviders } from '../support/upstream-provider.ts';

let upstream: Upstream;
const open: { close(): Promise<void> }[] = [];
beforeEach(async () => {
  upstream = await startUpstream();
  open.push({ close: () => upstream.stop() });
});
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});

afterAll(removeTemporaryDirs);

/** A broker that is closed at the end of the test, unless the test does so. */
const start = async (dataDir: string, options: BrokerOptions = {}): Promise<Broker> => {
  const broker = await startBroker({ dataDir, extraProviders: upstreamProviders, ...options });
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closing ??= broker.close();
    return closing;
  };
  open.push({ close });
  return { ...broker, close };
};

/** Writes grants whose time is over into a ledger that nobody has open, each with its account at the upstream. */
const overdue = (databasePath: string, count: number): void => {
  const db = openForWriting(databasePath);
  db.pragma('synchronous = OFF');
  const writer = new Writer(db);
  const connection = db.prepare("SELECT id FROM connections WHERE name = 'made'").pluck().get();
  const at = Date.now() - 7_200_000;
  const row = (): Grant =>
    make.grant({
      ...{ provider: 'test-account', connection_id: String(connection), status: 'active', upstream: 'live' },
      ...{ issued_at: at, expires_at: at + 3_600_000, max_expires_at: at + 3_600_000, handle: { account: 'gone' } },
    });
  const caller: Caller = { actor: { kind: 'system', name: 'test' }, requestId: 'req_test' };
  for (let done = 0; done < count; done += 1_000) {
    const writes = Array.from({ length: 1_000 }, () => ({ write: 'insert', table: 'grants', row: row() }) as const);
    const clock = { now: () => Date.now() };
    writer.apply([{ writes, audit: [record({ clock }, caller, { type: 'test.written' })] }]);
  }
  db.close();
};

const addConnection = async (broker: Broker, name: string, at: Upstream = upstream): Promise<void> => {
  const settings = { url: at.url, scopes: ['use'] };
  const made = await broker.admin('POST', '/connections', { name, provider: 'test-account', settings });
  expect(made.status).toBe(201);
  expect((await broker.entitle('worker', name, ['use'])).status).toBe(201);
};

/** An agent with a token of its own, and nothing it may use. */
const worker = async (broker: Broker): Promise<string> => broker.agentToken(await broker.agent('worker'));

/** An agent that may use one connection of the test upstream. */
const setUp = async (broker: Broker): Promise<(connection?: string, more?: object) => Promise<Answer>> => {
  const token = await worker(broker);
  await addConnection(broker, 'made');
  return (connection = 'made', more = {}) => broker.grant(token, { connection, scopes: ['use'], ...more });
};

const issueMany = async (count: number, ask: () => Promise<Answer>): Promise<string[]> => {
  const ids: string[] = [];
  const one = async (): Promise<void> => {
    while (count > 0) {
      count -= 1;
      const answer = await ask();
      if (answer.status !== 201) throw new Error(`${answer.status} ${answer.text}`);
      ids.push((answer.body['grant'] as { id: string }).id);
    }
  };
  await Promise.all(Array.from({ length: 20 }, one));
  return ids;
};

const revoke = async (broker: Broker, selector: object): Promise<string> => {
  const { status, body } = await broker.admin('POST', '/revocations', { selector, reason: 'a test' });
  expect(status).toBe(201);
  return String(body['id']);
};
const shown = async (broker: Broker, id: string) => (await broker.admin('GET', `/revocations/${id}`)).body;
const completed = (broker: Broker, id: string) =>
  eventually(
    `revocation ${id} is complete`,
    () => shown(broker, id),
    (body) => body['completed_at'] !== null,
  );
const accountsLeft = async (count: number, withinMs?: number): Promise<void> =>
  void (await eventually(
    `${count} accounts are left`,
    async () => (await upstream.accounts()).length,
    (left) => left === count,
    withinMs,
  ));
const auditOf = async (broker: Broker, filter: string): Promise<Record<string, unknown>[]> =>
  (await broker.admin('GET', `/audit?limit=1000&${filter}`)).body['items'] as Record<string, unknown>[];

test('a revocation shows what is pending upstream, then that it is done', async () => {
  const broker = await start(temporaryDir());
  const ask = await setUp(broker);
  await issueMany(12, ask);
  await upstream.behave('delete', { kind: 'hold' });
  const id = await revoke(broker, { connection: 'made' });
  const pending = await eventually(
    'it is counted',
    () => shown(broker, id),
    (body) => body['grants'] !== null,
  );
  expect(pending).toMatchObject({
    grants: 12,
    upstream: { pending: 12, revoked: 0, unrevocable: 0 },
    completed_at: null,
  });
  await upstream.held(8);
  await upstream.behave('delete', { kind: 'ok' });
  await upstream.release();
  expect(await completed(broker, id)).toMatchObject({
    grants: 12,
    upstream: { pending: 0, revoked: 12, unrevocable: 0 },
  });
  expect(await upstream.accounts()).toEqual([]);
  expect(await auditOf(broker, 'type=grant.cleaned_up')).toHaveLength(12);
  expect(await auditOf(broker, 'type=revocation.completed')).toHaveLength(1);
});

test('each of two revocations counts what it killed, and only that', async () => {
  const broker = await start(temporaryDir());
  const ask = await setUp(broker);
  await addConnection(broker, 'other');
  await issueMany(3, () => ask('made'));
  await issueMany(4, () => ask('other'));
  await upstream.behave('delete', { kind: 'slow', ms: 60 });
  const ids = [
    await revoke(broker, { connection: 'made' }),
    await revoke(broker, { agent: 'worker' }),
    await revoke(broker, { everything: true }),
  ];
  const ends = [];
  for (const id of ids) ends.push(await completed(broker, id));
  expect(ends.map(({ grants, upstream: progress }) => [grants, (progress as { revoked: number }).revoked])).toEqual([
    [3, 3],
    [4, 4],
    [0, 0],
  ]);
});

test('what the upstream refuses to the last try is unrevocable, where everybody sees it', async () => {
  const broker = await start(temporaryDir());
  const ask = await setUp(broker);
  const ids = await issueMany(3, ask);
  await upstream.behave('delete', { kind: 'fail-before' });
  const id = await revoke(broker, { agent: 'worker' });
  expect(await completed(broker, id)).toMatchObject({
    grants: 3,
    upstream: { pending: 0, revoked: 0, unrevocable: 3 },
  });
  const { body } = await broker.admin('GET', '/grants?status=unrevocable');
  expect((body['items'] as { id: string; upstream: string }[]).map((one) => [one.id, one.upstream]).sort()).toEqual(
    ids.sort().map((grant) => [grant, 'unrevocable']),
  );
  const [entry] = await auditOf(broker, `grant=${ids[0]}&type=grant.unrevocable`);
  expect(entry?.['data']).toMatchObject({
    failure: 'the test upstream answered 500, 5 times',
    handle: { account: `wdr_${ids[0]}` },
    revocation: id,
  });
  // Five tries each, then no more.
  const { calls } = await upstream.stats();
  expect(calls.delete).toBe(15);
  await pause(700);
  expect((await upstream.stats()).calls.delete).toBe(15);
});

test('a clean-up goes on after a restart, and the revocation still counts right', async () => {
  const dataDir = temporaryDir();
  const first = await start(dataDir);
  const ask = await setUp(first);
  await issueMany(30, ask);
  await upstream.behave('delete', { kind: 'slow', ms: 80 });
  const id = await revoke(first, { agent: 'worker' });
  await eventually(
    'some are gone',
    () => upstream.accounts(),
    (left) => left.length < 25,
  );
  await first.close();
  expect((await upstream.accounts()).length).toBeGreaterThan(0);
  await upstream.behave('delete', { kind: 'ok' });
  const second = await start(dataDir);
  expect(await completed(second, id)).toMatchObject({ grants: 30, upstream: { pending: 0, revoked: 30 } });
  expect(await upstream.accounts()).toEqual([]);
});

test('a stop does not wait for an upstream that hangs, and the try it cut off does not count', async () => {
  const dataDir = temporaryDir();
  const first = await start(dataDir, {
    drainPatience: { roundMs: 100, tries: 1, firstPauseMs: 10, longestPauseMs: 10, secondLookMs: 100 },
  });
  await issueMany(4, await setUp(first));
  await upstream.behave('delete', { kind: 'hang' });
  const id = await revoke(first, { agent: 'worker' });
  await eventually(
    'it is being tried',
    () => upstream.stats(),
    ({ calls }) => calls.delete === 4,
  );
  const began = performance.now();
  await first.close();
  expect(performance.now() - began).toBeLessThan(3_000);
  await upstream.behave('delete', { kind: 'ok' });
  const second = await start(dataDir);
  expect(await completed(second, id)).toMatchObject({ upstream: { pending: 0, revoked: 4, unrevocable: 0 } });
});

test('an upstream that hangs keeps nobody waiting but its own grants', async () => {
  const other = await startUpstream();
  open.push({ close: () => other.stop() });
  const broker = await start(temporaryDir());
  const ask = await setUp(broker);
  await addConnection(broker, 'other', other);
  await issueMany(20, () => ask('made'));
  await issueMany(20, () => ask('other'));
  await upstream.behave('delete', { kind: 'hang' });
  await revoke(broker, { agent: 'worker' });
  await eventually(
    'the other upstream is clean',
    () => other.accounts(),
    (left) => left.length === 0,
    3_000,
  );
  expect(await upstream.accounts()).toHaveLength(20);
  expect((await upstream.stats()).atOnce.delete).toBeLessThanOrEqual(8);
});

test('an agent does not wait for an undo that fails: the drain goes on with it', async () => {
  const broker = await start(temporaryDir(), {
    drainPatience: { roundMs: 300, tries: 1_000, firstPauseMs: 300, longestPauseMs: 300, secondLookMs: 300 },
  });
  const ask = await setUp(broker);
  await upstream.behave('create', { kind: 'fail-after' });
  await upstream.behave('delete', { kind: 'fail-before' });
  const began = performance.now();
  const answer = await ask();
  expect([answer.status, answer.body['code']]).toEqual([502, 'upstream_unavailable']);
  expect(performance.now() - began).toBeLessThan(1_000);
  const { body } = await broker.admin('GET', '/grants?status=intended');
  const [left] = body['items'] as { id: string }[];
  expect(await upstream.accounts()).toHaveLength(1);
  await upstream.behave('delete', { kind: 'ok' });
  await accountsLeft(0);
  await eventually(
    'it is recorded as aborted',
    () => broker.admin('GET', `/grants/${left?.id}`),
    (grant) => grant.body['status'] === 'aborted',
  );
  const types = (await auditOf(broker, `grant=${left?.id}`)).map(({ type }) => type).reverse();
  expect(types).toEqual(['grant.intended', 'grant.aborted']);
});

test('a revocation works while Warder is sealed, and cleans up upstream when it is unsealed', async () => {
  const dataDir = temporaryDir();
  const first = await start(dataDir);
  const token = await worker(first);
  await addConnection(first, 'made');
  await first.connection('gate', upstream.url);
  await first.entitle('worker', 'gate', ['all']);
  await issueMany(2, () => first.grant(token, { connection: 'made', scopes: ['use'] }));
  const gate = await first.grant(token, { connection: 'gate', scopes: ['all'] });
  const credential = gate.body['credential'] as { token: string };
  await first.close();

  const key = join(dataDir, 'root.key');
  renameSync(key, `${key}.away`);
  const second = await start(dataDir);
  const use = async (): Promise<unknown> => {
    const response = await second.fetch('/gateway/gate/x', {
      headers: { authorization: `Bearer ${credential.token}` },
    });
    return ((await response.json()) as { code: unknown }).code;
  };
  expect((await second.fetch('/readyz')).status).toBe(503);
  expect((await second.grant(token, { connection: 'made', scopes: ['use'] })).body['code']).toBe('sealed');
  expect(await use()).toBe('sealed');
  const id = await revoke(second, { agent: 'worker' });
  expect(await use()).toBe('revoked');
  await pause(300);
  expect(await upstream.accounts()).toHaveLength(2);
  expect((await upstream.stats()).calls.delete).toBe(0);
  expect((await shown(second, id))['completed_at']).toBeNull();

  renameSync(`${key}.away`, key);
  expect(await completed(second, id)).toMatchObject({
    grants: 3,
    upstream: { pending: 0, revoked: 2, unrevocable: 0 },
  });
  expect(await use()).toBe('revoked');
  expect(await upstream.accounts()).toEqual([]);
});

test('ten thousand overdue at the start: ready at once, and drained a few at a time', async () => {
  const dataDir = temporaryDir();
  const first = await start(dataDir);
  const ask = await setUp(first);
  await issueMany(200, () => ask('made', { ttl_seconds: 3 }));
  const keep = await ask('made', { ttl_seconds: 600 });
  await first.close();
  overdue(join(dataDir, 'warder.db'), 10_000);
  await pause(3_200);
  await upstream.behave('delete', { kind: 'slow', ms: 5 });

  const began = performance.now();
  const second = await start(dataDir);
  expect((await second.fetch('/readyz')).status).toBe(200);
  const startedMs = performance.now() - began;
  // While the drain is at it, agents are served.
  const token = await second.agentToken(await second.agent('newcomer'));
  expect((await second.json('GET', '/v1/connections', token)).status).toBe(200);
  const drained = async (): Promise<number> => (await upstream.stats()).calls.delete;
  expect(await drained()).toBeLessThan(5_000);
  // Generous: it is a few hundred milliseconds on a quiet machine, and does not grow with what is overdue.
  expect(startedMs).toBeLessThan(10_000);
  await eventually('a good part is drained', drained, (count) => count > 1_500, 30_000);
  expect((await upstream.stats()).atOnce.delete).toBeLessThanOrEqual(8);
  // What is left when it stops is found again, and what was kept is untouched.
  await second.close();
  expect((await upstream.accounts()).map(({ name }) => name)).toContain(
    `wdr_${(keep.body['grant'] as { id: string }).id}`,
  );
}, 90_000);
