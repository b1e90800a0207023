/**
 * OAuth connections: what a provider says to an authorization server, and what Warder does around it.
 *
 * The provider speaks the protocol and keeps nothing. Warder keeps the tokens (services/accounts/authorizations.ts): sealed, one
 * redemption of a refresh token at a time whatever the number of processes, and what a redemption brought is durable
 * before anybody uses it. A server that rotates refresh tokens takes a second redemption for theft and revokes the
 * whole family (RFC 9700 section 4.14.2).
 */
import type { Connection } from '../domain/model.ts';
import type { SecretText } from '../domain/secret-text.ts';
import type { CallContext } from './call-context.ts';

/** The tokens of one account, opened. Times are in ms since the epoch. */
export interface HeldTokens {
  accessToken: SecretText;
  /** null where the server gives none: the tokens of client credentials. */
  refreshToken: SecretText | null;
  /** null when the server did not say. */
  expiresAt: number | null;
  /** What was consented to, as the server spells it. */
  scopes: readonly string[];
}

/** Tokens as a server gave them, to be kept in place of those before. */
export interface NewTokens {
  accessToken: string;
  refreshToken: string | null;
  expiresAt: number | null;
}

/** What a provider may ask of the tokens that Warder keeps for this grant's connection. */
export interface AuthorizationAccess {
  /**
   * Redeems a refresh token: `work` gets the tokens in force, and nobody else redeems them meanwhile. What it returns as
   * `tokens` is durable before this resolves. `work` must end by `signal`, which is not the caller's: an agent that
   * leaves must not break off what cannot be repeated.
   * @throws AuthorizationDead, which also marks the account as to be connected anew; ProviderFailure; Refused
   */
  redeem<T>(
    subject: string | null,
    work: (held: HeldTokens, signal: AbortSignal) => Promise<{ tokens: NewTokens; result: T }>,
  ): Promise<T>;
}

/** One attempt to connect an account, at the server. */
export interface ServerFlow {
  state: string;
  nonce: string;
  /** PKCE (RFC 7636); sent as S256. */
  codeVerifier: string;
  redirectUri: string;
}

/** All calls reject with ProviderFailure, and end soon when the signal is aborted. */
export interface AuthorizationServer {
  /** Whether somebody has to consent before this connection can be used; false for client credentials. */
  needsConsent(settings: Record<string, unknown>): boolean;
  /** The host where consent is given, for people to see. */
  host(settings: Record<string, unknown>): string;
  /** @returns where the browser goes */
  authorizeUrl(connection: Connection, flow: ServerFlow, context: CallContext): Promise<string>;
  /**
   * Judges the answer at the redirect URI and exchanges the code, once.
   * @throws AnswerRefused for an answer that is an error, not of this server, or brings no refresh token
   */
  exchange(
    connection: Connection,
    flow: ServerFlow,
    answer: URLSearchParams,
    context: CallContext,
  ): Promise<{ tokens: NewTokens; scopes: string[]; account: string | null }>;
  /**
   * New tokens with all that was consented to; without `held` by client credentials.
   * @throws AuthorizationDead when the server takes the refresh token no more
   */
  refresh(connection: Connection, held: HeldTokens | undefined, context: CallContext): Promise<NewTokens>;
  /** Revokes them at the server (RFC 7009). @returns whether it has a call for that */
  revokeTokens(connection: Connection, held: HeldTokens, context: CallContext): Promise<boolean>;
}
