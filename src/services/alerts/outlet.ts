/**
 * One endpoint that is told of what happens: in the order of the audit log, at least once each, one message at a time.
 *
 * Its place in the log is a row. Where nothing fails the place is committed behind the messages, some at a time, so that
 * telling does not double the log; after a crash the last few are sent again, under the same names. A try that fails is
 * committed at once, and the pauses go on after a restart where they were. Nobody waits for it.
 */
import type { AuditRecord } from '../../domain/audit-entry.ts';
import { type DeliveryPlace, pauseAfter, type RetrySchedule } from '../../domain/delivery.ts';
import type { Write } from '../../ports/ledger.ts';
import { type Core, commit, record } from '../core.ts';
import { systemCaller } from '../revocation/revoke.ts';
import { Recently, type Tried } from './recently.ts';

export interface Place {
  seq: number;
  /** Of that entry: the last part that is dealt with; '' when none is. */
  part: string;
}

/** One step along the log. */
export interface Step<T> extends Place {
  /** Whether the entry is dealt with when this is. */
  last: boolean;
  type: string;
  /** When it happened. */
  at: number;
  /** What is to be sent; undefined for an entry that is passed. */
  message?: { id: string; content: T };
  /** Passed because retention had dropped its body. */
  dropped?: true;
}

export type Outcome =
  | { ok: true; status?: number | undefined }
  | {
      ok: false;
      /** A stable word. */
      failure: string;
      status?: number | undefined;
      retryAfterMs?: number | undefined;
      /** It was understood and refused, with a reason. */
      refused?: true;
      /** The endpoint wants nothing any more (410). */
      gone?: true;
      /** It was not tried at all: Warder is sealed. */
      waits?: true;
    };

export type OutletRow = DeliveryPlace & { id: string; name: string; version: number };

/** What webhooks and streams do each in their way. */
export interface OutletKind<Row extends OutletRow, T> {
  noun: 'webhook' | 'stream';
  /** As memory has it now; undefined when it was deleted. */
  row(): Row | undefined;
  /** Whether it is sent anything now. */
  ready(row: Row): boolean;
  /** What lies behind a place, at most `limit`; none when there is nothing yet. */
  steps(row: Row, from: Place, limit: number): Promise<Step<T>[]>;
  send(row: Row, message: { id: string; content: T }, signal: AbortSignal): Promise<Outcome>;
  /** Moves the place, from the `progress` it was at. */
  move(id: string, set: Partial<DeliveryPlace>, progress: number): Write;
  /** The write that ends it for good, where failing long does; undefined where it goes on. */
  disable?(row: Row, because: 'gone' | 'failing', set: Partial<DeliveryPlace>, progress: number): Write;
}

const behind = ({ seq, part, last }: Pick<Step<unknown>, 'seq' | 'part' | 'last'>): Place =>
  last ? { seq: seq + 1, part: '' } : { seq, part };

const pageSteps = 50;
/** Committed after so many messages, or steps, or this time, whichever is first. */
const commitMessages = 100;
const commitSteps = 1000;
const commitAfterMs = 2_000;
const longestTimerMs = 60_000;

export class Outlet<Row extends OutletRow, T> {
  readonly #core: Core;
  readonly #kind: OutletKind<Row, T>;
  readonly #schedule: RetrySchedule;
  readonly recently = new Recently();
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #again = false;
  /** Nothing lies behind its place: it sleeps until something is heard. */
  #asleep = false;
  #troubled = false;
  #timer: NodeJS.Timeout | undefined;
  #retry: NodeJS.Timeout | undefined;
  #commitDue = false;

  /** The `progress` of the row that what follows counts from. */
  #base = -1;
  #version = -1;
  #place: Place = { seq: 0, part: '' };
  #steps: Step<T>[] = [];
  #since = { messages: 0, steps: 0, skipped: 0, lastAt: 0 };
  /** When the oldest message that waits happened; undefined when none does. */
  #waitingSince: number | undefined;

  constructor(core: Core, kind: OutletKind<Row, T>, schedule: RetrySchedule) {
    this.#core = core;
    this.#kind = kind;
    this.#schedule = schedule;
  }

  /** How long the oldest message has been waiting, in milliseconds; 0 when none is. */
  get lagMs(): number {
    return this.#waitingSince === undefined ? 0 : Math.max(0, this.#core.clock.now() - this.#waitingSince);
  }

  /** Something was written that may concern it. */
  wake(): void {
    this.#asleep = false;
    if (this.#stop.signal.aborted) return;
    if (this.#running) {
      this.#again = true;
      return;
    }
    this.#again = false;
    this.#running = this.#round()
      .then(() => {
        this.#troubled = false;
      })
      .catch((error: unknown) => {
        const { noun } = this.#kind;
        if (!this.#troubled) this.#core.log.error({ err: error, [noun]: this.#kind.row()?.name }, 'telling stopped');
        this.#troubled = true;
      })
      .finally(() => {
        this.#running = undefined;
        if (this.#again) this.wake();
      });
  }

  /** Time has passed: what waits for it may be tried. */
  tick(): void {
    if (!this.#asleep) this.wake();
  }

  /** Breaks off what is under way, and commits what is done. */
  async stop(): Promise<void> {
    this.#stop.abort();
    clearTimeout(this.#timer);
    clearTimeout(this.#retry);
    await this.#running;
    const row = this.#kind.row();
    if (row?.progress !== this.#base || this.#since.steps === 0) return;
    await this.#commitPlace(row).catch((error: unknown) =>
      this.#core.log.warn({ err: error, [this.#kind.noun]: row.name }, 'its last messages will be sent again'),
    );
  }

  async #round(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      const row = this.#kind.row();
      if (!row) return;
      this.#follow(row);
      if (this.#mayCommit()) {
        await this.#commitPlace(row);
        continue;
      }
      if (!this.#kind.ready(row)) {
        this.#waitingSince = undefined;
        return;
      }
      if (this.#mustWait(row)) return;
      if (this.#steps.length === 0) this.#steps = await this.#kind.steps(row, this.#place, pageSteps);
      // Changed while it was read: nothing goes to an address that is not its any more.
      if (this.#movedFrom(row) || this.#kind.row()?.version !== row.version) continue;
      const step = this.#steps[0];
      if (!step) {
        this.#waitingSince = undefined;
        this.#asleep = !this.#again;
        return;
      }
      if (!(await this.#take(row, step))) return;
    }
  }

  /** @returns false when it has to wait */
  async #take(row: Row, step: Step<T>): Promise<boolean> {
    if (!step.message) {
      if (step.dropped) this.#since.skipped += 1;
      this.#advance(step);
      return true;
    }
    this.#waitingSince = step.at;
    const began = this.#core.clock.now();
    const outcome = await this.#kind.send(row, step.message, this.#stop.signal);
    if (this.#stop.signal.aborted && !outcome.ok) return false;
    if (!outcome.ok && outcome.waits) return false;
    this.#note(step, step.message.id, outcome, began);
    // Put to another place, or deleted, while it was under way: what came of it counts for nothing.
    if (this.#movedFrom(row)) return true;
    const now = this.#kind.row() ?? row;
    if (outcome.ok) {
      this.#since.messages += 1;
      this.#since.lastAt = this.#core.clock.now();
      this.#advance(step);
      // What was not committed would be tried anew, and who was told of the trouble is told that it is over.
      if (now.tries > 0 || now.failing_since !== null) this.#commitDue = true;
      return true;
    }
    await this.#failed(now, step, outcome);
    return true;
  }

  /** Whether the next try is for later. Of pauses longer than this process may stay awake the ticks take care. */
  #mustWait({ next_try_at: at }: Row): boolean {
    const ms = at === null || this.#since.steps > 0 ? 0 : at - this.#core.clock.now();
    if (ms <= 0) return false;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.wake(), Math.min(ms, longestTimerMs)).unref();
    return true;
  }

  #note(step: Step<T>, id: string, outcome: Outcome, began: number): void {
    const tried: Tried = {
      message: id,
      type: step.type,
      seq: step.seq,
      at: began,
      ms: this.#core.clock.now() - began,
      status: outcome.status ?? null,
      failure: outcome.ok ? null : outcome.failure,
    };
    this.recently.add(tried);
  }

  #movedFrom(row: Row): boolean {
    const now = this.#kind.row();
    return !now || now.progress !== row.progress;
  }

  /** Where the row says another place than this one left it at, the row is right. */
  #follow(row: Row): void {
    // What it wants to be told, or how, may be another than what was read ahead.
    if (row.version !== this.#version) this.#steps = [];
    this.#version = row.version;
    if (row.progress === this.#base) return;
    this.#base = row.progress;
    this.#place = { seq: row.cursor, part: row.cursor_part };
    this.#steps = [];
    this.#forgetSteps();
  }

  #forgetSteps(): void {
    this.#since = { messages: 0, steps: 0, skipped: 0, lastAt: 0 };
    this.#commitDue = false;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #advance(step: Step<T>): void {
    this.#steps.shift();
    this.#place = behind(step);
    this.#since.steps += 1;
    if (this.#since.messages + this.#since.skipped === 0) return;
    this.#timer ??= setTimeout(() => {
      this.#commitDue = true;
      this.wake();
    }, commitAfterMs).unref();
  }

  #mayCommit(): boolean {
    const { messages, steps } = this.#since;
    return steps > 0 && (this.#commitDue || messages >= commitMessages || steps >= commitSteps);
  }

  /** The columns that say how far it has come. */
  #come(row: Row, place: Place): Partial<DeliveryPlace> {
    const { messages, skipped, lastAt } = this.#since;
    return {
      cursor: place.seq,
      cursor_part: place.part,
      progress: this.#base + 1,
      delivered: row.delivered + messages,
      skipped: row.skipped + skipped,
      ...(messages > 0 ? { last_delivered_at: lastAt, failing_since: null, failing_told: false } : {}),
    };
  }

  #named(row: Row): Record<string, unknown> {
    return { [this.#kind.noun]: { id: row.id, name: row.name } };
  }

  #record(row: Row, what: string, data: Record<string, unknown>): AuditRecord {
    const { noun } = this.#kind;
    return record(this.#core, systemCaller('alerts'), {
      type: `${noun}.${what}`,
      data: { ...this.#named(row), ...data },
    });
  }

  /** Where it had been failing, and people know: that it is over. */
  #recovery(row: Row): AuditRecord[] {
    if (this.#since.messages === 0 || !row.failing_told) return [];
    return [this.#record(row, 'recovered', { since: new Date(row.failing_since ?? 0).toISOString() })];
  }

  async #commitPlace(row: Row): Promise<void> {
    const { messages, skipped } = this.#since;
    if (skipped > 0) {
      this.#core.log.warn({ ...this.#named(row), skipped }, 'entries were dropped by retention before they were sent');
    }
    await this.#commit(
      this.#kind.move(row.id, { ...this.#come(row, this.#place), tries: 0, next_try_at: null }, this.#base),
      this.#record(row, 'delivered', { messages, before: this.#place.seq, ...(skipped > 0 ? { skipped } : {}) }),
      ...this.#recovery(row),
    );
  }

  async #failed(row: Row, step: Step<T>, outcome: Extract<Outcome, { ok: false }>): Promise<void> {
    const { clock, entropy } = this.#core;
    const now = clock.now();
    const moved = this.#since.messages > 0;
    const tries = (this.#since.steps > 0 ? 0 : row.tries) + 1;
    const pauses = outcome.refused ? this.#schedule.refusedRetriesMs : this.#schedule.retriesMs;
    const random = Buffer.from(entropy(4)).readUInt32BE() / 2 ** 32;
    const pause = pauseAfter(tries, pauses, outcome.retryAfterMs, random);
    const since = (moved ? null : row.failing_since) ?? now;
    const told = !moved && row.failing_told;
    const tell = !told && !outcome.refused && (pause === undefined || now - since >= this.#schedule.failingAfterMs);
    const first = this.#record(row, pause === undefined ? 'failed' : 'try_failed', {
      message: step.message?.id,
      message_type: step.type,
      seq: step.seq,
      try: tries,
      failure: outcome.failure,
      ...(pause === undefined ? {} : { next_try_at: new Date(now + pause).toISOString() }),
    });
    const more = [
      ...this.#recovery(row),
      ...(tell
        ? [this.#record(row, 'failing', { since: new Date(since).toISOString(), failure: outcome.failure })]
        : []),
    ];
    const place = pause === undefined ? behind(step) : this.#place;
    const set: Partial<DeliveryPlace> = {
      ...this.#come(row, place),
      tries: pause === undefined ? 0 : tries,
      next_try_at: pause === undefined ? null : Math.ceil(now + pause),
      failing_since: outcome.refused ? (moved ? null : row.failing_since) : since,
      failing_told: told || tell,
      last_failure: outcome.failure,
      failed: row.failed + (pause === undefined ? 1 : 0),
    };
    const because = outcome.gone ? 'gone' : now - since >= this.#schedule.disabledAfterMs ? 'failing' : undefined;
    const ends = because && this.#kind.disable?.(row, because, set, this.#base);
    if (ends) more.push(this.#record(row, 'disabled', { why: because }));
    if (!(await this.#commit(ends ?? this.#kind.move(row.id, set, this.#base), first, ...more))) return;
    this.#place = place;
    if (pause === undefined) this.#steps.shift();
  }

  /** Where somebody else moved it meanwhile, the next look at the row starts from there. */
  async #commit(write: Write, ...audit: [AuditRecord, ...AuditRecord[]]): Promise<boolean> {
    const { ok } = await commit(this.#core, { writes: [write], audit });
    if (!ok) return false;
    this.#base += 1;
    this.#forgetSteps();
    return true;
  }
}
