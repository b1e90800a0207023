/**
 * `oauth2`: a service whose access tokens come from an authorization server (RFC 6749), by the consent of a person or by
 * client credentials. Where the server narrows (`scope` of RFC 6749 section 6), the agent gets a token of its own;
 * where it does not, requests go through the gateway, which puts the token in.
 *
 * Here is what the issuance cycle asks for. That tokens are kept, and a refresh token is redeemed by one at a time, is
 * src/services/accounts/authorizations.ts.
 */
import { hash } from 'node:crypto';
import type { Connection } from '../../src/domain/model.ts';
import {
  type Handle,
  type LivesOn,
  type Minted,
  type MintRequest,
  type Provider,
  type ProviderContext,
  ProviderFailure,
} from '../../src/ports/provider.ts';
import type { Network } from '../network.ts';
import { untilAborted } from './oauth2/answers.ts';
import { authorizationServer } from './oauth2/consent.ts';
import { type Answer, excess, ofClient, refreshed, revoked, tokensOf } from './oauth2/requests.ts';
import { clientSecretRotation } from './oauth2/rotation.ts';
import { Servers } from './oauth2/server.ts';
import {
  destination,
  hostOf,
  oauthScopes,
  parsed,
  revocable,
  type Settings,
  secret,
  settings,
} from './oauth2/settings.ts';
import { checked, jsonSchemaOf } from './shared/checking.ts';
import { targetOf } from './shared/gateway-settings.ts';

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

/** `to` stands for all that may see the token: where the settings lead elsewhere by then, it is not sent there. */
const handleOf = (value: Settings, endsBy: number | null): Handle => ({
  server: hostOf(value),
  to: hash('sha256', destination(value), 'base64url'),
  ends_by: endsBy,
});

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
  const here = handle['to'] === handleOf(value, null)['to'];
  const token = here && revocable(value) ? (await context.kept())?.['access_token'] : undefined;
  if (token && (await revoked(servers, value, token.reveal(), 'access_token', context))) return undefined;
  if (endsBy === undefined) {
    const why = here ? 'revokes no access tokens' : 'is another than this one was made at';
    throw new ProviderFailure('refused', `the authorization server ${why}, and this one has no end`);
  }
  return { endsBy };
};

/**
 * @param scripts the folder of rotation scripts; undefined: none are run
 * @param secretPatienceMs how long a new client secret may take to be known; undefined: as long as it usually does
 */
export const openOauth2Provider = (network: Network, scripts?: string, secretPatienceMs?: number): Provider => {
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
    rotation: clientSecretRotation(servers, { network, scripts }, secretPatienceMs),
    authorizations: authorizationServer(servers),
  };
};
