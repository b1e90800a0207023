/**
 * Making a backup of a running broker, in this order: a copy is taken and read as a whole; its head is signed; a key is
 * made and wrapped; the copy is encrypted into a file; that this file exists is recorded; only then its first byte leaves.
 */
import type { BackupHeader } from '../../domain/backup.ts';
import { backupVersion } from '../../domain/backup.ts';
import { Refused } from '../../domain/refusals.ts';
import { type Backups, DamagedLedger, NoRoom, type SealedBackup, type Snapshot } from '../../ports/backup.ts';
import { signHead } from '../audit/audit-log.ts';
import { type Caller, type Core, commit, newId, record } from '../core.ts';
import { refusalOfKeyService } from '../keys/rotate-keys.ts';
import { keyedHeader } from './backup-key.ts';

export interface MadeBackup {
  header: BackupHeader;
  file: SealedBackup;
  /** Records that nobody has it as a whole. */
  lost(): Promise<void>;
  /** Removes the file, and lets the next backup begin. */
  discard(): Promise<void>;
}

/** What went wrong, as a refusal for the operator who asked. */
const refusalOf = (thrown: unknown): unknown => {
  const error = refusalOfKeyService(thrown);
  if (error instanceof NoRoom) return new Refused('insufficient_storage', error.message, { cause: error });
  if (error instanceof DamagedLedger) {
    return new Refused('internal', `no backup can be made of this ledger: ${error.message}`, { cause: error });
  }
  return error;
};

export class BackupMaker {
  readonly #core: Core;
  readonly #backups: Backups;
  #busy = false;

  constructor(core: Core, backups: Backups) {
    this.#core = core;
    this.#backups = backups;
  }

  /**
   * One at a time, until its file is discarded: each takes as much of the disk as the database.
   * @throws Refused `sealed`, `conflict`, `insufficient_storage`, `upstream_unavailable`, `upstream_refused`,
   * `ledger_unavailable`
   */
  async make(caller: Caller): Promise<MadeBackup> {
    const core = this.#core;
    core.keyring.requireUnsealed();
    if (this.#busy) throw new Refused('conflict', 'a backup is being made already; try again when it is through');
    this.#busy = true;
    const id = newId(core, 'bkp');
    try {
      await commit(core, {
        writes: [],
        audit: [record(core, caller, { type: 'backup.started', data: { backup: id } })],
      });
      const { header, file } = await this.#encrypted(id);
      await this.#recordMade(caller, header, file).catch(async (error: unknown) => {
        await file.discard();
        throw error;
      });
      return {
        header,
        file,
        lost: () => this.#recordFailure(caller, id, 'not_delivered'),
        discard: async () => {
          await file.discard();
          this.#busy = false;
        },
      };
    } catch (thrown) {
      this.#busy = false;
      const error = refusalOf(thrown);
      await this.#recordFailure(caller, id, error instanceof Refused ? error.refusal.code : 'internal');
      throw error;
    }
  }

  async #encrypted(id: string): Promise<{ header: BackupHeader; file: SealedBackup }> {
    const createdAt = new Date(this.#core.clock.now()).toISOString();
    const snapshot = await this.#backups.take(id);
    try {
      const { header, recipient } = await keyedHeader(this.#core.keyring, this.#describe(id, createdAt, snapshot));
      return { header, file: await snapshot.seal(header, recipient) };
    } finally {
      await snapshot.discard();
    }
  }

  #describe(id: string, createdAt: string, { facts }: Snapshot): Omit<BackupHeader, 'key'> {
    const { size, root } = facts;
    return {
      warder_backup: backupVersion,
      id,
      created_at: createdAt,
      issuer: this.#core.issuer,
      schema: facts.schema,
      database_bytes: facts.databaseBytes,
      database_sha256: facts.databaseSha256,
      entries: size,
      root: Buffer.from(root).toString('base64'),
      checkpoint: signHead(this.#core, { size, root }).checkpoint,
      compression: 'zstd',
    };
  }

  async #recordMade(caller: Caller, header: BackupHeader, { bytes, sha256 }: SealedBackup): Promise<void> {
    const { id, entries, root, checkpoint } = header;
    await commit(this.#core, {
      writes: [],
      audit: [
        record(this.#core, caller, {
          type: 'backup.created',
          data: { backup: id, bytes, sha256, entries, root, checkpoint },
        }),
      ],
    });
  }

  /** Where the ledger itself cannot write, the refusal is all there is. */
  async #recordFailure(caller: Caller, id: string, why: string): Promise<void> {
    await commit(this.#core, {
      writes: [],
      audit: [record(this.#core, caller, { type: 'backup.failed', outcome: 'refused', data: { backup: id, why } })],
    }).catch((cause: unknown) => this.#core.log.error({ err: cause, backup: id }, 'a failed backup was not recorded'));
  }
}
