/** `/admin/v1/apply`: agents, connections and entitlements from one document, all or none. */
import { z } from 'zod';
import { type AccessDocument, applyAccess } from '../../services/access/apply-access.ts';
import { commit, record } from '../../services/core.ts';
import * as field from '../schemas.ts';
import { authInput, authSchema, dpop } from './agents.ts';
import { connectionSchema } from './connections.ts';
import { entitlementSchema, given } from './entitlements.ts';
import { policyInput, rotationSchema } from './rotations.ts';
import { type AdminRoute, managers, ok, route } from './route.ts';

const maxItems = 10_000;

const document = z.strictObject({
  agents: z
    .array(
      z.strictObject({
        name: field.name,
        owner: field.owner,
        purpose: field.purpose.nullish(),
        auth: authSchema.optional(),
        dpop: dpop.optional(),
      }),
    )
    .max(maxItems)
    .default([]),
  connections: z
    .array(connectionSchema.extend({ rotation: rotationSchema.nullish() }))
    .max(maxItems)
    .default([]),
  entitlements: z.array(entitlementSchema).max(maxItems).default([]),
  plan: z.boolean().default(false),
  prune: z.boolean().default(false),
});

export const applyRoutes: AdminRoute[] = [
  route({
    method: 'POST',
    path: '/apply',
    roles: managers,
    summary: 'Bring access to what a document says; with plan, only show the difference',
    body: document,
    maxBodyBytes: 4 * 1024 * 1024,
    handle: async ({ edge, body, operator, caller }) => {
      const access: AccessDocument = {
        agents: body.agents.map((agent) => ({
          ...agent,
          auth: agent.auth === undefined ? undefined : authInput(agent.auth),
        })),
        connections: body.connections.map(({ rotation, ...connection }) => ({
          ...connection,
          rotation: rotation ? policyInput(rotation) : rotation,
        })),
        entitlements: body.entitlements.map(({ agent, connection, scopes, ...rest }) => ({
          agent,
          connection,
          scopes,
          ...given(rest),
        })),
      };
      const { plan, prune } = body;
      const applied = await applyAccess(edge.core, access, { plan, prune }, operator, caller);
      if (!applied.applied) {
        await commit(edge.core, {
          writes: [],
          audit: [
            record(edge.core, caller, {
              type: plan ? 'access.planned' : 'access.unchanged',
              data: { changes: applied.changes.length, prune },
            }),
          ],
        });
      }
      return ok(applied);
    },
  }),
];
