/**
 * Housekeeping in the background: keys are confirmed with the key service, rows whose time is over are removed. Nothing
 * waits for it: expiry is judged at use.
 */
import { type Core, commit, record } from './core.ts';
import { systemCaller } from './revocation/revoke.ts';

const sweepEveryMs = 60_000;
const sweepRows = 1000;
/** While sealed, the key service is asked this often; otherwise often enough to notice an outage well before the age. */
const unsealEveryMs = 2_000;

export class Maintenance {
  readonly #core: Core;
  readonly #confirmEveryMs: number;
  readonly #onUnsealed: () => void;
  readonly #timers: NodeJS.Timeout[] = [];
  #stopped = false;
  readonly #busy = new Set<Promise<void>>();
  #confirmedAt: number;

  constructor(core: Core, options: { keyMaxAgeMs: number; onUnsealed(): void }) {
    this.#core = core;
    this.#confirmEveryMs = Math.max(unsealEveryMs, options.keyMaxAgeMs / 4);
    this.#onUnsealed = options.onUnsealed;
    this.#confirmedAt = core.clock.now();
  }

  start(): void {
    this.#every(unsealEveryMs, () => this.#confirm());
    this.#every(sweepEveryMs, () => this.#sweep());
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const timer of this.#timers) clearInterval(timer);
    await Promise.all(this.#busy);
  }

  /** No task beside itself; what fails is logged and comes again with the next round. */
  #every(ms: number, task: () => Promise<void>): void {
    let running = false;
    const timer = setInterval(() => {
      if (running || this.#stopped) return;
      running = true;
      const work = task()
        .catch((error: unknown) => this.#core.log.error({ err: error }, 'maintenance failed'))
        .finally(() => {
          running = false;
          this.#busy.delete(work);
        });
      this.#busy.add(work);
    }, ms);
    timer.unref();
    this.#timers.push(timer);
  }

  async #confirm(): Promise<void> {
    const { keyring, state, clock, log } = this.#core;
    const before = keyring.state();
    const due = clock.now() - this.#confirmedAt >= this.#confirmEveryMs;
    if (!before.sealed && !due && !keyring.lacks(state.keyEncryptionKeys.all())) return;
    const after = await keyring.unseal(state.keyEncryptionKeys.all());
    this.#confirmedAt = clock.now();
    if (before.sealed && !after.sealed) {
      log.info({ kms: keyring.kmsName }, 'unsealed');
      this.#onUnsealed();
    } else if (!before.sealed && after.sealed) {
      log.error({ kms: keyring.kmsName, why: after.why }, 'sealed');
    }
  }

  async #sweep(): Promise<void> {
    const core = this.#core;
    for (;;) {
      const rows = await core.reader.expiredRows(core.clock.now(), sweepRows);
      if (rows.length === 0 || this.#stopped) return;
      await commit(core, {
        writes: rows.map(({ table, id }) => ({ write: 'delete', table, id }) as const),
        audit: [record(core, systemCaller('maintenance'), { type: 'maintenance.swept', data: { rows: rows.length } })],
      });
    }
  }
}
