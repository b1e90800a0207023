/** The operators' API: every route of the table behind one door that authenticates, authorises, parses and records. */
import { type Request, type RequestHandler, type Response, Router } from 'express';
import { z } from 'zod';
import type { Operator } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { type Caller, commit, record } from '../../services/core.ts';
import { authenticateOperator } from '../../services/identity/authenticate.ts';
import { bearerToken } from '../bearer.ts';
import { readJson } from '../body.ts';
import { addressOf, anonymous, type Edge, requestId } from '../edge.ts';
import { refusalOf } from '../problem.ts';
import { sendJson } from '../reply.ts';
import { parse } from '../validate.ts';
import { agentRoutes } from './agents.ts';
import { applyRoutes } from './apply.ts';
import { auditRoutes } from './audit.ts';
import { authorizationRoutes } from './authorizations.ts';
import { backupRoutes } from './backups.ts';
import { catalogRoutes } from './catalog.ts';
import { connectionRoutes } from './connections.ts';
import { entitlementRoutes } from './entitlements.ts';
import { freezeRoutes } from './freezes.ts';
import { grantRoutes } from './grants.ts';
import { incidentRoutes } from './incidents.ts';
import { issuerRoutes } from './issuers.ts';
import { keyRoutes } from './keys.ts';
import { operatorRoutes } from './operators.ts';
import { revocationRoutes } from './revocations.ts';
import { rotationRoutes } from './rotations.ts';
import type { AdminContext, AdminRoute } from './route.ts';
import { streamRoutes } from './streams.ts';
import { webhookRoutes } from './webhooks.ts';

/** Every route there is: the role matrix. */
export const adminTable: readonly AdminRoute[] = [
  ...agentRoutes,
  ...connectionRoutes,
  ...authorizationRoutes,
  ...catalogRoutes,
  ...entitlementRoutes,
  ...issuerRoutes,
  ...operatorRoutes,
  ...grantRoutes,
  ...revocationRoutes,
  ...freezeRoutes,
  ...incidentRoutes,
  ...auditRoutes,
  ...keyRoutes,
  ...rotationRoutes,
  ...backupRoutes,
  ...webhookRoutes,
  ...streamRoutes,
  ...applyRoutes,
];

const defaultBodyBytes = 64 * 1024;
const nothing = z.strictObject({});
const noBody = z.union([z.undefined(), z.strictObject({})]);

/** @throws Refused `unauthenticated` */
const operatorOf = (edge: Edge, req: Request): Operator => {
  const token = bearerToken(req);
  if (token === undefined) throw new Refused('unauthenticated', 'an operator token is needed');
  return authenticateOperator(edge.core, token);
};

/** Who is it? Before any body is read. @throws Refused `unauthenticated` */
const enter = async (edge: Edge, req: Request, res: Response): Promise<Operator> => {
  try {
    return operatorOf(edge, req);
  } catch (error) {
    if (refusalOf(error).code === 'unauthenticated') {
      await edge.limits.failed(addressOf(req));
      res.setHeader('WWW-Authenticate', 'Bearer');
    }
    throw error;
  }
};

/** @throws Refused `forbidden` */
const requireRole = (operator: Operator, { roles }: AdminRoute): void => {
  if (operator.roles.some((role) => roles.includes(role))) return;
  throw new Refused('forbidden', `this needs one of the roles ${roles.join(', ')}`);
};

const work = async (edge: Edge, entry: AdminRoute, entered: Operator, req: Request, res: Response): Promise<void> => {
  requireRole(entered, entry);
  const body = entry.method === 'GET' ? undefined : await readJson(req, entry.maxBodyBytes ?? defaultBodyBytes);
  // A body may take its time, and its sender may have been suspended, or lost a role, meanwhile.
  const operator = operatorOf(edge, req);
  requireRole(operator, entry);
  const context: AdminContext<unknown, unknown> = {
    edge,
    operator,
    caller: callerOf(req, operator),
    params: Object.fromEntries(Object.entries(req.params).map(([key, value]) => [key, String(value)])),
    body: parse(entry.body ?? noBody, body),
    query: parse(entry.query ?? nothing, { ...req.query }),
    req,
    res,
  };
  const answer = await entry.handle(context as AdminContext<never, never>);
  if (!answer) return;
  res.setHeader('Cache-Control', 'no-store');
  if (answer.location !== undefined) res.setHeader('Location', answer.location);
  if (answer.body === undefined) res.status(answer.status).end();
  else sendJson(res, answer.status, answer.body);
};

const callerOf = (req: Request, operator: Operator | undefined): Caller =>
  operator
    ? { actor: { id: operator.id, kind: 'operator', name: operator.name }, requestId: requestId(req) }
    : anonymous(req);

/** A refused change leaves a record of who wanted it and why not; the ledger’s own trouble cannot. */
const recordRefusal = async (edge: Edge, entry: AdminRoute, caller: Caller, error: unknown): Promise<void> => {
  const { code } = refusalOf(error);
  if (entry.method === 'GET' || code === 'ledger_unavailable' || code === 'rate_limited') return;
  await commit(edge.core, {
    writes: [],
    audit: [
      record(edge.core, caller, {
        type: 'request.refused',
        outcome: 'refused',
        data: { code, method: entry.method, route: `/admin/v1${entry.path}` },
      }),
    ],
  });
};

const handler =
  (edge: Edge, entry: AdminRoute): RequestHandler =>
  async (req, res) => {
    let operator: Operator | undefined;
    try {
      operator = await enter(edge, req, res);
      await work(edge, entry, operator, req, res);
    } catch (error) {
      await recordRefusal(edge, entry, callerOf(req, operator), error);
      throw error;
    }
  };

export const adminRoutes = (edge: Edge): Router => {
  const router = Router({ caseSensitive: true, strict: true });
  const allowed = new Map<string, string[]>();
  for (const entry of adminTable) {
    const method = entry.method.toLowerCase() as 'get' | 'post' | 'put' | 'patch' | 'delete';
    router[method](entry.path, handler(edge, entry));
    allowed.set(entry.path, [...(allowed.get(entry.path) ?? []), entry.method]);
  }
  for (const [path, methods] of allowed) {
    router.all(path, (_req, res) => {
      res.setHeader('Allow', methods.join(', '));
      throw new Refused('method_not_allowed', `this route takes ${methods.join(', ')}`);
    });
  }
  router.use(() => {
    throw new Refused('not_found', 'there is no such route');
  });
  return router;
};
