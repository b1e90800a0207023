/** `/admin/v1/grants`: what is out there. */
import { z } from 'zod';
import type { Grant, GrantStatus } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import type { Core } from '../../services/core.ts';
import { retryGrant } from '../../services/revocation/retry.ts';
import * as field from '../schemas.ts';
import { grantAdminView } from '../views.ts';
import { type AdminRoute, everyone, ok, responders, route } from './route.ts';

const statuses = [
  'intended',
  'active',
  'expired',
  'revoked',
  'returned',
  'aborted',
  'unrevocable',
] as const satisfies GrantStatus[];

const list = z.strictObject({
  ...field.pageQuery('grt'),
  agent: field.reference.optional(),
  connection: field.reference.optional(),
  status: z.enum(statuses).optional(),
  from: field.momentOrDay.optional(),
  to: field.momentOrDay.optional(),
});

/** At most this many rows are looked at for a page: a status that a fence decides cannot be asked of the database. */
const maxScanned = 20_000;

/** A page of grants whose shown status is the one asked for, however it came about. */
const listGrants = async (core: Core, query: z.infer<typeof list>) => {
  const agent = query.agent === undefined ? undefined : (core.state.agentCalled(query.agent)?.id ?? query.agent);
  const connection =
    query.connection === undefined
      ? undefined
      : (core.state.connectionCalled(query.connection)?.id ?? query.connection);
  // A stored `active` may be shown as revoked or expired; every other status is shown as it is stored.
  const stored: Partial<Record<GrantStatus, GrantStatus[]>> = {
    active: ['active'],
    revoked: ['active', 'revoked'],
    expired: ['active', 'expired'],
  };
  const wanted = query.status;
  const filter = {
    agent_id: agent,
    connection_id: connection,
    statuses: wanted === undefined ? undefined : (stored[wanted] ?? [wanted]),
    alive_at: wanted === 'active' ? core.clock.now() : undefined,
    from: query.from,
    to: query.to,
  };
  const items: unknown[] = [];
  let before = query.cursor;
  for (let scanned = 0; scanned < maxScanned; ) {
    const page: Grant[] = await core.reader.grants(filter, { before, limit: query.limit });
    for (const grant of page) {
      before = grant.id;
      const view = grantAdminView(core, grant);
      if (wanted === undefined || view.status === wanted) items.push(view);
      if (items.length === query.limit) return { items, next_cursor: before };
    }
    scanned += page.length;
    if (page.length < query.limit) return { items, next_cursor: null };
  }
  return { items, next_cursor: before ?? null };
};

export const grantRoutes: AdminRoute[] = [
  route({
    method: 'GET',
    path: '/grants',
    roles: everyone,
    summary: 'List grants, newest first',
    query: list,
    handle: async ({ edge, query }) => ok(await listGrants(edge.core, query)),
  }),
  route({
    method: 'GET',
    path: '/grants/:id',
    roles: everyone,
    summary: 'Show a grant',
    handle: async ({ edge, params }) => {
      const grant = await edge.core.state.grants.get(params['id'] ?? '');
      if (!grant) throw new Refused('not_found', 'there is no such grant');
      return ok(grantAdminView(edge.core, grant));
    },
  }),
  route({
    method: 'POST',
    path: '/grants/:id/retry',
    roles: responders,
    summary: 'Try again to take back upstream what could not be',
    handle: async ({ edge, params, caller }) => {
      const grant = await edge.core.state.grants.get(params['id'] ?? '');
      if (!grant) throw new Refused('not_found', 'there is no such grant');
      return ok(grantAdminView(edge.core, await retryGrant(edge.core, grant, caller)));
    },
  }),
];
