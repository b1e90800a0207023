/** What a provider is handed when it mints or revokes: time, a deadline, the secret, and ways to be crash-safe. */
import type { Connection, Grant } from '../domain/model.ts';
import { Refused } from '../domain/refusals.ts';
import { type Handle, type ProviderContext, ProviderFailure } from '../ports/provider.ts';
import { type Caller, type Core, commit, commitOrConflict, record } from './core.ts';
import type { OpenedSecrets } from './secrets.ts';
import { replaceSecretWrites } from './secrets.ts';

/** A provider's call may take this long: an agent waits for it. */
export const providerTimeoutMs = 10_000;

export type CoreWithSecrets = Core & { secrets: OpenedSecrets };

/**
 * @param grant the grant whose handle `journal` improves
 * @param connection the row the call is based on; the returned `connection()` gives the row after a replaced secret
 */
export const providerContext = async (
  core: CoreWithSecrets,
  grant: Pick<Grant, 'id'>,
  connection: Connection,
  caller: Caller,
): Promise<{ context: ProviderContext; connection(): Connection }> => {
  let row = connection;
  const names = { connection: { id: connection.id, name: connection.name }, grant: grant.id };
  const context: ProviderContext = {
    now: () => core.clock.now(),
    signal: AbortSignal.timeout(providerTimeoutMs),
    secret: await core.secrets.open(core.reader, connection),
    journal: async (handle: Handle) => {
      await commitOrConflict(
        core,
        {
          writes: [{ write: 'update', table: 'grants', id: grant.id, set: { handle }, from: { status: 'intended' } }],
          audit: [record(core, caller, { type: 'grant.journalled', ...names })],
        },
        'this grant is no longer being issued',
      );
    },
    replaceSecret: async (from, fields) => {
      if (row.secret_version !== from) return undefined;
      const { writes, number } = await replaceSecretWrites(core, row, fields);
      const result = await commit(core, {
        writes,
        audit: [
          record(core, caller, { type: 'secret.replaced', connection: names.connection, data: { version: number } }),
        ],
      });
      if (!result.ok) return undefined;
      row = core.state.connections.get(connection.id) ?? row;
      return number;
    },
    signJwt: (claims) => core.signingKeys.signJwt({ iss: core.issuer, ...claims }),
  };
  return { context, connection: () => row };
};

/** The agent learns that the upstream failed and how; what the upstream said stays in the log. */
export const refusalOfProvider = (error: unknown): Refused => {
  if (error instanceof Refused) return error;
  if (error instanceof ProviderFailure) {
    const code = {
      unavailable: 'upstream_unavailable',
      timeout: 'upstream_timeout',
      refused: 'upstream_refused',
    } as const;
    return new Refused(code[error.kind], error.message, { cause: error });
  }
  if (error instanceof Error && error.name === 'TimeoutError') {
    return new Refused('upstream_timeout', 'the upstream did not answer in time', { cause: error });
  }
  return new Refused('internal', 'the provider failed', { cause: error });
};
