/**
 * `gcp-service-account`: an access token of a service account that Warder impersonates, for chosen OAuth scopes and as
 * long as the grant; for Cloud Storage within an access boundary. Google narrows it.
 *
 * Google has no call that takes such a token back: it lives until its own end, and whoever revokes is told until when.
 */
import { z } from 'zod';
import { Refused } from '../../src/domain/refusals.ts';
import { type Provider, ProviderFailure } from '../../src/ports/provider.ts';
import type { Network } from '../network.ts';
import { downscope, impersonate, type Source, sourceToken } from './gcp-service-account/api.ts';
import { serviceAccountKeyRotation } from './gcp-service-account/rotation.ts';
import { combined, parsed, readKey, type Settings, secret, settings } from './gcp-service-account/settings.ts';
import { checked, jsonSchemaOf } from './shared/checking.ts';

/** Twelve hours, where the organisation's policy allows; one hour otherwise (`generateAccessToken`, `lifetime`). */
const longestLifeMs = 43_200_000;
/** Between planning a token and Google making it: a provider's call may take so long, and then some. */
const slackMs = 30_000;

/** `ends_by`: no token of this grant lives longer, by Warder's clock. In milliseconds since the epoch. */
const handle = z.object({ ends_by: z.number() });

/**
 * @param network what Google is reached through
 * @param keyPatienceMs how long a new key may take to be known; undefined: as long as it usually does
 */
export const openGcpServiceAccountProvider = (network: Network, keyPatienceMs?: number): Provider => ({
  type: 'gcp-service-account',
  enforcement: () => 'upstream',
  settingsSchema: jsonSchemaOf(settings),
  checkSettings: (value) => checked<Record<string, unknown>>(settings, value, 'settings'),
  checkSecret: (value) => checked<Record<string, string> | undefined>(secret, value, 'secret'),
  // The key's proof goes to one of them and what it brings to the others.
  secretDestination: (value) => {
    const { token_url, iam_credentials_url, sts_url, iam_url } = parsed(value);
    return [...new Set([token_url, iam_credentials_url, sts_url, iam_url].map((url) => new URL(url).origin))].join(
      ' and ',
    );
  },
  scopes: (value) => Object.keys(parsed(value).scopes),

  plan: ({ connection, scopes, issuedAt, expiresAt }) => {
    combined(parsed(connection.settings), scopes);
    if (expiresAt - issuedAt > longestLifeMs) {
      throw new Refused('ttl_too_long', 'a Google token lives for 43200 seconds at most');
    }
    return { credentialType: 'bearer', handle: { ends_by: expiresAt + slackMs } };
  },

  mint: async ({ grantId, connection, scopes, expiresAt }, _plan, context) => {
    const value = parsed(connection.settings);
    const fetch = network.fetch({ allowPrivateNetwork: value.allow_private_network });
    const { oauthScopes, boundary } = combined(value, scopes);
    const key = (await context.secret())?.fields['key_json']?.reveal();
    const source = await sourceToken(fetch, value, sourceOf(value, key, connection.name, grantId), context);
    // Whole seconds, rounded down: the token does not outlive its grant.
    const lifetimeSeconds = Math.max(1, Math.floor((expiresAt - context.now()) / 1000));
    const whole = await impersonate(fetch, value, source, { oauthScopes, lifetimeSeconds }, context.signal);
    // It was made before now, to live so long: no clock but ours is asked.
    const endsBy = context.now() + lifetimeSeconds * 1000;
    const token = boundary
      ? await downscoped(downscope(fetch, value, whole.token, boundary, context.signal))
      : whole.token;
    return {
      credential: {
        type: 'bearer',
        token,
        expires_at: new Date(Math.min(whole.expiresAt, expiresAt)).toISOString(),
        service_account: value.target_service_account,
      },
      handle: { ends_by: endsBy },
    };
  },

  rotation: serviceAccountKeyRotation(network, keyPatienceMs),

  revoke: async (grant) => ({ endsBy: handle.parse(grant.handle).ends_by }),
});

/** By then there is a token without a boundary, known to nobody, and nobody can end it. */
const downscoped = async (call: Promise<string>): Promise<string> => {
  try {
    return await call;
  } catch (error) {
    if (!(error instanceof ProviderFailure)) throw error;
    throw new ProviderFailure(error.kind, error.message, { cause: error.cause, made: true });
  }
};

const sourceOf = (value: Settings, key: string | undefined, connection: string, grantId: string): Source => {
  const { workload_identity: identity } = value;
  if (identity) return { audience: identity.audience, subject: `connection:${connection}`, id: grantId };
  if (key === undefined) {
    throw new ProviderFailure('refused', 'this connection has neither a key nor a workload identity');
  }
  const read = readKey(key);
  if (!read) throw new ProviderFailure('refused', 'the secret of this connection is not a service account’s key');
  return { key: read };
};
