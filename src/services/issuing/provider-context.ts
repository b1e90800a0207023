/** What a provider is handed when it mints or revokes: time, a deadline, the secret, and ways to be crash-safe. */

import type { Connection, Grant, SealedBox } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { SecretText } from '../../domain/secret-text.ts';
import { providersHandle, sealedBoxIn, withBox } from '../../domain/stored-handle.ts';
import type { Handle, Minted, ProviderContext } from '../../ports/provider.ts';
import type { Authorizations } from '../accounts/authorizations.ts';
import { type Caller, type Core, commit, commitOrConflict, record } from '../core.ts';
import type { BoxContext } from '../keys/keyring.ts';
import type { OpenedSecrets } from '../secrets/secrets.ts';
import { replaceSecretWrites } from '../secrets/secrets.ts';
import { providerTimeoutMs, secretFor } from './provider-calls.ts';

export type CoreWithSecrets = Core & { secrets: OpenedSecrets; authorizations: Authorizations };

export interface HandedContext {
  context: ProviderContext;
  /** The stored handle in force, or the better one that minting answered. @throws Refused `sealed` when it keeps something */
  handleWith(minted: Minted): Handle | null;
}

export const boxOf = (grantId: string): BoxContext => ({ purpose: 'grant-keep', grant: grantId });

export const openKept = (core: Core, grantId: string, box: SealedBox): Record<string, SecretText> => {
  const plain = core.keyring.decrypt(boxOf(grantId), box);
  try {
    const fields: Record<string, string> = JSON.parse(plain.toString());
    return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, new SecretText(value)]));
  } finally {
    plain.fill(0);
  }
};

/** The handle as it is stored: with what is kept, sealed; what was kept before stays unless there is something newer. */
const stored = (
  core: Core,
  grantId: string,
  handle: Handle,
  keep: Record<string, string> | undefined,
  before: Handle | null,
): Handle => {
  const own = providersHandle(handle) ?? {};
  if (keep === undefined) {
    const box = sealedBoxIn(before);
    return box ? withBox(own, box) : own;
  }
  const plain = Buffer.from(JSON.stringify(keep));
  try {
    return withBox(own, core.keyring.encrypt(boxOf(grantId), plain));
  } finally {
    plain.fill(0);
  }
};

/**
 * @param grant the grant whose handle `journal` improves
 * @param stop ends the call before its time
 */
export const providerContext = (
  core: CoreWithSecrets,
  grant: Pick<Grant, 'id' | 'handle'>,
  connection: Connection,
  caller: Caller,
  stop?: AbortSignal,
): HandedContext => {
  let { handle } = grant;
  const row = (): Connection => core.state.connections.get(connection.id) ?? connection;
  const names = { connection: { id: connection.id, name: connection.name }, grant: grant.id };
  let signal: AbortSignal | undefined;
  const context: ProviderContext = {
    now: () => core.clock.now(),
    // Made when asked for: what needs no network needs no timer, and gateway tokens are made by the thousand.
    get signal() {
      signal ??= AbortSignal.any([AbortSignal.timeout(providerTimeoutMs), ...(stop ? [stop] : [])]);
      return signal;
    },
    secret: () => secretFor(core, connection),
    journal: async (better, keep) => {
      const next = stored(core, grant.id, better, keep, handle);
      await commitOrConflict(
        core,
        {
          writes: [
            { write: 'update', table: 'grants', id: grant.id, set: { handle: next }, from: { status: 'intended' } },
          ],
          audit: [record(core, caller, { type: 'grant.journalled', ...names })],
        },
        'this grant is no longer being issued',
      );
      handle = next;
    },
    kept: async () => {
      const box = sealedBoxIn(handle);
      return box && openKept(core, grant.id, box);
    },
    replaceSecret: async (from, fields) => {
      for (;;) {
        const current = row();
        if (current.secret_source) {
          throw new Refused('conflict', 'this secret is kept in a vault; it can only be replaced there');
        }
        if (current.secret_version !== from) return undefined;
        const { writes, number } = await replaceSecretWrites(core, current, fields);
        const result = await commit(core, {
          writes,
          audit: [
            record(core, caller, { type: 'secret.replaced', connection: names.connection, data: { version: number } }),
          ],
        });
        if (result.ok) return number;
        // The row may have changed in something else: what was redeemed for this secret must not be lost for that.
        const collided = result.why === 'exists';
        if (!collided && row().version === current.version) return undefined;
      }
    },
    authorization: {
      redeem: async (subject, work) => {
        // An agent that left while others were before it gets nothing redeemed for it.
        const asker = context.signal;
        const done = await core.authorizations.redeem(core, connection.id, subject, {
          wanted: () => !asker.aborted,
          work: async (held, signal) => {
            const { tokens, result } = await work(held, signal);
            return { tokens, result: { result } };
          },
        });
        if (!done) throw new Error('unreachable: a redemption that is always needed was not');
        return done.result;
      },
    },
    signJwt: (claims) => core.signingKeys.signJwt({ iss: core.issuer, ...claims }),
  };
  return {
    context,
    handleWith: (minted) => {
      const own = minted.handle ?? handle;
      if (own === null) {
        if (minted.keep) throw new Error('a provider that keeps something must plan a handle');
        return null;
      }
      return stored(core, grant.id, own, minted.keep, handle);
    },
  };
};
