/**
 * Streams whose events are fetched (RFC 8936). The log is the queue: what is not acknowledged is read anew at every poll,
 * so a receiver that never acknowledges costs nothing but its place. Events may be acknowledged in any order within a
 * window of {@link pollWindow}; the place moves over the beginning that is.
 */
import type { AuditRecord } from '../../domain/audit-entry.ts';
import { pollWindow, type SignalStream } from '../../domain/signals.ts';
import { type Caller, type Core, commit, record } from '../core.ts';
import { namedStream } from './manage-streams.ts';
import type { Place, Step } from './outlet.ts';
import { signedEvent, streamSteps, type Unsigned } from './stream-steps.ts';

export interface PollRequest {
  ack: readonly string[];
  /** By message, why the receiver would not have it. */
  setErrs: Readonly<Record<string, { err: string }>>;
  maxEvents: number;
  returnImmediately: boolean;
}

export interface PollAnswer {
  sets: Record<string, string>;
  moreAvailable: boolean;
}

/** A poll that waits is answered after so long, with nothing: shorter than what proxies take for dead (60 s). */
const longPollMs = 30_000;
/** Entries without an event for it are passed in memory; behind so many the place is committed. */
const commitSteps = 1000;
/** Refusals of one poll that get an entry each. */
const maxRecordedRefusals = 20;

const nobodys: Pick<PollRequest, 'ack' | 'setErrs'> = { ack: [], setErrs: {} };
const nothing: PollAnswer = { sets: {}, moreAvailable: false };
const isPolled = (row: SignalStream): boolean => row.status === 'enabled' && row.method === 'poll';

/** Events that wait for a stream, and how far its place may move. */
interface Window {
  waiting: Step<Unsigned>[];
  place: Place;
  passed: number;
  skipped: number;
  /** Acknowledged, and behind something that is not. */
  acked: string[];
}

export class Polls {
  readonly #core: Core;
  /** Acknowledgements of one stream, one after another. */
  readonly #turns = new Map<string, Promise<unknown>>();
  /** The poll that waits; a stream has one at most. */
  readonly #waiting = new Map<string, { heard(): void; over(): void }>();
  #closed = false;

  constructor(core: Core) {
    this.#core = core;
  }

  /** Something was written that may concern streams. */
  wake(): void {
    for (const one of [...this.#waiting.values()]) one.heard();
  }

  /** Answers every poll that waits, and lets none wait any more. */
  close(): void {
    this.#closed = true;
    this.wake();
  }

  /**
   * @param gone says that the receiver hung up
   * @throws Refused `sealed`, `ledger_unavailable`
   */
  async poll(id: string, asked: PollRequest, gone: AbortSignal, caller: Caller): Promise<PollAnswer> {
    const refused = Object.keys(asked.setErrs);
    if (asked.ack.length + refused.length > 0) await this.#inTurn(id, () => this.#acknowledge(id, asked, caller));
    if (asked.maxEvents === 0) return nothing;
    const until = performance.now() + longPollMs;
    for (;;) {
      const row = this.#core.state.signalStreams.get(id);
      if (!row) return nothing;
      // Listening begins before reading: what is written in between is heard.
      const heard = this.#listen(id, gone, until - performance.now());
      const { waiting, passed } = isPolled(row) ? await this.#window(row, new Set()) : { waiting: [], passed: 0 };
      if (passed >= commitSteps) await this.#inTurn(id, () => this.#acknowledge(id, nobodys, caller));
      if (waiting.length > 0) {
        heard.stop();
        return this.#answer(row, waiting, asked.maxEvents);
      }
      if (asked.returnImmediately || this.#closed || gone.aborted || performance.now() >= until) {
        heard.stop();
        return nothing;
      }
      if (!(await heard.ended)) return nothing;
    }
  }

  /** How long the oldest event has been waiting for a stream that is polled; 0 when none is. */
  async lagMs(row: SignalStream): Promise<number> {
    if (!isPolled(row)) return 0;
    const [first] = (await this.#window(row, new Set(), 1)).waiting;
    return first ? Math.max(0, this.#core.clock.now() - first.at) : 0;
  }

  /** @returns `ended` resolves to whether it is worth another look: false when a newer poll took over or nobody waits */
  #listen(id: string, gone: AbortSignal, ms: number): { ended: Promise<boolean>; stop(): void } {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const heard = (): void => finish(true);
    const over = (): void => finish(false);
    const mine = { heard, over };
    const timer = setTimeout(over, Math.max(0, ms));
    const finish = (again: boolean): void => {
      clearTimeout(timer);
      gone.removeEventListener('abort', over);
      if (this.#waiting.get(id) === mine) this.#waiting.delete(id);
      resolve(again);
    };
    gone.addEventListener('abort', over, { once: true });
    // Of two polls that wait the older one has been given up by its receiver, as a rule: it is answered.
    this.#waiting.get(id)?.over();
    this.#waiting.set(id, mine);
    return { ended: promise, stop: over };
  }

  async #answer(row: SignalStream, waiting: Step<Unsigned>[], maxEvents: number): Promise<PollAnswer> {
    const sets: Record<string, string> = {};
    const chosen = waiting.slice(0, maxEvents);
    for (const { message } of chosen) {
      if (message) sets[message.id] = await signedEvent(this.#core, row, message.id, message.content);
    }
    return { sets, moreAvailable: waiting.length > chosen.length || waiting.length >= pollWindow };
  }

  async #inTurn(id: string, work: () => Promise<void>): Promise<void> {
    const before = this.#turns.get(id) ?? Promise.resolve();
    const mine = before.catch(() => undefined).then(work);
    this.#turns.set(id, mine);
    try {
      await mine;
    } finally {
      if (this.#turns.get(id) === mine) this.#turns.delete(id);
    }
  }

  /** Reads on from the place until the window is full. @param done further messages that are dealt with */
  async #window(row: SignalStream, done: ReadonlySet<string>, size = pollWindow): Promise<Window> {
    const known = new Set(row.acked);
    const window: Window = {
      waiting: [],
      place: { seq: row.cursor, part: row.cursor_part },
      passed: 0,
      skipped: 0,
      acked: [],
    };
    let from = window.place;
    for (let seen = 0; seen < size; ) {
      const steps = await streamSteps(this.#core, row, from, size);
      if (steps.length === 0) break;
      for (const step of steps) {
        from = step.last ? { seq: step.seq + 1, part: '' } : { seq: step.seq, part: step.part };
        const { message } = step;
        if (message) {
          seen += 1;
          if (!known.has(message.id) && !done.has(message.id)) {
            window.waiting.push(step);
            continue;
          }
          if (window.waiting.length > 0) window.acked.push(message.id);
        } else if (step.dropped && window.waiting.length === 0) {
          window.skipped += 1;
        }
        if (window.waiting.length > 0) continue;
        window.place = from;
        window.passed += 1;
      }
    }
    return window;
  }

  /** Moves the place over what is dealt with, and over what was never for this stream. */
  async #acknowledge(id: string, asked: Pick<PollRequest, 'ack' | 'setErrs'>, caller: Caller): Promise<void> {
    for (;;) {
      const row = this.#core.state.signalStreams.get(id);
      if (!row) return;
      const refused = Object.keys(asked.setErrs);
      const named = new Set([...asked.ack, ...refused]);
      const before = await this.#window(row, new Set());
      const dealt = before.waiting.filter(({ message }) => message && named.has(message.id));
      if (dealt.length === 0 && before.passed < commitSteps) return;
      const after = await this.#window(row, named);
      const isRefused = ({ message }: Step<Unsigned>): boolean => message !== undefined && refused.includes(message.id);
      const bad = dealt.filter(isRefused);
      const audit: [AuditRecord, ...AuditRecord[]] = [
        record(this.#core, caller, {
          type: 'stream.acknowledged',
          data: {
            ...namedStream(row),
            messages: dealt.length - bad.length,
            refused: bad.length,
            before: after.place.seq,
            ...(after.skipped > 0 ? { skipped: after.skipped } : {}),
          },
        }),
        ...bad.slice(0, maxRecordedRefusals).map((step) =>
          record(this.#core, caller, {
            type: 'stream.failed',
            data: {
              ...namedStream(row),
              message: step.message?.id,
              message_type: step.type,
              seq: step.seq,
              failure: `refused_${asked.setErrs[step.message?.id ?? '']?.err ?? 'other'}`,
            },
          }),
        ),
      ];
      const { ok } = await commit(this.#core, {
        writes: [
          {
            write: 'update',
            table: 'signal_streams',
            id,
            set: {
              cursor: after.place.seq,
              cursor_part: after.place.part,
              acked: after.acked,
              progress: row.progress + 1,
              delivered: row.delivered + dealt.length - bad.length,
              failed: row.failed + bad.length,
              skipped: row.skipped + after.skipped,
              ...(dealt.length > bad.length ? { last_delivered_at: this.#core.clock.now() } : {}),
            },
            from: { progress: row.progress },
          },
        ],
        audit,
      });
      // Put to another place at this moment: what is acknowledged is looked for from there.
      if (ok) return;
    }
  }
}
