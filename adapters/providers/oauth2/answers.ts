/** What an authorization server answers, made safe: bounded, and its errors as failures that repeat nothing it said. */
import { ClientError, type CustomFetchOptions, ResponseBodyError } from 'openid-client';
import { AuthorizationDead, ProviderFailure } from '../../../src/ports/provider.ts';

/** A token endpoint's answer is a few kilobytes; metadata with many scopes are tens. */
const maxAnswerBytes = 256 * 1024;

/** RFC 6749 section 5.2 and RFC 7009 section 2.2.1: codes that may stand in a log. */
const knownErrors = new Set([
  ...['invalid_request', 'invalid_client', 'invalid_grant', 'unauthorized_client', 'unsupported_grant_type'],
  ...['invalid_scope', 'invalid_target', 'unsupported_token_type', 'access_denied', 'server_error'],
  ...['temporarily_unavailable', 'slow_down', 'consent_required', 'login_required', 'interaction_required'],
  'unsupported_response_type',
]);
export const knownError = (code: string): string => (knownErrors.has(code) ? code : 'another_error');

const readBounded = async (response: Response): Promise<Uint8Array> => {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    size += chunk.length;
    if (size > maxAnswerBytes) throw new Error(`an answer of more than ${maxAnswerBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
};

/** @returns the members of a JSON object, or undefined for everything else */
const membersOf = (body: Uint8Array): Record<string, unknown> | undefined => {
  try {
    const answer: unknown = JSON.parse(Buffer.from(body).toString());
    return typeof answer === 'object' && answer !== null && !Array.isArray(answer) ? { ...answer } : undefined;
  } catch {
    return undefined;
  }
};

/** GitHub and others answer errors of the token endpoint with 200; RFC 6749 section 5.2 says 400. */
const isErrorInDisguise = (status: number, members: Record<string, unknown>): boolean =>
  status === 200 && typeof members['error'] === 'string' && !('access_token' in members);

/**
 * `fetch` for the protocol library: with the call's own deadline, an answer of bounded size, and errors where the
 * protocol has them.
 * @param without members of JSON answers to leave out, because nothing can judge them
 */
export const boundedFetch =
  (fetch: typeof globalThis.fetch, signal: AbortSignal, without: readonly string[] = []) =>
  async (url: string, { method, headers, body: form }: CustomFetchOptions): Promise<Response> => {
    const sent = form === undefined || form === null ? {} : { body: form };
    const answer = await fetch(url, { method, headers, ...sent, redirect: 'manual', signal });
    const body = await readBounded(answer);
    const members = membersOf(body);
    const status = members && isErrorInDisguise(answer.status, members) ? 400 : answer.status;
    for (const name of without) delete members?.[name];
    const kept = members && without.length > 0 ? JSON.stringify(members) : body;
    const given = new Headers([...answer.headers]);
    // RFC 6749 section 5.2 has both beside `invalid_client`; the library would look at the challenge alone.
    if (typeof members?.['error'] === 'string') given.delete('www-authenticate');
    // A status without a body (204, 304) must not be given one.
    return new Response(kept.length === 0 ? null : kept, { status, headers: given });
  };

/** Codes of servers that have their own word for `invalid_grant`. */
const deadGrants = new Set(['invalid_grant', 'bad_refresh_token']);

const codeOf = (error: unknown): string =>
  typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';

interface Link {
  name: string;
  code: string;
}

const maxCauses = 10;

/** The errors behind an error, outermost first: their names and codes. */
const causes = (error: unknown): Link[] => {
  const found: Link[] = [];
  for (let at = error; typeof at === 'object' && at !== null && found.length < maxCauses; ) {
    found.push({ name: 'name' in at ? String(at.name) : '', code: codeOf(at) });
    at = 'cause' in at ? at.cause : undefined;
  }
  return found;
};

/** For the log: what kind of error it was, without the request or the answer that libraries hang on theirs. */
const plain = (error: unknown, ...more: string[]): Error => {
  const names = causes(error).map(({ name, code }) => `${name} ${code}`.trim());
  return new Error([...names, ...more].join(', ').slice(0, 500));
};

const refusal = (error: ResponseBodyError, redeems: boolean): ProviderFailure => {
  const code = knownError(error.error);
  const cause = plain(error, code, `status ${error.status}`);
  // Whoever is asked too often says so with 429, whatever the body says (RFC 6585 section 4).
  if (error.status === 429 || ['server_error', 'temporarily_unavailable', 'slow_down'].includes(error.error)) {
    return new ProviderFailure('unavailable', 'the authorization server is not available at the moment', { cause });
  }
  if (redeems && deadGrants.has(error.error)) {
    return new AuthorizationDead('the authorization server takes the refresh token no more', { cause });
  }
  const messages: Record<string, string> = {
    invalid_client: 'the authorization server does not accept the client credentials of this connection',
    unauthorized_client: 'the authorization server does not let this client do that',
    unsupported_grant_type: 'the authorization server does not support this grant',
    invalid_scope: 'the authorization server does not give these scopes; was consent asked for them?',
    invalid_target: 'the authorization server does not know the resource of this connection',
  };
  return new ProviderFailure('refused', messages[code] ?? 'the authorization server refused', { cause });
};

/**
 * @param redeems whether a refresh token was sent, so that `invalid_grant` means its end
 * @returns the failure as the port knows it; itself when it is one already
 */
export const failureOf = (error: unknown, signal: AbortSignal, redeems = false): ProviderFailure => {
  if (error instanceof ProviderFailure) return error;
  if (error instanceof ResponseBodyError) return refusal(error, redeems);
  const cause = plain(error);
  const late = causes(error).some((one) => one.name === 'TimeoutError' || one.name === 'AbortError');
  if (signal.aborted || late) {
    return new ProviderFailure('timeout', 'the authorization server did not answer in time', { cause });
  }
  if (causes(error).some((one) => one.name === 'AddressRefused')) {
    const message = 'the authorization server is at an address that this connection does not allow';
    return new ProviderFailure('refused', message, { cause });
  }
  const message =
    error instanceof ClientError
      ? 'the authorization server answered what the protocol does not know'
      : 'the authorization server could not be reached';
  return new ProviderFailure('unavailable', message, { cause });
};

/** Waits no longer than the signal says; what was begun goes on. @throws ProviderFailure `timeout` */
export const untilAborted = async <T>(signal: AbortSignal, work: Promise<T>): Promise<T> => {
  let late = (): void => undefined;
  const over = new Promise<never>((_, reject) => {
    late = () => reject(new ProviderFailure('timeout', 'the authorization server did not answer in time'));
    if (signal.aborted) late();
    else signal.addEventListener('abort', late, { once: true });
  });
  try {
    return await Promise.race([work, over]);
  } finally {
    signal.removeEventListener('abort', late);
  }
};
