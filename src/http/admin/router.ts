/** The operators' API: every route of the table behind one door that authenticates, authorises, parses and records. */
import { type Request, type RequestHandler, Router } from 'express';
import { z } from 'zod';
import type { Operator } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { authenticateOperator } from '../../services/authenticate.ts';
import { type Caller, commit, record } from '../../services/core.ts';
import { bearerToken } from '../bearer.ts';
import { anonymous, type Edge, requestId } from '../edge.ts';
import { jsonBody } from '../limits.ts';
import { refusalOf } from '../problem.ts';
import { parse } from '../validate.ts';
import { agentRoutes } from './agents.ts';
import { applyRoutes } from './apply.ts';
import { auditRoutes, keyRoutes } from './audit.ts';
import { connectionRoutes } from './connections.ts';
import { entitlementRoutes } from './entitlements.ts';
import { grantRoutes } from './grants.ts';
import { operatorRoutes } from './operators.ts';
import type { AdminContext, AdminRoute } from './route.ts';

/** Every route there is: the role matrix. */
export const adminTable: readonly AdminRoute[] = [
  ...agentRoutes,
  ...connectionRoutes,
  ...entitlementRoutes,
  ...operatorRoutes,
  ...grantRoutes,
  ...auditRoutes,
  ...keyRoutes,
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

const operators = new WeakMap<Request, Operator>();

/** Before any body is read: who is it, and may they? */
const door =
  (edge: Edge, entry: AdminRoute): RequestHandler =>
  async (req, res, next) => {
    try {
      const operator = operatorOf(edge, req);
      operators.set(req, operator);
      if (!operator.roles.some((role) => entry.roles.includes(role))) {
        throw new Refused('forbidden', `this needs one of the roles ${entry.roles.join(', ')}`);
      }
    } catch (error) {
      if (error instanceof Refused && error.refusal.code === 'unauthenticated') {
        await edge.limits.failed(req);
        res.setHeader('WWW-Authenticate', 'Bearer');
      }
      throw error;
    }
    next();
  };

const callerOf = (req: Request): Caller => {
  const operator = operators.get(req);
  return operator
    ? { actor: { kind: 'operator', id: operator.id, name: operator.name }, requestId: requestId(req) }
    : anonymous(req);
};

const work =
  (edge: Edge, entry: AdminRoute): RequestHandler =>
  async (req, res) => {
    const operator = operators.get(req);
    if (!operator) throw new Error('a route was reached without passing its door');
    const context: AdminContext<unknown, unknown> = {
      edge,
      operator,
      caller: callerOf(req),
      params: Object.fromEntries(Object.entries(req.params).map(([key, value]) => [key, String(value)])),
      body: parse(entry.body ?? noBody, req.body),
      query: parse(entry.query ?? nothing, { ...req.query }),
      req,
      res,
    };
    const answer = await entry.handle(context as AdminContext<never, never>);
    if (!answer) return;
    res.setHeader('Cache-Control', 'no-store');
    if (answer.location !== undefined) res.setHeader('Location', answer.location);
    res.status(answer.status);
    if (answer.body === undefined) res.end();
    else res.json(answer.body);
  };

/** A refused change leaves a record of who wanted it and why not; the ledger’s own trouble cannot. */
const recordRefusals =
  (edge: Edge, entry: AdminRoute) =>
  async (error: unknown, req: Request): Promise<void> => {
    const { code } = refusalOf(error);
    if (entry.method === 'GET' || code === 'ledger_unavailable' || code === 'rate_limited') return;
    await commit(edge.core, {
      writes: [],
      audit: [
        record(edge.core, callerOf(req), {
          type: 'request.refused',
          outcome: 'refused',
          data: { code, method: entry.method, route: `/admin/v1${entry.path}` },
        }),
      ],
    });
  };

export const adminRoutes = (edge: Edge): Router => {
  const router = Router({ caseSensitive: true, strict: true });
  const allowed = new Map<string, string[]>();
  for (const entry of adminTable) {
    const method = entry.method.toLowerCase() as 'get' | 'post' | 'put' | 'patch' | 'delete';
    const guarded = recordRefusals(edge, entry);
    const recorded =
      (handler: RequestHandler): RequestHandler =>
      async (req, res, next) => {
        try {
          await handler(req, res, (error?: unknown) => {
            if (error === undefined) next();
            else guarded(error, req).then(() => next(error), next);
          });
        } catch (error) {
          await guarded(error, req);
          throw error;
        }
      };
    const parts = [door(edge, entry), ...jsonBody(entry.maxBodyBytes ?? defaultBodyBytes), work(edge, entry)];
    router[method](entry.path, ...parts.map(recorded));
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
