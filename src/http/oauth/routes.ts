/** The OAuth edge: `/token`, `/introspect`, `/revoke`, `/jwks` and the metadata documents. */
import { type RequestHandler, Router } from 'express';
import { detailsType } from '../../domain/authorization-details.ts';
import { assertionAlgorithms } from '../../domain/model.ts';
import { proofAlgorithms } from '../../services/identity/verify-proof.ts';
import { introspect, revokeByClient } from '../../services/issuing/introspect.ts';
import { jwksMaxAgeSeconds } from '../../services/keys/signing-keys.ts';
import type { Edge } from '../edge.ts';
import { sendJson } from '../reply.ts';
import { authenticateClient, callerOf } from './client.ts';
import { noStore } from './errors.ts';
import { type Form, OAuthError, readForm } from './form.ts';
import { grantTypesSupported, tokenEndpoint } from './grants/endpoint.ts';

const tokenOf = (form: Form): string => {
  const token = form.get('token');
  if (token === undefined) throw new OAuthError('invalid_request', 'token is missing');
  return token;
};

const introspectionEndpoint =
  (edge: Edge): RequestHandler =>
  async (req, res) => {
    const form = await readForm(req);
    const { agent } = await authenticateClient(edge, req, form);
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
    const { agent } = await authenticateClient(edge, req, form);
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
    grant_types_supported: grantTypesSupported,
    response_types_supported: [],
    ...authentication('token'),
    ...authentication('introspection'),
    ...authentication('revocation'),
    authorization_details_types_supported: [detailsType],
    dpop_signing_alg_values_supported: proofAlgorithms,
    protected_resources: [`${issuer}/v1`, `${issuer}/gateway`],
  };
};

/** RFC 9728 section 2, for `/v1` and `/gateway`. */
const resourceMetadata = (issuer: string, resource: string): object => ({
  resource: `${issuer}${resource}`,
  authorization_servers: [issuer],
  bearer_methods_supported: ['header'],
  authorization_details_types_supported: [detailsType],
  dpop_signing_alg_values_supported: proofAlgorithms,
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
    res.setHeader('Cache-Control', `public, max-age=${jwksMaxAgeSeconds}`);
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
