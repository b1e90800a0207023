/** Endpoints that take what is sent, badly or well, and services that send it. */
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { openOutbound } from '../../../adapters/outbound.ts';
import type { AuditRecord } from '../../../src/domain/audit-entry.ts';
import type { RetrySchedule } from '../../../src/domain/delivery.ts';
import { Deliveries } from '../../../src/services/alerts/deliveries.ts';
import { deleteStream } from '../../../src/services/alerts/manage-streams.ts';
import { createWebhook, deleteWebhook, type WebhookInput } from '../../../src/services/alerts/manage-webhooks.ts';
import { type Caller, commit, record } from '../../../src/services/core.ts';
import { openServices } from '../../support/services.ts';

export interface Received {
  path: string;
  headers: IncomingHttpHeaders;
  body: string;
}

export interface Endpoint {
  url: string;
  got: Received[];
  /** What it answers from now on; 202 unless told. */
  answer(how: (received: Received, res: ServerResponse) => void): void;
  close(): Promise<void>;
}

export const startEndpoint = async (): Promise<Endpoint> => {
  const got: Received[] = [];
  let answer = (_received: Received, res: ServerResponse): void => {
    res.writeHead(202).end();
  };
  const server = createServer(async (req, res) => {
    const received = { path: req.url ?? '', headers: req.headers, body: await text(req).catch(() => '') };
    got.push(received);
    answer(received, res);
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const address = server.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  return {
    url: `http://127.0.0.1:${port}/hook`,
    got,
    answer: (how) => {
      answer = how;
    },
    close: () =>
      new Promise((closed) => {
        server.close(() => closed());
        server.closeAllConnections();
      }),
  };
};

/** Answers with a status, and headers. */
export const status =
  (code: number, headers: Record<string, string> = {}) =>
  (_received: unknown, res: ServerResponse): void => {
    res.writeHead(code, headers).end();
  };

/** Three tries within a tenth of a second. */
export const hurried: RetrySchedule = {
  retriesMs: [15, 30],
  refusedRetriesMs: [15],
  failingAfterMs: 60_000,
  disabledAfterMs: 120_000,
};

export const caller: Caller = { actor: { kind: 'operator', id: 'op_1', name: 'ana' }, requestId: 'req_1' };

export const openRig = async (schedule: RetrySchedule = hurried) => {
  const services = await openServices();
  const { core } = services;
  const outbound = openOutbound();
  let deliveries = new Deliveries(core, outbound, schedule);
  deliveries.start();
  let since = 0;
  const restart = async (again: RetrySchedule = schedule): Promise<void> => {
    await deliveries.stop();
    deliveries = new Deliveries(core, outbound, again);
    deliveries.start();
  };
  const entries = async (type: string) => {
    const found = await core.reader.auditRange({ type }, since, Number.MAX_SAFE_INTEGER, 100_000);
    return found.map(({ seq, body }) => ({ seq, ...JSON.parse(body) }));
  };
  return {
    core,
    store: services.store,
    folder: services.keyPath.replace(/root\.key$/, ''),
    get deliveries() {
      return deliveries;
    },
    /** As another process would find it. */
    restart,
    /** Forgets the endpoints of the test before. */
    begin: async (): Promise<void> => {
      for (const row of core.state.webhooks.all()) await deleteWebhook(core, row, caller);
      for (const row of core.state.signalStreams.all()) await deleteStream(core, row, caller);
      await restart();
      since = core.state.newestSeq + 1;
    },
    /** Entries of a type since the test began, in order. */
    entries,
    size: async (): Promise<number> => (await core.reader.treeHead()).size,
    /** Writes an alert into the log. */
    alert: async (type = 'freeze.created', data: Record<string, unknown> = {}): Promise<void> => {
      await commit(core, { writes: [], audit: [record(core, caller, { type, data })] });
    },
    /** Writes so many at once. */
    alerts: async (count: number, type = 'freeze.created'): Promise<void> => {
      for (let from = 0; from < count; from += 500) {
        const some = Array.from({ length: Math.min(500, count - from) }, (_, i) =>
          record(core, caller, { type, data: { reason: `number ${from + i}` } }),
        );
        const [first, ...rest] = some;
        const audit: [AuditRecord, ...AuditRecord[]] | undefined = first && [first, ...rest];
        if (audit) await commit(core, { writes: [], audit });
      }
    },
    webhook: (url: string, more: Partial<WebhookInput> = {}) =>
      createWebhook(
        core,
        {
          name: `to-${url.split(':')[2]?.split('/')[0]}`,
          url,
          events: ['freeze.*'],
          allow_private_network: true,
          ...more,
        },
        caller,
      ),
    row: (id: string) => core.state.webhooks.get(id),
    close: async (): Promise<void> => {
      await deliveries.stop();
      await outbound.close();
      await services.close();
    },
  };
};
export type Rig = Awaited<ReturnType<typeof openRig>>;
