/** One map from Warder's refusals to the errors of OAuth (RFC 6749 section 5.2 and its extensions). */
import type { ErrorRequestHandler, Response } from 'express';
import { type RefusalCode, Refused } from '../../domain/refusals.ts';
import { type Edge, requestId } from '../edge.ts';
import { refusalOf } from '../problem.ts';
import { sendJson } from '../reply.ts';
import { OAuthError } from './form.ts';

/** What Warder's refusals are called here (RFC 6749 section 5.2, RFC 8707 section 2, RFC 9449 section 5); status where it is not 400. */
const oauthNames: Partial<Record<RefusalCode, { code: string; status?: number }>> = {
  unauthenticated: { code: 'invalid_client', status: 401 },
  invalid_dpop_proof: { code: 'invalid_dpop_proof' },
  not_entitled: { code: 'invalid_target' },
  not_found: { code: 'invalid_target' },
  scope_not_allowed: { code: 'invalid_scope' },
  agent_suspended: { code: 'unauthorized_client' },
  approval_denied: { code: 'access_denied' },
  // Not `temporarily_unavailable`: clients try again at once on that, and a freeze lasts until a person lifts it.
  frozen: { code: 'access_denied' },
  too_large: { code: 'invalid_request', status: 413 },
  unsupported_media_type: { code: 'invalid_request' },
  rate_limited: { code: 'temporarily_unavailable', status: 429 },
  budget_exhausted: { code: 'temporarily_unavailable', status: 429 },
  sealed: { code: 'temporarily_unavailable', status: 503 },
  ledger_unavailable: { code: 'temporarily_unavailable', status: 503 },
  upstream_unavailable: { code: 'temporarily_unavailable', status: 502 },
  upstream_refused: { code: 'temporarily_unavailable', status: 502 },
  upstream_timeout: { code: 'temporarily_unavailable', status: 504 },
  insufficient_storage: { code: 'temporarily_unavailable', status: 507 },
  internal: { code: 'server_error', status: 500 },
};

export const toOAuthError = (error: unknown): OAuthError => {
  if (error instanceof OAuthError) return error;
  const refusal = refusalOf(error);
  const name = oauthNames[refusal.code] ?? { code: 'invalid_request' };
  return new OAuthError(name.code, refusal.detail, {
    ...(name.status === undefined ? {} : { status: name.status }),
    ...(refusal.retryAfterSeconds === undefined ? {} : { retryAfterSeconds: refusal.retryAfterSeconds }),
    cause: error,
  });
};

export const noStore = (res: Response): void => {
  res.setHeader('Cache-Control', 'no-store');
  res.setHeader('Pragma', 'no-cache');
};

const endpointPaths: ReadonlySet<string> = new Set(['/token', '/introspect', '/revoke']);

/** RFC 6749 section 5.2 has no room for quotes, backslashes and whatever is not ASCII. */
const describable = (text: string): string =>
  text.replace(/["‘’“”]/g, "'").replace(/[^\x20\x21\x23-\x5b\x5d-\x7e]/g, '?');

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
    sendJson(res, failure.status, { error: failure.code, error_description: describable(failure.description) });
  };

/** For tests that hold the map of refusals to the list of codes. */
export const oauthErrorFor = (code: RefusalCode): { error: string; status: number } => {
  const failure = toOAuthError(new Refused(code, ''));
  return { error: failure.code, status: failure.status };
};
