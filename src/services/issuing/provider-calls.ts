/** Calls of providers, whoever makes them: how long they may take, with which secret, and what a failure is called. */
import { canonicalJson } from '../../domain/canonical-json.ts';
import type { Connection } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import type { ConnectionSecret } from '../../ports/call-context.ts';
import { AuthorizationDead, ProviderFailure } from '../../ports/provider.ts';
import type { Core } from '../core.ts';
import type { OpenedSecrets } from '../secrets/secrets.ts';

export type CallingCore = Core & { secrets: OpenedSecrets };

/** A provider's call may take this long: an agent waits for it. */
export const providerTimeoutMs = 10_000;

/**
 * The secret in force, for a call that goes to where these settings lead. A new secret does not go to the old place; the
 * old one goes where it always went.
 * @throws Refused `conflict` when both changed meanwhile
 */
export const secretFor = async (core: CallingCore, connection: Connection): Promise<ConnectionSecret | undefined> => {
  const current = core.state.connections.get(connection.id) ?? connection;
  const secret = ({ secret_version, secret_source }: Connection): string =>
    canonicalJson({ secret_version, secret_source });
  const moved = (): boolean => canonicalJson(current.settings) !== canonicalJson(connection.settings);
  if (current !== connection && secret(current) !== secret(connection) && moved()) {
    throw new Refused('conflict', 'this connection changed at this moment; try again');
  }
  return core.secrets.open(core.reader, current);
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
  if (error instanceof AuthorizationDead) {
    return new Refused('needs_connection', 'the account of this connection must be connected anew', { cause: error });
  }
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
