/** Reading `application/x-www-form-urlencoded` as RFC 6749 section 3.2 wants it read. */
import type { Request } from 'express';
import { readFormText } from '../body.ts';

/** An OAuth error: its code goes to the client as it is, `status` is 400 unless said otherwise. */
export class OAuthError extends Error {
  readonly code: string;
  readonly status: number;
  readonly description: string;
  readonly retryAfterSeconds: number | undefined;
  /** For the audit log only: what the client is not told. */
  readonly privately: string | undefined;

  constructor(
    code: string,
    description: string,
    options: { status?: number; retryAfterSeconds?: number; cause?: unknown; privately?: string } = {},
  ) {
    super(`${code}: ${description}`, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'OAuthError';
    this.code = code;
    this.description = description;
    this.status = options.status ?? 400;
    this.retryAfterSeconds = options.retryAfterSeconds;
    this.privately = options.privately;
  }
}

const maxFormBytes = 32 * 1024;

/** Parameters that may stand more than once (RFC 8707 section 2, RFC 8693 section 2.1). */
const repeatable = new Set(['resource', 'audience']);

export interface Form {
  /** A parameter that is not empty: an empty one counts as absent (section 3.1). */
  get(name: string): string | undefined;
  all(name: string): string[];
}

/** @throws OAuthError `invalid_request` for another type of body, or a repeated parameter */
export const readForm = async (req: Request): Promise<Form> => {
  const parameters = new URLSearchParams(await readFormText(req, maxFormBytes));
  for (const name of new Set(parameters.keys())) {
    if (!repeatable.has(name) && parameters.getAll(name).length > 1) {
      throw new OAuthError(
        'invalid_request',
        `the parameter ${name.slice(0, 40).replace(/[^\x21\x23-\x5b\x5d-\x7e]/g, '?')} is repeated`,
      );
    }
  }
  return {
    get: (name) => parameters.get(name) || undefined,
    all: (name) => parameters.getAll(name).filter((value) => value !== ''),
  };
};
