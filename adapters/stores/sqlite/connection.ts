/** Opening a SQLite file the way the ledger needs it, and no other way. */
import Database from 'better-sqlite3';

/** How long opening waits for another writer: a migration of a large database may hold the lock a while. */
const openPatienceMs = 30_000;
/**
 * How long a commit waits for a foreign lock (a backup tool, a shell left open in a transaction). Short, because whoever
 * waits for the ledger is to be refused within two seconds, not kept; and one may wait for two batches, its own and the
 * one before.
 */
export const commitPatienceMs = 500;

/**
 * Opens for writing: WAL and `synchronous=FULL`, both read back. better-sqlite3 compiles WAL with NORMAL as its default,
 * which may lose the last commits when the power goes (sqlite.org/pragma.html#pragma_synchronous).
 * @throws Error when the file system does not give what was asked for
 */
export const openForWriting = (path: string, patienceMs = openPatienceMs): Database.Database => {
  const db = new Database(path, { timeout: patienceMs });
  try {
    return asserted(db, path);
  } catch (error) {
    db.close();
    throw error;
  }
};

const asserted = (db: Database.Database, path: string): Database.Database => {
  db.pragma('journal_mode = WAL');
  db.pragma('synchronous = FULL');
  db.pragma('foreign_keys = ON');
  // 64 MiB of page cache, so that the upper levels of a million rows' indexes stay in memory; negative means KiB.
  db.pragma('cache_size = -65536');
  // A checkpoint syncs the whole file: every 4 096 pages (16 MiB) rather than 1 000 keeps that rare under load.
  db.pragma('wal_autocheckpoint = 4096');
  const got = {
    journal_mode: db.pragma('journal_mode', { simple: true }),
    synchronous: db.pragma('synchronous', { simple: true }),
    foreign_keys: db.pragma('foreign_keys', { simple: true }),
  };
  const full = 2;
  if (got.journal_mode !== 'wal' || got.synchronous !== full || got.foreign_keys !== 1) {
    throw new Error(`${path}: this file system does not give a durable database (${JSON.stringify(got)})`);
  }
  return db;
};

/** Opens for reading only; sees every commit that was acknowledged before a statement starts. */
export const openForReading = (path: string): Database.Database => {
  const db = new Database(path, { timeout: openPatienceMs, readonly: true, fileMustExist: true });
  db.pragma('cache_size = -32768');
  return db;
};

/** @returns SQLite's extended result code (`SQLITE_FULL`, `SQLITE_CONSTRAINT_UNIQUE` …), or `UNKNOWN` for other errors */
export const codeOf = (error: unknown): string =>
  // Not `instanceof Error`: the native module keeps the error class of whichever context loaded it first.
  typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string'
    ? error.code
    : 'UNKNOWN';
