/**
 * One process a data directory: a lock the operating system lets go of however the process dies. SQLite's own file
 * locks are the portable way to have one from Node.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import Database from 'better-sqlite3';
import { codeOf } from './connection.ts';

export class DataDirectoryInUse extends Error {
  override readonly name = 'DataDirectoryInUse';
}

/** Two that start in the same instant can each see the other's first step: long enough for one of them to step back. */
const patienceMs = 250;

/**
 * @param path the lock file, e.g. `.warder/warder.lock`
 * @returns a function that lets go
 * @throws DataDirectoryInUse within {@link patienceMs}, when another process holds it
 */
export const lockDataDirectory = (path: string): (() => void) => {
  const db = new Database(path, { timeout: patienceMs });
  try {
    // Never ended: the open transaction is the lock. (Not `locking_mode = EXCLUSIVE`: there a loser keeps its first step.)
    db.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    db.close();
    // A lock file that cannot be opened or read is no sign of another process: say what it is.
    if (!codeOf(error).startsWith('SQLITE_BUSY')) throw error;
    const holder = readHolder(`${path}.pid`);
    throw new DataDirectoryInUse(
      `another Warder${holder ? ` (process ${holder})` : ''} is running on this data directory; one at a time (lock: ${path})`,
      { cause: error },
    );
  }
  try {
    writeFileSync(`${path}.pid`, `${process.pid}\n`, { mode: 0o600 });
  } catch (error) {
    db.close();
    throw error;
  }
  return () => db.close();
};

const readHolder = (path: string): string | undefined => {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    // Only for the message: without it the refusal is as firm.
    return undefined;
  }
};
