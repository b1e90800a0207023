/** `/admin/v1/grants` and `/admin/v1/revocations`: what is out there, and taking it back. */
import { z } from 'zod';
import { isId } from '../../domain/ids.ts';
import type { Grant, GrantStatus, Revocation, Selector } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { agentCalled } from '../../services/access/manage-agents.ts';
import { connectionCalled } from '../../services/access/manage-connections.ts';
import { type Core, commit, record } from '../../services/core.ts';
import { dryRun, revoke } from '../../services/revocation/revoke.ts';
import * as field from '../schemas.ts';
import { InvalidRequest } from '../validate.ts';
import { grantAdminView, revocationView, selectorView } from '../views.ts';
import { type AdminRoute, created, everyone, ok, responders, route } from './route.ts';

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

const selectorSchema = z
  .strictObject({
    everything: z.literal(true),
    agent: field.reference,
    connection: field.reference,
    provider: field.provider,
    owner: field.owner,
    subject: field.subject,
    issuer: field.reference,
    entitlement: field.reference,
    grant: field.reference,
  })
  .partial()
  .refine((selector) => Object.keys(selector).length > 0, 'name what to revoke; {"everything": true} is everything')
  .refine(
    (selector) => selector.everything === undefined || Object.keys(selector).length === 1,
    'everything stands alone',
  );

const revocation = z.strictObject({
  selector: selectorSchema,
  reason: field.reason,
  suspend: z.boolean().default(false),
  rotate: z
    .literal(false, { error: 'rotation is not in this version yet; revoke first, then set new secrets' })
    .default(false),
  dry_run: z.boolean().default(false),
});

/** Not looked up when it is an id: the issuer may be gone while what was issued on its word lives. */
const unknownIssuer = (text: string): string => {
  if (isId('iss', text)) return text;
  throw new Refused('not_found', 'there is no such issuer');
};

/** Names become ids. A selector that names nothing that exists is an error, not a success that did nothing. */
const resolved = async (core: Core, selector: z.infer<typeof selectorSchema>): Promise<Selector> => {
  const { agent, connection, provider, issuer, entitlement, grant } = selector;
  if (provider !== undefined && !core.providers.has(provider)) {
    throw new InvalidRequest([`selector.provider: one of ${[...core.providers.keys()].join(', ')}`]);
  }
  if (grant !== undefined && !(await core.state.grants.get(grant))) {
    throw new Refused('not_found', 'there is no such grant');
  }
  return {
    ...(selector.everything === undefined ? {} : { everything: true as const }),
    ...(provider === undefined ? {} : { provider }),
    ...(selector.owner === undefined ? {} : { owner: selector.owner }),
    ...(selector.subject === undefined ? {} : { subject: selector.subject }),
    ...(issuer === undefined ? {} : { issuer: core.state.issuerCalled(issuer)?.id ?? unknownIssuer(issuer) }),
    ...(grant === undefined ? {} : { grant }),
    ...(agent === undefined ? {} : { agent: agentCalled(core, agent).id }),
    ...(connection === undefined ? {} : { connection: connectionCalled(core, connection).id }),
    // Not looked up: the entitlement may be gone while what was issued under it lives.
    ...(entitlement === undefined ? {} : { entitlement }),
  };
};

/** Its row counts what is done when all is; until then what the drain has recorded is counted. */
const shownRevocation = async (core: Core, row: Revocation) => {
  if (row.completed_at !== null) return revocationView(core, row);
  const progress = await core.reader.upstreamProgress(row.id);
  const counted = {
    ...row,
    // Until it is counted the row says 0; what is known to be left is left all the same.
    upstream_pending: Math.max(progress.livesOn, row.upstream_pending - progress.revoked - progress.unrevocable),
    upstream_revoked: progress.revoked,
    upstream_unrevocable: progress.unrevocable,
  };
  return revocationView(core, counted, progress);
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
    path: '/revocations',
    roles: responders,
    summary: 'Revoke everything the selector matches, at once; or show what that would be',
    body: revocation,
    handle: async ({ edge, body, caller }) => {
      const { core } = edge;
      const request = {
        selector: await resolved(core, body.selector),
        reason: body.reason,
        suspend: body.suspend,
        dryRun: body.dry_run,
      };
      if (request.dryRun) {
        const radius = await dryRun(core, request);
        await commit(core, {
          writes: [],
          audit: [
            record(core, caller, {
              type: 'revocation.planned',
              data: { selector: request.selector, reason: request.reason, grants: radius.grants },
            }),
          ],
        });
        return ok({ ...radius, selector: selectorView(core, radius.selector) });
      }
      const row = await revoke(core, request, caller);
      return created(revocationView(core, row), `/admin/v1/revocations/${row.id}`);
    },
  }),
  route({
    method: 'GET',
    path: '/revocations',
    roles: everyone,
    summary: 'List revocations, newest first',
    query: z.strictObject(field.pageQuery('rev')),
    handle: async ({ edge, query }) => {
      const rows = await edge.core.reader.revocations({ before: query.cursor, limit: query.limit });
      return ok({
        items: await Promise.all(rows.map((row) => shownRevocation(edge.core, row))),
        next_cursor: rows.length === query.limit ? (rows.at(-1)?.id ?? null) : null,
      });
    },
  }),
  route({
    method: 'GET',
    path: '/revocations/:id',
    roles: everyone,
    summary: 'Show a revocation and how far its clean-up has come',
    handle: async ({ edge, params }) => {
      const { core } = edge;
      const row = await core.reader.revocation(params['id'] ?? '');
      if (!row) throw new Refused('not_found', 'there is no such revocation');
      return ok(await shownRevocation(core, row));
    },
  }),
];
