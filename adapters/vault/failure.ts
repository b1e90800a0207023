/** What can go wrong at a Vault, in words of our own: what it said may hold names, paths and worse. */
import { AddressRefused } from '../network.ts';

export type VaultFailureKind =
  /** Vault itself said no, in its own format: nothing was done. */
  | 'refused'
  /** Nobody, somebody else, or a Vault that cannot answer now: whether it was done is unknown. */
  | 'unavailable'
  | 'timeout';

export class VaultFailure extends Error {
  override readonly name = 'VaultFailure';
  readonly kind: VaultFailureKind;
  /** Of the HTTP answer, where there was one. */
  readonly status: number | undefined;
  /** A private field: nothing that prints this error shows what Vault said. */
  readonly #said: readonly string[];

  constructor(
    kind: VaultFailureKind,
    message: string,
    more: { status?: number | undefined; said?: readonly string[]; code?: string } = {},
  ) {
    super(message);
    this.kind = kind;
    this.status = more.status;
    this.#said = more.said ?? [];
    if (more.code !== undefined) Object.assign(this, { code: more.code });
  }

  says(what: RegExp): boolean {
    return this.#said.some((line) => what.test(line));
  }
}

/** Vault's error format: `{"errors": ["…"]}`, also empty (a 404). */
const saidIn = (body: unknown): string[] | undefined => {
  const errors = typeof body === 'object' && body !== null && 'errors' in body ? body.errors : undefined;
  return Array.isArray(errors) ? errors.map(String) : undefined;
};

/**
 * Only Vault's own words refuse: what a proxy in front of it answers proves nothing about a token, a path or a key.
 * @see https://developer.hashicorp.com/vault/api-docs#http-status-codes
 */
const kindOf = (status: number, body: unknown): 'refused' | 'unavailable' => {
  // 408, 412 (this replica is behind), 425, 429 (too often), 472 and 473 (standby), 5xx (503: sealed).
  const refusing = status >= 400 && status < 500 && ![408, 412, 425, 429, 472, 473].includes(status);
  const kv404 = status === 404 && typeof body === 'object' && body !== null && 'data' in body;
  return refusing && (saidIn(body) !== undefined || kv404) ? 'refused' : 'unavailable';
};

/** An answer that is not one of success. */
export const failureOfAnswer = (status: number, body: unknown): VaultFailure => {
  const kind = kindOf(status, body);
  const what =
    status === 503 ? 'it is sealed or not ready' : kind === 'refused' ? 'it said no' : 'it cannot answer now';
  return new VaultFailure(kind, `${what} (status ${status})`, { status, said: saidIn(body) ?? [] });
};

/** A request without an answer. @param error of node:http, which holds no header; only its code is kept */
export const failureOfRequest = (error: unknown, signal: AbortSignal): VaultFailure => {
  if (error instanceof VaultFailure) return error;
  if (signal.aborted) return new VaultFailure('timeout', 'it did not answer in time');
  if (error instanceof AddressRefused) return new VaultFailure('refused', 'its address is not one that is allowed');
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
  return new VaultFailure('unavailable', 'it cannot be reached', { code });
};
