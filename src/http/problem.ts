/** The one error map: from what was thrown to what the caller is told (RFC 9457). What it does not know is opaque. */
import type { ErrorRequestHandler, Request, Response } from 'express';
import { type Refusal, type RefusalCode, Refused, refusalStatus } from '../domain/refusals.ts';
import type { Log } from '../ports/log.ts';
import { requestId } from './edge.ts';
import { sendJson } from './reply.ts';

const titles: Partial<Record<RefusalCode, string>> = {
  invalid_request: 'The request is not valid',
  unauthenticated: 'Authentication is needed',
  internal: 'Something went wrong here',
};

const internal: Refusal = { code: 'internal', detail: 'something went wrong here; the request id is in the log' };

/** What Express throws for a request it cannot read (a path that does not decode), by its status. */
const foreign = (error: unknown): Refusal | undefined => {
  const status = typeof error === 'object' && error !== null && 'status' in error ? error.status : undefined;
  if (typeof status === 'number' && status >= 400 && status < 500) {
    return { code: 'invalid_request', detail: 'the request could not be read' };
  }
  return undefined;
};

/** @returns the public part of an error, whatever it is */
export const refusalOf = (error: unknown): Refusal =>
  error instanceof Refused ? error.refusal : (foreign(error) ?? internal);

export interface Problem {
  type: string;
  title: string;
  status: number;
  code: string;
  detail: string;
  request_id: string;
  problems?: string[];
}

export const problemOf = (refusal: Refusal, id: string, problems?: string[]): Problem => ({
  type: `urn:warder:error:${refusal.code}`,
  title: titles[refusal.code] ?? refusal.code.replaceAll('_', ' '),
  status: refusalStatus[refusal.code],
  code: refusal.code,
  detail: refusal.detail,
  request_id: id,
  ...(problems && problems.length > 0 ? { problems } : {}),
});

const problemsOf = (error: unknown): string[] | undefined => {
  if (typeof error !== 'object' || error === null || !('problems' in error)) return undefined;
  return Array.isArray(error.problems) ? error.problems.map(String) : undefined;
};

/** Sends an error as problem details. Headers of the challenge are set by whoever knows the resource. */
export const sendProblem = (req: Request, res: Response, error: unknown): void => {
  const refusal = refusalOf(error);
  const problem = problemOf(refusal, requestId(req), problemsOf(error));
  if (refusal.retryAfterSeconds !== undefined) res.setHeader('Retry-After', String(refusal.retryAfterSeconds));
  res.setHeader('Cache-Control', 'no-store');
  // Tells Warder's own answers from those of an upstream, where both pass the same way.
  res.setHeader('Warder-Error', refusal.code);
  sendJson(res, problem.status, problem, 'application/problem+json');
};

/** Express's last handler. */
export const errorHandler =
  (log: Log): ErrorRequestHandler =>
  (error, req, res, _next) => {
    const refusal = refusalOf(error);
    if (refusalStatus[refusal.code] >= 500) {
      log.error({ err: error, request_id: requestId(req), code: refusal.code }, 'a request failed');
    }
    if (res.headersSent) {
      res.destroy();
      return;
    }
    sendProblem(req, res, error);
  };
