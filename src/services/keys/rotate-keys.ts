/**
 * Rotation of the key-encryption key. The new one seals whatever is sealed from its commit on; every box under an older
 * one is sealed anew in the background. What is left to do is said by the rows themselves, so the work goes on after a
 * crash or a restart where it was. A key that nothing is under any more is retired: its wrapped form is dropped.
 */
import type { KeyEncryptionKey } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { KmsRefused, KmsUnavailable } from '../../ports/kms.ts';
import { type SealedRow, sealedTables, type Write } from '../../ports/ledger.ts';
import type { Change } from '../change.ts';
import { type Caller, type Core, commit, commitOrConflict, record } from '../core.ts';
import { systemCaller } from '../revocation/revoke.ts';
import { resealing } from './sealed-boxes.ts';

/** What a key service says, as a refusal for the operator who asked. */
export const refusalOfKeyService = (error: unknown): unknown => {
  if (error instanceof KmsUnavailable) return new Refused('upstream_unavailable', `the key service: ${error.message}`);
  if (error instanceof KmsRefused) return new Refused('upstream_refused', `the key service: ${error.message}`);
  return error;
};

/** @throws Refused `sealed` where there is none: nothing can be served from such a ledger */
export const currentKek = (core: Core): KeyEncryptionKey => {
  const rows = core.state.keyEncryptionKeys.all().filter(({ state }) => state === 'current');
  const row = rows.sort((a, b) => b.number - a.number)[0];
  if (!row) throw new Refused('sealed', 'there is no key-encryption key');
  return row;
};

/** Every start, and every confirmation, asks the key service about each key: a loop of rotations must not flood it. */
const maxPrevious = 8;

/**
 * Puts a new key-encryption key in force. Of two at once, one wins.
 * @param along what is committed with it
 * @returns its row
 * @throws Refused `sealed`, `conflict`, `upstream_unavailable`, `upstream_refused`
 */
export const rotateKek = async (core: Core, caller: Caller, along?: Change): Promise<KeyEncryptionKey> => {
  core.keyring.requireUnsealed();
  const old = currentKek(core);
  core.keyring.follow(old);
  if (core.state.keyEncryptionKeys.all().filter(({ state }) => state === 'previous').length >= maxPrevious) {
    throw new Refused('conflict', 'earlier rotations have not ended: their keys are not retired yet');
  }
  const number = Math.max(...core.state.keyEncryptionKeys.all().map((row) => row.number)) + 1;
  const next = await core.keyring.makeNext({ number, created_at: core.clock.now() }).catch((error: unknown) => {
    throw refusalOfKeyService(error);
  });
  try {
    await commitOrConflict(
      core,
      {
        guards: along?.guards ?? [],
        writes: [
          {
            write: 'update',
            table: 'key_encryption_keys',
            id: old.id,
            set: { state: 'previous', version: old.version + 1 },
            from: { version: old.version, state: 'current' },
          },
          { write: 'insert', table: 'key_encryption_keys', row: next.row },
          ...(along?.writes ?? []),
        ],
        audit: [
          record(core, caller, { type: 'key.rotated', data: { from: old.number, to: number, kms: next.row.kms } }),
          ...(along?.audit ?? []),
        ],
      },
      'the keys are changed by someone else at this moment; look at them, then try again',
    );
  } catch (error) {
    next.discard();
    throw error;
  }
  next.adopt();
  return next.row;
};

export interface RewrapPace {
  /** Something left over is looked for this often. */
  everyMs: number;
  /** Boxes in one changeset. */
  boxes: number;
  /**
   * A key is retired when nothing was found under it for so long: who holds a box that was sealed or read before it was
   * moved has committed it by then. The longest way there is a token that is kept trying to be saved, some seconds.
   */
  graceMs: number;
}

export const rewrapPace: RewrapPace = { everyMs: 5_000, boxes: 50, graceMs: 60_000 };

export class Rewrapping {
  readonly #core: Core;
  readonly #pace: RewrapPace;
  readonly #caller = systemCaller('key-rotation');
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;
  #running: Promise<void> | undefined;
  #again = false;
  #unhear = (): void => undefined;
  /** Boxes that did not open, each said once. */
  readonly #broken = new Set<string>();
  /** Since when nothing was found under a key, by its number and the monotonic clock. */
  readonly #unusedSince = new Map<number, number>();

  constructor(core: Core, pace: RewrapPace = rewrapPace) {
    this.#core = core;
    this.#pace = pace;
  }

  start(): void {
    this.#timer = setInterval(() => this.wake(), this.#pace.everyMs);
    this.#timer.unref();
    this.#unhear = this.#core.ledger.onCommitted(({ writes }) => {
      // Later: whoever committed a new key adopts it first.
      if (writes.some(({ table }) => table === 'key_encryption_keys')) setImmediate(() => this.wake());
    });
    this.wake();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#unhear();
    clearInterval(this.#timer);
    await this.#running;
  }

  /** A round now, or after the one that is running. */
  wake(): void {
    if (this.#stopped || !this.#hasWork()) return;
    if (this.#running) {
      this.#again = true;
      return;
    }
    this.#again = false;
    this.#running = this.#round()
      .catch((error: unknown) => this.#core.log.error({ err: error }, 're-wrapping failed; it is tried again'))
      .finally(() => {
        this.#running = undefined;
        if (this.#again) this.wake();
      });
  }

  #hasWork(): boolean {
    const { keyring, state } = this.#core;
    return !keyring.state().sealed && state.keyEncryptionKeys.all().some((row) => row.state === 'previous');
  }

  get #over(): boolean {
    return this.#stopped || this.#core.keyring.state().sealed;
  }

  async #round(): Promise<void> {
    const current = currentKek(this.#core);
    // Committed by another process, and not unwrapped here yet: what is sealed now would have to be moved again.
    if (this.#core.keyring.lacks([current])) return;
    for (const table of sealedTables) await this.#walk(table, current.number);
    if (this.#over) return;
    const used = new Set((await this.#core.reader.sealedBoxes()).map(({ kek }) => kek));
    for (const row of this.#core.state.keyEncryptionKeys.all()) {
      if (row.state !== 'previous') continue;
      const now = performance.now();
      const since = this.#unusedSince.get(row.number) ?? now;
      if (used.has(row.number)) this.#unusedSince.delete(row.number);
      else if (now - since >= this.#pace.graceMs) await this.#retire(row);
      else this.#unusedSince.set(row.number, since);
    }
  }

  async #walk(table: SealedRow['table'], kek: number): Promise<void> {
    for (let after = ''; !this.#over; ) {
      const page = await this.#core.reader.rowsSealedUnderOthers(table, kek, after, this.#pace.boxes);
      const last = page.at(-1);
      if (!last) return;
      after = last.row.id;
      if (!this.#over) await this.#reseal(page, kek);
    }
  }

  /** All of them in one changeset; where somebody was first with one, each by itself. */
  async #reseal(page: readonly SealedRow[], kek: number): Promise<void> {
    const writes = page.flatMap((row) => this.#writeOf(row) ?? []);
    if (writes.length === 0) return;
    // Somebody may have read these where they were.
    this.#unusedSince.clear();
    if (await this.#commit(writes, kek)) return;
    for (const write of writes) await this.#commit([write], kek);
  }

  #writeOf(row: SealedRow): Write | undefined {
    try {
      return resealing(this.#core.keyring, row);
    } catch (error) {
      if (error instanceof Refused) throw error;
      // It stays under its key, which is not retired for that: `warder key list` shows that boxes are left.
      if (!this.#broken.has(row.row.id)) {
        this.#broken.add(row.row.id);
        this.#core.log.error({ err: error, table: row.table, row: row.row.id }, 'a sealed box does not open');
      }
      return undefined;
    }
  }

  async #commit(writes: Write[], kek: number): Promise<boolean> {
    const { ok } = await commit(this.#core, {
      writes,
      audit: [
        record(this.#core, this.#caller, {
          type: 'key.rewrapped',
          data: { to: kek, boxes: writes.length, table: writes[0]?.table },
        }),
      ],
    });
    return ok;
  }

  /** The key stays in memory until the process ends or seals, for who holds a row that was read before. */
  async #retire(row: KeyEncryptionKey): Promise<void> {
    const { ok } = await commit(this.#core, {
      guards: [{ guard: 'nothing_sealed_under', kek: row.number }],
      writes: [
        {
          write: 'update',
          table: 'key_encryption_keys',
          id: row.id,
          set: { state: 'retired', wrapped: '', version: row.version + 1 },
          from: { version: row.version, state: 'previous' },
        },
      ],
      audit: [record(this.#core, this.#caller, { type: 'key.retired', data: { number: row.number } })],
    });
    if (ok)
      this.#core.log.info({ number: row.number }, 'a key-encryption key is retired: nothing is under it any more');
  }
}
