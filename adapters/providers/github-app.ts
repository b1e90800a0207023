/**
 * `github-app`: an installation token of a GitHub App, for chosen repositories with chosen permissions; GitHub itself
 * narrows it. Each grant has a token of its own: libraries that share one between callers who ask for the same would let
 * one grant's end be everybody's.
 *
 * A token lives an hour and can be ended before only with itself, so it is kept, sealed, until the grant ends. One that
 * was lost on its way (a crash, a broken answer) is known to nobody and ends with its hour.
 */
import { z } from 'zod';
import { Refused } from '../../src/domain/refusals.ts';
import { type Provider, ProviderFailure } from '../../src/ports/provider.ts';
import type { Network } from '../network.ts';
import { createInstallationToken, deleteInstallationToken } from './github-app/api.ts';
import { combined, parsed, type Settings, secret, settings } from './github-app/settings.ts';
import { checked, jsonSchemaOf } from './shared/checking.ts';

const tokenLifeMs = 3_600_000;
/** Between planning a token and GitHub making it: a provider's call may take so long, and then some. */
const slackMs = 60_000;

const handle = z.object({
  /** No token of this grant lives longer, by Warder's clock. In milliseconds since the epoch. */
  ends_by: z.number(),
  /** Who made the token: it is given back there and nowhere else, whatever the settings have become since. */
  at: z.object({ base_url: z.string(), allow_private_network: z.boolean() }),
});
type Handle = z.infer<typeof handle>;

const handleOf = ({ base_url, allow_private_network }: Settings, endsBy: number): Handle => ({
  ends_by: endsBy,
  at: { base_url, allow_private_network },
});

/** @param network what GitHub is reached through */
export const openGithubAppProvider = (network: Network): Provider => {
  const fetchFor = (allowPrivateNetwork: boolean) => network.fetch({ allowPrivateNetwork });
  return {
    type: 'github-app',
    enforcement: () => 'upstream',
    settingsSchema: jsonSchemaOf(settings),
    checkSettings: (value) => checked<Record<string, unknown>>(settings, value, 'settings'),
    checkSecret: (value) => checked<Record<string, string> | undefined>(secret, value, 'secret'),
    secretDestination: (value) => new URL(parsed(value).base_url).origin,
    scopes: (value) => Object.keys(parsed(value).scopes),

    plan: ({ connection, scopes, issuedAt, expiresAt }) => {
      const value = parsed(connection.settings);
      combined(value, scopes);
      if (expiresAt - issuedAt > tokenLifeMs) {
        throw new Refused('ttl_too_long', 'a GitHub token lives for 3600 seconds at most');
      }
      return { credentialType: 'bearer', handle: handleOf(value, issuedAt + tokenLifeMs + slackMs) };
    },

    mint: async ({ connection, scopes, expiresAt }, _plan, context) => {
      const value = parsed(connection.settings);
      const key = (await context.secret())?.fields['private_key'];
      if (!key) throw new ProviderFailure('refused', 'this connection has no private key');
      const made = await createInstallationToken(
        fetchFor(value.allow_private_network),
        value,
        key,
        combined(value, scopes),
        context,
      );
      // It was made before now, and its hour is the longest there is: no clock but ours is asked.
      const better = handleOf(value, context.now() + tokenLifeMs);
      const keep = { token: made.token };
      if (!made.narrow) {
        await context.journal(better, keep);
        throw new ProviderFailure('refused', 'GitHub’s token is not as narrow as was asked for; it is taken back');
      }
      return {
        credential: {
          type: 'bearer',
          token: made.token,
          expires_at: new Date(Math.min(made.narrow.expiresAt, expiresAt)).toISOString(),
          permissions: made.narrow.permissions,
          repositories: made.narrow.repositories,
        },
        handle: better,
        keep,
      };
    },

    revoke: async (grant, _connection, context) => {
      const { ends_by: endsBy, at } = handle.parse(grant.handle);
      const token = (await context.kept())?.['token'];
      if (!token || endsBy <= context.now()) return { endsBy };
      await deleteInstallationToken(fetchFor(at.allow_private_network), at.base_url, token, context.signal);
      return undefined;
    },

    // Nothing to do at GitHub: the token lives its hour whatever the grant says, as long as nobody deletes it.
    renew: async (grant, _connection, expiresAt) => {
      if (expiresAt > grant.issued_at + tokenLifeMs) {
        throw new ProviderFailure('refused', 'a GitHub token lives for 3600 seconds at most; ask for a new grant');
      }
    },
  };
};
