/** `/admin/v1/audit` and `/admin/v1/keys`: what happened, and what proves it. */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import { leafHash } from '../../domain/merkle.ts';
import { Refused } from '../../domain/refusals.ts';
import type { AuditFilter } from '../../ports/ledger.ts';
import { checkpoint, exportAudit, listAudit } from '../../services/audit-log.ts';
import { commitChanges } from '../../services/change.ts';
import { type Core, record } from '../../services/core.ts';
import * as field from '../schemas.ts';
import { iso, isoOrNull } from '../views.ts';
import { type AdminRoute, auditReaders, created, managers, ok, route } from './route.ts';

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

export const keyRoutes: AdminRoute[] = [
  route({
    method: 'GET',
    path: '/keys',
    roles: ['admin', 'operator', 'auditor'],
    summary: 'List key-encryption keys and signing keys, without their secret halves',
    handle: async ({ edge }) => {
      const { state, keyring } = edge.core;
      const seal = keyring.state();
      return ok({
        sealed: seal.sealed,
        why: seal.sealed ? seal.why : null,
        kms: keyring.kmsName,
        key_encryption_keys: state.keyEncryptionKeys.all().map((key) => ({
          number: key.number,
          kms: key.kms,
          state: key.state,
          created_at: iso(key.created_at),
        })),
        signing_keys: state.signingKeys.all().map((key) => ({
          id: key.id,
          purpose: key.purpose,
          algorithm: key.algorithm,
          state: key.state,
          retire_at: isoOrNull(key.retire_at),
          created_at: iso(key.created_at),
        })),
      });
    },
  }),
  route({
    method: 'POST',
    path: '/keys/signing/rotate',
    roles: managers,
    summary: 'Sign JWTs with the next key from now on; the old one stays published until nothing it signed is alive',
    handle: async ({ edge, caller }) => {
      const { core } = edge;
      const { writes, from, to } = await core.signingKeys.rotation();
      await commitChanges(core, {
        writes,
        audit: [record(core, caller, { type: 'signing_key.rotated', data: { from, to } })],
      });
      return created({ from, to }, '/admin/v1/keys');
    },
  }),
];
