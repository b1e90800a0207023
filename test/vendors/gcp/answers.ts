/** How Google says no: RFC 6749 errors at the token endpoints, `google.rpc.Status` in JSON everywhere else. */

export class Problem extends Error {
  readonly status: number;
  readonly body: unknown;

  constructor(status: number, body: unknown) {
    super(JSON.stringify(body));
    this.status = status;
    this.body = body;
  }
}

const names: Record<number, string> = {
  400: 'INVALID_ARGUMENT',
  401: 'UNAUTHENTICATED',
  403: 'PERMISSION_DENIED',
  404: 'NOT_FOUND',
  500: 'INTERNAL',
};

/** AIP-193. */
export const statusProblem = (code: number, message: string): Problem =>
  new Problem(code, { error: { code, message, status: names[code] ?? 'UNKNOWN' } });

export const oauthProblem = (error: string, description: string, status = 400): Problem =>
  new Problem(status, { error, error_description: description });
