/** Where a connection's secret is read instead of being kept here: what an operator writes, checked and put in force. */
import type { Connection, SecretSource } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import type { Guard } from '../../ports/ledger.ts';
import type { Change } from '../change.ts';
import { type Caller, type Core, record } from '../core.ts';
import { InvalidInput } from '../invalid-input.ts';
import { retireSecretWrites } from './secrets.ts';

export interface SecretSourceInput {
  /** Name or id of the connection that reads it. */
  connection: string;
  path: string;
  fields: Record<string, string>;
  version?: number | undefined;
  max_age_seconds: number;
}

/** Finds connections by name or id; `warder apply` also finds those that its document makes. */
export type FindConnection = (nameOrId: string) => Connection | undefined;

/** As it is shown and recorded: with a name, and no secret in it. */
export const sourceView = (source: SecretSource, find: FindConnection) => ({
  connection: find(source.connection_id)?.name ?? source.connection_id,
  path: source.path,
  fields: source.fields,
  version: source.version,
  max_age_seconds: source.max_age_seconds,
});

/** Connections whose secret is read through this one. */
const readThrough = (core: Core, connection: Connection): Connection[] =>
  core.state.connections.all().filter((one) => one.secret_source?.connection_id === connection.id);

/**
 * @param owner id of the connection that shall have the secret; undefined for one that is being made
 * @returns the reference, and what must still be so when it is committed
 * @throws InvalidInput
 */
export const checkedSource = (
  core: Core,
  input: SecretSourceInput,
  find: FindConnection,
  owner?: Connection,
): { source: SecretSource; guards: Guard[] } => {
  const via = find(input.connection);
  const keeper = via && core.providers.get(via.provider);
  if (!via) throw new InvalidInput(['secret_from.connection: there is none of this name']);
  if (!keeper?.readSecret) throw new InvalidInput(['secret_from.connection: not one to a vault']);
  // One step, never a chain: else two could wait for each other.
  if (via.secret_source || via.id === owner?.id) {
    throw new InvalidInput(['secret_from.connection: its own secret must be kept by Warder']);
  }
  if (owner && readThrough(core, owner).length > 0) {
    throw new InvalidInput(['secret_from: other secrets are read through this connection; its own must be kept here']);
  }
  const source: SecretSource = {
    connection_id: via.id,
    path: input.path,
    fields: input.fields,
    version: input.version ?? null,
    max_age_seconds: input.max_age_seconds,
  };
  const problems = keeper.checkReference?.(via.settings, source) ?? [];
  if (problems.length > 0) throw new InvalidInput(problems.map((problem) => `secret_from.${problem}`));
  const known = core.state.connections.get(via.id);
  return {
    source,
    guards: known ? [{ guard: 'unchanged', table: 'connections', id: known.id, version: known.version }] : [],
  };
};

/** @returns undefined when the reference is in force already. What Warder kept until now is retired. @throws InvalidInput */
export const prepareSource = async (
  core: Core,
  connection: Connection,
  input: SecretSourceInput,
  caller: Caller,
  find: FindConnection,
): Promise<{ change: Change; connection: Connection } | undefined> => {
  const { source, guards } = checkedSource(core, input, find, connection);
  const { secret_source: before } = connection;
  if (before && JSON.stringify(sortedSource(before)) === JSON.stringify(sortedSource(source))) return undefined;
  const set = { secret_source: source, version: connection.version + 1, updated_at: core.clock.now() };
  return {
    connection: { ...connection, ...set },
    change: {
      guards,
      writes: [
        {
          write: 'update',
          table: 'connections',
          id: connection.id,
          set,
          from: { version: connection.version },
        },
        ...(await retireSecretWrites(core, connection)),
      ],
      audit: [
        record(core, caller, {
          type: 'secret.source_set',
          connection: { id: connection.id, name: connection.name },
          data: { secret_from: sourceView(source, find) },
        }),
      ],
    },
  };
};

const sortedSource = (source: SecretSource) => [
  source.connection_id,
  source.path,
  Object.entries(source.fields).sort(([a], [b]) => (a < b ? -1 : 1)),
  source.version,
  source.max_age_seconds,
];

/**
 * @param besides ids of connections that are deleted with it
 * @throws Refused `conflict` while another connection's secret is read through this one
 */
export const requireUnreferenced = (core: Core, connection: Connection, besides: readonly string[] = []): void => {
  const left = readThrough(core, connection).filter(({ id }) => !besides.includes(id));
  const [first] = left;
  if (!first) return;
  const more = left.length > 1 ? ` and of ${left.length - 1} more` : '';
  throw new Refused(
    'conflict',
    `the secret of connection ${first.name}${more} is read through ${connection.name}; give it another first`,
  );
};
