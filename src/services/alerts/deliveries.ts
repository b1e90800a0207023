/** Everybody who is told of what happens: hears of commits, and has an outlet for each webhook and each stream. */
import { alertTypes } from '../../domain/alert-events.ts';
import { movedTo, type RetrySchedule, retrySchedule } from '../../domain/delivery.ts';
import type { SignalStream } from '../../domain/signals.ts';
import { signalTypes } from '../../domain/signals.ts';
import { testEventType, type Webhook } from '../../domain/webhook.ts';
import type { Changeset, Write } from '../../ports/ledger.ts';
import type { Outbound } from '../../ports/outbound.ts';
import { commitChanges } from '../change.ts';
import { type Caller, type Core, newId, record } from '../core.ts';
import { Outlet } from './outlet.ts';
import { Polls } from './polls.ts';
import type { Tried } from './recently.ts';
import { streamOutlet } from './stream-outlet.ts';
import type { Unsigned } from './stream-steps.ts';
import { sendToWebhook, webhookOutlet } from './webhook-outlet.ts';

/** How an endpoint does, for monitoring. */
export interface EndpointHealth {
  kind: 'webhook' | 'stream';
  name: string;
  lagMs: number;
  /** Ever. */
  taken: number;
  /** Since this process started. */
  failedTries: number;
  failing: boolean;
}

/** Retries wait for a moment; this often is looked whether it has come. */
const tickMs = 1_000;

const told = new Set<string>([...alertTypes, ...signalTypes]);

/** What places itself in the log is no news; what an operator or a receiver changed is. */
const concernsEndpoints = (write: Write): boolean => {
  if (write.table !== 'webhooks' && write.table !== 'signal_streams') return false;
  return write.write !== 'update' || write.set.version !== undefined;
};

export class Deliveries {
  readonly #core: Core;
  readonly #outbound: Outbound;
  readonly #schedule: RetrySchedule;
  readonly polls: Polls;
  readonly #webhooks = new Map<string, Outlet<Webhook, string>>();
  readonly #streams = new Map<string, Outlet<SignalStream, Unsigned>>();
  readonly #stop = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #unhear = (): void => undefined;
  readonly #ending = new Set<Promise<void>>();

  constructor(core: Core, outbound: Outbound, schedule: RetrySchedule = retrySchedule) {
    this.#core = core;
    this.#outbound = outbound;
    this.#schedule = schedule;
    this.polls = new Polls(core);
  }

  start(): void {
    this.#unhear = this.#core.ledger.onCommitted((changeset) => this.#heard(changeset));
    this.#timer = setInterval(() => this.#tick(), tickMs);
    this.#timer.unref();
    this.#match();
    this.wake();
  }

  /** Something that all of them wait for may have come, e.g. the keys. */
  wake(): void {
    for (const outlet of this.#all()) outlet.wake();
    this.polls.wake();
  }

  async stop(): Promise<void> {
    this.#unhear();
    clearInterval(this.#timer);
    this.#stop.abort();
    this.polls.close();
    await Promise.all([...this.#all()].map((outlet) => outlet.stop()));
    await Promise.all(this.#ending);
  }

  /** The last tries of an endpoint, newest first. */
  recent(id: string): readonly Tried[] {
    return (this.#webhooks.get(id) ?? this.#streams.get(id))?.recently.list() ?? [];
  }

  async health(): Promise<EndpointHealth[]> {
    const { webhooks, signalStreams } = this.#core.state;
    const ofStreams = signalStreams.all().map(async (row) => {
      const outlet = this.#streams.get(row.id);
      const lagMs = row.method === 'poll' ? await this.polls.lagMs(row) : (outlet?.lagMs ?? 0);
      return healthOf('stream', row, outlet, lagMs);
    });
    return [
      ...webhooks.all().map((row) => {
        const outlet = this.#webhooks.get(row.id);
        return healthOf('webhook', row, outlet, outlet?.lagMs ?? 0);
      }),
      ...(await Promise.all(ofStreams)),
    ];
  }

  /**
   * Sends a test message now, whatever its state, and waits for what comes of it. Where it arrives, what waits for a
   * later try is tried at once.
   */
  async test(webhook: Webhook, caller: Caller): Promise<Tried> {
    const at = this.#core.clock.now();
    const id = newId(this.#core, 'evt');
    const content = JSON.stringify({
      type: testEventType,
      timestamp: new Date(at).toISOString(),
      data: {
        severity: 'info',
        title: 'A test',
        means: 'Somebody looks whether messages of Warder arrive here.',
        webhook: webhook.name,
      },
    });
    const outcome = await sendToWebhook(this.#core, this.#outbound, webhook, { id, content }, this.#stop.signal);
    const failure = outcome.ok ? null : outcome.failure;
    const tried: Tried = {
      message: id,
      type: testEventType,
      seq: this.#core.state.newestSeq,
      at,
      ms: this.#core.clock.now() - at,
      status: outcome.status ?? null,
      failure,
    };
    this.#webhooks.get(webhook.id)?.recently.add(tried);
    const row = this.#core.state.webhooks.get(webhook.id);
    const waits = outcome.ok && row !== undefined && row.next_try_at !== null;
    await commitChanges(this.#core, {
      writes: waits
        ? [
            {
              write: 'update',
              table: 'webhooks',
              id: row.id,
              set: { ...movedTo(row, row.cursor), cursor_part: row.cursor_part, version: row.version + 1 },
              from: { progress: row.progress, version: row.version },
            },
          ]
        : [],
      audit: [
        record(this.#core, caller, {
          type: 'webhook.tested',
          data: { webhook: { id: webhook.id, name: webhook.name }, status: tried.status, failure },
        }),
      ],
    });
    return tried;
  }

  *#all(): Iterable<Outlet<Webhook, string> | Outlet<SignalStream, Unsigned>> {
    yield* this.#webhooks.values();
    yield* this.#streams.values();
  }

  #tick(): void {
    for (const outlet of this.#all()) outlet.tick();
  }

  #heard({ writes, audit }: Changeset): void {
    const changed = writes.some(concernsEndpoints);
    if (changed) this.#match();
    if (changed || audit.some(({ type }) => told.has(type))) this.wake();
  }

  /** An outlet for each row, and none for what was deleted. */
  #match(): void {
    const { webhooks, signalStreams } = this.#core.state;
    for (const { id } of webhooks.all()) {
      if (!this.#webhooks.has(id)) {
        this.#webhooks.set(id, new Outlet(this.#core, webhookOutlet(this.#core, this.#outbound, id), this.#schedule));
      }
    }
    for (const { id } of signalStreams.all()) {
      if (!this.#streams.has(id)) {
        this.#streams.set(id, new Outlet(this.#core, streamOutlet(this.#core, this.#outbound, id), this.#schedule));
      }
    }
    this.#drop(this.#webhooks, (id) => webhooks.get(id) !== undefined);
    this.#drop(this.#streams, (id) => signalStreams.get(id) !== undefined);
  }

  #drop(outlets: Map<string, { stop(): Promise<void> }>, exists: (id: string) => boolean): void {
    for (const [id, outlet] of outlets) {
      if (exists(id)) continue;
      outlets.delete(id);
      const ended = outlet.stop().finally(() => this.#ending.delete(ended));
      this.#ending.add(ended);
    }
  }
}

const healthOf = (
  kind: EndpointHealth['kind'],
  row: Webhook | SignalStream,
  outlet: { recently: { failed: number } } | undefined,
  lagMs: number,
): EndpointHealth => ({
  kind,
  name: row.name,
  lagMs,
  taken: row.delivered,
  failedTries: outlet?.recently.failed ?? 0,
  failing: row.failing_told && (row.status === 'active' || row.status === 'enabled'),
});
