/** `/admin/v1/entitlements`. */
import { z } from 'zod';
import { longestGrantSeconds } from '../../domain/decide.ts';
import {
  createEntitlement,
  deleteEntitlement,
  entitlementCalled,
  updateEntitlement,
} from '../../services/access/manage-entitlements.ts';
import * as field from '../schemas.ts';
import { entitlementView } from '../views.ts';
import { type AdminRoute, created, everyone, managers, noContent, ok, pageOf, route } from './route.ts';

const clock = z
  .string()
  .regex(/^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$/, 'a time of day like 08:00')
  .transform((text) => Number(text.slice(0, 2)) * 60 + Number(text.slice(3)));

const limits = {
  max_ttl_seconds: z.int().min(1).max(longestGrantSeconds),
  approval: z.enum(['none'], { error: 'only "none": approvals by people are not in this version yet' }),
  hours: z.strictObject({ from: clock, to: clock }).nullable(),
  budget: z
    .strictObject({ grants: z.int().min(1).max(1_000_000_000), per_seconds: z.int().min(1).max(31_536_000) })
    .nullable(),
  reason: field.reason.nullable(),
  on_behalf_of: field.subjects.nullable(),
  expires_at: field.moment.nullable(),
};

export const entitlementSchema = z.strictObject({
  agent: field.reference,
  connection: field.reference,
  scopes: field.scopes,
  ...z.object(limits).partial().shape,
});

const patch = z.strictObject({ scopes: field.scopes, ...limits }).partial();

const list = z.strictObject({
  ...field.pageQuery('ent'),
  agent: field.reference.optional(),
  connection: field.reference.optional(),
});

/** Only what was given: an absent field is no change, a null one is. */
export const given = <T extends object>(value: T): { [K in keyof T]?: Exclude<T[K], undefined> } =>
  Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };

export const entitlementRoutes: AdminRoute[] = [
  route({
    method: 'POST',
    path: '/entitlements',
    roles: managers,
    summary: 'Allow an agent some scopes of a connection',
    body: entitlementSchema,
    handle: async ({ edge, body, operator, caller }) => {
      const { agent, connection, scopes, ...rest } = body;
      const input = { agent, connection, scopes, ...given(rest) };
      const entitlement = await createEntitlement(edge.core, input, operator, caller);
      return created(entitlementView(edge.core, entitlement), `/admin/v1/entitlements/${entitlement.id}`);
    },
  }),
  route({
    method: 'GET',
    path: '/entitlements',
    roles: everyone,
    summary: 'List entitlements',
    query: list,
    handle: async ({ edge, query }) => {
      const { state } = edge.core;
      const agent = query.agent === undefined ? undefined : (state.agentCalled(query.agent)?.id ?? '');
      const connection =
        query.connection === undefined ? undefined : (state.connectionCalled(query.connection)?.id ?? '');
      return pageOf(
        state.entitlements
          .all()
          .filter((row) => agent === undefined || row.agent_id === agent)
          .filter((row) => connection === undefined || row.connection_id === connection),
        query,
        (row) => entitlementView(edge.core, row),
      );
    },
  }),
  route({
    method: 'GET',
    path: '/entitlements/:id',
    roles: everyone,
    summary: 'Show an entitlement',
    handle: async ({ edge, params }) =>
      ok(entitlementView(edge.core, entitlementCalled(edge.core, params['id'] ?? ''))),
  }),
  route({
    method: 'PATCH',
    path: '/entitlements/:id',
    roles: managers,
    summary: 'Change an entitlement; narrowing it kills what was issued under it',
    body: patch,
    handle: async ({ edge, params, body, operator, caller }) => {
      const row = entitlementCalled(edge.core, params['id'] ?? '');
      return ok(entitlementView(edge.core, await updateEntitlement(edge.core, row, given(body), operator, caller)));
    },
  }),
  route({
    method: 'DELETE',
    path: '/entitlements/:id',
    roles: managers,
    summary: 'Take an entitlement away, and what was issued under it',
    handle: async ({ edge, params, operator, caller }) => {
      await deleteEntitlement(edge.core, entitlementCalled(edge.core, params['id'] ?? ''), operator, caller);
      return noContent();
    },
  }),
];
