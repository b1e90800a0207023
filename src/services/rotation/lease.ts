/**
 * Who leads. A lease has an end, and a fencing token that grows with each new holder: what a holder writes is guarded by
 * its token, so one that was paused past its end and wakes up writes nothing (M. Kleppmann, "How to do distributed
 * locking", 2016). It is taken when there is work, not kept when there is none.
 */
import type { Guard } from '../../ports/ledger.ts';
import { type Core, commit, record } from '../core.ts';
import { systemCaller } from '../revocation/revoke.ts';

/** Somebody else leads, or may: nothing more is to be written or asked of an upstream. */
export class LeaseLost extends Error {
  constructor() {
    super('somebody else leads the rotations now');
    this.name = 'LeaseLost';
  }
}

const leaseId = 'rotation';
const caller = systemCaller('rotation');

export interface LeaseOptions {
  holder: string;
  leaseMs: number;
  /**
   * Nobody else can be alive over this ledger: a lease that was left behind is taken at once. Its token grows all the
   * same.
   */
  exclusive: boolean;
}

export class Leadership {
  readonly #core: Core;
  readonly #options: LeaseOptions;
  #held: { version: number; until: number } | undefined;
  #asking: Promise<boolean> | undefined;

  constructor(core: Core, options: LeaseOptions) {
    this.#core = core;
    this.#options = options;
  }

  /** What every write of the leader is guarded by. @throws LeaseLost */
  guard(): Guard {
    if (!this.#held) throw new LeaseLost();
    return { guard: 'unchanged', table: 'leases', id: leaseId, version: this.#held.version };
  }

  /** How long this one may go on without asking anew. */
  leftMs(): number {
    return this.#held ? this.#held.until - this.#core.clock.now() : 0;
  }

  lost(): void {
    this.#held = undefined;
  }

  /**
   * Takes the lease, or prolongs it where less than `leftMs` is left of it.
   * @returns false when somebody else has it
   */
  async have(leftMs: number): Promise<boolean> {
    while (this.#asking) await this.#asking;
    if (this.#held && this.leftMs() >= leftMs) return true;
    this.#asking = (this.#held ? this.#prolong(this.#held.version) : this.#take()).finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  async #prolong(version: number): Promise<boolean> {
    const until = this.#core.clock.now() + this.#options.leaseMs;
    const { ok } = await commit(this.#core, {
      writes: [{ write: 'update', table: 'leases', id: leaseId, set: { until }, from: { version } }],
      audit: [this.#record('rotation.lease_prolonged', version)],
    });
    this.#held = ok ? { version, until } : undefined;
    return ok;
  }

  async #take(): Promise<boolean> {
    const { holder, leaseMs, exclusive } = this.#options;
    const row = await this.#core.reader.lease(leaseId);
    const now = this.#core.clock.now();
    if (row && !exclusive && row.until > now) return false;
    const until = now + leaseMs;
    const version = (row?.version ?? 0) + 1;
    const { ok } = await commit(this.#core, {
      writes: [
        row
          ? {
              write: 'update',
              table: 'leases',
              id: leaseId,
              set: { holder, until, version },
              from: { version: row.version, until: row.until },
            }
          : { write: 'insert', table: 'leases', row: { id: leaseId, holder, until, version } },
      ],
      audit: [this.#record('rotation.lease_taken', version)],
    });
    if (ok) this.#held = { version, until };
    return ok;
  }

  #record(type: string, token: number) {
    return record(this.#core, caller, { type, data: { holder: this.#options.holder, token } });
  }
}
