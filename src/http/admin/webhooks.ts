/** `/admin/v1/webhooks`: who is told of alerts. */
import { z } from 'zod';
import { alertEvents } from '../../domain/alert-events.ts';
import { endpointOrigin, longestEndpointUrl } from '../../domain/endpoint-url.ts';
import type { Operator } from '../../domain/model.ts';
import { isEventPattern, type Webhook } from '../../domain/webhook.ts';
import {
  createWebhook,
  deleteWebhook,
  replayWebhook,
  rotateWebhookSecret,
  updateWebhook,
  webhookCalled,
} from '../../services/alerts/manage-webhooks.ts';
import type { Tried } from '../../services/alerts/recently.ts';
import * as field from '../schemas.ts';
import { given } from './entitlements.ts';
import { placeView } from './place-view.ts';
import { type AdminRoute, created, everyone, managers, noContent, ok, pageOf, route } from './route.ts';

const events = z
  .array(
    z.string().max(100).refine(isEventPattern, 'an alert, all of a kind (rotation.*), or *; see GET /admin/v1/alerts'),
  )
  .min(1)
  .max(100)
  .refine((list) => new Set(list).size === list.length, 'an event is named twice');
const url = z.string().min(1).max(longestEndpointUrl);
const create = z.strictObject({
  name: field.name,
  url,
  events: events.default(['*']),
  allow_private_network: z.boolean().default(false),
});
const patch = z
  .strictObject({ url, events, allow_private_network: z.boolean(), status: z.enum(['active', 'disabled']) })
  .partial();
const list = z.strictObject(field.pageQuery('whk'));
/** A week: whoever needs longer to put a secret into place has other troubles. */
const rotate = z.strictObject({ grace_seconds: z.int().min(0).max(604_800).default(86_400) });
export const replay = z.strictObject({
  from: z.union([z.int().min(0).max(Number.MAX_SAFE_INTEGER), z.literal('now')]),
});

/** The address may be a secret of the endpoint: whole for those who may change it, its origin for the others. */
const shownUrl = (row: Webhook, { roles }: Operator): string =>
  roles.some((role) => managers.includes(role)) ? row.url : `${endpointOrigin(row.url)}/…`;

const webhookView = (row: Webhook, operator: Operator) => ({
  id: row.id,
  name: row.name,
  url: shownUrl(row, operator),
  events: row.events,
  allow_private_network: row.allow_private_network,
  status: row.status === 'active' && row.failing_told ? 'failing' : row.status,
  disabled_because: row.disabled_because,
  secret: {
    number: row.secret_number,
    previous_until: row.previous_until && new Date(row.previous_until).toISOString(),
  },
  ...placeView(row),
});

export const triedView = (tried: Tried) => ({ ...tried, at: new Date(tried.at).toISOString() });

export const webhookRoutes: AdminRoute[] = [
  route({
    method: 'GET',
    path: '/alerts',
    roles: everyone,
    summary: 'List what webhooks can be told of',
    handle: async () => ok({ items: Object.entries(alertEvents).map(([type, event]) => ({ type, ...event })) }),
  }),
  route({
    method: 'POST',
    path: '/webhooks',
    roles: managers,
    summary: 'Add a webhook; its secret is shown this once',
    body: create,
    handle: async ({ edge, body, caller, operator }) => {
      const { webhook, secret } = await createWebhook(edge.core, body, caller);
      return created(
        { ...webhookView(webhook, operator), signing_secret: secret },
        `/admin/v1/webhooks/${webhook.name}`,
      );
    },
  }),
  route({
    method: 'GET',
    path: '/webhooks',
    roles: everyone,
    summary: 'List webhooks',
    query: list,
    handle: async ({ edge, query, operator }) =>
      pageOf(edge.core.state.webhooks.all(), query, (row) => webhookView(row, operator)),
  }),
  route({
    method: 'GET',
    path: '/webhooks/:name',
    roles: everyone,
    summary: 'Show a webhook',
    handle: async ({ edge, params, operator }) =>
      ok(webhookView(webhookCalled(edge.core, params['name'] ?? ''), operator)),
  }),
  route({
    method: 'PATCH',
    path: '/webhooks/:name',
    roles: managers,
    summary: 'Change, disable or enable a webhook',
    body: patch,
    handle: async ({ edge, params, body, caller, operator }) => {
      const row = webhookCalled(edge.core, params['name'] ?? '');
      return ok(webhookView(await updateWebhook(edge.core, row, given(body), caller), operator));
    },
  }),
  route({
    method: 'DELETE',
    path: '/webhooks/:name',
    roles: managers,
    summary: 'Remove a webhook',
    handle: async ({ edge, params, caller }) => {
      await deleteWebhook(edge.core, webhookCalled(edge.core, params['name'] ?? ''), caller);
      return noContent();
    },
  }),
  route({
    method: 'POST',
    path: '/webhooks/:name/secret',
    roles: managers,
    summary: 'Make a new signing secret; the old one signs as well until its grace is over',
    body: rotate,
    handle: async ({ edge, params, body, caller, operator }) => {
      const row = webhookCalled(edge.core, params['name'] ?? '');
      const { webhook, secret } = await rotateWebhookSecret(edge.core, row, body.grace_seconds, caller);
      return created(
        { ...webhookView(webhook, operator), signing_secret: secret },
        `/admin/v1/webhooks/${webhook.name}`,
      );
    },
  }),
  route({
    method: 'POST',
    path: '/webhooks/:name/test',
    roles: managers,
    summary: 'Send a test message now, and say what came of it',
    handle: async ({ edge, params, caller }) => {
      const tried = await edge.deliveries.test(webhookCalled(edge.core, params['name'] ?? ''), caller);
      return ok({ delivered: tried.failure === null, ...triedView(tried) });
    },
  }),
  route({
    method: 'GET',
    path: '/webhooks/:name/deliveries',
    roles: everyone,
    summary: 'Show the last tries since this process started',
    handle: async ({ edge, params }) => {
      const { id } = webhookCalled(edge.core, params['name'] ?? '');
      return ok({ items: edge.deliveries.recent(id).map(triedView) });
    },
  }),
  route({
    method: 'POST',
    path: '/webhooks/:name/replay',
    roles: managers,
    summary: 'Go on from another place in the audit log',
    body: replay,
    handle: async ({ edge, params, body, caller, operator }) => {
      const row = webhookCalled(edge.core, params['name'] ?? '');
      return ok(webhookView(await replayWebhook(edge.core, row, body.from, caller), operator));
    },
  }),
];
