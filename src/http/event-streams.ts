/**
 * Server-sent events (WHATWG HTML, section 9.2): long answers that end by themselves when their operator may not listen
 * any more, when the broker stops, or when nobody reads.
 */
import type { Response } from 'express';
import type { Operator } from '../domain/model.ts';
import { Refused } from '../domain/refusals.ts';
import type { Core } from '../services/core.ts';

/** Each holds a socket and asks the ledger now and then. */
const mostAtOnce = 64;
const mostOfOne = 8;
/** Below what proxies take for silence. */
const heartbeatMs = 15_000;

export interface EventStream {
  /** Aborted when it has ended, for whatever reason. */
  readonly signal: AbortSignal;
  /** Sends an event, unless the one before is not read yet: each says all there is to say. */
  send(event: string, id: string, data: unknown): void;
  /** Ends the stream, with a last event if there is one. */
  end(event?: string, id?: string, data?: unknown): void;
}

export class EventStreams {
  readonly #core: Core;
  /** What ends each, and whose it is. */
  readonly #open = new Map<() => void, string>();
  #closed = false;

  constructor(core: Core) {
    this.#core = core;
    // Memory has heard of it before (state.ts).
    core.ledger.onCommitted(({ writes }) => {
      if (this.#open.size > 0 && writes.some(({ table }) => table === 'operators')) this.#drop();
    });
  }

  /** How many are open. */
  get size(): number {
    return this.#open.size;
  }

  /** Begins the answer. @throws Refused `rate_limited` when there are too many */
  open(res: Response, operator: Operator): EventStream {
    const own = [...this.#open.values()].filter((id) => id === operator.id).length;
    if (this.#closed || this.#open.size >= mostAtOnce || own >= mostOfOne) {
      throw new Refused('rate_limited', 'too many listen at this moment', { retryAfterSeconds: 5 });
    }
    const ended = new AbortController();
    let unread = false;
    const beat = setInterval(() => {
      if (!this.#mayListen(operator) || unread) return void end();
      // Nobody has read anything since the last beat.
      unread = res.writableNeedDrain;
      if (!unread) res.write(':\n\n');
    }, heartbeatMs);
    const end = (): void => {
      if (!this.#open.delete(end)) return;
      clearInterval(beat);
      ended.abort();
      if (unread) res.destroy();
      else res.end();
    };
    this.#open.set(end, operator.id);
    res.once('close', end);
    res.writeHead(200, {
      'Content-Type': 'text/event-stream',
      'Cache-Control': 'no-store',
      // For nginx: pass on what comes as it comes.
      'X-Accel-Buffering': 'no',
    });
    res.flushHeaders();
    // Whoever asked may be gone already, and nothing tells of that twice.
    if (res.destroyed) end();
    const write = (event: string, id: string, data: unknown): void => {
      if (!ended.signal.aborted) res.write(`event: ${event}\nid: ${id}\ndata: ${JSON.stringify(data)}\n\n`);
    };
    return {
      signal: ended.signal,
      send: (event, id, data) => {
        if (!res.writableNeedDrain) write(event, id, data);
      },
      end: (event, id = '', data = {}) => {
        if (event !== undefined) write(event, id, data);
        end();
      },
    };
  }

  /** For a stop: no server waits for these. */
  close(): void {
    this.#closed = true;
    for (const end of [...this.#open.keys()]) end();
  }

  /** The token it came with is still one, and its operator may use it. */
  #mayListen(as: Operator): boolean {
    const now = this.#core.state.operators.get(as.id);
    if (now?.status !== 'active' || now.token_digest !== as.token_digest) return false;
    return now.expires_at === null || now.expires_at > this.#core.clock.now();
  }

  #drop(): void {
    for (const [end, id] of [...this.#open]) {
      const operator = this.#core.state.operators.get(id);
      if (!operator || !this.#mayListen(operator)) end();
    }
  }
}
