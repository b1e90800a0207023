/**
 * Where a restored database is made ready, and how it gets its name. Between the two no moment exists at which a start
 * would serve something that is not fenced:
 *
 *     warder.db.restoring/warder.db   being unpacked, checked, fenced; nobody serves from it; removed by the next start
 *     warder.db.restored              whole and fenced: from this renaming on the restore has taken place
 *     warder.db.replaced-<time>       what was there before, moved aside with its log
 *     warder.db                       the restored one
 *
 * Whatever is left to do after the second line is done by {@link settleRestored}, which every start calls first.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import type { RestorePlace, ScratchPlace } from '../../../src/ports/backup.ts';
import { clearBackupParts, roomIn } from './backup.ts';
import { lockDataDirectory } from './lock.ts';

const stagingOf = (databasePath: string): string => `${databasePath}.restoring`;
const readyOf = (databasePath: string): string => `${databasePath}.restored`;

/** SQLite's files beside a database that hold commits, or are made anew. */
const walOf = (path: string): string => `${path}-wal`;
const shmOf = (path: string): string => `${path}-shm`;

/** A new name in a directory is durable when the directory is. */
const sync = (path: string): void => {
  if (process.platform === 'win32') return;
  const file = openSync(path, 'r');
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
};

/**
 * The same name at each try, so that a restore that is ended later does not tear a database and its log apart; and never
 * one that is taken: two restores may be of the same second. Its log is moved before the database is.
 */
const asideOf = (databasePath: string): string => {
  const time = statSync(readyOf(databasePath))
    .mtime.toISOString()
    .replaceAll(/[-:]|\.\d+/g, '');
  const first = `${databasePath}.replaced-${time}`;
  let aside = first;
  for (let number = 2; existsSync(databasePath) && existsSync(aside); number += 1) aside = `${first}-${number}`;
  return aside;
};

const moveIfThere = (from: string, to: string): void => {
  if (existsSync(from)) renameSync(from, to);
};

/** Under the lock. @returns where the database is that was there before; null when none was */
const settle = (databasePath: string): string | null => {
  if (!existsSync(readyOf(databasePath))) return null;
  const folder = dirname(databasePath);
  const aside = asideOf(databasePath);
  rmSync(shmOf(databasePath), { force: true });
  moveIfThere(walOf(databasePath), walOf(aside));
  moveIfThere(databasePath, aside);
  // Durably, before the name is taken: another database's log beside the new one would be played into it.
  sync(folder);
  renameSync(readyOf(databasePath), databasePath);
  sync(folder);
  return existsSync(aside) ? aside : null;
};

/**
 * Ends a restore that was killed after it had taken place.
 * @throws DataDirectoryInUse
 */
export const settleRestored = (databasePath: string): void => {
  if (!existsSync(readyOf(databasePath))) return;
  const unlock = lockDataDirectory(join(dirname(databasePath), 'warder.lock'));
  try {
    settle(databasePath);
  } finally {
    unlock();
  }
};

/** Removes what backups and restores that were killed left. The data directory's lock must be held. */
export const clearLeftovers = (databasePath: string): void => {
  clearBackupParts(databasePath);
  rmSync(stagingOf(databasePath), { recursive: true, force: true });
};

/**
 * Takes the data directory for a restore; makes it where it is not there.
 * @throws DataDirectoryInUse while a broker runs on it
 */
export const openRestorePlace = (databasePath: string): RestorePlace => {
  const folder = dirname(databasePath);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const unlock = lockDataDirectory(join(folder, 'warder.lock'));
  const staging = stagingOf(databasePath);
  try {
    settle(databasePath);
    clearLeftovers(databasePath);
    mkdirSync(staging, { mode: 0o700 });
  } catch (error) {
    unlock();
    throw error;
  }
  const stagingPath = join(staging, basename(databasePath));
  const close = atEnd(() => {
    rmSync(staging, { recursive: true, force: true });
    unlock();
  });
  return {
    occupied: [databasePath, walOf(databasePath)].some((path) => existsSync(path)),
    stagingPath,
    room: () => roomIn(folder),
    adopt: () => {
      // Closed by its last connection, a database has no log beside it: one that has is not whole.
      if (existsSync(walOf(stagingPath))) throw new Error('the restored database was not closed');
      sync(stagingPath);
      renameSync(stagingPath, readyOf(databasePath));
      sync(folder);
      return settle(databasePath);
    },
    close,
  };
};

/** Runs it once: when it is called, or when the process ends by itself before. */
const atEnd = (work: () => void): (() => void) => {
  const once = (): void => {
    process.off('exit', once);
    work();
  };
  process.once('exit', once);
  return once;
};

/** A private folder for a backup that is only looked at. */
export const openScratchPlace = (): ScratchPlace => {
  const folder = mkdtempSync(join(tmpdir(), 'warder-backup-'));
  return {
    stagingPath: join(folder, 'warder.db'),
    room: () => roomIn(folder),
    close: atEnd(() => rmSync(folder, { recursive: true, force: true })),
  };
};
