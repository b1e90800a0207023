/** Connections and their secrets. A secret goes in and never comes out. */
import type { Connection, Grant, Operator } from '../../domain/model.ts';
import { isShowable } from '../../domain/names.ts';
import { Refused } from '../../domain/refusals.ts';
import { endsByIn } from '../../domain/stored-handle.ts';
import type { ConnectionSecret } from '../../ports/call-context.ts';
import type { Provider } from '../../ports/provider.ts';
import { type Change, commitChanges, differing } from '../change.ts';
import { type Caller, type Core, newId, record } from '../core.ts';
import { InvalidInput } from '../invalid-input.ts';
import type { CoreWithSecrets } from '../issuing/provider-context.ts';
import { accompanyingFence } from '../revocation/revoke.ts';
import { requireRotationFits } from '../rotation/destinations.ts';
import { rotatedWrite } from '../rotation/rotation-rows.ts';
import {
  checkedSource,
  type FindConnection,
  prepareSource,
  requireUnreferenced,
  type SecretSourceInput,
  sourceView,
} from '../secrets/refer-secret.ts';
import { openSecretVersion, replaceSecretWrites, sealSecret } from '../secrets/secrets.ts';
import { expandedInput, type PresetInput, type PresetOrigin } from './expand-preset.ts';

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

export { InvalidInput };

const named = (connection: Connection) => ({ connection: { id: connection.id, name: connection.name } });

/** @throws Refused `not_found` */
export const connectionCalled = (core: Core, nameOrId: string): Connection => {
  const connection = core.state.connectionCalled(nameOrId);
  if (!connection) throw new Refused('not_found', 'there is no such connection');
  return connection;
};

const providerOf = (core: Core, type: string): Provider => {
  const provider = core.providers.get(type);
  if (!provider) throw new InvalidInput([`provider: one of ${[...core.providers.keys()].join(', ')}`]);
  return provider;
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

/** `{ "generate": true }` instead of a secret: one that no person ever sees. */
export const isToBeGenerated = (secret: unknown): boolean =>
  typeof secret === 'object' &&
  secret !== null &&
  'generate' in secret &&
  secret.generate === true &&
  Object.keys(secret).length === 1;

const checkedSecret = (provider: Provider, secret: unknown): Record<string, string> => {
  if (isToBeGenerated(secret)) {
    if (provider.generateSecret) return provider.generateSecret();
    throw new InvalidInput(['secret: this provider cannot make one; give it']);
  }
  const checked = provider.checkSecret(secret);
  if (!checked.ok) throw new InvalidInput(checked.problems);
  if (checked.value === undefined) throw new InvalidInput(['secret: this provider takes none']);
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

/** Sets a new secret. Grants through the gateway follow it without noticing. @throws InvalidInput, Refused */
export const prepareSecret = async (
  core: Core,
  connection: Connection,
  secret: unknown,
  caller: Caller,
): Promise<{ change: Change; number: number }> => {
  const fields = checkedSecret(providerOf(core, connection.provider), secret);
  const { writes, number } = await replaceSecretWrites(core, connection, fields);
  const policy = core.state.rotationPolicies.get(connection.id);
  return {
    number,
    change: {
      // Set by hand it is as new as if it had been rotated.
      writes: [...writes, ...(policy ? rotatedWrite(policy, core.clock.now()) : [])],
      audit: [record(core, caller, { type: 'secret.set', ...named(connection), data: { version: number } })],
    },
  };
};

/** @returns whether this is the secret in force, compared after unsealing it */
export const secretIsInForce = async (core: CoreWithSecrets, connection: Connection, secret: unknown) => {
  if (connection.secret_source) return false;
  const provider = providerOf(core, connection.provider);
  // Generated means generated once: to apply the same file again does not replace an authority.
  if (isToBeGenerated(secret) && provider.generateSecret && connection.secret_version !== null) return true;
  const fields = checkedSecret(provider, secret);
  const held = await core.secrets.open(core.reader, connection);
  return held !== undefined && isSameSecret(held.fields, fields);
};

const isSameSecret = (held: ConnectionSecret['fields'], given: Record<string, string>): boolean => {
  const names = Object.keys(held);
  return names.length === Object.keys(given).length && names.every((name) => held[name]?.reveal() === given[name]);
};

/**
 * @returns whether this secret is not in force any more because a rotation replaced it: a file that still names it is
 * older than the rotation
 */
export const wasRotatedAway = async (
  core: CoreWithSecrets,
  connection: Connection,
  secret: unknown,
): Promise<boolean> => {
  if (isToBeGenerated(secret) || connection.secret_source) return false;
  const numbers = await core.reader.rotatedAway(connection.id);
  if (numbers.length === 0 || (await secretIsInForce(core, connection, secret))) return false;
  const fields = checkedSecret(providerOf(core, connection.provider), secret);
  for (const number of numbers) {
    if (isSameSecret(await openSecretVersion(core, connection.id, number), fields)) return true;
  }
  return false;
};

/**
 * @param besides ids of connections that are deleted with it
 * @throws Refused `conflict` while another connection's secret is read through it
 */
export const prepareConnectionDeletion = (
  core: Core,
  connection: Connection,
  operator: Operator,
  caller: Caller,
  besides: readonly string[] = [],
): Change => {
  requireUnreferenced(core, connection, besides);
  const fence = accompanyingFence(core, { connection: connection.id }, 'connection deleted', operator);
  return {
    // A grant may be issued between the look and the commit; without its connection nobody could clean it up.
    guards: [
      { guard: 'nothing_upstream', connection_id: connection.id },
      { guard: 'unreferenced', connection_id: connection.id, besides: [...besides] },
    ],
    writes: [
      ...fence.writes,
      { write: 'delete', table: 'connections', id: connection.id, from: { version: connection.version } },
    ],
    audit: [
      record(core, caller, {
        type: 'connection.deleted',
        ...named(connection),
        data: { revocation: fence.revocationId },
      }),
    ],
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

export const setSecret = async (
  core: Core,
  connection: Connection,
  secret: unknown,
  caller: Caller,
): Promise<number> => {
  const { change, number } = await prepareSecret(core, connection, secret, caller);
  await commitChanges(core, change);
  return number;
};

const upstreamPage = 1000;

/** What a rotation made upstream is ended through the connection. @throws Refused `conflict` */
const requireNoRotation = (core: Core, connection: Connection): void => {
  const row = core.state.rotations
    .ofPolicy(connection.id)
    .find(({ status }) => status === 'running' || status === 'grace');
  if (!row) return;
  const when =
    row.status === 'grace' ? `its grace is over (${new Date(row.retire_at ?? 0).toISOString()})` : 'it has ended';
  throw new Refused(
    'conflict',
    `rotation ${row.id} of the secret of ${connection.name} is under way, and what it made would be left upstream; repeat when ${when}`,
  );
};

/**
 * While something made through this connection exists upstream, the connection is what it can be taken back with: also
 * when a revocation or the clock has killed it here already, and the drain has not come to it yet.
 * @throws Refused `conflict` then
 */
export const requireNothingUpstream = async (core: Core, connection: Connection): Promise<void> => {
  const accounts = core.state.authorizations.ofConnection(connection.id).length;
  if (accounts > 0) {
    throw new Refused(
      'conflict',
      `${accounts} accounts are connected through ${connection.name}, and their tokens would live on at the server; disconnect them (warder connection disconnect ${connection.name} --all), then repeat`,
    );
  }
  requireNoRotation(core, connection);
  const is = (grant: Grant): boolean => grant.connection_id === connection.id;
  let livesOnUntil = 0;
  let left = (await core.reader.intendedGrants(core.state.newestSeq, upstreamPage)).filter(is).length;
  for (let after = ''; left === 0; ) {
    const page = await core.reader.upstreamGrants(after, upstreamPage);
    const found = page.filter(is);
    left = found.length;
    const ends = found.map(({ handle }) => endsByIn(handle));
    if (ends.every((end) => end !== undefined)) livesOnUntil = Math.max(0, ...ends);
    const last = page.at(-1);
    if (!last || page.length < upstreamPage) break;
    after = last.id;
  }
  if (left === 0) return;
  if (livesOnUntil > 0) {
    const until = new Date(livesOnUntil).toISOString();
    throw new Refused(
      'conflict',
      `credentials of connection ${connection.name} cannot be taken back upstream and may live until ${until}; repeat then, or suspend it`,
    );
  }
  throw new Refused(
    'conflict',
    `grants of connection ${connection.name} still exist upstream; revoke them (warder revoke-all --connection ${connection.name} --wait), then repeat`,
  );
};

/** Deletes a connection. @throws Refused `conflict` while something of it exists upstream */
export const deleteConnection = async (
  core: Core,
  connection: Connection,
  operator: Operator,
  caller: Caller,
): Promise<void> => {
  await requireNothingUpstream(core, connection);
  await commitChanges(core, prepareConnectionDeletion(core, connection, operator, caller));
};
