/** What Prometheus sees. Most counts come from the ledger itself, so they cannot disagree with the audit log. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Ledger } from '../ports/ledger.ts';
import type { Deliveries, EndpointHealth } from '../services/alerts/deliveries.ts';
import type { Core } from '../services/core.ts';
import type { GatewayCalls } from '../services/gateway/gateway-calls.ts';
import { watchRotations } from './rotation-metrics.ts';

const secondsBuckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export class EdgeMetrics {
  readonly registry = new Registry();
  readonly #requests: Histogram<'route' | 'status'>;
  readonly #bytes: Counter<'connection' | 'direction'>;
  readonly #commits: Histogram;
  /** Labelled once: looking labels up costs more than counting. */
  readonly #children = new Map<string, { observe(seconds: number): void }>();

  constructor() {
    collectDefaultMetrics({ register: this.registry });
    this.#requests = new Histogram({
      name: 'warder_http_request_duration_seconds',
      help: 'Time to answer a request, by route and status class.',
      labelNames: ['route', 'status'],
      buckets: secondsBuckets,
      registers: [this.registry],
    });
    this.#bytes = new Counter({
      name: 'warder_gateway_bytes_total',
      help: 'Bytes through the gateway: in = from agents, out = to agents.',
      labelNames: ['connection', 'direction'],
      registers: [this.registry],
    });
    this.#commits = new Histogram({
      name: 'warder_ledger_commit_duration_seconds',
      help: 'Time until a changeset was durable, waiting for its batch included.',
      buckets: secondsBuckets,
      registers: [this.registry],
    });
  }

  /** @param route the pattern, never the path: labels must stay few */
  request(route: string, status: number, seconds: number): void {
    const key = `${route} ${Math.floor(status / 100)}`;
    let child = this.#children.get(key);
    if (!child) {
      child = this.#requests.labels({ route, status: `${Math.floor(status / 100)}xx` });
      this.#children.set(key, child);
    }
    child.observe(seconds);
  }

  gatewayBytes(connection: string, bytesIn: number, bytesOut: number): void {
    this.#bytes.inc({ connection, direction: 'in' }, bytesIn);
    this.#bytes.inc({ connection, direction: 'out' }, bytesOut);
  }

  /** The same ledger, timed. */
  timed(ledger: Ledger): Ledger {
    return {
      commit: async (changeset) => {
        const start = performance.now();
        const result = await ledger.commit(changeset);
        this.#commits.observe((performance.now() - start) / 1000);
        return result;
      },
      onCommitted: (listener) => ledger.onCommitted(listener),
      trouble: () => ledger.trouble(),
    };
  }

  /** Counts every audit entry by type, and shows the state of the whole. */
  watch(core: Core, calls: GatewayCalls, deliveries: Deliveries): void {
    const entries = new Counter({
      name: 'warder_audit_entries_total',
      help: 'Audit entries written since this process started, by type (grant.issued, grant.refused, gateway.call, …).',
      labelNames: ['type'],
      registers: [this.registry],
    });
    const counters = new Map<string, { inc(): void }>();
    core.ledger.onCommitted((changeset) => {
      for (const { type } of changeset.audit) {
        const counter = counters.get(type) ?? entries.labels({ type });
        counters.set(type, counter);
        counter.inc();
      }
    });
    const gauge = (name: string, help: string, value: () => number): void => {
      new Gauge({
        name,
        help,
        registers: [this.registry],
        collect() {
          this.set(value());
        },
      });
    };
    gauge('warder_sealed', '1 while the key service has not opened the keys.', () =>
      core.keyring.state().sealed ? 1 : 0,
    );
    gauge('warder_ledger_entries', 'Entries in the audit log.', () => core.state.newestSeq + 1);
    gauge('warder_ledger_trouble', '1 while the ledger cannot write.', () => (core.ledger.trouble() ? 1 : 0));
    gauge('warder_gateway_calls_running', 'Gateway calls under way.', () => calls.running);
    gauge('warder_agents', 'Registered agents.', () => core.state.agents.size);
    gauge('warder_connections', 'Connections.', () => core.state.connections.size);
    new Gauge({
      name: 'warder_authorizations',
      help: 'Accounts connected through OAuth connections, by status (connected, needs_reconnect, disconnected).',
      labelNames: ['status'],
      registers: [this.registry],
      collect() {
        for (const [status, count] of Object.entries(core.state.authorizations.count())) this.set({ status }, count);
      },
    });
    gauge('warder_entitlements', 'Entitlements.', () => core.state.entitlements.size);
    watchRotations(this.registry, core);
    this.#watchEndpoints(deliveries);
  }

  /** Webhooks and streams; there are at most fifty of each, so that each may have its label. */
  #watchEndpoints(deliveries: Deliveries): void {
    const labelNames = ['kind', 'name'] as const;
    const registers = [this.registry];
    // All of them are collected at once, and asking is not free.
    let asked: Promise<EndpointHealth[]> | undefined;
    const health = (): Promise<EndpointHealth[]> => {
      asked ??= deliveries.health().finally(() => {
        asked = undefined;
      });
      return asked;
    };
    const gauge = (name: string, help: string, value: (endpoint: EndpointHealth) => number): void => {
      new Gauge({
        name,
        help,
        labelNames,
        registers,
        async collect() {
          const all = await health();
          this.reset();
          for (const one of all) this.set({ kind: one.kind, name: one.name }, value(one));
        },
      });
    };
    const counter = (name: string, help: string, value: (endpoint: EndpointHealth) => number): void => {
      new Counter({
        name,
        help,
        labelNames,
        registers,
        async collect() {
          const all = await health();
          this.reset();
          for (const one of all) this.inc({ kind: one.kind, name: one.name }, value(one));
        },
      });
    };
    gauge(
      'warder_delivery_lag_seconds',
      'Age of the oldest message that waits for a webhook or stream.',
      (one) => one.lagMs / 1000,
    );
    gauge('warder_delivery_failing', '1 while a webhook or stream has taken nothing for long.', (one) =>
      one.failing ? 1 : 0,
    );
    counter('warder_delivery_taken_total', 'Messages that were taken, by webhook or stream.', (one) => one.taken);
    counter(
      'warder_delivery_failed_tries_total',
      'Tries that failed since this process started, by webhook or stream.',
      (one) => one.failedTries,
    );
  }
}
