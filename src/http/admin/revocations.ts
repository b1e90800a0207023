/** `/admin/v1/revocations`: taking back, how far that has come, and the receipt. */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import { commit, record } from '../../services/core.ts';
import { blastRadius } from '../../services/revocation/blast-radius.ts';
import { receiptFile, revocationCalled } from '../../services/revocation/receipt.ts';
import { retryRevocation } from '../../services/revocation/retry.ts';
import { revoke } from '../../services/revocation/revoke.ts';
import * as field from '../schemas.ts';
import { revocationView, selectorView } from '../views.ts';
import { shownRevocation, tellProgress } from './revocation-events.ts';
import { type AdminRoute, created, everyone, ok, pageBefore, responders, route } from './route.ts';
import { resolved, selectorSchema } from './selector.ts';

const revocation = z.strictObject({
  selector: selectorSchema,
  reason: field.reason,
  suspend: z.boolean().default(false),
  rotate: z.boolean().default(false),
  dry_run: z.boolean().default(false),
});

export const revocationRoutes: AdminRoute[] = [
  route({
    method: 'POST',
    path: '/revocations',
    roles: responders,
    summary: 'Revoke everything the selector matches, at once; or show what that would be',
    body: revocation,
    handle: async ({ edge, body, caller }) => {
      const { core } = edge;
      const { reason, suspend, rotate } = body;
      const request = { selector: await resolved(core, body.selector), reason, suspend, rotate };
      if (body.dry_run) {
        const radius = await blastRadius(core, request);
        await commit(core, {
          writes: [],
          audit: [
            record(core, caller, {
              type: 'revocation.planned',
              data: { selector: request.selector, reason, suspend, rotate, grants: radius.grants },
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
      return pageBefore(rows, query.limit, await Promise.all(rows.map((row) => shownRevocation(edge.core, row))));
    },
  }),
  route({
    method: 'GET',
    path: '/revocations/:id',
    roles: everyone,
    summary: 'Show a revocation and how far its clean-up has come',
    handle: async ({ edge, params }) =>
      ok(await shownRevocation(edge.core, await revocationCalled(edge.core, params['id'] ?? ''))),
  }),
  route({
    method: 'GET',
    path: '/revocations/:id/events',
    roles: everyone,
    summary: 'Server-sent events: `progress` as the clean-up goes on, then `completed`',
    handle: async ({ edge, operator, params, req, res }) => {
      const { id } = await revocationCalled(edge.core, params['id'] ?? '');
      const stream = edge.streams.open(res, operator);
      await tellProgress(edge.core, id, stream, req.get('last-event-id'));
      return undefined;
    },
  }),
  route({
    method: 'GET',
    path: '/revocations/:id/receipt',
    roles: everyone,
    summary: 'The signed receipt: what was killed, what became of each upstream, and the proof that it is in the log',
    handle: async ({ edge, params, res }) => {
      const id = params['id'] ?? '';
      const pieces = receiptFile(edge.core, id);
      // The first piece decides whether this is an answer or an error.
      const first = await pieces.next();
      res.setHeader('Content-Type', 'application/json');
      res.setHeader('Content-Disposition', `attachment; filename="warder-receipt-${id}.json"`);
      res.setHeader('Cache-Control', 'no-store');
      const all = async function* () {
        if (!first.done) yield first.value;
        yield* pieces;
      };
      await pipeline(Readable.from(all()), res);
      return undefined;
    },
  }),
  route({
    method: 'POST',
    path: '/revocations/:id/retry',
    roles: responders,
    summary: 'Try again to take back upstream what could not be',
    handle: async ({ edge, params, caller }) => {
      const { core } = edge;
      const id = params['id'] ?? '';
      const retried = await retryRevocation(core, id, caller);
      return ok({ ...(await shownRevocation(core, await revocationCalled(core, id))), retried });
    },
  }),
];
