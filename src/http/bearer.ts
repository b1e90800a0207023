/** Bearer tokens at protected resources (RFC 6750, from the Authorization header only) and their challenges. */
import type { Request, Response } from 'express';
import { assertionAlgorithms } from '../domain/model.ts';
import { Refused } from '../domain/refusals.ts';

const scheme = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i;

/**
 * @returns the Authorization header
 * @throws Refused `invalid_request` when there are two: Node gives the first, whatever stands before it may have judged
 *   the other
 */
export const authorizationOf = (req: Request): string | undefined => {
  const raw = req.rawHeaders;
  let found = 0;
  for (let i = 0; i < raw.length; i += 2) if (raw[i]?.toLowerCase() === 'authorization') found += 1;
  if (found > 1) throw new Refused('invalid_request', 'there is more than one Authorization header');
  return req.headers.authorization;
};

/**
 * @returns the token, or undefined when the request carries no Authorization header
 * @throws Refused `unauthenticated` when there is one, and it is not a bearer token; `invalid_request` for two of them
 */
export const bearerToken = (req: Request): string | undefined => {
  const header = authorizationOf(req);
  if (header === undefined) return undefined;
  const found = scheme.exec(header)?.[1];
  if (found === undefined) throw new Refused('unauthenticated', 'the Authorization header is not a bearer token');
  return found;
};

/** Where RFC 9728 says the metadata of a resource lies: the well-known part stands between host and path. */
export const resourceMetadataUrl = (issuer: string, resource: string): string => {
  const url = new URL(issuer);
  const path = url.pathname === '/' ? '' : url.pathname;
  return `${url.origin}/.well-known/oauth-protected-resource${path}${resource}`;
};

/**
 * The challenge of a 401 (RFC 6750 section 3, RFC 9728 section 5.1). Without credentials of this scheme there is no
 * `error` (section 3.1).
 * @param resource `/v1` or `/gateway`
 */
export const challenge = (req: Request, res: Response, issuer: string, resource: string, error: Refused): void => {
  const { code } = error.refusal;
  const parts = [`resource_metadata="${resourceMetadataUrl(issuer, resource)}"`];
  const bound = /^DPoP\b/i.test(req.headers.authorization ?? '');
  if (['unauthenticated', 'revoked', 'expired', 'invalid_dpop_proof'].includes(code)) {
    const proofFailed = bound && code === 'invalid_dpop_proof';
    if (/^(?:Bearer|DPoP)\b/i.test(req.headers.authorization ?? '')) {
      parts.unshift(`error="${proofFailed ? 'invalid_dpop_proof' : 'invalid_token'}"`);
    }
    // Whoever sent a token that is bound to a key, or said so, learns which proofs are taken (RFC 9449 section 7.1).
    const withProof = bound || code === 'invalid_dpop_proof';
    if (withProof) parts.push(`algs="${assertionAlgorithms.join(' ')}"`);
    res.setHeader('WWW-Authenticate', `${withProof ? 'DPoP' : 'Bearer'} ${parts.join(', ')}`);
  } else if (code === 'scope_not_allowed') {
    // Which scopes it would take (section 3.1); where none would do, a client must not be sent to ask for more.
    const { scopes = [] } = error.refusal;
    if (scopes.length > 0) parts.unshift('error="insufficient_scope"', `scope="${scopes.join(' ')}"`);
    res.setHeader('WWW-Authenticate', `${bound ? 'DPoP' : 'Bearer'} ${parts.join(', ')}`);
  }
};
