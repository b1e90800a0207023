/**
 * The SQLite store as the event loop sees it: changesets go to the writing thread in batches, questions to two reading
 * threads (short look-ups must not wait behind an export).
 *
 * Group commit: while a batch is being synced, what arrives is gathered and becomes the next batch. The price of a
 * sync is shared, and a lone caller still waits for one sync only.
 */
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Worker } from 'node:worker_threads';
import {
  type Changeset,
  type Committed,
  type Ledger,
  type LedgerReader,
  type LedgerStore,
  LedgerUnavailable,
} from '../../../src/ports/ledger.ts';
import { DataDirectoryInUse } from './lock.ts';
import { IncompatibleDatabase } from './migrate.ts';
import type { FromReader, ReaderData, ToReader } from './reader-thread.ts';
import type { FromWriter, ToWriter, WriterData } from './writer-thread.ts';

export interface SqliteOptions {
  databasePath: string;
  migrationsFolder: string;
  /** Called once when the store cannot go on and the process should stop (see writer-thread.ts). */
  onFatal(error: Error): void;
}

/** A batch is at most this long, so that the first of it does not wait for thousands behind it. */
const maxBatch = 512;
/** More than this waiting means the disk is not keeping up: refuse rather than grow. */
const maxWaiting = 20_000;

/** A worker's file under its own name: `.ts` from a checkout, `.js` from a build. */
const threadUrl = (name: string): URL =>
  new URL(import.meta.url.endsWith('.ts') ? `./${name}.ts` : `./${name}.js`, import.meta.url);

const startThread = (name: string, data: WriterData | ReaderData): Worker =>
  new Worker(threadUrl(name), { workerData: data });

/** @returns the thread's first word, which is whether it could start */
const firstMessage = <M>(thread: Worker): Promise<M> =>
  new Promise((resolve, reject) => {
    thread.once('message', resolve);
    thread.once('error', reject);
  });

interface Waiting {
  changeset: Changeset;
  resolve(result: Committed): void;
  reject(error: Error): void;
}

class GroupCommit implements Ledger {
  readonly #thread: Worker;
  readonly #onFatal: (error: Error) => void;
  readonly #listeners = new Set<(changeset: Changeset, seq: number) => void>();
  #waiting: Waiting[] = [];
  #syncing: Waiting[] = [];
  #trouble: string | undefined;
  #idle: (() => void) | undefined;
  #closing = false;

  constructor(thread: Worker, onFatal: (error: Error) => void) {
    this.#thread = thread;
    this.#onFatal = onFatal;
    thread.on('message', (message: FromWriter) => this.#hear(message));
    thread.on('error', (error) => this.#stop(error));
    thread.on('exit', () => this.#stop(new Error('the writing thread ended')));
  }

  commit(changeset: Changeset): Promise<Committed> {
    return new Promise((resolve, reject) => {
      if (this.#waiting.length >= maxWaiting) {
        reject(new LedgerUnavailable(new Error(`${maxWaiting} changesets are waiting for the disk`)));
        return;
      }
      this.#waiting.push({ changeset, resolve, reject });
      this.#pump();
    });
  }

  onCommitted(listener: (changeset: Changeset, seq: number) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  trouble(): string | undefined {
    return this.#trouble;
  }

  /** Resolves when nothing is waiting any more. */
  drained(): Promise<void> {
    if (this.#syncing.length === 0 && this.#waiting.length === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#idle = resolve;
    });
  }

  #pump(): void {
    if (this.#syncing.length > 0) return;
    if (this.#waiting.length === 0) {
      this.#idle?.();
      return;
    }
    this.#syncing = this.#waiting.splice(0, maxBatch);
    this.#thread.postMessage({
      kind: 'apply',
      batch: this.#syncing.map((entry) => entry.changeset),
    } satisfies ToWriter);
  }

  #hear(message: FromWriter): void {
    const batch = this.#syncing;
    if (message.kind === 'applied') {
      this.#syncing = [];
      this.#trouble = undefined;
      batch.forEach((entry, i) => {
        const result = message.results[i];
        if (!result) throw new Error('the writing thread answered fewer changesets than it was given');
        if (result.ok) this.#announce(entry.changeset, result.seq);
        entry.resolve(result);
      });
      this.#pump();
    } else if (message.kind === 'failed') {
      const error = new Error(`${message.code}: ${message.message}`);
      this.#syncing = [];
      this.#trouble = `the ledger cannot write (${message.code})`;
      for (const entry of batch) entry.reject(new LedgerUnavailable(error));
      if (message.fatal) this.#stop(error);
      else this.#pump();
    }
  }

  #announce(changeset: Changeset, seq: number): void {
    for (const write of changeset.writes) {
      if (write.write === 'insert' && 'seq' in write.row) write.row.seq = seq;
      if (write.write === 'update' && 'seq' in write.set) write.set.seq = seq;
    }
    for (const listener of this.#listeners) listener(changeset, seq);
  }

  #stop(error: Error): void {
    const rest = [...this.#syncing, ...this.#waiting];
    this.#syncing = [];
    this.#waiting = [];
    for (const entry of rest) entry.reject(new LedgerUnavailable(error));
    this.#idle?.();
    if (this.#closing) return;
    this.#closing = true;
    this.#trouble = 'the ledger stopped';
    this.#onFatal(error);
  }

  /** From here on the thread's end is expected. */
  async close(): Promise<void> {
    await this.drained();
    this.#closing = true;
    const ended = new Promise((resolve) => this.#thread.once('exit', resolve));
    this.#thread.postMessage({ kind: 'close' } satisfies ToWriter);
    await ended;
  }
}

/** Calls a reading thread like a function. */
class RemoteReader {
  readonly #thread: Worker;
  readonly #calls = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #next = 0;

  constructor(thread: Worker) {
    this.#thread = thread;
    thread.on('message', (message: FromReader) => {
      if (message.kind === 'ready') return;
      const call = this.#calls.get(message.call);
      this.#calls.delete(message.call);
      if (message.kind === 'answer') call?.resolve(message.value);
      else call?.reject(new Error(`the ledger cannot be read: ${message.message}`));
    });
    const fail = (error: Error): void => {
      for (const call of this.#calls.values()) call.reject(error);
      this.#calls.clear();
    };
    thread.on('error', fail);
    thread.on('exit', () => fail(new Error('the reading thread ended')));
  }

  ask<M extends keyof LedgerReader>(method: M, args: Parameters<LedgerReader[M]>): ReturnType<LedgerReader[M]> {
    return new Promise<unknown>((resolve, reject) => {
      const call = this.#next++;
      this.#calls.set(call, { resolve, reject });
      this.#thread.postMessage({ kind: 'ask', call, method, args } satisfies ToReader);
      // The thread answers each method with what its port says: reader-thread.ts dispatches on the same names.
    }) as ReturnType<LedgerReader[M]>;
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#thread.once('exit', resolve));
    this.#thread.postMessage({ kind: 'close' } satisfies ToReader);
    await ended;
  }
}

/**
 * Opens (and where needed makes) the database, brings its schema up to date, and takes the data directory's lock.
 * @throws DataDirectoryInUse, IncompatibleDatabase, or what SQLite says
 */
export const openSqliteStore = async (options: SqliteOptions): Promise<LedgerStore> => {
  const folder = dirname(options.databasePath);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const writing = startThread('writer-thread', {
    databasePath: options.databasePath,
    lockPath: join(folder, 'warder.lock'),
    migrationsFolder: options.migrationsFolder,
    now: Date.now(),
  });
  const started = await firstMessage<FromWriter>(writing);
  if (started.kind !== 'ready') {
    const message = started.kind === 'refused' ? started.message : 'the writing thread did not start';
    if (started.kind === 'refused' && started.name === 'DataDirectoryInUse') throw new DataDirectoryInUse(message);
    if (started.kind === 'refused' && started.name === 'IncompatibleDatabase') throw new IncompatibleDatabase(message);
    throw new Error(message);
  }
  const ledger = new GroupCommit(writing, options.onFatal);
  const readers = await Promise.all(
    ['quick', 'long'].map(async () => {
      const thread = startThread('reader-thread', { databasePath: options.databasePath });
      await firstMessage<FromReader>(thread);
      return new RemoteReader(thread);
    }),
  );
  const [quick, long] = readers;
  if (!quick || !long) throw new Error('unreachable: two readers were started');

  return {
    ledger,
    reader: {
      snapshot: () => long.ask('snapshot', []),
      grant: (...args) => quick.ask('grant', args),
      agentToken: (...args) => quick.ask('agentToken', args),
      secret: (...args) => quick.ask('secret', args),
      revocation: (...args) => quick.ask('revocation', args),
      revocations: (...args) => long.ask('revocations', args),
      grants: (...args) => long.ask('grants', args),
      countLiveGrants: (...args) => long.ask('countLiveGrants', args),
      intendedGrants: (...args) => long.ask('intendedGrants', args),
      upstreamGrants: (...args) => long.ask('upstreamGrants', args),
      upstreamProgress: (...args) => long.ask('upstreamProgress', args),
      expiredRows: (...args) => long.ask('expiredRows', args),
      openRevocations: () => long.ask('openRevocations', []),
      audit: (...args) => long.ask('audit', args),
      auditRange: (...args) => long.ask('auditRange', args),
      treeHead: () => long.ask('treeHead', []),
      inclusionProof: (...args) => long.ask('inclusionProof', args),
      consistencyProof: (...args) => long.ask('consistencyProof', args),
    },
    close: async () => {
      await ledger.close();
      await Promise.all(readers.map((reader) => reader.close()));
    },
  };
};
