/**
 * The thread that makes one backup: copies the database, reads the copy as a whole, and encrypts it when it is told what
 * to write before it. Neither the event loop nor the writer waits for any of that: `VACUUM INTO` reads one snapshot of
 * the write-ahead log while others commit behind it (sqlite.org/lang_vacuum.html).
 */
import { createHash } from 'node:crypto';
import { closeSync, createReadStream, openSync, statSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import Database from 'better-sqlite3';
import type { BackupHeader } from '../../../src/domain/backup.ts';
import { DamagedLedger, NoRoom, type SnapshotFacts } from '../../../src/ports/backup.ts';
import { checkDatabase } from './backup-check.ts';
import { asNoRoom, sealFile } from './backup-file.ts';
import { openForReading } from './connection.ts';

export interface BackupThreadData {
  databasePath: string;
  snapshotPath: string;
  sealedPath: string;
}
export interface ToBackup {
  header: BackupHeader;
  recipient: string;
}
export type FromBackup =
  | { kind: 'taken'; facts: SnapshotFacts }
  | { kind: 'sealed'; bytes: number; sha256: string }
  | { kind: 'failed'; why: 'no_room' | 'damaged' | 'other'; message: string };

const port = parentPort;
if (!port) throw new Error('backup-thread.ts runs as a worker thread');
const data = workerData as BackupThreadData;
const send = (message: FromBackup): void => port.postMessage(message);

const copy = (): void => {
  // SQLite would make the file with the process's own mask; into an empty one it writes as into a new one.
  closeSync(openSync(data.snapshotPath, 'wx', 0o600));
  const db = openForReading(data.databasePath);
  try {
    db.prepare('VACUUM INTO ?').run(data.snapshotPath);
  } finally {
    db.close();
  }
};

const look = async (): Promise<SnapshotFacts> => {
  const db = new Database(data.snapshotPath, { readonly: true, fileMustExist: true });
  try {
    const { schema, size, root } = checkDatabase(db, { thorough: false });
    const digest = createHash('sha256');
    for await (const chunk of createReadStream(data.snapshotPath, { highWaterMark: 1024 * 1024 })) digest.update(chunk);
    const databaseBytes = statSync(data.snapshotPath).size;
    return { schema, size, root, databaseBytes, databaseSha256: digest.digest('hex') };
  } finally {
    db.close();
  }
};

const failure = (thrown: unknown): FromBackup => {
  const error = asNoRoom(thrown);
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof NoRoom) return { kind: 'failed', why: 'no_room', message };
  return { kind: 'failed', why: error instanceof DamagedLedger ? 'damaged' : 'other', message };
};

const answering = async (work: () => Promise<FromBackup>): Promise<void> => {
  try {
    send(await work());
  } catch (error) {
    send(failure(error));
  }
};

port.on('message', ({ header, recipient }: ToBackup) => {
  void answering(async () => ({
    kind: 'sealed',
    ...(await sealFile(data.snapshotPath, data.sealedPath, header, recipient)),
  }));
});

// On Linux the priority is the calling thread's alone; elsewhere it would be the whole broker's.
if (process.platform === 'linux') setPriority(constants.priority.PRIORITY_BELOW_NORMAL);

await answering(async () => {
  copy();
  return { kind: 'taken', facts: await look() };
});
