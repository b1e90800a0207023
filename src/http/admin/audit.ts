/** `/admin/v1/audit`: what happened, and what proves it. */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import { leafHash } from '../../domain/merkle.ts';
import { Refused } from '../../domain/refusals.ts';
import type { AuditFilter } from '../../ports/ledger.ts';
import { checkpoint, exportAudit, listAudit } from '../../services/audit/audit-log.ts';
import { witness } from '../../services/audit/witness.ts';
import type { Core } from '../../services/core.ts';
import * as field from '../schemas.ts';
import { type AdminRoute, auditReaders, ok, route } from './route.ts';

const filters = {
  agent: field.reference.optional(),
  connection: field.reference.optional(),
  grant: field.reference.optional(),
  type: z
    .string()
    .regex(/^[a-z0-9_.]{1,100}$/, 'a type of entry, like grant.issued')
    .optional(),
  from: field.momentOrDay.optional(),
  to: field.momentOrDay.optional(),
};
const list = z.strictObject({
  ...filters,
  cursor: field.digits(0, Number.MAX_SAFE_INTEGER).optional(),
  limit: field.digits(1, 1000).default(100),
});
const exported = z.strictObject({ ...filters, format: z.enum(['jsonl', 'csv']).default('jsonl') });

/** Deleted agents and connections can still be asked for by id; an unknown name finds nothing. */
const filterOf = (core: Core, query: z.infer<typeof list> | z.infer<typeof exported>): AuditFilter => ({
  agent_id: query.agent === undefined ? undefined : (core.state.agentCalled(query.agent)?.id ?? query.agent),
  connection_id:
    query.connection === undefined
      ? undefined
      : (core.state.connectionCalled(query.connection)?.id ?? query.connection),
  grant_id: query.grant,
  type: query.type,
  from: query.from,
  to: query.to,
});

const contentTypes = { jsonl: 'application/jsonl', csv: 'text/csv; charset=utf-8; header=present' };

export const auditRoutes: AdminRoute[] = [
  route({
    method: 'GET',
    path: '/audit',
    roles: auditReaders,
    summary: 'List audit entries, newest first',
    query: list,
    handle: async ({ edge, query }) => {
      const { items, next } = await listAudit(edge.core, filterOf(edge.core, query), query.cursor, query.limit);
      return ok({ items, next_cursor: next === null ? null : String(next) });
    },
  }),
  route({
    method: 'GET',
    path: '/audit/export',
    roles: auditReaders,
    summary: 'Stream audit entries, oldest first; unfiltered JSONL ends with the checkpoint it can be verified against',
    query: exported,
    handle: async ({ edge, query, res }) => {
      const lines = exportAudit(edge.core, query.format, filterOf(edge.core, query));
      // The first piece decides whether this is an answer or an error.
      const first = await lines.next();
      res.setHeader('Content-Type', contentTypes[query.format]);
      res.setHeader('Content-Disposition', `attachment; filename="warder-audit.${query.format}"`);
      res.setHeader('Cache-Control', 'no-store');
      const all = async function* () {
        if (!first.done) yield first.value;
        yield* lines;
      };
      await pipeline(Readable.from(all()), res);
      return undefined;
    },
  }),
  route({
    method: 'GET',
    path: '/audit/checkpoint',
    roles: auditReaders,
    summary: 'The log’s size and root, signed',
    handle: async ({ edge }) => ok(await checkpoint(edge.core)),
  }),
  route({
    method: 'POST',
    path: '/audit/witness',
    roles: auditReaders,
    summary:
      'Show a checkpoint kept from earlier: whether the log continues it, with proof; a log that went back is recorded',
    body: z.strictObject({ checkpoint: z.string().min(1).max(16_384) }),
    handle: async ({ edge, body, caller }) => ok(await witness(edge.core, body.checkpoint, caller)),
  }),
  route({
    method: 'GET',
    path: '/audit/proof/:seq',
    roles: auditReaders,
    summary: 'The inclusion proof of one entry in the log as it stands (RFC 9162 section 2.1.3)',
    handle: async ({ edge, params }) => {
      const { core } = edge;
      const text = params['seq'] ?? '';
      const seq = Number(text);
      const signed = await checkpoint(core);
      if (!/^(0|[1-9][0-9]{0,14})$/.test(text) || seq >= signed.size) {
        throw new Refused('not_found', 'there is no entry with this number');
      }
      const [entry] = await core.reader.auditRange({}, seq, seq + 1, 1);
      const proof = await core.reader.inclusionProof(seq, signed.size);
      const base64 = (hash: Uint8Array): string => Buffer.from(hash).toString('base64');
      return ok({
        seq,
        leaf_hash: entry ? base64(leafHash(entry.body)) : null,
        proof: proof.map(base64),
        ...signed,
      });
    },
  }),
];
