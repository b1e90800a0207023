/** `/admin/v1/streams`: who receives Shared Signals. What receivers do with their stream is at `/ssf`. */
import { z } from 'zod';
import { endpointOrigin } from '../../domain/endpoint-url.ts';
import type { Operator } from '../../domain/model.ts';
import { deliveryMethods, eventsDelivered, eventUris, type SignalStream, signalEvents } from '../../domain/signals.ts';
import {
  createStream,
  deleteStream,
  renewReceiverToken,
  replayStream,
  requestVerification,
  streamCalled,
} from '../../services/alerts/manage-streams.ts';
import { resumeStream } from '../../services/alerts/receiver-streams.ts';
import * as field from '../schemas.ts';
import { audience, pushTo } from '../ssf/schemas.ts';
import { placeView } from './place-view.ts';
import { type AdminRoute, created, everyone, managers, noContent, ok, pageOf, route } from './route.ts';
import { replay, triedView } from './webhooks.ts';

const shortNames = {
  'session-revoked': eventUris.sessionRevoked,
  'credential-change': eventUris.credentialChange,
} as const;

const create = z.strictObject({
  name: field.name,
  aud: z
    .array(audience)
    .min(1)
    .max(10)
    .refine((list) => new Set(list).size === list.length, 'an audience is named twice'),
  events: z
    .array(z.enum(['session-revoked', 'credential-change']))
    .min(1)
    .refine((list) => new Set(list).size === list.length, 'an event is named twice')
    .optional(),
  allow_private_network: z.boolean().default(false),
  share_reasons: z.boolean().default(false),
  /** Left out, the receiver makes its stream itself. */
  delivery: z
    .union([z.strictObject({ method: z.literal('poll') }), pushTo.extend({ method: z.literal('push') })])
    .optional(),
});
const list = z.strictObject(field.pageQuery('ssf'));

const shownUrl = (url: string, { roles }: Operator): string =>
  roles.some((role) => managers.includes(role)) ? url : `${endpointOrigin(url)}/…`;

const streamView = (row: SignalStream, operator: Operator) => ({
  id: row.id,
  name: row.name,
  aud: row.aud,
  status: row.status === 'enabled' && row.failing_told ? 'failing' : row.status,
  status_reason: row.status_reason,
  method: row.status === 'absent' ? null : row.method,
  delivery_method: row.status === 'absent' ? null : deliveryMethods[row.method],
  endpoint_url: row.endpoint_url === null ? null : shownUrl(row.endpoint_url, operator),
  events_supported: row.events_supported,
  events_delivered: eventsDelivered(row),
  allow_private_network: row.allow_private_network,
  share_reasons: row.share_reasons,
  description: row.description,
  ...placeView(row),
});

export const streamRoutes: AdminRoute[] = [
  route({
    method: 'POST',
    path: '/streams',
    roles: managers,
    summary: 'Add a receiver of Shared Signals; its token is shown this once',
    body: create,
    handle: async ({ edge, body, caller, operator }) => {
      const { events, delivery, ...rest } = body;
      const input = { ...rest, delivery, events: events?.map((name) => shortNames[name]) ?? [...signalEvents] };
      const { stream, token } = await createStream(edge.core, input, caller);
      return created({ ...streamView(stream, operator), token }, `/admin/v1/streams/${stream.name}`);
    },
  }),
  route({
    method: 'GET',
    path: '/streams',
    roles: everyone,
    summary: 'List receivers of Shared Signals',
    query: list,
    handle: async ({ edge, query, operator }) =>
      pageOf(edge.core.state.signalStreams.all(), query, (row) => streamView(row, operator)),
  }),
  route({
    method: 'GET',
    path: '/streams/:name',
    roles: everyone,
    summary: 'Show a receiver and its stream',
    handle: async ({ edge, params, operator }) =>
      ok(streamView(streamCalled(edge.core, params['name'] ?? ''), operator)),
  }),
  route({
    method: 'DELETE',
    path: '/streams/:name',
    roles: managers,
    summary: 'Remove a receiver and its stream; its token is dead at once',
    handle: async ({ edge, params, caller }) => {
      await deleteStream(edge.core, streamCalled(edge.core, params['name'] ?? ''), caller);
      return noContent();
    },
  }),
  route({
    method: 'POST',
    path: '/streams/:name/token',
    roles: managers,
    summary: 'Make a new token for a receiver; the old one is dead at once',
    handle: async ({ edge, params, caller }) => {
      const row = streamCalled(edge.core, params['name'] ?? '');
      const token = await renewReceiverToken(edge.core, row, caller);
      return created({ name: row.name, token }, `/admin/v1/streams/${row.name}`);
    },
  }),
  route({
    method: 'POST',
    path: '/streams/:name/verify',
    roles: managers,
    summary: 'Send a verification event over the stream',
    handle: async ({ edge, params, caller }) => {
      await requestVerification(edge.core, streamCalled(edge.core, params['name'] ?? ''), undefined, caller);
      return noContent();
    },
  }),
  route({
    method: 'POST',
    path: '/streams/:name/resume',
    roles: managers,
    summary: 'Have a stream that is paused or disabled go on',
    handle: async ({ edge, params, caller, operator }) => {
      const row = streamCalled(edge.core, params['name'] ?? '');
      return ok(streamView(await resumeStream(edge.core, row, caller), operator));
    },
  }),
  route({
    method: 'GET',
    path: '/streams/:name/deliveries',
    roles: everyone,
    summary: 'Show the last pushes since this process started',
    handle: async ({ edge, params }) => {
      const { id } = streamCalled(edge.core, params['name'] ?? '');
      return ok({ items: edge.deliveries.recent(id).map(triedView) });
    },
  }),
  route({
    method: 'POST',
    path: '/streams/:name/replay',
    roles: managers,
    summary: 'Go on from another place in the audit log',
    body: replay,
    handle: async ({ edge, params, body, caller, operator }) => {
      const row = streamCalled(edge.core, params['name'] ?? '');
      return ok(streamView(await replayStream(edge.core, row, body.from, caller), operator));
    },
  }),
];
