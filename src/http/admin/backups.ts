/** `/admin/v1/backups`: the whole ledger as one encrypted file, made while the broker works. */
import type { ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import type { Operator } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { authenticateOperator } from '../../services/identity/authenticate.ts';
import { bearerToken } from '../bearer.ts';
import type { Edge } from '../edge.ts';
import { type AdminRoute, admins, route } from './route.ts';

/** It took a while, and whoever asked may have been suspended meanwhile. @throws Refused `unauthenticated`, `forbidden` */
const requireStillAdmin = (edge: Edge, before: Operator, token: string | undefined): void => {
  const now = authenticateOperator(edge.core, token ?? '');
  if (now.id !== before.id || !now.roles.some((role) => admins.includes(role))) {
    throw new Refused('forbidden', 'this operator may make no backup any more');
  }
};

/** Whoever takes nothing for so long gets no more: the file is as large as the ledger, and the next backup waits for it. */
const stalledMs = 120_000;

/** @throws what breaks it off */
export const sendFile = async (
  file: AsyncIterable<Uint8Array>,
  res: ServerResponse,
  longestStallMs: number,
): Promise<void> => {
  res.setTimeout(longestStallMs, () => res.destroy());
  await pipeline(file, res);
};

export const backupRoutes: AdminRoute[] = [
  route({
    method: 'POST',
    path: '/backups',
    roles: admins,
    summary:
      'Make an encrypted backup of the whole ledger and stream it; what it is called, and its digest, are in headers',
    handle: async ({ edge, operator, caller, req, res }) => {
      const { header, file, lost, discard } = await edge.backups.make(caller);
      try {
        requireStillAdmin(edge, operator, bearerToken(req));
        res.setHeader('Content-Type', 'application/octet-stream');
        res.setHeader('Content-Length', file.bytes);
        res.setHeader('Content-Disposition', `attachment; filename="${header.id}.warder-backup"`);
        // RFC 9530: of the bytes as they are sent.
        res.setHeader('Content-Digest', `sha-256=:${Buffer.from(file.sha256, 'hex').toString('base64')}:`);
        res.setHeader('Cache-Control', 'no-store');
        await sendFile(file.read(), res, stalledMs);
      } catch (error) {
        await lost();
        if (!res.headersSent && !res.destroyed) throw error;
        // Whoever asked is gone, or has half of it and sees that it is: there is nobody to answer.
        edge.core.log.warn({ err: error, backup: header.id }, 'a backup broke off');
      } finally {
        await discard();
      }
      return undefined;
    },
  }),
];
