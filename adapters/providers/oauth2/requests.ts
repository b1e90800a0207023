/** Requests to an authorization server, and the tokens of its answers: each with this client's proof, none kept. */

import {
  clientCredentialsGrant,
  refreshTokenGrant,
  type TokenEndpointResponse,
  type TokenEndpointResponseHelpers,
  tokenIntrospection,
  tokenRevocation,
} from 'openid-client';
import { isShowable } from '../../../src/domain/names.ts';
import { MIN_SECRET_BYTES } from '../../../src/domain/secret-mask.ts';
import type { HeldTokens, NewTokens } from '../../../src/ports/authorization.ts';
import type { CallContext } from '../../../src/ports/call-context.ts';
import { AuthorizationDead, ProviderFailure } from '../../../src/ports/provider.ts';
import { failureOf } from './answers.ts';
import type { Servers } from './server.ts';
import type { Settings } from './settings.ts';

export type Answer = TokenEndpointResponse & TokenEndpointResponseHelpers;

/** What an access token may be, so that it fits a header (RFC 6750 section 2.1) and can be masked. */
const tokenText = new RegExp(`^[\\x21-\\x7e]{${MIN_SECRET_BYTES},16384}$`);
/** No token that is still of use to anybody; later than that, a date cannot be written. */
const longestLifeSeconds = 10 * 365 * 86_400;

const nonsense = (what: string): ProviderFailure =>
  new ProviderFailure('unavailable', `the authorization server answered ${what}`);

/** @returns undefined also for an empty text: no scopes by RFC 6749 section 3.3, and what GitHub says of every token */
const words = (text: string | undefined): string[] | undefined => {
  const found = text?.split(' ').filter((word) => word !== '');
  return found?.length === 0 ? undefined : found;
};

/** RFC 6749 section 3.3, and far more of it than any server has. */
const scopeText = /^[\x21\x23-\x5b\x5d-\x7e]+(?: +[\x21\x23-\x5b\x5d-\x7e]+)*$/;
const longestScope = 8_000;

/**
 * What was consented to, as the server says: it is recorded and shown, so that it must be scopes, and no token.
 * @returns undefined where it says nothing
 */
export const consentedIn = (answer: Answer): string[] | undefined => {
  const { scope, access_token, refresh_token } = answer;
  const given = scope?.trim() ?? '';
  if (given === '') return undefined;
  const hasToken = [access_token, refresh_token].some((token) => token !== undefined && given.includes(token));
  if (given.length > longestScope || !scopeText.test(given) || !isShowable(given) || hasToken) {
    throw nonsense('with scopes that are none');
  }
  return words(given);
};

/** @returns the tokens of an answer, whose access token must be one that can be put into a header */
export const tokensOf = (answer: Answer, now: number, before: string | null): NewTokens => {
  if (answer.token_type !== 'bearer') throw nonsense('with a token that is no bearer token');
  const refreshToken = answer.refresh_token ?? before;
  if (!tokenText.test(answer.access_token) || (refreshToken !== null && !tokenText.test(refreshToken))) {
    throw nonsense('with a token that is none');
  }
  const lifeSeconds = answer.expires_in;
  const expiresAt = lifeSeconds === undefined ? null : now + Math.min(lifeSeconds, longestLifeSeconds) * 1000;
  return {
    accessToken: answer.access_token,
    refreshToken,
    expiresAt: expiresAt === null ? null : Math.floor(expiresAt),
  };
};

/** The `scope` parameter, left out where there is nothing to ask for. */
export const scopeParameter = (scopes: readonly string[]): [string, string][] =>
  scopes.length > 0 ? [['scope', scopes.join(' ')]] : [];

/** Parameters that every token request of this connection carries (RFC 8707 section 2.2, and `audience` as vendors do). */
export const targets = (value: Settings): [string, string][] => [
  ...value.resource.map((resource): [string, string] => ['resource', resource]),
  ...(value.audience === undefined ? [] : [['audience', value.audience] as [string, string]]),
];

/** A token request, with its failures as the port knows them. */
export const asking = async <T>(signal: AbortSignal, redeems: boolean, work: Promise<T>): Promise<T> => {
  try {
    return await work;
  } catch (error) {
    throw failureOf(error, signal, redeems);
  }
};

export const refreshed = async (
  servers: Servers,
  value: Settings,
  held: HeldTokens,
  /** Empty: all that was consented to. */
  scopes: readonly string[],
  context: CallContext,
): Promise<Answer> => {
  const refreshToken = held.refreshToken?.reveal();
  if (refreshToken === undefined) throw new AuthorizationDead('this account has no refresh token, and its token ended');
  const configuration = await servers.configuration(value, context);
  const form = new URLSearchParams([...targets(value), ...scopeParameter(scopes)]);
  return asking(context.signal, true, refreshTokenGrant(configuration, refreshToken, form));
};

export const ofClient = async (
  servers: Servers,
  value: Settings,
  scopes: readonly string[],
  context: CallContext,
): Promise<Answer> => {
  const configuration = await servers.configuration(value, context);
  const form = new URLSearchParams([...targets(value), ...scopeParameter(scopes)]);
  return asking(context.signal, false, clientCredentialsGrant(configuration, form));
};

/** Revokes one token (RFC 7009). @returns whether the server has a call for it */
export const revoked = async (
  servers: Servers,
  value: Settings,
  token: string,
  hint: 'access_token' | 'refresh_token',
  context: CallContext,
): Promise<boolean> => {
  const configuration = await servers.configuration(value, context);
  if (configuration.serverMetadata().revocation_endpoint === undefined) return false;
  try {
    await tokenRevocation(configuration, token, { token_type_hint: hint });
    return true;
  } catch (error) {
    // Section 2.2.1: the server revokes no tokens of this type.
    if (says(error, 'unsupported_token_type')) return false;
    // Section 2.2 has 200 for what is gone already; Google has this.
    if (says(error, 'invalid_token')) return true;
    throw failureOf(error, context.signal);
  }
};

const says = (error: unknown, code: string): boolean =>
  typeof error === 'object' && error !== null && 'error' in error && error.error === code;

/**
 * What the token can do, as far as the server says: never more than was asked for, or it is not delivered.
 *
 * An answer without `scope` says "as asked" (RFC 6749 section 5.1). From client credentials that is taken as said. From
 * a refresh it is not: servers that never learnt of section 6 leave the parameter out and give all that was consented to,
 * so unless that is what was asked for, introspection (RFC 7662) must confirm it.
 * @returns the scopes beyond those asked for, or undefined where nobody says
 */
export const excess = async (
  servers: Servers,
  value: Settings,
  answer: Answer,
  asked: readonly string[],
  consented: readonly string[] | undefined,
  context: CallContext,
): Promise<string[] | undefined> => {
  const beyond = (given: readonly string[]): string[] => given.filter((scope) => !asked.includes(scope));
  const said = words(answer.scope);
  if (said) return beyond(said);
  if (!consented || beyond(consented).length === 0) return [];
  const configuration = await servers.configuration(value, context);
  if (configuration.serverMetadata().introspection_endpoint === undefined) return undefined;
  const facts = await asking(context.signal, false, tokenIntrospection(configuration, answer.access_token));
  const confirmed = facts.active ? words(facts.scope) : undefined;
  return confirmed && beyond(confirmed);
};
