/** Backups of the ledger: a copy that is taken while it is used, the encrypted file made of it, and the way back. */
import type { BackupHeader } from '../domain/backup.ts';
import type { LedgerStore } from './ledger.ts';

/** What a copy was found to hold, by reading all of it. */
export interface SnapshotFacts {
  /** The number of its newest migration. */
  schema: number;
  databaseBytes: number;
  /** SHA-256 of the copy, hexadecimal. */
  databaseSha256: string;
  /** Entries of the audit log. */
  size: number;
  /** Root of the Merkle tree over them, computed from their bodies (or, where a body was dropped, its leaf); 32 bytes. */
  root: Uint8Array;
}

/** A private copy of the ledger at one moment, checked. */
export interface Snapshot {
  facts: SnapshotFacts;
  /**
   * Compresses and encrypts it to an age recipient, as a file of its own.
   * @throws NoRoom
   */
  seal(header: BackupHeader, recipient: string): Promise<SealedBackup>;
  /** Removes the copy; more than once does no harm. */
  discard(): Promise<void>;
}

/** A file that is complete, on this machine's disk, until it is discarded. */
export interface SealedBackup {
  bytes: number;
  /** SHA-256 of the whole file, hexadecimal. */
  sha256: string;
  read(): AsyncIterable<Uint8Array>;
  discard(): Promise<void>;
}

/**
 * Contract: `take` copies all that was acknowledged when it was called, without stopping the ledger and outside the event
 * loop. Copies and files are readable by their owner only; nothing of them is left when the process is started again.
 */
export interface Backups {
  /** @throws NoRoom, DamagedLedger */
  take(id: string): Promise<Snapshot>;
  /** Ends what is under way, and removes what is left of it. */
  close(): Promise<void>;
}

/** A backup as a file, read in its form: nothing in it is believed yet. */
export interface BackupFile {
  header: BackupHeader;
  bytes: number;
  /**
   * Reads all of it.
   * @returns SHA-256 of the whole file, hexadecimal
   * @throws BadBackup when it is damaged or cut off
   */
  digest(): Promise<string>;
  /**
   * Decrypts and decompresses the database into a new file of mode 0600, durably.
   * @throws BadBackup when it is not, byte for byte, what the header says; NoRoom
   */
  unpack(identity: string, path: string): Promise<void>;
}

/** A database that was read as a whole and holds together. */
export interface CheckedDatabase extends Omit<SnapshotFacts, 'databaseBytes' | 'databaseSha256'> {
  /** The roots the tree had at the sizes that were asked for, as far as it has them. */
  rootsAt: ReadonlyMap<number, Uint8Array>;
}

/** A private folder for one database; it is gone when it is closed, and when the process ends. */
export interface ScratchPlace {
  /** The database's path: nothing is there yet. */
  stagingPath: string;
  /** Bytes that may be written there. */
  room(): number;
  close(): void;
}

/** Where a restored ledger is made ready, on the disk it will stay on. Nobody serves from it before `adopt`. */
export interface RestorePlace extends ScratchPlace {
  /** Whether there is a ledger already. */
  occupied: boolean;
  /**
   * Puts the closed database of `stagingPath` in force, durably. A crash leaves all as it was, or the new one whole: the
   * next start ends what was begun.
   * @returns where the database is that was there before
   */
  adopt(): string | null;
}

/** What a database of a backup is read with. */
export interface DatabaseReading {
  /** The newest migration this Warder knows. */
  schema: number;
  /**
   * Reads the database at this path as a whole.
   * @param sizes sizes of the audit tree whose roots are wanted
   * @throws DamagedLedger
   */
  check(path: string, sizes: readonly number[]): CheckedDatabase;
  /** Opens it as a ledger; migrates it where it is older. */
  open(path: string): Promise<LedgerStore>;
}

/** The disk has not enough room. The message is public. */
export class NoRoom extends Error {
  override readonly name = 'NoRoom';
}

/** The database contradicts itself: an index its table, or the tree its log. The message is public. */
export class DamagedLedger extends Error {
  override readonly name = 'DamagedLedger';
}
