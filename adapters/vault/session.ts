/** Warder's own token at a Vault: got by logging in, kept, renewed and, when Vault has dropped it, got anew. */
import { SecretText } from '../../src/domain/secret-text.ts';
import type { VaultClient, VaultReply, VaultRequest } from './client.ts';
import { VaultFailure } from './failure.ts';

/** Logging in must end whether or not whoever asked for it still waits: others may. */
const loginTimeoutMs = 8_000;
/** A token younger than this that is refused is refused for its policies: a new one would be, too. */
const freshMs = 5_000;

interface Token {
  text: SecretText;
  obtainedAt: number;
  /** When to prolong it; undefined while its life is not known. */
  renewAt: number | undefined;
  expiresAt: number;
}

/** How the token is come by. */
export type Entry =
  | { how: 'given'; token: SecretText }
  /** @returns the request of a login; asked for at each login, as what it proves itself with may change */
  | { how: 'login'; request(): Promise<VaultRequest> | VaultRequest };

const now = (): number => performance.now();

export class VaultSession {
  readonly #client: VaultClient;
  readonly #entry: Entry;
  #token: Token | undefined;
  #entering: Promise<Token> | undefined;
  #renewing: Promise<void> | undefined;

  constructor(client: VaultClient, entry: Entry) {
    this.#client = client;
    this.#entry = entry;
  }

  /** A call with Warder's own token; when that is refused, once more with a new one. @throws VaultFailure */
  async call(request: Omit<VaultRequest, 'token'>, signal: AbortSignal): Promise<VaultReply> {
    const token = await this.#tokenFor(signal);
    try {
      return await this.#client.call({ ...request, token: token.text.reveal() }, signal);
    } catch (error) {
      if (this.#entry.how === 'given' || !isOver(error, token)) throw error;
      if (this.#token === token) this.#token = undefined;
      const next = await this.#tokenFor(signal);
      return this.#client.call({ ...request, token: next.text.reveal() }, signal);
    }
  }

  /** A call with somebody else's token. */
  callAs(token: string, request: Omit<VaultRequest, 'token'>, signal: AbortSignal): Promise<VaultReply> {
    return this.#client.call({ ...request, token }, signal);
  }

  /** Prolongs the token where it is time to; for a session that may lie idle for longer than its token lives. */
  keepAlive(): void {
    const held = this.#token;
    if (held && now() < held.expiresAt && (held.renewAt === undefined || now() >= held.renewAt)) this.#renew(held);
  }

  async #tokenFor(signal: AbortSignal): Promise<Token> {
    const held = this.#token;
    if (held && now() < held.expiresAt) {
      this.keepAlive();
      return held;
    }
    this.#entering ??= this.#enter().finally(() => {
      this.#entering = undefined;
    });
    return inTime(this.#entering, signal);
  }

  async #enter(): Promise<Token> {
    if (this.#entry.how === 'given') {
      const { token } = this.#entry;
      this.#token = { text: token, obtainedAt: now(), renewAt: undefined, expiresAt: Number.POSITIVE_INFINITY };
      return this.#token;
    }
    const { auth } = await this.#client.call(await this.#entry.request(), AbortSignal.timeout(loginTimeoutMs));
    if (!auth?.client_token) throw new VaultFailure('unavailable', 'its answer to the login has no token');
    const obtainedAt = now();
    this.#token = { text: new SecretText(auth.client_token), obtainedAt, ...lifeOf(auth, obtainedAt) };
    return this.#token;
  }

  /**
   * Beside the call that noticed. What fails here is tried again by the calls that follow; when the token is over they
   * log in anew, or are refused.
   */
  #renew(token: Token): void {
    this.#renewing ??= this.#prolong(token)
      .catch(() => {
        token.renewAt = now() + retryMs;
      })
      .finally(() => {
        this.#renewing = undefined;
      });
  }

  async #prolong(token: Token): Promise<void> {
    const call = (method: 'GET' | 'POST', path: string): Promise<VaultReply> =>
      this.#client.call({ method, path, token: token.text.reveal() }, AbortSignal.timeout(loginTimeoutMs));
    if (token.renewAt === undefined) {
      const { data } = await call('GET', 'auth/token/lookup-self');
      const seconds = Number(data?.['ttl'] ?? 0);
      // The age it had when it was given to Warder is not known: a token past half of its life is prolonged now.
      const whole = Number(data?.['creation_ttl'] ?? 0);
      const renewable = data?.['renewable'] === true && seconds > 0;
      token.renewAt = renewable ? now() + Math.max(0, seconds - whole / 2) * 1000 : Number.POSITIVE_INFINITY;
      if (!renewable || now() < token.renewAt) return;
    }
    const { auth } = await call('POST', 'auth/token/renew-self');
    if (!auth) throw new VaultFailure('unavailable', 'its answer to the renewal has no token');
    const life = lifeOf(auth, now());
    token.renewAt = life.renewAt;
    if (this.#entry.how === 'login') token.expiresAt = life.expiresAt;
  }
}

const retryMs = 5_000;

/** Newer Vaults say which of the two a 403 is; of others the age of the token tells. */
const isOver = (error: unknown, token: Token): boolean =>
  error instanceof VaultFailure &&
  error.status === 403 &&
  (error.says(/invalid token/i) || now() - token.obtainedAt > freshMs);

/** A token that lives for ever (a root token) says 0. */
const lifeOf = (auth: NonNullable<VaultReply['auth']>, from: number): { renewAt: number; expiresAt: number } => {
  const ms = auth.lease_duration > 0 ? auth.lease_duration * 1000 : Number.POSITIVE_INFINITY;
  return { renewAt: auth.renewable ? from + ms / 2 : Number.POSITIVE_INFINITY, expiresAt: from + ms };
};

/** The others' login goes on when this caller has no time left. */
const inTime = async <T>(work: Promise<T>, signal: AbortSignal): Promise<T> => {
  const over = Promise.withResolvers<never>();
  const late = (): void => over.reject(new VaultFailure('timeout', 'it did not answer in time'));
  if (signal.aborted) late();
  signal.addEventListener('abort', late, { once: true });
  try {
    return await Promise.race([work, over.promise]);
  } finally {
    signal.removeEventListener('abort', late);
  }
};
