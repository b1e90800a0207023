/**
 * Every way Warder says no, as tagged values. `detail` is public; nothing private belongs into it. One table maps a
 * code to its HTTP status; OAuth endpoints map it once more, to the names of RFC 6749.
 */
export const refusalStatus = {
  invalid_request: 400,
  ttl_too_long: 400,
  unauthenticated: 401,
  revoked: 401,
  expired: 401,
  invalid_dpop_proof: 401,
  not_entitled: 403,
  scope_not_allowed: 403,
  agent_suspended: 403,
  frozen: 403,
  approval_denied: 403,
  forbidden: 403,
  request_not_allowed: 403,
  not_found: 404,
  method_not_allowed: 405,
  conflict: 409,
  needs_connection: 409,
  too_large: 413,
  unsupported_media_type: 415,
  budget_exhausted: 429,
  rate_limited: 429,
  headers_too_large: 431,
  internal: 500,
  upstream_unavailable: 502,
  upstream_refused: 502,
  sealed: 503,
  ledger_unavailable: 503,
  upstream_timeout: 504,
  insufficient_storage: 507,
} as const satisfies Record<string, number>;

export type RefusalCode = keyof typeof refusalStatus;

export interface Refusal {
  code: RefusalCode;
  detail: string;
  retryAfterSeconds?: number;
  /** For `scope_not_allowed`: the scopes it would take, named in the challenge (RFC 6750 section 3.1). */
  scopes?: readonly string[];
}

/** The one exception of services: carries a refusal to the edge, where the error map knows what to do with it. */
export class Refused extends Error {
  readonly refusal: Refusal;

  constructor(
    code: RefusalCode,
    detail: string,
    options: Pick<Refusal, 'retryAfterSeconds' | 'scopes'> & { cause?: unknown } = {},
  ) {
    super(`${code}: ${detail}`, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'Refused';
    this.refusal = {
      code,
      detail,
      ...(options.retryAfterSeconds === undefined ? {} : { retryAfterSeconds: options.retryAfterSeconds }),
      ...(options.scopes === undefined ? {} : { scopes: options.scopes }),
    };
  }
}
