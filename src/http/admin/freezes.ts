/** `/admin/v1/freezes`: nothing new is issued for what one names, until it is lifted. */
import { z } from 'zod';
import type { Freeze } from '../../domain/incident.ts';
import type { Selector } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { entitlementCalled } from '../../services/access/manage-entitlements.ts';
import type { Core } from '../../services/core.ts';
import { createFreeze, liftFreeze } from '../../services/incidents/freeze.ts';
import * as field from '../schemas.ts';
import { iso, isoOrNull, selectorView } from '../views.ts';
import { type AdminRoute, created, everyone, ok, pageBefore, responders, route } from './route.ts';
import { resolved, selectorSchema } from './selector.ts';

export const freezeSelectorSchema = selectorSchema.refine(
  (selector) => selector.grant === undefined,
  'a grant is issued already: revoke it; freeze its agent, connection or entitlement',
);

export const freezeView = (core: Core, row: Freeze) => ({
  id: row.id,
  selector: selectorView(core, row.selector),
  reason: row.reason,
  incident: row.incident_id,
  standing: row.lifted_at === null,
  created_by: row.created_by,
  created_at: iso(row.created_at),
  lifted_by: row.lifted_by,
  lifted_at: isoOrNull(row.lifted_at),
  lift_reason: row.lift_reason,
});

/** What is gone issues nothing: a freeze of it, or of a slip of the pen, would say that it stops something and stop nothing. */
const requireIssuing = (core: Core, { entitlement, issuer }: Selector): void => {
  if (entitlement !== undefined) entitlementCalled(core, entitlement);
  if (issuer !== undefined && !core.state.trustedIssuers.get(issuer)) {
    throw new Refused('not_found', 'there is no such issuer');
  }
};

export const freezeRoutes: AdminRoute[] = [
  route({
    method: 'POST',
    path: '/freezes',
    roles: responders,
    summary: 'Issue nothing new for what the selector matches, until this is lifted; what is out goes on working',
    body: z.strictObject({ selector: freezeSelectorSchema, reason: field.reason }),
    handle: async ({ edge, body, caller }) => {
      const { core } = edge;
      const selector = await resolved(core, body.selector);
      requireIssuing(core, selector);
      const row = await createFreeze(core, { selector, reason: body.reason }, caller);
      return created(freezeView(core, row), `/admin/v1/freezes/${row.id}`);
    },
  }),
  route({
    method: 'GET',
    path: '/freezes',
    roles: everyone,
    summary: 'List freezes, newest first',
    query: z.strictObject({ ...field.pageQuery('frz'), standing: z.enum(['true', 'false']).optional() }),
    handle: async ({ edge, query }) => {
      const standing = query.standing === undefined ? undefined : query.standing === 'true';
      const rows = await edge.core.reader.freezes({ standing }, { before: query.cursor, limit: query.limit });
      return pageBefore(
        rows,
        query.limit,
        rows.map((row) => freezeView(edge.core, row)),
      );
    },
  }),
  route({
    method: 'GET',
    path: '/freezes/:id',
    roles: everyone,
    summary: 'Show a freeze',
    handle: async ({ edge, params }) => {
      const row = await edge.core.reader.freeze(params['id'] ?? '');
      if (!row) throw new Refused('not_found', 'there is no such freeze');
      return ok(freezeView(edge.core, row));
    },
  }),
  route({
    method: 'POST',
    path: '/freezes/:id/lift',
    roles: responders,
    summary: 'Lift a freeze: what it named may be issued again',
    body: z.strictObject({ reason: field.reason }),
    handle: async ({ edge, params, body, caller }) =>
      ok(freezeView(edge.core, await liftFreeze(edge.core, params['id'] ?? '', body.reason, caller))),
  }),
];
