/**
 * One process a data directory: a lock the operating system lets go of however the process dies. SQLite's own file
 * locks are the portable way to have one from Node.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import Database from 'better-sqlite3';

export class DataDirectoryInUse extends Error {
  override readonly name = 'DataDirectoryInUse';
}

/**
 * @param path the lock file, e.g. `.warder/warder.lock`
 * @returns a function that lets go
 * @throws DataDirectoryInUse at once, when another process holds it
 */
export const lockDataDirectory = (path: string): (() => void) => {
  const db = new Database(path, { timeout: 0 });
  try {
    db.pragma('locking_mode = EXCLUSIVE');
    db.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    db.close();
    const holder = readHolder(`${path}.pid`);
    throw new DataDirectoryInUse(
      `another Warder${holder ? ` (process ${holder})` : ''} is running on this data directory; one at a time (lock: ${path})`,
      { cause: error },
    );
  }
  writeFileSync(`${path}.pid`, `${process.pid}\n`, { mode: 0o600 });
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
