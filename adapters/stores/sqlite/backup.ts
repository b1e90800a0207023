/** Backups of a SQLite ledger, as the event loop sees them: a thread for each, and files beside the database. */
import { createReadStream, existsSync, readdirSync, rmSync, statfsSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { isId } from '../../../src/domain/ids.ts';
import { type Backups, DamagedLedger, NoRoom, type Snapshot } from '../../../src/ports/backup.ts';
import type { BackupThreadData, FromBackup, ToBackup } from './backup-thread.ts';

const megabytes = (bytes: number): string => `${Math.ceil(bytes / 1_000_000)} MB`;

/**
 * Kept free: a backup that takes the last of the disk stops the ledger. As much as the write-ahead log grows to before
 * it is emptied (connection.ts).
 */
const reserveBytes = 16 * 1024 * 1024;

/** Bytes that an ordinary user may still write in this folder. */
export const roomIn = (folder: string): number => {
  const { bavail, bsize } = statfsSync(folder);
  return bavail * bsize;
};

const sizeOf = (path: string): number => (existsSync(path) ? statSync(path).size : 0);

/**
 * The copy is at most as large as the database with its log, and the file made of it a fraction of that: a tenth with
 * a million grants, never more than it all.
 * @throws NoRoom
 */
const requireRoom = (databasePath: string): void => {
  const database = sizeOf(databasePath) + sizeOf(`${databasePath}-wal`);
  const needed = 1.5 * database + reserveBytes;
  const room = roomIn(dirname(databasePath));
  if (room < needed) {
    throw new NoRoom(
      `a backup needs ${megabytes(needed)} of room beside the database while it is made; there are ${megabytes(room)}`,
    );
  }
};

const partOf = (databasePath: string): string => `${basename(databasePath)}.backup-`;

/** What follows {@link partOf}, and nothing else: `warder.db.backup-monday` is somebody's own. */
const isPart = (rest: string): boolean => {
  const dot = rest.indexOf('.');
  return isId('bkp', rest.slice(0, dot)) && ['copy', 'copy-journal', 'sealed'].includes(rest.slice(dot + 1));
};

/** Removes what a process that was killed left. The data directory's lock must be held: nobody else makes a backup. */
export const clearBackupParts = (databasePath: string): void => {
  const folder = dirname(databasePath);
  if (!existsSync(folder)) return;
  const start = partOf(databasePath);
  for (const name of readdirSync(folder)) {
    if (name.startsWith(start) && isPart(name.slice(start.length))) rmSync(join(folder, name), { force: true });
  }
};

/** A worker's file under its own name: `.ts` from a checkout, `.js` from a build. */
const threadUrl = new URL(
  import.meta.url.endsWith('.ts') ? './backup-thread.ts' : './backup-thread.js',
  import.meta.url,
);

/**
 * Waits for the thread's next answer. That it ended is heard from the beginning, so that nobody waits for one that ended
 * while it was not asked for anything.
 */
const answersOf = (thread: Worker): (() => Promise<FromBackup>) => {
  const lost = new Promise<never>((_resolve, reject) => {
    thread.on('error', reject);
    thread.once('exit', () => reject(new Error('the thread that makes the backup ended')));
  });
  // It ends after its last answer, too, and then nobody waits.
  lost.catch(() => undefined);
  return () => Promise.race([new Promise<FromBackup>((resolve) => thread.once('message', resolve)), lost]);
};

const failureOf = ({ why, message }: FromBackup & { kind: 'failed' }): Error => {
  if (why === 'no_room') return new NoRoom(message);
  return why === 'damaged' ? new DamagedLedger(message) : new Error(message);
};

/**
 * Opened by whoever reads the first of it. A stream of a file is opened at once, and one that nobody came to read, because
 * who asked had gone, ends the process when the file is removed.
 */
async function* contentOf(path: string): AsyncGenerator<Uint8Array> {
  yield* createReadStream(path);
}

/** @param databasePath the database of a ledger that this process has open */
export const openSqliteBackups = (databasePath: string): Backups => {
  const threads = new Set<Worker>();
  const take = async (id: string): Promise<Snapshot> => {
    requireRoom(databasePath);
    const part = (name: string): string => join(dirname(databasePath), `${partOf(databasePath)}${id}.${name}`);
    const data: BackupThreadData = { databasePath, snapshotPath: part('copy'), sealedPath: part('sealed') };
    const thread = new Worker(threadUrl, { workerData: data });
    threads.add(thread);
    const answer = answersOf(thread);
    const end = async (): Promise<void> => {
      threads.delete(thread);
      await thread.terminate();
      for (const path of [data.snapshotPath, `${data.snapshotPath}-journal`]) rmSync(path, { force: true });
    };
    const discardFile = async (): Promise<void> => rmSync(data.sealedPath, { force: true });
    try {
      const taken = await answer();
      if (taken.kind !== 'taken') throw taken.kind === 'failed' ? failureOf(taken) : new Error('unreachable');
      return {
        facts: taken.facts,
        seal: async (header, recipient) => {
          try {
            thread.postMessage({ header, recipient } satisfies ToBackup);
            const sealed = await answer();
            if (sealed.kind !== 'sealed') throw sealed.kind === 'failed' ? failureOf(sealed) : new Error('unreachable');
            const { bytes, sha256 } = sealed;
            return { bytes, sha256, read: () => contentOf(data.sealedPath), discard: discardFile };
          } catch (error) {
            await discardFile();
            throw error;
          } finally {
            await end();
          }
        },
        discard: end,
      };
    } catch (error) {
      await end();
      throw error;
    }
  };
  return {
    take,
    close: async () => {
      await Promise.all([...threads].map((thread) => thread.terminate()));
      clearBackupParts(databasePath);
    },
  };
};
