/**
 * One call of an HTTP API that speaks JSON, over the guarded network: no redirect is followed, an answer is read only so
 * far, and what fails is a ProviderFailure in which nothing of the request or the answer is left.
 */
import { ProviderFailure } from '../../../src/ports/provider.ts';
import { AddressRefused } from '../../network.ts';

export interface JsonCall {
  /** As people know it, for the failure: `GitHub`. */
  upstream: string;
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  url: string;
  headers: Record<string, string>;
  /** Sent as it is; the caller names its type in `headers`. */
  body?: string;
  /** What is longer counts as no JSON; {@link mostAnswerBytes} unless told. */
  maxAnswerBytes?: number;
}

export interface JsonAnswer {
  status: number;
  headers: Headers;
  /** undefined when it is empty or no JSON. */
  body: unknown;
}

/** Answers of token endpoints are a few kilobytes; the list of five hundred repositories of a token is about three megabytes. */
const mostAnswerBytes = 8 * 1024 * 1024;

const readAll = async (response: Response, maxBytes: number): Promise<string | undefined> => {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > maxBytes) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
};

const parsed = (text: string | undefined): unknown => {
  try {
    return text === undefined ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
};

const addressRefused = (error: unknown): boolean => {
  for (let cause = error; cause instanceof Error; cause = cause.cause) if (cause instanceof AddressRefused) return true;
  return false;
};

/** Errors of HTTP clients carry requests, and so credentials: of them only kind and code are kept. */
const harmless = (error: unknown): Error => {
  let [code, cause] = ['', error];
  for (; cause instanceof Error; cause = cause.cause) {
    if ('code' in cause && typeof cause.code === 'string') code = cause.code;
  }
  return new Error(['the call failed', error instanceof Error ? error.name : '', code].filter(Boolean).join(' '));
};

/**
 * @param fetch of the guarded network
 * @returns any answer, whatever its status
 * @throws ProviderFailure `timeout` when the signal ended it, `refused` for an address that is not allowed, else
 * `unavailable`
 */
export const callJson = async (
  fetch: typeof globalThis.fetch,
  { upstream, url, maxAnswerBytes = mostAnswerBytes, ...init }: JsonCall,
  signal: AbortSignal,
): Promise<JsonAnswer> => {
  try {
    const response = await fetch(url, { ...init, redirect: 'manual', signal });
    return {
      status: response.status,
      headers: response.headers,
      body: parsed(await readAll(response, maxAnswerBytes)),
    };
  } catch (error) {
    const cause = harmless(error);
    if (signal.aborted) throw new ProviderFailure('timeout', `${upstream} did not answer in time`, { cause });
    if (addressRefused(error)) {
      throw new ProviderFailure('refused', `the address of ${upstream} is one this connection may not go to`, {
        cause,
      });
    }
    throw new ProviderFailure('unavailable', `${upstream} could not be reached or broke off`, { cause });
  }
};
