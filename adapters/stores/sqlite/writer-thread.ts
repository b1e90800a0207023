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
import { codeOf, commitPatienceMs, openForWriting } from './connection.ts';
import { lockDataDirectory } from './lock.ts';
import { migrate, readMigrations } from './migrate.ts';
import { type Parcel, unpack } from './parcel.ts';
import { type Outcome, Writer } from './writer.ts';

export interface WriterData {
  databasePath: string;
  lockPath: string;
  migrationsFolder: string;
  now: number;
}
export type ToWriter = { kind: 'apply'; batch: Parcel } | { kind: 'close' };
export type FromWriter =
  | { kind: 'ready' }
  | { kind: 'applied'; results: Outcome[] }
  | { kind: 'failed'; code: string; message: string; fatal: boolean }
  | { kind: 'refused'; name: string; message: string }
  | { kind: 'closed' };

const port = parentPort;
if (!port) throw new Error('writer-thread.ts runs as a worker thread');
const data = workerData as WriterData;
const send = (message: FromWriter): void => port.postMessage(message);

/** Trouble that ends by itself, or by somebody making room; SQLITE_BUSY has extended codes (SQLITE_BUSY_RECOVERY …). */
const passes = (error: unknown): boolean => /^SQLITE_(FULL|BUSY|LOCKED)/.test(codeOf(error));

let unlock: (() => void) | undefined;
let db: Database.Database | undefined;
/** Undefined while the file could not be opened anew after trouble. */
let writer: Writer | undefined;
let durable = 0;

/**
 * Closes and opens anew, so that what is believed is what the file says.
 * @throws Error when the file has more or less than what was acknowledged: then memory does not follow it any more
 */
const reopen = (): Writer => {
  db?.close();
  db = openForWriting(data.databasePath, commitPatienceMs);
  const fresh = new Writer(db);
  if (fresh.size !== durable) {
    throw new Error(`the file has ${fresh.size} entries, ${durable} were acknowledged`);
  }
  return fresh;
};

const apply = (batch: Parcel): FromWriter => {
  try {
    writer ??= reopen();
    const results = writer.apply(unpack(batch));
    durable = writer.size;
    return { kind: 'applied', results };
  } catch (error) {
    writer = undefined;
    return { kind: 'failed', code: codeOf(error), message: messageOf(error), fatal: !canGoOn(error) };
  }
};

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const canGoOn = (error: unknown): boolean => {
  if (!passes(error)) return false;
  try {
    writer = reopen();
    return true;
  } catch (again) {
    // Still full: the next batch tries to open it again, and until then everything is refused.
    return passes(again);
  }
};

port.on('message', (message: ToWriter) => {
  if (message.kind === 'apply') {
    send(apply(message.batch));
    return;
  }
  db?.close();
  unlock?.();
  send({ kind: 'closed' });
  port.close();
});

try {
  unlock = lockDataDirectory(data.lockPath);
  db = openForWriting(data.databasePath);
  migrate(db, readMigrations(data.migrationsFolder), data.now);
  db.pragma(`busy_timeout = ${commitPatienceMs}`);
  writer = new Writer(db);
  durable = writer.size;
  send({ kind: 'ready' });
} catch (error) {
  db?.close();
  unlock?.();
  send({ kind: 'refused', name: error instanceof Error ? error.name : 'Error', message: messageOf(error) });
  port.close();
}
