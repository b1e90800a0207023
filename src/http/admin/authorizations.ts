/** `/admin/v1/connections/:name/connect` and `…/authorizations`: the accounts of OAuth connections. */
import { z } from 'zod';
import type { Authorization, AuthorizationFlow } from '../../domain/model.ts';
import { connectionCalled } from '../../services/access/manage-connections.ts';
import { flowOf, startFlow } from '../../services/accounts/connect-flow.ts';
import { disconnect } from '../../services/accounts/disconnect.ts';
import type { Core } from '../../services/core.ts';
import * as field from '../schemas.ts';
import { authorizationView, iso } from '../views.ts';
import { type AdminRoute, created, everyone, managers, ok, pageOf, route } from './route.ts';

/** A link for oneself is opened at once; one for somebody else is sent, and read tomorrow. */
const defaultLinkSeconds = 600;
const longestLinkSeconds = 86_400;

const connectSchema = z.strictObject({
  subject: field.subject.nullish(),
  expires_in_seconds: z.int().min(60).max(longestLinkSeconds).default(defaultLinkSeconds),
});
const list = z.strictObject({
  ...field.pageQuery('aut'),
  status: z.enum(['connected', 'needs_reconnect', 'disconnected']).optional(),
});
const forget = z.strictObject({ forget: z.enum(['true', 'false']).default('false') });

/** Waiting for the person, or for the server, is one to whoever asks. */
const shown: Record<AuthorizationFlow['status'], string> = {
  offered: 'pending',
  opened: 'pending',
  redeeming: 'pending',
  connected: 'connected',
  failed: 'failed',
};

const flowView = (core: Core, flow: AuthorizationFlow) => {
  const authorization =
    flow.authorization_id === null ? undefined : core.state.authorizations.get(flow.authorization_id);
  const over = flow.status !== 'connected' && flow.status !== 'failed' && flow.expires_at <= core.clock.now();
  return {
    id: flow.id,
    connection: core.state.connections.get(flow.connection_id)?.name ?? flow.connection_id,
    subject: flow.subject,
    status: over ? 'expired' : shown[flow.status],
    failure: flow.failure,
    authorization: authorization ? authorizationView(core, authorization) : null,
    expires_at: iso(flow.expires_at),
  };
};

const statusIs = (wanted: string | undefined) => (row: Authorization) => wanted === undefined || row.status === wanted;

export const authorizationRoutes: AdminRoute[] = [
  route({
    method: 'POST',
    path: '/connections/:name/connect',
    roles: managers,
    summary: 'Make a link with which a person connects an account (of the organisation, or of a subject)',
    body: connectSchema,
    handle: async ({ edge, params, body, operator, caller }) => {
      const { core } = edge;
      const connection = connectionCalled(core, params['name'] ?? '');
      const asked = { subject: body.subject ?? null, expiresInSeconds: body.expires_in_seconds };
      const { flow, link } = await startFlow(core, connection, asked, operator, caller);
      const location = `/admin/v1/connections/${connection.name}/connect/${flow.id}`;
      return created({ ...flowView(core, flow), authorize_url: link }, location);
    },
  }),
  route({
    method: 'GET',
    path: '/connections/:name/connect/:id',
    roles: managers,
    summary: 'How it went with a link; for the operator who made it',
    handle: async ({ edge, params, operator }) => {
      const connection = connectionCalled(edge.core, params['name'] ?? '');
      return ok(flowView(edge.core, await flowOf(edge.core, connection, params['id'] ?? '', operator)));
    },
  }),
  route({
    method: 'GET',
    path: '/connections/:name/authorizations',
    roles: everyone,
    summary: 'List the accounts that are connected, without their tokens',
    query: list,
    handle: async ({ edge, params, query }) => {
      const connection = connectionCalled(edge.core, params['name'] ?? '');
      const rows = edge.core.state.authorizations.ofConnection(connection.id).filter(statusIs(query.status));
      return pageOf(rows, query, (row) => authorizationView(edge.core, row));
    },
  }),
  route({
    method: 'DELETE',
    path: '/connections/:name/authorizations/:id',
    roles: managers,
    summary: 'Disconnect an account: end its grants, revoke its tokens at the server, forget them',
    query: forget,
    handle: async ({ edge, params, query, operator, caller }) => {
      const connection = connectionCalled(edge.core, params['name'] ?? '');
      const options = { forget: query.forget === 'true' };
      return ok(await disconnect(edge.core, connection, params['id'] ?? '', options, operator, caller));
    },
  }),
];
