/** What the SQLite store adds to the port's contract: threads that end, disks that hang, and one file at the end. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { MalformedChangeset, openSqliteStore } from '../../../../adapters/stores/sqlite/store.ts';
import { LedgerUnavailable } from '../../../../src/ports/ledger.ts';
import * as make from '../../../conformance/ledger-rows.ts';
import { migrationsFolder, type OpenedSqlite, openTemporary } from './temporary-store.ts';

const { accept, changeset, insert } = make;

const opened: OpenedSqlite[] = [];
const open = async (): Promise<OpenedSqlite> => {
  const one = await openTemporary();
  opened.push(one);
  return one;
};
afterEach(async () => {
  for (const one of opened.splice(0)) await one.close();
});

/** @returns a store and its threads: the writer, then the two readers */
const openWithThreads = async (): Promise<OpenedSqlite & { threads: Worker[] }> => {
  const threads: Worker[] = [];
  const hear = (message: unknown): void => {
    threads.push((message as { worker: Worker }).worker);
  };
  subscribe('worker_threads', hear);
  const store = await open();
  unsubscribe('worker_threads', hear);
  expect(threads).toHaveLength(3);
  return { ...store, threads };
};

/** Settles within a second, whatever it is: a promise that never does would hang a caller for ever. */
const settled = <T>(promises: Promise<T>[]): Promise<PromiseSettledResult<T>[]> =>
  Promise.race([
    Promise.allSettled(promises),
    new Promise<never>((_, reject) => setTimeout(() => reject(new Error('something hangs')), 5000).unref()),
  ]);

describe('when the writing thread ends by itself', () => {
  test('every commit is answered, the process is told once, and nothing is accepted any more', async () => {
    const { store, threads, fatal, reopen } = await openWithThreads();
    const rows = Array.from({ length: 3000 }, () => make.usedOnce());
    const commits = rows.map((row) => store.ledger.commit(changeset(insert('used_once', row))));
    await commits[0];
    void threads[0]?.terminate();
    const outcomes = await settled(commits);
    const acknowledged = rows.filter((_, i) => outcomes[i]?.status === 'fulfilled');
    const reasons = outcomes.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
    expect(reasons.length).toBeGreaterThan(0);
    expect(reasons.every((reason) => reason instanceof LedgerUnavailable)).toBe(true);
    expect(fatal).toHaveLength(1);
    expect(store.ledger.trouble()).toBe('the ledger stopped');
    const late = await settled([store.ledger.commit(changeset()), store.ledger.commit(changeset())]);
    expect(late.map((one) => one.status)).toEqual(['rejected', 'rejected']);

    const again = await reopen();
    const kept = new Set((await again.reader.expiredRows(make.now + make.hour, 5000)).map((row) => row.id));
    expect(acknowledged.filter((row) => !kept.has(row.id))).toEqual([]);
    expect((await again.reader.treeHead()).size).toBe(kept.size);
    expect(fatal).toHaveLength(1);
  });

  test('closing still ends', async () => {
    const { store, threads, fatal } = await openWithThreads();
    await threads[0]?.terminate();
    await settled([store.close(), store.close()]);
    expect(fatal).toHaveLength(1);
  });
});

describe('when a reading thread ends by itself', () => {
  test.each([1, 2])('questions are answered with an error, and the process is told (thread %i)', async (n) => {
    const { store, threads, fatal } = await openWithThreads();
    const ask = () => [store.reader.grant('grt_x'), store.reader.treeHead()] as Promise<unknown>[];
    const pending = Array.from({ length: 50 }, ask).flat();
    const ended = threads[n]?.terminate();
    await settled(pending);
    await ended;
    const outcomes = await settled(ask());
    expect(outcomes.filter((one) => one.status === 'rejected')).toHaveLength(1);
    expect(fatal).toHaveLength(1);
    const [late] = await settled([store.ledger.commit(changeset())]);
    expect(late).toMatchObject({ status: 'rejected', reason: expect.any(LedgerUnavailable) });
  });
});

test('a listener that fails stops the ledger: what is in memory no longer follows it', async () => {
  const { store, fatal, reopen } = await open();
  let heard = 0;
  store.ledger.onCommitted(() => {
    heard += 1;
    if (heard === 5) throw new Error('cannot take this in');
  });
  const outcomes = await settled(Array.from({ length: 40 }, () => store.ledger.commit(changeset())));
  expect(outcomes.filter((one) => one.status === 'fulfilled')).toHaveLength(4);
  expect(heard).toBe(5);
  expect(fatal.map((error) => error.message)).toEqual(['cannot take this in']);
  await expect(store.ledger.commit(changeset())).rejects.toBeInstanceOf(LedgerUnavailable);
  expect((await (await reopen()).reader.treeHead()).size).toBeGreaterThanOrEqual(5);
});

test('more than 20 000 waiting are refused, and those accepted before are written', async () => {
  const { store } = await open();
  const commits = Array.from({ length: 20_700 }, () => store.ledger.commit(changeset()));
  const outcomes = await Promise.allSettled(commits);
  const refused = outcomes.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
  // One is being synced, 20 000 wait.
  expect(refused).toHaveLength(699);
  expect(refused.every((reason) => reason instanceof LedgerUnavailable)).toBe(true);
  expect((await store.reader.treeHead()).size).toBe(20_001);
  expect(store.ledger.trouble()).toBeUndefined();
  expect((await store.ledger.commit(changeset())).ok).toBe(true);
});

test('a foreign lock on the database is a refusal within two seconds, and passes with the lock', async () => {
  const { store, databasePath, fatal } = await open();
  await accept(store.ledger, changeset());
  const foreign = new Database(databasePath);
  foreign.exec('BEGIN IMMEDIATE');
  const began = performance.now();
  const outcomes = await Promise.allSettled(Array.from({ length: 10 }, () => store.ledger.commit(changeset())));
  expect(performance.now() - began).toBeLessThan(2000);
  expect(outcomes.map((one) => one.status)).toEqual(outcomes.map(() => 'rejected'));
  for (const one of outcomes) expect(one).toMatchObject({ reason: expect.any(LedgerUnavailable) });
  expect(store.ledger.trouble()).toContain('SQLITE_BUSY');
  expect((await store.reader.treeHead()).size).toBe(1);

  foreign.exec('ROLLBACK');
  foreign.close();
  expect(await accept(store.ledger, changeset())).toBe(1);
  expect(store.ledger.trouble()).toBeUndefined();
  expect(fatal).toEqual([]);
});

test('a process that was busy itself does not take the disk to hang', async () => {
  const { store } = await open();
  const commits = [0, 1, 2].map(() => store.ledger.commit(changeset()));
  const until = performance.now() + 2500;
  while (performance.now() < until);
  expect((await Promise.all(commits)).map((result) => result.ok)).toEqual([true, true, true]);
  expect(store.ledger.trouble()).toBeUndefined();
});

test('a database that somebody else has written to is not written on', async () => {
  const { store, databasePath, fatal } = await open();
  await accept(store.ledger, changeset());
  const foreign = new Database(databasePath);
  foreign.exec("INSERT INTO audit (seq, at, type, leaf) VALUES (1, 1, 'x', x'00')");
  foreign.close();
  await expect(store.ledger.commit(changeset())).rejects.toBeInstanceOf(LedgerUnavailable);
  expect(fatal).toHaveLength(1);
});

test('a database whose log and tree disagree is not opened', async () => {
  const { store, databasePath, reopen } = await open();
  await accept(store.ledger, changeset());
  await store.close();
  const foreign = new Database(databasePath);
  foreign.exec('DELETE FROM audit');
  foreign.close();
  await expect(reopen()).rejects.toThrow('the audit log has 0 entries, its tree head says 1');
});

test('after close the one file holds everything: a copy of it alone is the whole ledger', async () => {
  const { store, databasePath, folder } = await open();
  await Promise.all(Array.from({ length: 50 }, () => accept(store.ledger, changeset(insert('agents', make.agent())))));
  const [head, snapshot] = [await store.reader.treeHead(), await store.reader.snapshot()];
  await store.close();
  expect(existsSync(`${databasePath}-wal`)).toBe(false);
  mkdirSync(join(folder, 'copy'));
  const copy = join(folder, 'copy', 'warder.db');
  copyFileSync(databasePath, copy);
  const restored = await openSqliteStore({ databasePath: copy, migrationsFolder, onFatal: () => undefined });
  expect(await restored.reader.treeHead()).toEqual(head);
  expect(await restored.reader.snapshot()).toEqual(snapshot);
  await restored.close();
});

test('text with NUL in it is kept whole', async () => {
  const { store } = await open();
  const grant = make.grant({ reason: 'before\0after', subject: '\0' });
  await accept(store.ledger, changeset(insert('grants', grant)));
  expect(await store.reader.grant(grant.id)).toEqual(grant);
});

test('a malformed changeset is said to be that, with what was wrong, and is not the caller’s to retry', async () => {
  const { store } = await open();
  const bad = changeset(insert('used_once', make.usedOnce({ expires_at: 0.5 })));
  const error = await store.ledger.commit(bad).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(MalformedChangeset);
  expect(String(error)).toContain('used_once.expires_at');
});
