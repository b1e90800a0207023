/**
 * The thread that owns the writing connection. It answers every message with results, or with a failure that says
 * whether the store can go on:
 *
 * - A full disk or a foreign lock: SQLite rolled back, the file is read anew, and if it stands where it stood before
 *   the batch the next batch may try again.
 * - Anything else (EIO above all): after a failed sync nobody knows what the disk holds, and trying again can be
 *   answered by a page cache that forgot the error. The process must stop and start from the file.
 */
import { parentPort, workerData } from 'node:worker_threads';
import type Database from 'better-sqlite3';
import type { Changeset, Committed } from '../../../src/ports/ledger.ts';
import { openForWriting } from './connection.ts';
import { lockDataDirectory } from './lock.ts';
import { migrate, readMigrations } from './migrate.ts';
import { Writer } from './writer.ts';

export interface WriterData {
  databasePath: string;
  lockPath: string;
  migrationsFolder: string;
  now: number;
}
export type ToWriter = { kind: 'apply'; batch: Changeset[] } | { kind: 'close' };
export type FromWriter =
  | { kind: 'ready' }
  | { kind: 'applied'; results: Committed[] }
  | { kind: 'failed'; code: string; message: string; fatal: boolean }
  | { kind: 'refused'; name: string; message: string }
  | { kind: 'closed' };

const port = parentPort;
if (!port) throw new Error('writer-thread.ts runs as a worker thread');
const data = workerData as WriterData;
const send = (message: FromWriter): void => port.postMessage(message);

const passing = new Set(['SQLITE_FULL', 'SQLITE_BUSY', 'SQLITE_LOCKED']);
const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'UNKNOWN';

let unlock: (() => void) | undefined;
let db: Database.Database;
let writer: Writer | undefined;
let durable = 0;

/** Closes and opens anew, so that what is believed is what the file says. */
const reopen = (): void => {
  db.close();
  db = openForWriting(data.databasePath);
  writer = new Writer(db);
};

const apply = (batch: Changeset[]): FromWriter => {
  try {
    if (!writer) reopen();
    if (!writer) throw new Error('unreachable: reopen() makes a writer or throws');
    const results = writer.apply(batch);
    durable = writer.size;
    return { kind: 'applied', results };
  } catch (error) {
    const code = codeOf(error);
    const failure = { kind: 'failed', code, message: error instanceof Error ? error.message : String(error) } as const;
    writer = undefined;
    if (!passing.has(code)) return { ...failure, fatal: true };
    try {
      reopen();
    } catch {
      // Still full: the next batch tries to open it again, and until then everything is refused.
      return { ...failure, fatal: false };
    }
    const size = (writer as Writer | undefined)?.size;
    return { ...failure, fatal: size !== durable };
  }
};

port.on('message', (message: ToWriter) => {
  if (message.kind === 'apply') {
    send(apply(message.batch));
    return;
  }
  db.close();
  unlock?.();
  send({ kind: 'closed' });
  port.close();
});

try {
  unlock = lockDataDirectory(data.lockPath);
  db = openForWriting(data.databasePath);
  migrate(db, readMigrations(data.migrationsFolder), data.now);
  writer = new Writer(db);
  durable = writer.size;
  send({ kind: 'ready' });
} catch (error) {
  unlock?.();
  send({
    kind: 'refused',
    name: error instanceof Error ? error.name : 'Error',
    message: error instanceof Error ? error.message : String(error),
  });
  port.close();
}
