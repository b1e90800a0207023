/** Connections: made and changed, alone or as part of more (apply-access.ts). */
import type { Connection, Operator } from '../../domain/model.ts';
import { isShowable } from '../../domain/names.ts';
import { Refused } from '../../domain/refusals.ts';
import type { Provider } from '../../ports/provider.ts';
import { type Change, commitChanges, differing } from '../change.ts';
import { type Caller, type Core, newId, record } from '../core.ts';
import { InvalidInput } from '../invalid-input.ts';
import { accompanyingFence } from '../revocation/revoke.ts';
import { requireRotationFits } from '../rotation/destinations.ts';
import {
  checkedSource,
  type FindConnection,
  prepareSource,
  type SecretSourceInput,
  sourceView,
} from '../secrets/refer-secret.ts';
import { sealSecret } from '../secrets/secrets.ts';
import { named, providerOf } from './connection-parts.ts';
import { expandedInput, type PresetInput, type PresetOrigin } from './expand-preset.ts';
import { checkedSecret, prepareSecret } from './set-secret.ts';

/** A connection by its provider and settings, or by a preset. */
export interface ConnectionInput extends PresetInput {
  name: string;
  owner?: string | null | undefined;
  settings: unknown;
  secret?: unknown;
  /** Where the secret is read, instead of one to keep. */
  secret_from?: SecretSourceInput | undefined;
}

export type ConnectionPatch = Partial<Pick<Connection, 'owner' | 'status'>> & {
  settings?: unknown;
  secret?: unknown;
  secret_from?: SecretSourceInput | undefined;
  /** Where the settings came from, for the record. */
  origin?: PresetOrigin | undefined;
};

/** @throws Refused `not_found` */
export const connectionCalled = (core: Core, nameOrId: string): Connection => {
  const connection = core.state.connectionCalled(nameOrId);
  if (!connection) throw new Refused('not_found', 'there is no such connection');
  return connection;
};

/** What a connection's input stands for, a preset written out. @throws InvalidInput */
export const requireExpanded = (core: Core, input: PresetInput) => {
  const expanded = expandedInput(core.catalog, input);
  if (!expanded.ok) throw new InvalidInput(expanded.problems);
  return expanded;
};

/** Settings are recorded whole when they change, and an entry of the audit log holds 64 KiB (audit-entry.ts). */
const maxSettingsBytes = 48 * 1024;

/** @returns the place of a text in settings that cannot be shown and recorded as it is */
const unshowable = (value: unknown, place: string): string | undefined => {
  if (typeof value === 'string') return isShowable(value) ? undefined : place;
  if (typeof value !== 'object' || value === null) return undefined;
  for (const [key, item] of Object.entries(value)) {
    if (!isShowable(key)) return place;
    const found = unshowable(item, `${place}.${key}`);
    if (found !== undefined) return found;
  }
  return undefined;
};

const checkedSettings = (provider: Provider, settings: unknown): Record<string, unknown> => {
  const checked = provider.checkSettings(settings);
  if (!checked.ok) throw new InvalidInput(checked.problems);
  const place = unshowable(checked.value, 'settings');
  if (place !== undefined) throw new InvalidInput([`${place}: visible characters only, and no token`]);
  if (Buffer.byteLength(JSON.stringify(checked.value)) > maxSettingsBytes) {
    throw new InvalidInput([`settings: at most ${maxSettingsBytes} bytes of JSON`]);
  }
  return checked.value;
};

/** @throws InvalidInput when a secret is both given and said to be elsewhere */
const requireOneSecret = (input: { secret?: unknown; secret_from?: SecretSourceInput | undefined }): void => {
  if (input.secret !== undefined && input.secret_from !== undefined) {
    throw new InvalidInput(['secret_from: a secret is given here, or read from there; not both']);
  }
};

const findIn =
  (core: Core): FindConnection =>
  (nameOrId) =>
    core.state.connectionCalled(nameOrId);

/**
 * @param find also finds connections that are made together with this one
 * @throws InvalidInput, Refused `conflict`, Refused `sealed` when there is a secret to seal
 */
export const prepareConnection = (
  core: Core,
  input: ConnectionInput,
  caller: Caller,
  find: FindConnection = findIn(core),
): { change: Change; connection: Connection } => {
  if (core.state.connections.named(input.name)) {
    throw new Refused('conflict', `there is a connection ${input.name} already`);
  }
  const expanded = requireExpanded(core, input);
  const provider = providerOf(core, expanded.provider);
  const settings = checkedSettings(provider, expanded.settings);
  const now = core.clock.now();
  const id = newId(core, 'con');
  requireOneSecret(input);
  const secret = input.secret === undefined ? undefined : checkedSecret(provider, input.secret);
  const referred = input.secret_from && checkedSource(core, input.secret_from, find);
  const connection: Connection = {
    id,
    name: input.name,
    provider: provider.type,
    owner: input.owner ?? null,
    settings,
    status: 'active',
    secret_version: secret ? 1 : null,
    secret_source: referred?.source ?? null,
    version: 1,
    created_at: now,
    updated_at: now,
  };
  return {
    connection,
    change: {
      guards: referred?.guards ?? [],
      writes: [
        { write: 'insert', table: 'connections', row: connection },
        ...(secret ? [{ write: 'insert', table: 'secrets', row: sealSecret(core, id, 1, secret) } as const] : []),
      ],
      audit: [
        record(core, caller, {
          type: 'connection.created',
          ...named(connection),
          data: {
            provider: provider.type,
            ...(expanded.origin === undefined ? {} : { preset: { ...expanded.origin } }),
            owner: connection.owner,
            settings,
            secret_version: connection.secret_version,
            ...(referred === undefined ? {} : { secret_from: sourceView(referred.source, find) }),
          },
        }),
      ],
    },
  };
};

/** A secret does not follow its connection to another host unasked. @throws Refused `conflict` */
const requireSameDestination = (
  core: Core,
  connection: Connection,
  settings: Record<string, unknown> | undefined,
): void => {
  const provider = core.providers.get(connection.provider);
  const hasSecret = connection.secret_version !== null || connection.secret_source !== null;
  if (settings === undefined || !hasSecret || !provider?.secretDestination) return;
  const [before, after] = [provider.secretDestination(connection.settings), provider.secretDestination(settings)];
  if (before === after) return;
  throw new Refused(
    'conflict',
    `these settings would send the secret to ${after} instead of ${before}; give the secret for it in the same request`,
  );
};

/** Nor do the tokens of people, whom nobody asked: not even with a new secret. @throws Refused `conflict` */
const requireSameAccounts = (
  core: Core,
  connection: Connection,
  settings: Record<string, unknown> | undefined,
): void => {
  const destination = core.providers.get(connection.provider)?.secretDestination;
  if (settings === undefined || !destination || core.state.authorizations.ofConnection(connection.id).length === 0)
    return;
  if (destination(connection.settings) === destination(settings)) return;
  throw new Refused(
    'conflict',
    `these settings would send the tokens of connected accounts elsewhere; disconnect them first (warder connection disconnect ${connection.name} --all)`,
  );
};

/** @returns undefined when nothing differs. A change of settings kills what was issued under the old ones. */
export const prepareConnectionPatch = (
  core: Core,
  connection: Connection,
  patch: ConnectionPatch,
  operator: Operator,
  caller: Caller,
): { change: Change; connection: Connection; fields: string[] } | undefined => {
  const set: Partial<Connection> = {
    ...(patch.owner === undefined ? {} : { owner: patch.owner }),
    ...(patch.status === undefined ? {} : { status: patch.status }),
    ...(patch.settings === undefined
      ? {}
      : { settings: checkedSettings(providerOf(core, connection.provider), patch.settings) }),
  };
  const fields = differing(connection, set);
  if (fields.length === 0) return undefined;
  if (patch.secret === undefined && patch.secret_from === undefined)
    requireSameDestination(core, connection, set.settings);
  requireSameAccounts(core, connection, set.settings);
  if (set.settings !== undefined) {
    const secretGiven = patch.secret !== undefined || patch.secret_from !== undefined;
    requireRotationFits(core, connection, set.settings, { secretGiven });
  }
  const changed = { ...set, version: connection.version + 1, updated_at: core.clock.now() };
  const fence = fields.includes('settings')
    ? accompanyingFence(core, { connection: connection.id }, 'settings changed', operator)
    : undefined;
  return {
    connection: { ...connection, ...changed },
    fields,
    change: {
      writes: [
        {
          write: 'update',
          table: 'connections',
          id: connection.id,
          set: changed,
          from: { version: connection.version },
        },
        ...(fence?.writes ?? []),
      ],
      audit: [
        record(core, caller, {
          type: 'connection.updated',
          ...named(connection),
          data: {
            fields,
            ...set,
            ...(patch.origin === undefined || set.settings === undefined ? {} : { preset: { ...patch.origin } }),
            revocation: fence?.revocationId,
          },
        }),
      ],
    },
  };
};

export const createConnection = async (core: Core, input: ConnectionInput, caller: Caller): Promise<Connection> => {
  const { change, connection } = prepareConnection(core, input, caller);
  await commitChanges(core, change);
  return connection;
};

export const updateConnection = async (
  core: Core,
  connection: Connection,
  patch: ConnectionPatch,
  operator: Operator,
  caller: Caller,
): Promise<Connection> => {
  requireOneSecret(patch);
  const prepared = prepareConnectionPatch(core, connection, patch, operator, caller);
  const row = prepared?.connection ?? connection;
  const secret =
    patch.secret === undefined
      ? patch.secret_from && (await prepareSource(core, row, patch.secret_from, caller, findIn(core)))
      : await prepareSecret(core, row, patch.secret, caller);
  const unchanged: Change = {
    writes: [],
    audit: [record(core, caller, { type: 'connection.unchanged', ...named(connection) })],
  };
  const changes = [prepared?.change, secret?.change].filter((change) => change !== undefined);
  await commitChanges(core, ...(changes.length === 0 ? [unchanged] : changes));
  return core.state.connections.get(connection.id) ?? row;
};
