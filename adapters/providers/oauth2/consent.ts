/** How accounts of `oauth2` connections are connected, refreshed and revoked: the port's authorization server. */
import {
  authorizationCodeGrant,
  buildAuthorizationUrl,
  calculatePKCECodeChallenge,
  type ServerMetadata,
} from 'openid-client';
import { isPlainLine } from '../../../src/domain/names.ts';
import type { AuthorizationServer } from '../../../src/ports/authorization.ts';
import { AnswerRefused, ProviderFailure } from '../../../src/ports/provider.ts';
import { knownError } from './answers.ts';
import {
  type Answer,
  asking,
  consentedIn,
  ofClient,
  refreshed,
  revoked,
  scopeParameter,
  targets,
  tokensOf,
} from './requests.ts';
import type { Servers } from './server.ts';
import { consentScopes, hostOf, oauthScopes, parsed, type Settings } from './settings.ts';

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

export const authorizationServer = (servers: Servers): AuthorizationServer => ({
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
    const url = buildAuthorizationUrl(configuration, new URLSearchParams(fields));
    // Metadata say where a person's browser goes: no clear text, and nothing that is no page.
    if (url.protocol !== 'https:' && !(value.allow_private_network && url.protocol === 'http:')) {
      throw new ProviderFailure('refused', 'the authorization server would have people consent at an unsafe address');
    }
    return url.href;
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
    return { tokens, scopes: consentedIn(got) ?? asked, account: accountOf(got) };
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
