/**
 * The transmitter of OpenID Shared Signals 1.0: its metadata, and what receivers do with their stream. All subjects are
 * in every stream (`default_subjects: ALL`), so there is nothing to add or remove; what is not offered is not advertised.
 */
import { type Request, type RequestHandler, type Response, Router } from 'express';
import { canonicalJson } from '../../domain/canonical-json.ts';
import { Refused } from '../../domain/refusals.ts';
import { deliveryMethods, eventsDelivered, type SignalStream } from '../../domain/signals.ts';
import { authenticateReceiver, receiverCaller, requestVerification } from '../../services/alerts/manage-streams.ts';
import {
  changeReceiverStream,
  closeReceiverStream,
  openReceiverStream,
  type ReceiverSettings,
  setStreamStatus,
} from '../../services/alerts/receiver-streams.ts';
import { type Caller, commit, record } from '../../services/core.ts';
import { bearerToken } from '../bearer.ts';
import { readJson } from '../body.ts';
import { addressOf, anonymous, type Edge, requestId } from '../edge.ts';
import { refusalOf } from '../problem.ts';
import { sendJson } from '../reply.ts';
import { parse } from '../validate.ts';
import {
  type ChangeBody,
  changeBody,
  pollBody,
  type StreamBody,
  statusBody,
  streamBody,
  streamQuery,
  verifyBody,
} from './schemas.ts';

const maxBodyBytes = 64 * 1024;
/** Section 8.1.1: each request leaves an entry in the audit log, which must not be filled by them. */
const verificationIntervalSeconds = 30;

const pollUrl = (issuer: string, { id }: SignalStream): string => `${issuer}/ssf/poll/${id}`;

/** Section 7.1. */
const transmitterMetadata = (issuer: string): object => ({
  spec_version: '1_0',
  issuer,
  jwks_uri: `${issuer}/jwks`,
  delivery_methods_supported: [deliveryMethods.push, deliveryMethods.poll],
  configuration_endpoint: `${issuer}/ssf/stream`,
  status_endpoint: `${issuer}/ssf/status`,
  verification_endpoint: `${issuer}/ssf/verify`,
  // Bearer tokens (RFC 6750), given out by an operator.
  authorization_schemes: [{ spec_urn: 'urn:ietf:rfc:6750' }],
  default_subjects: 'ALL',
});

/** Section 8.1.1. The header of a push is not read back: it is a secret. */
const configurationOf = (issuer: string, row: SignalStream) => ({
  stream_id: row.id,
  iss: issuer,
  aud: row.aud.length === 1 ? row.aud[0] : row.aud,
  events_supported: row.events_supported,
  ...(row.events_requested === null ? {} : { events_requested: row.events_requested }),
  events_delivered: eventsDelivered(row),
  delivery: {
    method: deliveryMethods[row.method],
    endpoint_url: row.method === 'poll' ? pollUrl(issuer, row) : row.endpoint_url,
  },
  min_verification_interval: verificationIntervalSeconds,
  ...(row.description === null ? {} : { description: row.description }),
});

const settingsOf = ({ delivery, events_requested, description }: StreamBody): ReceiverSettings => ({
  ...(delivery === undefined
    ? {}
    : {
        delivery:
          delivery.method === deliveryMethods.poll
            ? { method: 'poll' as const }
            : {
                method: 'push' as const,
                endpoint_url: delivery.endpoint_url,
                authorization_header: delivery.authorization_header,
              },
      }),
  ...(events_requested === undefined ? {} : { events_requested }),
  ...(description === undefined ? {} : { description }),
});

/** Sections 8.1.1.3 and 8.1.1.4. @throws Refused `invalid_request` */
const requireTransmitted = (issuer: string, row: SignalStream, body: ChangeBody): void => {
  const actual: Record<string, unknown> = configurationOf(issuer, row);
  for (const name of ['iss', 'aud', 'events_supported', 'events_delivered', 'min_verification_interval'] as const) {
    const said = body[name];
    if (said !== undefined && canonicalJson(said) !== canonicalJson(actual[name])) {
      throw new Refused('invalid_request', `${name} is the transmitter's to say, and is something else`);
    }
  }
  const { delivery } = body;
  const asked = delivery?.method === deliveryMethods.poll ? delivery.endpoint_url : undefined;
  if (asked !== undefined && asked !== pollUrl(issuer, row)) {
    throw new Refused('invalid_request', 'where a stream is polled is the transmitter’s to say');
  }
};

interface Receiver {
  row: SignalStream;
  caller: Caller;
  body: unknown;
}

/** The stream that is named is the receiver's own, and exists. Another's is as unknown as none. */
const own = ({ row }: Receiver, streamId: string): SignalStream => {
  if (streamId !== row.id || row.status === 'absent') throw new Refused('not_found', 'there is no such stream');
  return row;
};

/** Authenticates before the body is read, and once more when it has arrived. */
const asReceiver =
  (
    edge: Edge,
    route: string,
    work: (receiver: Receiver, req: Request, res: Response) => Promise<void>,
  ): RequestHandler =>
  async (req, res) => {
    let caller = anonymous(req);
    const enter = (): SignalStream => {
      const token = bearerToken(req);
      if (token === undefined) throw new Refused('unauthenticated', 'a receiver token is needed');
      const row = authenticateReceiver(edge.core, token);
      caller = receiverCaller(row, requestId(req));
      return row;
    };
    try {
      enter();
      const body = req.method === 'GET' ? undefined : await readJson(req, maxBodyBytes);
      res.setHeader('Cache-Control', 'no-store');
      await work({ row: enter(), caller, body }, req, res);
    } catch (error) {
      const { code } = refusalOf(error);
      if (code === 'unauthenticated') {
        await edge.limits.failed(addressOf(req));
        res.setHeader('WWW-Authenticate', 'Bearer');
      }
      if (req.method !== 'GET' && code !== 'ledger_unavailable' && code !== 'rate_limited') {
        const data = { code, method: req.method, route };
        const refused = record(edge.core, caller, { type: 'request.refused', outcome: 'refused', data });
        await commit(edge.core, { writes: [], audit: [refused] });
      }
      throw error;
    }
  };

const streamRoute = (edge: Edge, router: Router): void => {
  const { core } = edge;
  const path = '/stream';
  const show = (res: Response, status: number, row: SignalStream): void =>
    sendJson(res, status, configurationOf(core.issuer, row));

  router.post(
    path,
    asReceiver(edge, '/ssf/stream', async ({ row, caller, body }, _req, res) => {
      const asked = parse(streamBody, body ?? {});
      show(res, 201, await openReceiverStream(core, row, settingsOf(asked), caller));
    }),
  );
  router.get(
    path,
    asReceiver(edge, '/ssf/stream', async (receiver, req, res) => {
      const { stream_id: id } = parse(streamQuery, { ...req.query });
      if (id !== undefined) return show(res, 200, own(receiver, id));
      const { row } = receiver;
      sendJson(res, 200, row.status === 'absent' ? [] : [configurationOf(core.issuer, row)]);
    }),
  );
  router.patch(
    path,
    asReceiver(edge, '/ssf/stream', async (receiver, _req, res) => {
      const asked = parse(changeBody, receiver.body);
      const row = own(receiver, asked.stream_id);
      requireTransmitted(core.issuer, row, asked);
      show(res, 200, await changeReceiverStream(core, row, settingsOf(asked), receiver.caller));
    }),
  );
  router.put(
    path,
    asReceiver(edge, '/ssf/stream', async (receiver, _req, res) => {
      const asked = parse(changeBody, receiver.body);
      const row = own(receiver, asked.stream_id);
      requireTransmitted(core.issuer, row, asked);
      // What a replacement leaves out is deleted (section 8.1.1.4).
      const settings: ReceiverSettings = {
        delivery: { method: 'poll' },
        events_requested: null,
        description: null,
        ...settingsOf(asked),
      };
      show(res, 200, await changeReceiverStream(core, row, settings, receiver.caller));
    }),
  );
  router.delete(
    path,
    asReceiver(edge, '/ssf/stream', async (receiver, req, res) => {
      const { stream_id: id } = parse(streamQuery, { ...req.query });
      if (id === undefined) throw new Refused('invalid_request', 'stream_id says which stream to delete');
      await closeReceiverStream(core, own(receiver, id), receiver.caller);
      res.status(204).end();
    }),
  );
};

const statusRoute = (edge: Edge, router: Router): void => {
  const show = (res: Response, { id, status, status_reason: reason }: SignalStream): void =>
    sendJson(res, 200, { stream_id: id, status, ...(reason === null ? {} : { reason }) });

  router.get(
    '/status',
    asReceiver(edge, '/ssf/status', async (receiver, req, res) => {
      const { stream_id: id } = parse(streamQuery, { ...req.query });
      if (id === undefined) throw new Refused('invalid_request', 'stream_id says which stream is meant');
      show(res, own(receiver, id));
    }),
  );
  router.post(
    '/status',
    asReceiver(edge, '/ssf/status', async (receiver, _req, res) => {
      const asked = parse(statusBody, receiver.body);
      const row = own(receiver, asked.stream_id);
      show(res, await setStreamStatus(edge.core, row, asked.status, asked.reason ?? null, receiver.caller));
    }),
  );
};

const verifyRoute = (edge: Edge, router: Router): void => {
  /** When each stream asked last, by the monotonic clock. */
  const asked = new Map<string, number>();
  router.post(
    '/verify',
    asReceiver(edge, '/ssf/verify', async (receiver, _req, res) => {
      const { stream_id: id, state } = parse(verifyBody, receiver.body);
      const row = own(receiver, id);
      const now = performance.now();
      const wait = (asked.get(row.id) ?? Number.NEGATIVE_INFINITY) + verificationIntervalSeconds * 1000 - now;
      if (wait > 0) {
        const retryAfterSeconds = Math.ceil(wait / 1000);
        throw new Refused('rate_limited', 'a verification was asked for a moment ago', { retryAfterSeconds });
      }
      asked.set(row.id, now);
      await requestVerification(edge.core, row, state, receiver.caller);
      res.status(204).end();
    }),
  );
};

const pollRoute = (edge: Edge, router: Router): void => {
  router.post(
    '/poll/:id',
    asReceiver(edge, '/ssf/poll/:id', async (receiver, req, res) => {
      const row = own(receiver, String(req.params['id']));
      if (row.method !== 'poll') throw new Refused('not_found', 'this stream is pushed');
      const asked = parse(pollBody, receiver.body ?? {});
      const gone = new AbortController();
      res.once('close', () => gone.abort());
      const answer = await edge.deliveries.polls.poll(row.id, asked, gone.signal, receiver.caller);
      // A token that was replaced while its poll waited is dead: it gets nothing.
      authenticateReceiver(edge.core, bearerToken(req) ?? '');
      if (!res.writableEnded && !res.destroyed) sendJson(res, 200, answer);
    }),
  );
};

/** Section 7.2: the well-known part goes between the host and the path of the issuer. */
const metadataPath = (issuer: string): string => {
  const { pathname } = new URL(issuer);
  return `/.well-known/ssf-configuration${pathname === '/' ? '' : pathname}`;
};

export const ssfMetadata = (edge: Edge): Router => {
  const router = Router({ caseSensitive: true, strict: true });
  const metadata = transmitterMetadata(edge.core.issuer);
  router.get(metadataPath(edge.core.issuer), (_req, res) => {
    sendJson(res, 200, metadata);
  });
  return router;
};

export const ssfRoutes = (edge: Edge): Router => {
  const router = Router({ caseSensitive: true, strict: true });
  streamRoute(edge, router);
  statusRoute(edge, router);
  verifyRoute(edge, router);
  pollRoute(edge, router);
  for (const [path, allow] of [
    ['/stream', 'GET, POST, PATCH, PUT, DELETE'],
    ['/status', 'GET, POST'],
    ['/verify', 'POST'],
    ['/poll/:id', 'POST'],
  ] as const) {
    router.all(path, (_req, res) => {
      res.setHeader('Allow', allow);
      throw new Refused('method_not_allowed', `this route takes ${allow}`);
    });
  }
  return router;
};
