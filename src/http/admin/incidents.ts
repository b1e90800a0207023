/** `/admin/v1/incidents`: from opening one to closing it, its check list, its report and its timeline. */
import type { Response } from 'express';
import { z } from 'zod';
import {
  type Incident,
  type IncidentItem,
  incidentSeverities,
  incidentStatuses,
  itemKinds,
} from '../../domain/incident.ts';
import { reportHtml } from '../../domain/incident-html.ts';
import { reportMarkdown } from '../../domain/incident-markdown.ts';
import { Refused } from '../../domain/refusals.ts';
import type { Core } from '../../services/core.ts';
import { containIncident } from '../../services/incidents/contain.ts';
import { closeIncident, incidentCalled, noteIncident, openIncident } from '../../services/incidents/incidents.ts';
import { recoverIncident } from '../../services/incidents/recover.ts';
import { addItem, remediateIncident, rotateItem, updateItem } from '../../services/incidents/remediate.ts';
import { makeReport } from '../../services/incidents/report.ts';
import { readTimeline } from '../../services/incidents/timeline.ts';
import * as field from '../schemas.ts';
import { iso, isoOrNull, revocationView, selectorView } from '../views.ts';
import { freezeSelectorSchema, freezeView } from './freezes.ts';
import { type AdminRoute, auditReaders, created, ok, pageBefore, responders, route } from './route.ts';
import { resolved } from './selector.ts';

const line = (max: number) => field.reason.refine((text) => text.length <= max, `at most ${max} characters`);

const opening = z.strictObject({
  title: line(200),
  severity: z.enum(incidentSeverities).default('high'),
  selector: freezeSelectorSchema,
  window: z.strictObject({ from: field.moment.optional(), to: field.moment.optional() }).default({}),
  reason: field.reason,
  drill: z.boolean().default(false),
});

const containing = z.strictObject({
  revoke: z.boolean().default(true),
  suspend: z.boolean().default(false),
  freeze: z.boolean().default(true),
  rotate: z.boolean().default(false),
  reason: field.reason,
});

const narrowing = z
  .strictObject({
    entitlement: field.reference,
    remove: z.boolean().optional(),
    scopes: field.scopes.optional(),
    max_ttl_seconds: field.ttlSeconds.optional(),
    approval: z.literal('required').optional(),
    expires_at: field.moment.optional(),
  })
  .refine((one) => one.remove !== true || Object.keys(one).length === 2, 'what is removed has no other fields');

const recovering = z.strictObject({
  reason: field.reason,
  lift: z.boolean().default(true),
  resume: z.boolean().default(true),
  narrow: z
    .array(narrowing)
    .max(500)
    .refine((list) => new Set(list.map((one) => one.entitlement)).size === list.length, 'an entitlement is named twice')
    .default([]),
  narrow_unused: z.boolean().default(false),
});

const newItem = z.strictObject({
  text: field.reason,
  kind: z.enum(itemKinds).optional(),
  assigned_to: line(200).optional(),
});
const itemPatch = z
  .strictObject({
    status: z.enum(['open', 'done', 'waived']).optional(),
    assigned_to: line(200).nullable().optional(),
    note: field.reason.optional(),
  })
  .refine((patch) => Object.keys(patch).length > 0, 'nothing is to be changed');

/** When nobody says when it began: far enough back to see how it did. */
const defaultWindowMs = 24 * 3_600_000;

const itemView = (row: IncidentItem) => ({
  number: row.number,
  kind: row.kind,
  text: row.text,
  assigned_to: row.assigned_to,
  status: row.status,
  note: row.note,
  closed_by: row.closed_by,
  closed_at: isoOrNull(row.closed_at),
});

/** With the names of now; of what was deleted with those of when it was opened. */
const shownSelector = (core: Core, { selector, names: then }: Incident): Record<string, unknown> => {
  const now = selectorView(core, selector);
  const gone = Object.entries(then).filter(([field]) => now[field] === selector[field as keyof typeof then]);
  return { ...now, ...Object.fromEntries(gone) };
};

const names = (agents: { name: string }[]): string[] => [...new Set(agents.map((agent) => agent.name))];

const incidentView = (core: Core, row: Incident) => {
  const { revocations, freezes, suspended, rotations, resumed } = row.measures;
  return {
    id: row.id,
    title: row.title,
    severity: row.severity,
    status: row.status,
    drill: row.drill,
    selector: shownSelector(core, row),
    window: { from: iso(row.window_from), to: isoOrNull(row.window_to) },
    reason: row.reason,
    opened_by: row.opened_by,
    opened_at: iso(row.created_at),
    contained_at: isoOrNull(row.contained_at),
    recovered_at: isoOrNull(row.recovered_at),
    closed_at: isoOrNull(row.closed_at),
    measures: { revocations, freezes, suspended: names(suspended), rotations, resumed: names(resumed) },
    changes: row.changes,
  };
};

const shown = async (core: Core, row: Incident) => ({
  ...incidentView(core, row),
  items: (await core.reader.incidentItems(row.id)).map(itemView),
});

const numberIn = (params: Record<string, string>): number => {
  const text = params['number'] ?? '';
  if (/^[1-9]\d{0,5}$/.test(text)) return Number(text);
  throw new Refused('not_found', 'this incident has no such item');
};

const idIn = (params: Record<string, string>): string => params['id'] ?? '';

/** Aborted when whoever asked has gone: nobody reads a million entries for him. */
const presence = (res: Response): AbortSignal => {
  const gone = new AbortController();
  res.on('close', () => {
    if (!res.writableFinished) gone.abort(new Refused('invalid_request', 'nobody waits for this answer any more'));
  });
  return gone.signal;
};

const formats = {
  json: { type: 'application/json; charset=utf-8', extension: 'json' },
  md: { type: 'text/markdown; charset=utf-8', extension: 'md' },
  html: { type: 'text/html; charset=utf-8', extension: 'html' },
} as const;

export const incidentRoutes: AdminRoute[] = [
  route({
    method: 'POST',
    path: '/incidents',
    roles: responders,
    summary: 'Open an incident about what a selector names',
    body: opening,
    handle: async ({ edge, body, caller }) => {
      const { core } = edge;
      const row = await openIncident(
        core,
        {
          title: body.title,
          severity: body.severity,
          selector: await resolved(core, body.selector),
          from: body.window.from ?? core.clock.now() - defaultWindowMs,
          to: body.window.to,
          reason: body.reason,
          drill: body.drill,
        },
        caller,
      );
      return created(await shown(core, row), `/admin/v1/incidents/${row.id}`);
    },
  }),
  route({
    method: 'GET',
    path: '/incidents',
    roles: auditReaders,
    summary: 'List incidents, newest first',
    query: z.strictObject({ ...field.pageQuery('inc'), status: z.enum(incidentStatuses).optional() }),
    handle: async ({ edge, query }) => {
      const { reader } = edge.core;
      const rows = await reader.incidents({ status: query.status }, { before: query.cursor, limit: query.limit });
      return pageBefore(
        rows,
        query.limit,
        rows.map((row) => incidentView(edge.core, row)),
      );
    },
  }),
  route({
    method: 'GET',
    path: '/incidents/:id',
    roles: auditReaders,
    summary: 'Show an incident with its check list',
    handle: async ({ edge, params }) => ok(await shown(edge.core, await incidentCalled(edge.core, idIn(params)))),
  }),
  route({
    method: 'POST',
    path: '/incidents/:id/contain',
    roles: responders,
    summary: 'Contain it: revoke what is out, freeze issuing, suspend agents, rotate secrets, in one call',
    body: containing,
    handle: async ({ edge, params, body, operator, caller }) => {
      const { core } = edge;
      const done = await containIncident(core, idIn(params), body, operator, caller);
      return ok({
        incident: await shown(core, done.incident),
        revocation: done.revocation ? revocationView(core, done.revocation) : null,
        freeze: done.freeze ? freezeView(core, done.freeze) : null,
        suspended: done.suspended.map((agent) => agent.name),
      });
    },
  }),
  route({
    method: 'GET',
    path: '/incidents/:id/report',
    roles: auditReaders,
    summary: 'What was obtained and done in its window, and what was done about it; as JSON, Markdown or HTML',
    query: z.strictObject({ format: z.enum(['json', 'md', 'html']).default('json') }),
    handle: async ({ edge, params, query, res }) => {
      const { core } = edge;
      const about = (incident: Incident) => shownSelector(core, incident);
      const report = await makeReport(core, idIn(params), about, presence(res));
      const { type, extension } = formats[query.format];
      res.setHeader('Content-Type', type);
      res.setHeader('Cache-Control', 'no-store');
      // A page of names that agents and strangers chose: kept in a file, never run as a page of this origin.
      res.setHeader('Content-Disposition', `attachment; filename="${report.incident.id}.${extension}"`);
      res.setHeader('Content-Security-Policy', "default-src 'none'; style-src 'unsafe-inline'; sandbox");
      if (query.format === 'md') res.end(reportMarkdown(report));
      else if (query.format === 'html') res.end(reportHtml(report));
      else res.end(JSON.stringify(report));
      return undefined;
    },
  }),
  route({
    method: 'GET',
    path: '/incidents/:id/timeline',
    roles: auditReaders,
    summary: 'Its timeline from the audit log, oldest first',
    query: z.strictObject({
      cursor: field.digits(0, Number.MAX_SAFE_INTEGER).optional(),
      limit: field.digits(1, 500).default(100),
    }),
    handle: async ({ edge, params, query, res }) => {
      const { items, next } = await readTimeline(
        edge.core,
        idIn(params),
        query.cursor ?? -1,
        query.limit,
        presence(res),
      );
      return ok({ items, next_cursor: next === null ? null : String(next) });
    },
  }),
  route({
    method: 'POST',
    path: '/incidents/:id/remediate',
    roles: responders,
    summary: 'Make its check list from what was exposed, or add what has become known since',
    handle: async ({ edge, params, caller, res }) => {
      const { core } = edge;
      const { incident, added } = await remediateIncident(core, idIn(params), caller, presence(res));
      return ok({ added, incident: await shown(core, incident) });
    },
  }),
  route({
    method: 'POST',
    path: '/incidents/:id/items',
    roles: responders,
    summary: 'Add a line to its check list',
    body: newItem,
    handle: async ({ edge, params, body, caller }) => {
      const id = idIn(params);
      const item = await addItem(edge.core, id, body, caller);
      return created(itemView(item), `/admin/v1/incidents/${id}`);
    },
  }),
  route({
    method: 'PATCH',
    path: '/incidents/:id/items/:number',
    roles: responders,
    summary: 'Assign an item, or say that it is done or need not be',
    body: itemPatch,
    handle: async ({ edge, params, body, caller }) =>
      ok(itemView(await updateItem(edge.core, idIn(params), numberIn(params), body, caller))),
  }),
  route({
    method: 'POST',
    path: '/incidents/:id/items/:number/rotate',
    roles: responders,
    summary: 'Start the rotation an item asks for',
    handle: async ({ edge, params, caller }) =>
      ok(itemView(await rotateItem(edge.core, idIn(params), numberIn(params), caller))),
  }),
  route({
    method: 'POST',
    path: '/incidents/:id/recover',
    roles: responders,
    summary: 'Lift its freezes, resume the agents it suspended, narrow entitlements, in one commit',
    body: recovering,
    handle: async ({ edge, params, body, operator, caller, res }) => {
      const { narrow_unused: narrowUnused, ...rest } = body;
      const recovery = { ...rest, narrowUnused };
      const row = await recoverIncident(edge.core, idIn(params), recovery, operator, caller, presence(res));
      return ok(await shown(edge.core, row));
    },
  }),
  route({
    method: 'POST',
    path: '/incidents/:id/notes',
    roles: responders,
    summary: 'Note something in its timeline',
    body: z.strictObject({ note: field.reason }),
    handle: async ({ edge, params, body, caller }) =>
      ok(incidentView(edge.core, await noteIncident(edge.core, idIn(params), body.note, caller))),
  }),
  route({
    method: 'POST',
    path: '/incidents/:id/close',
    roles: responders,
    summary: 'Close it; refused while a freeze of it stands or an item is open',
    body: z.strictObject({ summary: field.reason }),
    handle: async ({ edge, params, body, caller }) =>
      ok(await shown(edge.core, await closeIncident(edge.core, idIn(params), body.summary, caller))),
  }),
];
