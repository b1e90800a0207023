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

export interface HandedContext {
  context: ProviderContext;
  /** The handle in force: the grant's own, or the one journalled since. */
  handle(): Handle | null;
}

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
    secret: () => core.secrets.open(core.reader, row()),
    journal: async (better) => {
      await commitOrConflict(
        core,
        {
          writes: [
            { write: 'update', table: 'grants', id: grant.id, set: { handle: better }, from: { status: 'intended' } },
          ],
          audit: [record(core, caller, { type: 'grant.journalled', ...names })],
        },
        'this grant is no longer being issued',
      );
      handle = better;
    },
    replaceSecret: async (from, fields) => {
      for (;;) {
        const current = row();
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
        if (row().version === current.version) return undefined;
      }
    },
    signJwt: (claims) => core.signingKeys.signJwt({ iss: core.issuer, ...claims }),
  };
  return { context, handle: () => handle };
};

/** A provider's call, not waited for longer than its signal says: whoever waits must not depend on its manners. */
export const inTime = async <T>(signal: AbortSignal, call: Promise<T>): Promise<T> => {
  let late = (): void => undefined;
  const over = new Promise<never>((_, reject) => {
    late = () => reject(new ProviderFailure('timeout', 'the upstream did not answer in time'));
    if (signal.aborted) late();
    else signal.addEventListener('abort', late, { once: true });
  });
  try {
    return await Promise.race([call, over]);
  } finally {
    signal.removeEventListener('abort', late);
  }
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
