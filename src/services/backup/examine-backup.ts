/**
 * Reads a whole backup: its bytes, its key, the database in it, the tree of its log from every entry, its signed head,
 * and every sealed box. `warder backup verify` stops there; a restore goes on from there.
 */
import {
  type BackupHeader,
  type BackupStep,
  BadBackup,
  type CheckedBackup,
  type CheckRequest,
  type GivenCheckpoint,
} from '../../domain/backup.ts';
import { checkpointBody, encodeVerifierKey, type VerifierKey, verifyNote } from '../../domain/signed-note.ts';
import {
  type BackupFile,
  type CheckedDatabase,
  DamagedLedger,
  type DatabaseReading,
  NoRoom,
  type ScratchPlace,
} from '../../ports/backup.ts';
import type { Clock } from '../../ports/clock.ts';
import type { KeyService } from '../../ports/kms.ts';
import { type LedgerSnapshot, type LedgerStore, sealedTables } from '../../ports/ledger.ts';
import { logOrigin } from '../audit/audit-log.ts';
import { Keyring } from '../keys/keyring.ts';
import { opens } from '../keys/sealed-boxes.ts';
import { unwrapIdentity } from './backup-key.ts';

export interface Examiner {
  file: BackupFile;
  kms: KeyService;
  clock: Clock;
  databases: DatabaseReading;
  /** Told of each step as it begins. */
  onProgress(step: BackupStep): void;
}

export interface Examined {
  header: BackupHeader;
  file: { bytes: number; sha256: string };
  store: LedgerStore;
  snapshot: LedgerSnapshot;
  keyring: Keyring;
  boxes: { opened: number; broken: number };
  /** By how many entries the newest checkpoint that was given is ahead; undefined when none was. */
  missing: number | undefined;
}

/** A migration and what is committed to it need a little more than the database. */
const spareBytes = 32 * 1024 * 1024;

/**
 * @param room where the database goes: a path in a private folder, and how many bytes may be written there
 * @returns what was found, with the ledger open: the caller closes it
 * @throws BadBackup, NoRoom, and what reading the file throws
 */
export const examineBackup = async (
  examiner: Examiner,
  room: { path: string; bytes: number },
  checkpoints: readonly GivenCheckpoint[],
): Promise<Examined> => {
  const { file, kms, databases } = examiner;
  const { header } = file;
  if (header.schema > databases.schema) {
    throw new BadBackup(
      `this backup was made by a newer Warder (schema ${header.schema}, this one knows ${databases.schema}); use that one`,
    );
  }
  examiner.onProgress('reading');
  const sha256 = await file.digest();
  const identity = await unwrapIdentity(kms, header);
  if (room.bytes < header.database_bytes + spareBytes) {
    throw new NoRoom(`the database needs ${header.database_bytes + spareBytes} bytes, there are ${room.bytes}`);
  }
  examiner.onProgress('decrypting');
  await file.unpack(identity, room.path);
  examiner.onProgress('checking');
  const checked = await tree(examiner, room.path, checkpoints);
  examiner.onProgress('opening');
  const store = await databases.open(room.path);
  try {
    const snapshot = await store.reader.snapshot();
    const key = requireSigned(header, snapshot);
    const missing = compare(checked, checkpoints, key);
    const keyring = new Keyring(kms, examiner.clock, Number.POSITIVE_INFINITY);
    const seal = await keyring.unseal(snapshot.key_encryption_keys);
    if (seal.sealed) throw new BadBackup(`the keys in this backup do not open: ${seal.why}`);
    const boxes = await openAll(store, keyring);
    return { header, file: { bytes: file.bytes, sha256 }, store, snapshot, keyring, boxes, missing };
  } catch (error) {
    await store.close();
    throw error;
  }
};

const tree = async (
  examiner: Examiner,
  path: string,
  checkpoints: readonly GivenCheckpoint[],
): Promise<CheckedDatabase> => {
  const { header } = examiner.file;
  try {
    const checked = examiner.databases.check(
      path,
      checkpoints.map(({ head }) => head.size),
    );
    const root = Buffer.from(checked.root).toString('base64');
    if (checked.size !== header.entries || root !== header.root || checked.schema !== header.schema) {
      throw new BadBackup('the log in this backup is not the one its header names');
    }
    return checked;
  } catch (error) {
    if (error instanceof DamagedLedger) throw new BadBackup(error.message, { cause: error });
    throw error;
  }
};

/** The head in the header is signed with the key that the ledger itself has for it. @returns that key */
const requireSigned = (header: BackupHeader, snapshot: LedgerSnapshot): VerifierKey => {
  const origin = logOrigin(header.issuer);
  const rows = snapshot.signing_keys.filter((row) => row.purpose === 'checkpoint' && row.state === 'current');
  const publicKey = Buffer.from(String(rows[0]?.public_jwk['x'] ?? ''), 'base64url');
  if (publicKey.length !== 32) throw new BadBackup('this backup has no key that its log is signed with');
  const key: VerifierKey = { name: origin, publicKey };
  const body = checkpointBody({ origin, size: header.entries, root: Buffer.from(header.root, 'base64') });
  const verdict = verifyNote(header.checkpoint, [key]);
  if (!verdict.ok || verdict.body !== body) throw new BadBackup('the signed head of the log in this backup is false');
  return key;
};

/**
 * Holds the log against checkpoints from elsewhere. One that is ahead says how much is missing; nothing can be said of
 * what it covers beyond the backup, for that is what is missing.
 * @throws BadBackup when one is of another log, or of the same one with other entries
 */
const compare = (
  checked: CheckedDatabase,
  checkpoints: readonly GivenCheckpoint[],
  key: VerifierKey,
): number | undefined => {
  for (const { source, note, head } of checkpoints) {
    const verdict = verifyNote(note, [key]);
    if (!verdict.ok || head.origin !== key.name) {
      throw new BadBackup(
        `${source} is no checkpoint of this log: it is not signed with its key, ${encodeVerifierKey(key)}`,
      );
    }
    const root = checked.rootsAt.get(head.size);
    if (head.size <= checked.size && (!root || !Buffer.from(root).equals(head.root))) {
      throw new BadBackup(
        `the first ${head.size} entries of this backup are not those that ${source} was signed for: one of the two logs was changed, or an older backup was restored between them`,
      );
    }
  }
  if (checkpoints.length === 0) return undefined;
  return Math.max(0, ...checkpoints.map(({ head }) => head.size - checked.size));
};

const boxPage = 500;

/** Opens every box there is with the keys of the backup. */
const openAll = async (store: LedgerStore, keyring: Keyring): Promise<Examined['boxes']> => {
  const boxes = { opened: 0, broken: 0 };
  const nobodysKey = 0;
  for (const table of sealedTables) {
    for (let after = ''; ; ) {
      const page = await store.reader.rowsSealedUnderOthers(table, nobodysKey, after, boxPage);
      for (const row of page) {
        const result = opens(keyring, row);
        if (result !== undefined) boxes[result ? 'opened' : 'broken'] += 1;
      }
      const last = page.at(-1);
      if (!last || page.length < boxPage) break;
      after = last.row.id;
    }
  }
  return boxes;
};

/** @throws BadBackup, NoRoom, and what reading the file throws */
export const checkBackup = async (
  examiner: Examiner,
  place: ScratchPlace,
  { checkpoints, offline }: CheckRequest,
): Promise<CheckedBackup> => {
  const { header, bytes } = examiner.file;
  if (offline) return { header, file: { bytes, sha256: await examiner.file.digest() }, content: undefined };
  const { store, keyring, file, boxes, missing } = await examineBackup(
    examiner,
    { path: place.stagingPath, bytes: place.room() },
    checkpoints,
  );
  keyring.seal('checked');
  await store.close();
  return { header, file, content: { entries: header.entries, boxes, missing: missing ?? null } };
};
