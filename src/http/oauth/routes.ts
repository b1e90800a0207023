/** The OAuth edge: `/token`, `/introspect`, `/revoke`, `/jwks` and the metadata documents. */
import { type ErrorRequestHandler, type Request, type RequestHandler, type Response, Router } from 'express';
import type { Agent } from '../../domain/model.ts';
import { assertionAlgorithms } from '../../domain/model.ts';
import { type RefusalCode, Refused } from '../../domain/refusals.ts';
import { type Caller, commit, record } from '../../services/core.ts';
import { introspect, revokeByClient } from '../../services/introspect.ts';
import { issueAgentToken } from '../../services/issue-agent-token.ts';
import { issueGrant } from '../../services/issue-grant.ts';
import { type Edge, requestId } from '../edge.ts';
import { refusalOf } from '../problem.ts';
import { sendJson } from '../reply.ts';
import { authenticateClient } from './client.ts';
import { type Form, OAuthError, readForm } from './form.ts';

const grantType = 'client_credentials';

/** What Warder's refusals are called here (RFC 6749 section 5.2, RFC 8707 section 2); status where it is not 400. */
const oauthNames: Partial<Record<RefusalCode, { code: string; status?: number }>> = {
  unauthenticated: { code: 'invalid_client', status: 401 },
  not_entitled: { code: 'invalid_target' },
  not_found: { code: 'invalid_target' },
  scope_not_allowed: { code: 'invalid_scope' },
  agent_suspended: { code: 'unauthorized_client' },
  approval_denied: { code: 'access_denied' },
  too_large: { code: 'invalid_request', status: 413 },
  unsupported_media_type: { code: 'invalid_request' },
  rate_limited: { code: 'temporarily_unavailable', status: 429 },
  budget_exhausted: { code: 'temporarily_unavailable', status: 429 },
  sealed: { code: 'temporarily_unavailable', status: 503 },
  ledger_unavailable: { code: 'temporarily_unavailable', status: 503 },
  upstream_unavailable: { code: 'temporarily_unavailable', status: 502 },
  upstream_refused: { code: 'temporarily_unavailable', status: 502 },
  upstream_timeout: { code: 'temporarily_unavailable', status: 504 },
  internal: { code: 'server_error', status: 500 },
};

const toOAuthError = (error: unknown): OAuthError => {
  if (error instanceof OAuthError) return error;
  const refusal = refusalOf(error);
  const name = oauthNames[refusal.code] ?? { code: 'invalid_request' };
  return new OAuthError(name.code, refusal.detail, {
    ...(name.status === undefined ? {} : { status: name.status }),
    ...(refusal.retryAfterSeconds === undefined ? {} : { retryAfterSeconds: refusal.retryAfterSeconds }),
    cause: error,
  });
};

const noStore = (res: Response): void => {
  res.setHeader('Cache-Control', 'no-store');
  res.setHeader('Pragma', 'no-cache');
};

const endpointPaths: ReadonlySet<string> = new Set(['/token', '/introspect', '/revoke']);

/** Whatever went wrong at these endpoints, before their own code too (a rate limit): never problem details. */
export const oauthErrorHandler =
  (edge: Edge): ErrorRequestHandler =>
  (error, req, res, next) => {
    if (!endpointPaths.has(req.path)) {
      next(error);
      return;
    }
    const failure = toOAuthError(error);
    if (failure.status >= 500)
      edge.core.log.error({ err: error, request_id: requestId(req) }, 'an OAuth request failed');
    noStore(res);
    if (failure.retryAfterSeconds !== undefined) res.setHeader('Retry-After', String(failure.retryAfterSeconds));
    // Only where the client used this scheme (section 5.2); never on a 400, where clients would read it before the body.
    if (failure.status === 401 && req.headers.authorization !== undefined) {
      res.setHeader('WWW-Authenticate', 'Basic realm="warder", charset="UTF-8"');
    }
    sendJson(res, failure.status, { error: failure.code, error_description: failure.description });
  };

const callerOf = (req: Request, agent: Agent): Caller => ({
  actor: { id: agent.id, kind: 'agent', name: agent.name },
  requestId: requestId(req),
});

/** The one connection a `resource` names. @throws OAuthError `invalid_target` */
const connectionOf = (issuer: string, resources: string[]): string => {
  const [resource] = resources;
  const prefix = `${issuer}/connections/`;
  if (resources.length !== 1 || resource === undefined) {
    throw new OAuthError('invalid_target', 'exactly one resource can be asked for at a time');
  }
  if (!resource.startsWith(prefix))
    throw new OAuthError('invalid_target', 'the resource is not a connection of this issuer');
  return resource.slice(prefix.length);
};

const issueForResource = async (edge: Edge, req: Request, form: Form, agent: Agent): Promise<object> => {
  const connection = connectionOf(edge.core.issuer, form.all('resource'));
  const scopes = (form.get('scope') ?? '').split(' ').filter((scope) => scope !== '');
  if (scopes.length === 0) throw new OAuthError('invalid_scope', 'name the scopes the grant shall have');
  const issued = await issueGrant(edge.core, { agent, connection, scopes, bearerOnly: true }, callerOf(req, agent));
  const granted = issued.grant.scopes;
  return {
    access_token: issued.credential['token'],
    token_type: 'Bearer',
    expires_in: Math.floor((issued.grant.expires_at - issued.grant.issued_at) / 1000),
    ...(granted.length === scopes.length ? {} : { scope: granted.join(' ') }),
    grant_id: issued.grant.id,
  };
};

const tokenEndpoint =
  (edge: Edge): RequestHandler =>
  async (req, res) => {
    const form = await readForm(req);
    const agent = await authenticateClient(edge, req, form);
    const resources = form.all('resource');
    // The agent API is a resource too (RFC 9728): its token is the agent's own.
    const own = resources.length === 0 || (resources.length === 1 && resources[0] === `${edge.core.issuer}/v1`);
    let body: object;
    try {
      requireGrantType(form);
      body = own ? await issueOwnToken(edge, req, form, agent) : await issueForResource(edge, req, form, agent);
    } catch (error) {
      // Issuing a grant records its own refusals, with what was asked for.
      if (own || error instanceof OAuthError) await recordTokenRefusal(edge, req, agent, error);
      throw error;
    }
    noStore(res);
    sendJson(res, 200, body);
  };

const requireGrantType = (form: Form): void => {
  const asked = form.get('grant_type');
  if (asked === undefined) throw new OAuthError('invalid_request', 'grant_type is missing');
  if (asked !== grantType) throw new OAuthError('unsupported_grant_type', `only ${grantType} is supported`);
};

const issueOwnToken = async (edge: Edge, req: Request, form: Form, agent: Agent): Promise<object> => {
  if (form.get('scope') !== undefined) {
    throw new OAuthError('invalid_scope', 'scopes belong to a connection: name it with the resource parameter');
  }
  const issued = await issueAgentToken(edge.core, agent, callerOf(req, agent));
  return { access_token: issued.token, token_type: 'Bearer', expires_in: issued.expiresInSeconds };
};

/** What was refused to somebody known leaves a record; the ledger's own trouble cannot. */
const recordTokenRefusal = async (edge: Edge, req: Request, agent: Agent, error: unknown): Promise<void> => {
  const { code } = toOAuthError(error);
  if (refusalOf(error).code === 'ledger_unavailable') return;
  await commit(edge.core, {
    writes: [],
    audit: [
      record(edge.core, callerOf(req, agent), {
        type: 'token.refused',
        outcome: 'refused',
        agent: { id: agent.id, name: agent.name },
        data: { code },
      }),
    ],
  });
};

const tokenOf = (form: Form): string => {
  const token = form.get('token');
  if (token === undefined) throw new OAuthError('invalid_request', 'token is missing');
  return token;
};

const introspectionEndpoint =
  (edge: Edge): RequestHandler =>
  async (req, res) => {
    const form = await readForm(req);
    const agent = await authenticateClient(edge, req, form);
    edge.core.keyring.requireUnsealed();
    const token = tokenOf(form);
    noStore(res);
    // A suspended client learns nothing, in the same words as about a token that is not its own.
    sendJson(res, 200, agent.status === 'active' ? await introspect(edge.core, agent, token) : { active: false });
  };

const revocationEndpoint =
  (edge: Edge): RequestHandler =>
  async (req, res) => {
    const form = await readForm(req);
    const agent = await authenticateClient(edge, req, form);
    await revokeByClient(edge.core, agent, tokenOf(form), callerOf(req, agent));
    noStore(res);
    res.status(200).end();
  };

const clientAuthMethods = ['client_secret_basic', 'client_secret_post', 'private_key_jwt'];

/** RFC 8414 section 2: only what works. */
export const serverMetadata = (issuer: string): object => {
  const authentication = (endpoint: string) => ({
    [`${endpoint}_endpoint_auth_methods_supported`]: clientAuthMethods,
    [`${endpoint}_endpoint_auth_signing_alg_values_supported`]: assertionAlgorithms,
  });
  return {
    issuer,
    token_endpoint: `${issuer}/token`,
    introspection_endpoint: `${issuer}/introspect`,
    revocation_endpoint: `${issuer}/revoke`,
    jwks_uri: `${issuer}/jwks`,
    grant_types_supported: [grantType],
    response_types_supported: [],
    ...authentication('token'),
    ...authentication('introspection'),
    ...authentication('revocation'),
    protected_resources: [`${issuer}/v1`, `${issuer}/gateway`],
  };
};

/** RFC 9728 section 2, for `/v1` and `/gateway`. */
const resourceMetadata = (issuer: string, resource: string): object => ({
  resource: `${issuer}${resource}`,
  authorization_servers: [issuer],
  bearer_methods_supported: ['header'],
  resource_name: resource === '/v1' ? 'Warder agent API' : 'Warder gateway',
});

/** The well-known part goes between the host and the path of the issuer (RFC 8414 section 3, RFC 9728 section 3). */
const wellKnown = (issuer: string, name: string, path: string): string => {
  const { pathname } = new URL(issuer);
  return `/.well-known/${name}${pathname === '/' ? '' : pathname}${path}`;
};

export const oauthRoutes = (edge: Edge): Router => {
  const router = Router({ caseSensitive: true, strict: true });
  const { issuer } = edge.core;
  const endpoints: [string, RequestHandler][] = [
    ['/token', tokenEndpoint(edge)],
    ['/introspect', introspectionEndpoint(edge)],
    ['/revoke', revocationEndpoint(edge)],
  ];
  for (const [path, handler] of endpoints) {
    router.post(path, handler);
    router.all(path, (_req, res) => {
      res.setHeader('Allow', 'POST');
      throw new OAuthError('invalid_request', 'this endpoint takes POST', { status: 405 });
    });
  }
  router.get('/jwks', (_req, res) => {
    res.setHeader('Cache-Control', 'public, max-age=300');
    sendJson(res, 200, edge.core.signingKeys.jwks());
  });
  const metadata = serverMetadata(issuer);
  router.get(wellKnown(issuer, 'oauth-authorization-server', ''), (_req, res) => {
    sendJson(res, 200, metadata);
  });
  for (const resource of ['/v1', '/gateway']) {
    router.get(wellKnown(issuer, 'oauth-protected-resource', resource), (_req, res) => {
      sendJson(res, 200, resourceMetadata(issuer, resource));
    });
  }
  return router;
};

/** For tests that hold the map of refusals to the list of codes. */
export const oauthErrorFor = (code: RefusalCode): { error: string; status: number } => {
  const failure = toOAuthError(new Refused(code, ''));
  return { error: failure.code, status: failure.status };
};
