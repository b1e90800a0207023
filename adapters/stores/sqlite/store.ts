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
import { pack } from './parcel.ts';
import type { FromReader, ReaderData, ToReader } from './reader-thread.ts';
import type { Outcome } from './writer.ts';
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
/** A disk that has not answered for so long is taken to hang: nobody is kept waiting for it past two seconds. */
const patienceMs = 1_500;

/** The changeset itself cannot be stored, now or later: a fault of the code that made it. Nothing else is affected. */
export class MalformedChangeset extends Error {
  override readonly name = 'MalformedChangeset';
}

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
    thread.once('exit', () => reject(new Error('a thread of the store ended as it started')));
  });

const exitOf = (thread: Worker): Promise<void> => new Promise((resolve) => thread.once('exit', () => resolve()));

const asError = (thrown: unknown): Error => (thrown instanceof Error ? thrown : new Error(String(thrown)));

interface Waiting {
  changeset: Changeset;
  resolve(result: Committed): void;
  reject(error: Error): void;
}

class GroupCommit implements Ledger {
  readonly #thread: Worker;
  readonly #onFatal: (error: Error) => void;
  readonly #listeners = new Set<(changeset: Changeset, seq: number) => void>();
  readonly #exited: Promise<void>;
  #waiting: Waiting[] = [];
  /** The batch the thread has, until it answers: its callers may have been given up on by then. */
  #syncing: Waiting[] = [];
  #alarm: NodeJS.Timeout | undefined;
  #trouble: string | undefined;
  /** Set while the disk does not answer: nothing is accepted for now. */
  #hanging: Error | undefined;
  /** Set once, when closed or stopped: nothing is accepted any more. */
  #ended: Error | undefined;
  #idle: (() => void)[] = [];
  #closed: Promise<void> | undefined;
  #stopped = false;
  /** The thread was told to end. */
  #ending = false;

  constructor(thread: Worker, onFatal: (error: Error) => void) {
    this.#thread = thread;
    this.#onFatal = onFatal;
    this.#exited = exitOf(thread);
    thread.on('message', (message: FromWriter) => this.#hear(message));
    thread.on('error', (error) => this.stop(asError(error)));
    thread.on('exit', () => this.stop(new Error('the writing thread ended')));
  }

  commit(changeset: Changeset): Promise<Committed> {
    return new Promise((resolve, reject) => {
      const refusing =
        this.#ended ??
        this.#hanging ??
        (this.#waiting.length >= maxWaiting
          ? new Error(`${maxWaiting} changesets are waiting for the disk`)
          : undefined);
      if (refusing) {
        reject(new LedgerUnavailable(refusing));
        return;
      }
      requireStorable(changeset);
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

  /** Sends the next batch, unless one is under way. */
  #pump(): void {
    while (this.#syncing.length === 0 && this.#waiting.length > 0) {
      this.#syncing = this.#waiting.splice(0, maxBatch);
      try {
        this.#send();
      } catch {
        // One of them holds something that cannot be sent to a thread: it is refused alone.
        this.#syncing = this.#syncing.filter(isSendable);
        if (this.#syncing.length > 0) this.#send();
      }
    }
    if (this.#syncing.length > 0) return;
    for (const idle of this.#idle.splice(0)) idle();
  }

  #send(): void {
    this.#thread.postMessage({
      kind: 'apply',
      batch: pack(this.#syncing.map((entry) => entry.changeset)),
    } satisfies ToWriter);
    const batch = this.#syncing;
    // An answer that came while this thread was busy is heard first: timers run before messages, setImmediate after.
    this.#alarm = setTimeout(
      () => setImmediate(() => (this.#syncing === batch ? this.#giveUp() : undefined)),
      patienceMs,
    );
  }

  /**
   * The disk hangs. Everybody who waits is told so, and so is who comes next. What the thread has may still take place;
   * when it answers, the listeners hear of it as of any other.
   */
  #giveUp(): void {
    this.#hanging = new Error(`the disk has not answered for ${patienceMs} ms`);
    this.#trouble = 'the ledger cannot write (the disk does not answer)';
    this.#rejectAll([...this.#syncing, ...this.#waiting.splice(0)], this.#hanging);
  }

  #rejectAll(entries: Waiting[], error: Error): void {
    for (const entry of entries) entry.reject(new LedgerUnavailable(error));
  }

  #hear(message: FromWriter): void {
    if (this.#stopped || (message.kind !== 'applied' && message.kind !== 'failed')) return;
    clearTimeout(this.#alarm);
    const batch = this.#syncing;
    this.#syncing = [];
    this.#hanging = undefined;
    if (message.kind === 'failed') {
      const error = new Error(`${message.code}: ${message.message}`);
      this.#trouble = `the ledger cannot write (${message.code})`;
      this.#rejectAll(batch, error);
      if (message.fatal) this.stop(error);
      else this.#pump();
      return;
    }
    this.#trouble = undefined;
    try {
      for (const [i, entry] of batch.entries()) this.#settle(entry, message.results[i]);
    } catch (error) {
      // A listener that missed a changeset: what is in memory no longer follows the ledger.
      this.#rejectAll(batch, asError(error));
      this.stop(asError(error));
      return;
    }
    this.#pump();
  }

  #settle(entry: Waiting, outcome: Outcome | undefined): void {
    if (!outcome) throw new Error('the writing thread answered fewer changesets than it was given');
    if (!outcome.ok && outcome.why === 'malformed') {
      entry.reject(new MalformedChangeset(`the ledger cannot hold this changeset: ${outcome.message}`));
      return;
    }
    if (outcome.ok) this.#announce(entry.changeset, outcome.seq);
    entry.resolve(outcome);
  }

  #announce(changeset: Changeset, seq: number): void {
    for (const write of changeset.writes) {
      if (write.write === 'insert' && 'seq' in write.row) write.row.seq = seq;
      if (write.write === 'update' && 'seq' in write.set) write.set.seq = seq;
    }
    for (const listener of this.#listeners) listener(changeset, seq);
  }

  /** There is no going on: whoever waits is refused, and so is everybody after. */
  stop(error: Error): void {
    clearTimeout(this.#alarm);
    this.#rejectAll([...this.#syncing.splice(0), ...this.#waiting.splice(0)], error);
    for (const idle of this.#idle.splice(0)) idle();
    if (this.#ending || this.#stopped) return;
    this.#stopped = true;
    this.#ended = error;
    this.#trouble = 'the ledger stopped';
    this.#onFatal(error);
  }

  /** Accepts nothing more and waits for what was accepted. */
  async drain(): Promise<void> {
    this.#ended ??= new Error('the ledger is closed');
    if (this.#syncing.length === 0) return;
    await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await this.drain();
    this.#ending = true;
    this.#thread.postMessage({ kind: 'close' } satisfies ToWriter);
    await this.#exited;
  }
}

/**
 * JSON makes null of NaN and leaves out what is undefined: `expires_at: NaN` would never expire, and a comparison with
 * undefined would not be made.
 * @throws MalformedChangeset
 */
const requireStorable = (changeset: Changeset): void => {
  if (changeset.audit.length === 0) throw new MalformedChangeset('a changeset has at least one audit entry');
  for (const entry of changeset.audit) {
    if (typeof entry.body !== 'string') throw new MalformedChangeset('an audit entry has a body of text');
  }
  for (const guard of changeset.guards ?? []) {
    if (guard.guard === 'unfenced' && !Number.isSafeInteger(guard.since)) {
      throw new MalformedChangeset(`a fence cannot be newer than ${guard.since}`);
    }
  }
  for (const write of changeset.writes) {
    if (write.write === 'insert' || write.write === 'spend') requireValues(write.table, write.row);
    if (write.write === 'update') requireValues(write.table, write.set);
    if ((write.write === 'update' || write.write === 'delete') && write.from) requireValues(write.table, write.from);
  }
};

const requireValues = (table: string, row: object): void => {
  for (const value of Object.values(row)) {
    if (value === undefined || typeof value === 'function' || (typeof value === 'number' && !Number.isFinite(value))) {
      throw new MalformedChangeset(`the ledger cannot hold this changeset: ${String(value)} in a row of ${table}`);
    }
  }
};

const isSendable = (entry: Waiting): boolean => {
  try {
    pack([entry.changeset]);
    return true;
  } catch (error) {
    entry.reject(new MalformedChangeset('the ledger takes plain data only', { cause: error }));
    return false;
  }
};

/** Calls a reading thread like a function. */
class RemoteReader {
  readonly #thread: Worker;
  readonly #calls = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  readonly #exited: Promise<void>;
  #next = 0;
  #gone: Error | undefined;

  /** @param onLost called when the thread ends without having been told to */
  constructor(thread: Worker, onLost: (error: Error) => void) {
    this.#thread = thread;
    this.#exited = exitOf(thread);
    thread.on('message', (message: FromReader) => {
      if (message.kind === 'ready') return;
      const call = this.#calls.get(message.call);
      this.#calls.delete(message.call);
      if (message.kind === 'answer') call?.resolve(message.value);
      else call?.reject(new Error(`the ledger cannot be read: ${message.message}`));
    });
    const end = (error: Error): void => {
      const expected = this.#gone !== undefined;
      this.#gone ??= error;
      for (const call of this.#calls.values()) call.reject(error);
      this.#calls.clear();
      if (!expected) onLost(error);
    };
    thread.on('error', (error) => end(asError(error)));
    thread.on('exit', () => end(new Error('the reading thread ended')));
  }

  ask<M extends keyof LedgerReader>(method: M, args: Parameters<LedgerReader[M]>): ReturnType<LedgerReader[M]> {
    return new Promise<unknown>((resolve, reject) => {
      if (this.#gone) throw new Error('the ledger cannot be read', { cause: this.#gone });
      const call = this.#next++;
      this.#thread.postMessage({ kind: 'ask', call, method, args } satisfies ToReader);
      this.#calls.set(call, { resolve, reject });
      // The thread answers each method with what its port says: reader-thread.ts dispatches on the same names.
    }) as ReturnType<LedgerReader[M]>;
  }

  /** Waits for the questions asked before. */
  async close(): Promise<void> {
    this.#gone ??= new Error('the ledger is closed');
    this.#thread.postMessage({ kind: 'close' } satisfies ToReader);
    await this.#exited;
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
  const ended = exitOf(writing);
  const started = await firstMessage<FromWriter>(writing);
  if (started.kind !== 'ready') {
    await ended;
    const message = started.kind === 'refused' ? started.message : 'the writing thread did not start';
    if (started.kind === 'refused' && started.name === 'DataDirectoryInUse') throw new DataDirectoryInUse(message);
    if (started.kind === 'refused' && started.name === 'IncompatibleDatabase') throw new IncompatibleDatabase(message);
    throw new Error(message);
  }
  const ledger = new GroupCommit(writing, options.onFatal);
  const threads = ['quick', 'long'].map(() => startThread('reader-thread', { databasePath: options.databasePath }));
  try {
    await Promise.all(threads.map((thread) => firstMessage<FromReader>(thread)));
  } catch (error) {
    await Promise.all([...threads.map((thread) => thread.terminate()), ledger.close()]);
    throw error;
  }
  const readers = threads.map((thread) => new RemoteReader(thread, (error) => ledger.stop(error)));
  const [quick, long] = readers;
  if (!quick || !long) throw new Error('unreachable: two readers were started');

  return {
    ledger,
    reader: {
      snapshot: () => long.ask('snapshot', []),
      grant: (...args) => quick.ask('grant', args),
      agentToken: (...args) => quick.ask('agentToken', args),
      secret: (...args) => quick.ask('secret', args),
      authorizationFlow: (...args) => quick.ask('authorizationFlow', args),
      revocation: (...args) => quick.ask('revocation', args),
      revocations: (...args) => long.ask('revocations', args),
      grants: (...args) => long.ask('grants', args),
      countLiveGrants: (...args) => long.ask('countLiveGrants', args),
      blastRadius: (...args) => long.ask('blastRadius', args),
      countKilled: (...args) => long.ask('countKilled', args),
      upstreamGrantsOf: (...args) => long.ask('upstreamGrantsOf', args),
      nextEndOf: (...args) => long.ask('nextEndOf', args),
      connectionsOf: (...args) => long.ask('connectionsOf', args),
      listedGrants: (...args) => long.ask('listedGrants', args),
      unrevocableGrants: (...args) => long.ask('unrevocableGrants', args),
      revocationsToRotate: () => long.ask('revocationsToRotate', []),
      intendedGrants: (...args) => long.ask('intendedGrants', args),
      upstreamGrants: (...args) => long.ask('upstreamGrants', args),
      upstreamProgress: (...args) => long.ask('upstreamProgress', args),
      expiredRows: (...args) => long.ask('expiredRows', args),
      sealedBoxes: () => long.ask('sealedBoxes', []),
      rowsSealedUnderOthers: (...args) => long.ask('rowsSealedUnderOthers', args),
      openRevocations: () => long.ask('openRevocations', []),
      audit: (...args) => long.ask('audit', args),
      auditRange: (...args) => long.ask('auditRange', args),
      treeHead: () => long.ask('treeHead', []),
      inclusionProof: (...args) => long.ask('inclusionProof', args),
      consistencyProof: (...args) => long.ask('consistencyProof', args),
      rotation: (...args) => quick.ask('rotation', args),
      rotations: (...args) => long.ask('rotations', args),
      lastRotations: () => long.ask('lastRotations', []),
      rotatedAway: (...args) => quick.ask('rotatedAway', args),
      newestSecretNumber: (...args) => quick.ask('newestSecretNumber', args),
      lease: (...args) => quick.ask('lease', args),
      freeze: (...args) => quick.ask('freeze', args),
      freezes: (...args) => long.ask('freezes', args),
      incident: (...args) => quick.ask('incident', args),
      incidents: (...args) => long.ask('incidents', args),
      incidentItems: (...args) => long.ask('incidentItems', args),
      grantsLeftUpstream: (...args) => long.ask('grantsLeftUpstream', args),
      auditOfTypes: (...args) => long.ask('auditOfTypes', args),
      entriesToTell: (...args) => long.ask('entriesToTell', args),
      agentsWithGrants: (...args) => long.ask('agentsWithGrants', args),
    },
    close: async () => {
      await ledger.drain();
      // The writer goes last: the last connection to close empties the log into the one file, and a reader may not write.
      await Promise.all(readers.map((reader) => reader.close()));
      await ledger.close();
    },
  };
};
