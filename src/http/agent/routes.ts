/** The agents' API, `/v1`, for holders of an agent token. */
import { type ErrorRequestHandler, type Request, type RequestHandler, Router } from 'express';
import { z } from 'zod';
import { inForce } from '../../domain/decide.ts';
import type { Agent } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { authenticateAgent } from '../../services/authenticate.ts';
import { type Caller, commit, record } from '../../services/core.ts';
import { issueGrant } from '../../services/issue-grant.ts';
import { ownGrant, renewGrant, returnGrant } from '../../services/use-grant.ts';
import { bearerToken, challenge } from '../bearer.ts';
import { readJson } from '../body.ts';
import { anonymous, type Edge, requestId } from '../edge.ts';
import { refusalOf } from '../problem.ts';
import { sendJson } from '../reply.ts';
import * as field from '../schemas.ts';
import { parse } from '../validate.ts';
import { grantView } from '../views.ts';

const maxBodyBytes = 16 * 1024;

const grantRequest = z.strictObject({
  connection: z.string().min(1).max(100),
  scopes: field.scopes,
  ttl_seconds: field.ttlSeconds.optional(),
  reason: field.reason.optional(),
});
const renewRequest = z.strictObject({ ttl_seconds: field.ttlSeconds.optional() });
const noQuery = z.strictObject({});

/** For the API description. */
export const agentSchemas = { grantRequest, renewRequest };

interface AgentRequest {
  agent: Agent;
  caller: Caller;
}

/** Authenticates, then does the route's work. A refused authentication of a mutating route is recorded. */
const asAgent =
  (
    edge: Edge,
    work: (req: Request, who: AgentRequest, ...rest: Parameters<RequestHandler>) => Promise<void>,
  ): RequestHandler =>
  async (req, res, next) => {
    let who: AgentRequest;
    try {
      const token = bearerToken(req);
      if (token === undefined) throw new Refused('unauthenticated', 'an agent token is needed');
      const { agent } = await authenticateAgent(edge.core, token);
      who = { agent, caller: { actor: { kind: 'agent', id: agent.id, name: agent.name }, requestId: requestId(req) } };
    } catch (error) {
      await edge.limits.failed(req);
      if (req.method !== 'GET' && error instanceof Refused) await recordUnauthenticated(edge, req, error);
      throw error;
    }
    parse(noQuery, req.query);
    await work(req, who, req, res, next);
  };

const recordUnauthenticated = async (edge: Edge, req: Request, error: Refused): Promise<void> => {
  await commit(edge.core, {
    writes: [],
    audit: [
      record(edge.core, anonymous(req), {
        type: 'request.refused',
        outcome: 'refused',
        data: { code: error.refusal.code, method: req.method, route: '/v1' },
      }),
    ],
  });
};

/** What this agent may ask for, connection by connection. */
const connectionsOf = (edge: Edge, agent: Agent): object[] => {
  const { core } = edge;
  const now = core.clock.now();
  return core.state.connections.all().flatMap((connection) => {
    const provider = core.providers.get(connection.provider);
    if (connection.status !== 'active' || !provider) return [];
    const offered = provider.scopes(connection.settings);
    return core.state
      .entitlementsOf(agent.id, connection.id)
      .filter((entitlement) => inForce(entitlement, now))
      .map((entitlement) => ({
        connection: connection.name,
        provider: connection.provider,
        scopes: entitlement.scopes.filter((scope) => offered.includes(scope)),
        enforcement: provider.enforcement,
        max_ttl_seconds: entitlement.max_ttl_seconds,
        approval: entitlement.approval,
        expires_at: entitlement.expires_at === null ? null : new Date(entitlement.expires_at).toISOString(),
        resource: `${core.issuer}/connections/${connection.name}`,
      }));
  });
};

export const agentRoutes = (edge: Edge): Router => {
  const router = Router({ caseSensitive: true, strict: true });
  const { core } = edge;
  const methods = (path: string, allow: string): void => {
    router.all(path, (_req, res) => {
      res.setHeader('Allow', allow);
      throw new Refused('method_not_allowed', `this route takes ${allow}`);
    });
  };

  router.post(
    '/grants',
    asAgent(edge, async (req, { agent, caller }, _req, res) => {
      const asked = parse(grantRequest, await readJson(req, maxBodyBytes));
      const issued = await issueGrant(
        core,
        {
          agent,
          connection: asked.connection,
          scopes: asked.scopes,
          ttlSeconds: asked.ttl_seconds,
          reason: asked.reason,
        },
        caller,
      );
      res.setHeader('Cache-Control', 'no-store');
      res.setHeader('Location', `/v1/grants/${issued.grant.id}`);
      sendJson(res, 201, { grant: grantView(core, issued.grant), credential: issued.credential });
    }),
  );
  methods('/grants', 'POST');

  router.get(
    '/connections',
    asAgent(edge, async (_req, { agent }, _same, res) => {
      sendJson(res, 200, { items: connectionsOf(edge, agent) });
    }),
  );
  methods('/connections', 'GET');

  router.get(
    '/grants/:id',
    asAgent(edge, async (req, { agent }, _req, res) => {
      sendJson(res, 200, { grant: grantView(core, await ownGrant(core, agent, String(req.params['id']))) });
    }),
  );
  router.delete(
    '/grants/:id',
    asAgent(edge, async (req, { agent, caller }, _req, res) => {
      await returnGrant(core, await ownGrant(core, agent, String(req.params['id'])), caller);
      res.status(204).end();
    }),
  );
  methods('/grants/:id', 'GET, DELETE');

  router.post(
    '/grants/:id/renew',
    asAgent(edge, async (req, { agent, caller }, _req, res) => {
      const asked = parse(renewRequest, (await readJson(req, maxBodyBytes)) ?? {});
      const grant = await renewGrant(core, agent, String(req.params['id']), asked.ttl_seconds, caller);
      sendJson(res, 200, { grant: grantView(core, grant) });
    }),
  );
  methods('/grants/:id/renew', 'POST');

  router.use((_req, _res) => {
    throw new Refused('not_found', 'there is no such route');
  });
  router.use(challengeHandler(edge));
  return router;
};

/** Adds the challenge of a 401 or 403 for this resource, and leaves the rest to the one error map. */
const challengeHandler =
  (edge: Edge): ErrorRequestHandler =>
  (error, req, res, next) => {
    if (error instanceof Refused || refusalOf(error).code === 'unauthenticated') {
      challenge(req, res, edge.core.issuer, '/v1', error);
    }
    next(error);
  };
