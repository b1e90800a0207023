/** The agents' API, `/v1`, for holders of an agent token. */
import { type ErrorRequestHandler, type Request, type RequestHandler, type Response, Router } from 'express';
import { z } from 'zod';
import { inForce } from '../../domain/decide.ts';
import type { Agent, AgentToken } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { mayActFor } from '../../domain/subject.ts';
import { type Caller, commit, record } from '../../services/core.ts';
import { authenticateAgent, requireStillAlive } from '../../services/identity/authenticate.ts';
import { requireBinding, spendProof, verifyProof } from '../../services/identity/verify-proof.ts';
import { issueGrant } from '../../services/issuing/issue-grant.ts';
import { ownGrant, renewGrant, returnGrant } from '../../services/issuing/use-grant.ts';
import { type PresentedToken, presentedToken } from '../access-token.ts';
import { challenge } from '../bearer.ts';
import { readJson } from '../body.ts';
import { addressOf, anonymous, type Edge, requestId } from '../edge.ts';
import { refusalOf } from '../problem.ts';
import { sendJson } from '../reply.ts';
import * as field from '../schemas.ts';
import { parse } from '../validate.ts';
import { grantView } from '../views.ts';

const maxBodyBytes = 16 * 1024;

const grantRequest = z.strictObject({
  connection: field.name,
  scopes: field.scopes,
  ttl_seconds: field.ttlSeconds.optional(),
  reason: field.reason.optional(),
  parameters: field.parameters.optional(),
});
const renewRequest = z.strictObject({ ttl_seconds: field.ttlSeconds.optional() });
const noQuery = z.strictObject({});

/** For the API description. */
export const agentSchemas = { grantRequest, renewRequest };

interface AgentRequest {
  agent: Agent;
  /** Whom the token acts for, on whose word, bound to which key: what is obtained with it inherits all of it. */
  token: AgentToken;
  caller: Caller;
}

/** Before any body is read. @throws Refused */
const enter = async (edge: Edge, req: Request): Promise<AgentRequest> => {
  try {
    const presented = presentedToken(req);
    if (presented === undefined) throw new Refused('unauthenticated', 'an agent token is needed');
    const callerOf = (agent: Agent): Caller => ({
      actor: { address: addressOf(req), id: agent.id, kind: 'agent', name: agent.name },
      requestId: requestId(req),
    });
    const { agent, token } = await authenticateAgent(edge.core, presented.token, (row, holder) =>
      row.jkt === null && presented.scheme === 'Bearer'
        ? undefined
        : requirePossession(edge, req, presented, row.jkt, callerOf(holder)),
    );
    return { agent, token, caller: callerOf(agent) };
  } catch (error) {
    await edge.limits.failed(addressOf(req));
    throw error;
  }
};

/** The token is bound to a key, or is said to be. @throws Refused `invalid_dpop_proof`, `unauthenticated` */
const requirePossession = async (
  edge: Edge,
  req: Request,
  presented: PresentedToken,
  jkt: string | null,
  caller: Caller,
): Promise<void> => {
  if (jkt === null || presented.scheme === 'Bearer' || presented.proof === undefined) {
    requireBinding(jkt, presented.scheme, undefined);
    return;
  }
  const target = { method: req.method, url: `${edge.core.issuer}${req.originalUrl}`, accessToken: presented.token };
  const proof = await verifyProof(edge.core, presented.proof, target);
  requireBinding(jkt, presented.scheme, proof);
  await spendProof(edge.core, proof, caller);
};

/** Refusals of issuing leave a record of their own, with what was asked for (issue-grant.ts). */
const recordedAlready = new WeakSet<object>();
const noteRecorded = (error: unknown): never => {
  if (typeof error === 'object' && error !== null) recordedAlready.add(error);
  throw error;
};

/**
 * Authenticates, then does the route's work.
 * @param route the pattern of a mutating route, whose refusals are recorded; undefined for one that only reads
 */
const asAgent =
  (
    edge: Edge,
    route: string | undefined,
    work: (req: Request, who: AgentRequest, res: Response) => Promise<void>,
  ): RequestHandler =>
  async (req, res) => {
    let who: AgentRequest | undefined;
    try {
      who = await enter(edge, req);
      parse(noQuery, { ...req.query });
      await work(req, who, res);
    } catch (error) {
      if (route !== undefined) await recordRefusal(edge, `/v1${route}`, req, who?.caller ?? anonymous(req), error);
      throw error;
    }
  };

/** A refused change leaves a record of who wanted it and why not; the ledger’s own trouble cannot. */
const recordRefusal = async (
  edge: Edge,
  route: string,
  req: Request,
  caller: Caller,
  error: unknown,
): Promise<void> => {
  const { code } = refusalOf(error);
  if (code === 'ledger_unavailable' || code === 'rate_limited') return;
  if (typeof error === 'object' && error !== null && recordedAlready.has(error)) return;
  const { actor } = caller;
  await commit(edge.core, {
    writes: [],
    audit: [
      record(edge.core, caller, {
        type: 'request.refused',
        outcome: 'refused',
        agent: actor.kind === 'agent' ? { id: actor.id, name: actor.name } : undefined,
        data: { code, method: req.method, route },
      }),
    ],
  });
};

const inherited = (token: AgentToken) => ({
  issuers: token.issuers,
  jkt: token.jkt ?? undefined,
  ...(token.subject === null ? {} : { subject: token.subject, notAfter: token.subject_expires_at ?? undefined }),
});

/** What this agent may ask for with this token, connection by connection. */
const connectionsOf = (edge: Edge, agent: Agent, { subject }: AgentToken): object[] => {
  const { core } = edge;
  const now = core.clock.now();
  return core.state.connections.all().flatMap((connection) => {
    const provider = core.providers.get(connection.provider);
    if (connection.status !== 'active' || !provider) return [];
    const offered = provider.scopes(connection.settings);
    return core.state
      .entitlementsOf(agent.id, connection.id)
      .filter((entitlement) => inForce(entitlement, now))
      .filter((entitlement) => subject === null || mayActFor(entitlement.on_behalf_of, subject))
      .map((entitlement) => ({
        connection: connection.name,
        provider: connection.provider,
        scopes: entitlement.scopes.filter((scope) => offered.includes(scope)),
        enforcement: provider.enforcement(connection.settings),
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
    asAgent(edge, '/grants', async (req, { agent, token, caller }, res) => {
      const asked = parse(grantRequest, await readJson(req, maxBodyBytes));
      requireStillAlive(core, token);
      const issued = await issueGrant(
        core,
        {
          agent,
          connection: asked.connection,
          scopes: asked.scopes,
          ttlSeconds: asked.ttl_seconds,
          reason: asked.reason,
          parameters: asked.parameters,
          ...inherited(token),
        },
        caller,
      ).catch(noteRecorded);
      res.setHeader('Cache-Control', 'no-store');
      res.setHeader('Location', `/v1/grants/${issued.grant.id}`);
      sendJson(res, 201, { grant: grantView(core, issued.grant), credential: issued.credential });
    }),
  );
  methods('/grants', 'POST');

  router.get(
    '/connections',
    asAgent(edge, undefined, async (_req, { agent, token }, res) => {
      sendJson(res, 200, { items: connectionsOf(edge, agent, token) });
    }),
  );
  methods('/connections', 'GET');

  router.get(
    '/grants/:id',
    asAgent(edge, undefined, async (req, { agent }, res) => {
      sendJson(res, 200, { grant: grantView(core, await ownGrant(core, agent, String(req.params['id']))) });
    }),
  );
  router.delete(
    '/grants/:id',
    asAgent(edge, '/grants/:id', async (req, { agent, caller }, res) => {
      await returnGrant(core, await ownGrant(core, agent, String(req.params['id'])), caller);
      res.status(204).end();
    }),
  );
  methods('/grants/:id', 'GET, DELETE');

  router.post(
    '/grants/:id/renew',
    asAgent(edge, '/grants/:id/renew', async (req, { agent, token, caller }, res) => {
      const body = await readJson(req, maxBodyBytes);
      const asked = parse(renewRequest, body === undefined ? {} : body);
      requireStillAlive(core, token);
      const grant = await renewGrant(core, agent, String(req.params['id']), asked.ttl_seconds, caller);
      sendJson(res, 200, { grant: grantView(core, grant) });
    }),
  );
  methods('/grants/:id/renew', 'POST');

  // After authentication, so that a stranger is told how to authenticate and not what exists.
  router.use(
    asAgent(edge, undefined, async () => {
      throw new Refused('not_found', 'there is no such route');
    }),
  );
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
