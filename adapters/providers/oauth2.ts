/**
 * `oauth2`: a service whose access tokens come from an authorization server (RFC 6749), by the consent of a person or by
 * client credentials. Where the server narrows (`scope` of RFC 6749 section 6), the agent gets a token of its own;
 * where it does not, requests go through the gateway, which puts the token in.
 *
 * What it speaks is here; what it says is kept, and that a refresh token is redeemed by one at a time, is
 * src/services/authorizations.ts.
 */
import {
  authorizationCodeGrant,
  buildAuthorizationUrl,
  calculatePKCECodeChallenge,
  clientCredentialsGrant,
  refreshTokenGrant,
  type ServerMetadata,
  type TokenEndpointResponse,
  type TokenEndpointResponseHelpers,
  tokenIntrospection,
  tokenRevocation,
} from 'openid-client';
import type { Connection } from '../../src/domain/model.ts';
import { isPlainLine } from '../../src/domain/names.ts';
import { MIN_SECRET_BYTES } from '../../src/domain/secret-mask.ts';
import type { AuthorizationServer, HeldTokens, NewTokens, ServerContext } from '../../src/ports/authorization.ts';
import {
  AnswerRefused,
  AuthorizationDead,
  type Handle,
  type LivesOn,
  type Minted,
  type MintRequest,
  type Provider,
  type ProviderContext,
  ProviderFailure,
} from '../../src/ports/provider.ts';
import type { Network } from '../network.ts';
import { checked, jsonSchemaOf } from './checking.ts';
import { targetOf } from './gateway-settings.ts';
import { failureOf, knownError, untilAborted } from './oauth2-answers.ts';
import { Servers } from './oauth2-server.ts';
import {
  consentScopes,
  destination,
  oauthScopes,
  parsed,
  revocable,
  type Settings,
  secret,
  settings,
} from './oauth2-settings.ts';

type Answer = TokenEndpointResponse & TokenEndpointResponseHelpers;

/** What an access token may be, so that it fits a header (RFC 6750 section 2.1) and can be masked. */
const tokenText = new RegExp(`^[\\x21-\\x7e]{${MIN_SECRET_BYTES},16384}$`);
/** No token that is still of use to anybody; later than that, a date cannot be written. */
const longestLifeSeconds = 10 * 365 * 86_400;

const nonsense = (what: string): ProviderFailure =>
  new ProviderFailure('unavailable', `the authorization server answered ${what}`);

const words = (text: string | undefined): string[] | undefined => text?.split(' ').filter((word) => word !== '');

/** @returns the tokens of an answer, whose access token must be one that can be put into a header */
const tokensOf = (answer: Answer, now: number, before: string | null): NewTokens => {
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
const scopeParameter = (scopes: readonly string[]): [string, string][] =>
  scopes.length > 0 ? [['scope', scopes.join(' ')]] : [];

/** Parameters that every token request of this connection carries (RFC 8707 section 2.2, and `audience` as vendors do). */
const targets = (value: Settings): [string, string][] => [
  ...value.resource.map((resource): [string, string] => ['resource', resource]),
  ...(value.audience === undefined ? [] : [['audience', value.audience] as [string, string]]),
];

/** A token request, with its failures as the port knows them. */
const asking = async <T>(signal: AbortSignal, redeems: boolean, work: Promise<T>): Promise<T> => {
  try {
    return await work;
  } catch (error) {
    throw failureOf(error, signal, redeems);
  }
};

const refreshed = async (
  servers: Servers,
  value: Settings,
  held: HeldTokens,
  /** Empty: all that was consented to. */
  scopes: readonly string[],
  context: ServerContext,
): Promise<Answer> => {
  const refreshToken = held.refreshToken?.reveal();
  if (refreshToken === undefined) throw new AuthorizationDead('this account has no refresh token, and its token ended');
  const configuration = await servers.configuration(value, context);
  const form = new URLSearchParams([...targets(value), ...scopeParameter(scopes)]);
  return asking(context.signal, true, refreshTokenGrant(configuration, refreshToken, form));
};

const ofClient = async (
  servers: Servers,
  value: Settings,
  scopes: readonly string[],
  context: ServerContext,
): Promise<Answer> => {
  const configuration = await servers.configuration(value, context);
  const form = new URLSearchParams([...targets(value), ...scopeParameter(scopes)]);
  return asking(context.signal, false, clientCredentialsGrant(configuration, form));
};

/** Revokes one token (RFC 7009). @returns whether the server has a call for it */
const revoked = async (
  servers: Servers,
  value: Settings,
  token: string,
  hint: 'access_token' | 'refresh_token',
  context: ServerContext,
): Promise<boolean> => {
  const configuration = await servers.configuration(value, context);
  if (configuration.serverMetadata().revocation_endpoint === undefined) return false;
  try {
    await tokenRevocation(configuration, token, { token_type_hint: hint });
    return true;
  } catch (error) {
    const failure = failureOf(error, context.signal);
    // Section 2.2.1: the server revokes no tokens of this type.
    if (isUnsupported(error)) return false;
    throw failure;
  }
};

const isUnsupported = (error: unknown): boolean =>
  typeof error === 'object' && error !== null && 'error' in error && error.error === 'unsupported_token_type';

/**
 * What the token can do, as far as the server says: never more than was asked for, or it is not delivered.
 *
 * An answer without `scope` says "as asked" (RFC 6749 section 5.1). From client credentials that is taken as said. From
 * a refresh it is not: servers that never learnt of section 6 leave the parameter out and give all that was consented to,
 * so unless that is what was asked for, introspection (RFC 7662) must confirm it.
 * @returns the scopes beyond those asked for, or undefined where nobody says
 */
const excess = async (
  servers: Servers,
  value: Settings,
  answer: Answer,
  asked: readonly string[],
  consented: readonly string[] | undefined,
  context: ServerContext,
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

/** How long what nobody wants any more is tried to be revoked for. */
const tidyMs = 5_000;

/** The refusal of a token that is wider than asked, or may be. */
const notNarrowed = (beyond: string[] | undefined): ProviderFailure => {
  const what = beyond
    ? 'the authorization server gave more than it was asked for: it does not narrow'
    : 'the authorization server does not say whether it narrowed the token';
  const advice = 'set narrowing: gateway in the settings of this connection';
  return new ProviderFailure('refused', `${what}; ${advice}`, { made: true });
};

/** Only what was asked for, given to the agent, and kept for the undo. */
const mintUpstream = async (servers: Servers, request: MintRequest, context: ProviderContext): Promise<Minted> => {
  const value = parsed(request.connection.settings);
  const asked = oauthScopes(value, request.scopes);
  let left = false;
  /** For a token that must not be delivered: the drain knows of none, so this is its only chance. */
  const discard = async (token: string): Promise<void> => {
    if (!revocable(value)) return;
    const tidying = { now: () => context.now(), secret: () => context.secret(), signal: AbortSignal.timeout(tidyMs) };
    await revoked(servers, value, token, 'access_token', tidying);
  };
  const getting = async (): Promise<{ answer: Answer; consented?: readonly string[] }> => {
    if (value.grant === 'client_credentials') return { answer: await ofClient(servers, value, asked, context) };
    return context.authorization.redeem(request.subject, async (held, signal) => {
      const server = { now: () => context.now(), secret: () => context.secret(), signal };
      const answer = await refreshed(servers, value, held, asked, server);
      const next = tokensOf(answer, context.now(), held.refreshToken?.reveal() ?? null);
      // The narrowed token is the agent's alone; what is kept goes on with the token it had.
      const kept = { accessToken: held.accessToken.reveal(), expiresAt: held.expiresAt };
      return { tokens: { ...kept, refreshToken: next.refreshToken }, result: { answer, consented: held.scopes } };
    });
  };
  const got = getting();
  got
    .then(
      ({ answer }) => (left ? discard(answer.access_token) : undefined),
      () => undefined,
    )
    .catch(() => undefined);
  let heard: Awaited<typeof got>;
  try {
    heard = await untilAborted(context.signal, got);
  } catch (error) {
    left = true;
    throw error;
  }
  const { answer, consented } = heard;
  const tokens = tokensOf(answer, context.now(), null);
  const handle = handleOf(value, tokens.expiresAt);
  const keep = { access_token: tokens.accessToken };
  // Before anything else can fail: from here on the drain can end it.
  await context.journal(handle, keep);
  const beyond = await excess(servers, value, answer, asked, consented, context);
  // The undo revokes it, or says until when it lives: it was journalled.
  if (!beyond || beyond.length > 0) throw notNarrowed(beyond);
  const end = tokens.expiresAt === null ? {} : { expires_at: new Date(tokens.expiresAt).toISOString() };
  return { credential: { type: 'bearer', token: tokens.accessToken, ...end }, handle };
};

const handleOf = (value: Settings, endsBy: number | null): Handle => ({ server: hostOf(value), ends_by: endsBy });

const hostOf = (value: Settings): string =>
  new URL(value.authorization_endpoint ?? value.token_endpoint ?? value.issuer ?? '').host;

const revokeUpstream = async (
  servers: Servers,
  handle: Handle | null,
  connection: Connection,
  context: ProviderContext,
): Promise<LivesOn | undefined> => {
  // A gateway token: nothing was made there for this grant.
  if (handle === null) return undefined;
  const endsBy = typeof handle['ends_by'] === 'number' ? handle['ends_by'] : undefined;
  if (endsBy !== undefined && endsBy <= context.now()) return undefined;
  const value = parsed(connection.settings);
  const token = revocable(value) ? (await context.kept())?.['access_token'] : undefined;
  if (token && (await revoked(servers, value, token.reveal(), 'access_token', context))) return undefined;
  if (endsBy === undefined) {
    throw new ProviderFailure('refused', 'the authorization server revokes no access tokens, and this one has no end');
  }
  return { endsBy };
};

/**
 * Whether the answer is from the server that was asked (RFC 9207 section 2.4): another's would make this one's client
 * redeem a stranger's code (mix-up). Without an issuer to compare with, the place where consent was asked for must do.
 */
const isFrom = (value: Settings, metadata: ServerMetadata, iss: string): boolean => {
  if (value.issuer !== undefined) return iss === metadata.issuer;
  const asked = metadata.authorization_endpoint;
  return asked !== undefined && URL.canParse(iss) && new URL(iss).origin === new URL(asked).origin;
};

/** A flow's answer: an error of the server's, one that is not of this server, or a code to exchange. */
const judgeAnswer = (value: Settings, metadata: ServerMetadata, answer: URLSearchParams): void => {
  const [iss, ...more] = answer.getAll('iss');
  if (more.length > 0 || (iss !== undefined && !isFrom(value, metadata, iss))) {
    throw new AnswerRefused('wrong_issuer', 'the answer is from another authorization server');
  }
  if (iss === undefined && metadata.authorization_response_iss_parameter_supported === true) {
    throw new AnswerRefused('no_issuer', 'the answer does not say which server it is from');
  }
  const error = answer.get('error');
  if (error === null) return;
  if (error === 'access_denied') throw new AnswerRefused('access_denied', 'consent was not given');
  throw new AnswerRefused(knownError(error), 'the authorization server refused the request of this connection');
};

/** Whether an ID token is asked for and can be judged: without an issuer none can, and those that come are left out. */
const identifies = (value: Settings): boolean => value.issuer !== undefined && consentScopes(value).includes('openid');

/** Whose account it is, for people: only where the server says so in an ID token, and in words that can be shown. */
const accountOf = (answer: Answer): string | null => {
  const claims = answer.claims();
  for (const name of ['email', 'preferred_username', 'name', 'sub'] as const) {
    const value: unknown = claims?.[name];
    if (typeof value === 'string' && isPlainLine(value, 200)) return value;
  }
  return null;
};

const authorizationServer = (servers: Servers): AuthorizationServer => ({
  needsConsent: (value) => parsed(value).grant === 'authorization_code',
  host: (value) => hostOf(parsed(value)),

  async authorizeUrl(connection, flow, context) {
    const value = parsed(connection.settings);
    const configuration = await servers.configuration(value, context);
    if (configuration.serverMetadata().authorization_endpoint === undefined) {
      throw new ProviderFailure('refused', 'the authorization server says no address where a person could consent');
    }
    const scopes = consentScopes(value);
    const fields: [string, string][] = [
      ...Object.entries(value.authorize_params),
      ...targets(value),
      ['redirect_uri', flow.redirectUri],
      ['response_type', 'code'],
      ...scopeParameter(scopes),
      ['state', flow.state],
      ['code_challenge', await calculatePKCECodeChallenge(flow.codeVerifier)],
      ['code_challenge_method', 'S256'],
      ...(identifies(value) ? [['nonce', flow.nonce] as [string, string]] : []),
    ];
    return buildAuthorizationUrl(configuration, new URLSearchParams(fields)).href;
  },

  async exchange(connection, flow, answer, context) {
    const value = parsed(connection.settings);
    const configuration = await servers.configuration(value, context);
    const metadata = configuration.serverMetadata();
    judgeAnswer(value, metadata, answer);
    const judged = new URLSearchParams(answer);
    // The library compares it with an issuer, and there is none.
    if (value.issuer === undefined) judged.delete('iss');
    const asked = consentScopes(value);
    const got = await asking(
      context.signal,
      false,
      authorizationCodeGrant(configuration, new URL(`${flow.redirectUri}?${judged}`), {
        expectedState: flow.state,
        pkceCodeVerifier: flow.codeVerifier,
        ...(identifies(value) ? { expectedNonce: flow.nonce } : {}),
      }),
    );
    const tokens = tokensOf(got, context.now(), null);
    // Some servers' access tokens never end (no `expires_in`, no refresh token); the gateway can go on with those.
    const endless = tokens.expiresAt === null && value.narrowing === 'gateway';
    if (tokens.refreshToken === null && !endless) {
      throw new AnswerRefused(
        'no_refresh_token',
        'the authorization server gave no refresh token; ask for one in the settings of this connection, with connect_scopes: [offline_access] or authorize_params: {access_type: offline, prompt: consent}, as the server wants it',
      );
    }
    return { tokens, scopes: words(got.scope) ?? asked, account: accountOf(got) };
  },

  async refresh(connection, held, context) {
    const value = parsed(connection.settings);
    const answer = held
      ? await refreshed(servers, value, held, [], context)
      : await ofClient(servers, value, oauthScopes(value, Object.keys(value.scopes)), context);
    return tokensOf(answer, context.now(), held?.refreshToken?.reveal() ?? null);
  },

  async revokeTokens(connection, held, context) {
    const value = parsed(connection.settings);
    // The refresh token first: access tokens should fall with it (RFC 7009 section 2.1), and it outlives them.
    const refresh = held.refreshToken;
    const main = refresh
      ? await revoked(servers, value, refresh.reveal(), 'refresh_token', context)
      : await revoked(servers, value, held.accessToken.reveal(), 'access_token', context);
    if (main && refresh) await revoked(servers, value, held.accessToken.reveal(), 'access_token', context);
    return main;
  },
});

export const openOauth2Provider = (network: Network): Provider => {
  const servers = new Servers(network);
  const atGateway = (value: Record<string, unknown>): boolean => parsed(value).narrowing === 'gateway';
  return {
    type: 'oauth2',
    enforcement: (value) => parsed(value).narrowing,
    settingsSchema: jsonSchemaOf(settings),
    checkSettings: (value) => checked<Record<string, unknown>>(settings, value, 'settings'),
    checkSecret: (value) => checked<Record<string, string> | undefined>(secret, value, 'secret'),
    secretDestination: (value) => destination(parsed(value)),
    scopes: (value) => Object.keys(parsed(value).scopes),
    plan: (request) => {
      const value = parsed(request.connection.settings);
      if (value.narrowing === 'gateway') return { credentialType: 'gateway', handle: null };
      const lostBy = request.issuedAt + value.longest_token_life_seconds * 1000;
      return { credentialType: 'bearer', handle: handleOf(value, lostBy) };
    },
    mint: async (request, _plan, context) => {
      if (atGateway(request.connection.settings)) return { credential: { type: 'gateway' } };
      return mintUpstream(servers, request, context);
    },
    revoke: (grant, connection, context) => revokeUpstream(servers, grant.handle, connection, context),
    // A gateway token is Warder's own; an access token has the life its server gave it.
    renewable: atGateway,
    renew: async () => undefined,
    gatewayRules: (value, name) => {
      const { scopes } = parsed(value);
      return Object.hasOwn(scopes, name) ? (scopes[name]?.rules ?? []) : [];
    },
    gatewayTarget: (connection, held) => {
      const value = parsed(connection.settings);
      return targetOf({ ...value, base_url: value.base_url ?? '' }, held.fields['access_token']?.reveal() ?? '');
    },
    authorizations: authorizationServer(servers),
  };
};
