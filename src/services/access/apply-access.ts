/**
 * `warder apply`: a file says which agents, connections and entitlements there shall be; this finds the difference and,
 * unless only the plan is wanted, commits all of it at once. Applying twice changes nothing.
 */
import type { Agent, Connection, Entitlement, Operator } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { type Change, commitChanges } from '../change.ts';
import type { Caller } from '../core.ts';
import { InvalidInput } from '../invalid-input.ts';
import type { CoreWithSecrets } from '../issuing/provider-context.ts';
import { type PolicyInput, prepareNoPolicy, preparePolicy } from '../rotation/manage-policies.ts';
import { prepareSource } from '../secrets/refer-secret.ts';
import { prepareConnectionDeletion, requireNothingUpstream } from './delete-connection.ts';
import { type AgentInput, prepareAgent, prepareAgentDeletion, prepareAgentPatch } from './manage-agents.ts';
import {
  type ConnectionInput,
  prepareConnection,
  prepareConnectionPatch,
  requireExpanded,
} from './manage-connections.ts';
import {
  defaultLimits,
  type EntitlementInput,
  prepareEntitlement,
  prepareEntitlementDeletion,
  prepareEntitlementPatch,
} from './manage-entitlements.ts';
import { isToBeGenerated, prepareSecret, secretIsInForce, wasRotatedAway } from './set-secret.ts';

export interface AccessDocument {
  agents: (Omit<AgentInput, 'auth'> & { auth?: AgentInput['auth'] | undefined })[];
  connections: (ConnectionInput & {
    /** How its secret is rotated; null: only when somebody asks; undefined: as it is. */
    rotation?: PolicyInput | null | undefined;
  })[];
  entitlements: EntitlementInput[];
}

export interface AccessChange {
  action: 'create' | 'update' | 'delete';
  kind: 'agent' | 'connection' | 'entitlement' | 'secret' | 'rotation';
  name: string;
  fields: string[];
}

export interface Applied {
  applied: boolean;
  changes: AccessChange[];
  client_secrets: { agent: string; client_id: string; client_secret: string }[];
}

interface Work {
  core: CoreWithSecrets;
  operator: Operator;
  caller: Caller;
  prepared: Change[];
  shown: AccessChange[];
  clientSecrets: Applied['client_secrets'];
  agents: Map<string, Agent>;
  connections: Map<string, Connection>;
}

/**
 * @param prune also delete agents, connections and entitlements the document does not name
 * @throws Refused; then nothing was changed
 */
export const applyAccess = async (
  core: CoreWithSecrets,
  document: AccessDocument,
  options: { plan: boolean; prune: boolean },
  operator: Operator,
  caller: Caller,
): Promise<Applied> => {
  requireDistinct(
    'agents',
    document.agents.map(({ name }) => name),
  );
  requireDistinct(
    'connections',
    document.connections.map(({ name }) => name),
  );
  requireDistinct(
    'entitlements',
    document.entitlements.map(({ agent, connection, scopes }) => JSON.stringify([agent, connection, sorted(scopes)])),
  );
  const work: Work = {
    core,
    operator,
    caller,
    prepared: [],
    shown: [],
    clientSecrets: [],
    agents: new Map(core.state.agents.all().map((agent) => [agent.name, agent])),
    connections: new Map(core.state.connections.all().map((connection) => [connection.name, connection])),
  };
  for (const [i, agent] of document.agents.entries()) await at(`agents.${i}`, () => applyAgent(work, agent));
  // Those whose secret is read through another come after all that could be that other.
  const ordered = [...document.connections.entries()].sort(
    ([, a], [, b]) => Number(a.secret_from !== undefined) - Number(b.secret_from !== undefined),
  );
  for (const [i, connection] of ordered) {
    await at(`connections.${i}`, async () => {
      await applyConnection(work, connection);
      await applyRotation(work, connection);
    });
  }
  const kept = new Set<string>();
  for (const [i, entitlement] of document.entitlements.entries()) {
    kept.add(await at(`entitlements.${i}`, () => applyEntitlement(work, entitlement)));
  }
  if (options.prune) await prune(work, document, kept);
  if (options.plan || work.prepared.length === 0) {
    return { applied: false, changes: work.shown, client_secrets: [] };
  }
  await commitChanges(core, ...work.prepared);
  return { applied: true, changes: work.shown, client_secrets: work.clientSecrets };
};

const sorted = (scopes: readonly string[]): string[] => [...new Set(scopes)].sort();

/** Two lines about one thing could want different things of it. Entitlements are told apart by whom, what and scopes. */
const requireDistinct = (list: string, keys: readonly string[]): void => {
  const first = new Map<string, number>();
  for (const [i, key] of keys.entries()) {
    const before = first.get(key);
    if (before !== undefined) throw new InvalidInput([`${list}.${i}: the same as ${list}.${before}`]);
    first.set(key, i);
  }
};

/** Runs one line's work; what is wrong with it is said with its place in the document. */
const at = async <T>(place: string, work: () => T | Promise<T>): Promise<T> => {
  try {
    return await work();
  } catch (error) {
    if (error instanceof InvalidInput) throw new InvalidInput(error.problems.map((problem) => `${place}.${problem}`));
    throw error;
  }
};

const show = (work: Work, change: Change, shown: AccessChange): void => {
  work.prepared.push(change);
  work.shown.push(shown);
};

const applyAgent = (work: Work, input: AccessDocument['agents'][number]): void => {
  const { core, caller, operator } = work;
  const existing = core.state.agents.named(input.name);
  if (!existing) {
    const auth = input.auth ?? { method: 'client_secret_basic' };
    const { change, agent, clientSecret } = prepareAgent(core, { ...input, auth }, caller);
    work.agents.set(agent.name, agent);
    if (clientSecret !== undefined) {
      work.clientSecrets.push({ agent: agent.name, client_id: agent.name, client_secret: clientSecret });
    }
    show(work, change, { action: 'create', kind: 'agent', name: agent.name, fields: [] });
    return;
  }
  const sameAuth =
    input.auth === undefined ||
    (input.auth.method === existing.auth.method &&
      (input.auth.method !== 'private_key_jwt' || JSON.stringify(input.auth) === JSON.stringify(existing.auth)));
  const prepared = prepareAgentPatch(
    core,
    existing,
    {
      owner: input.owner,
      purpose: input.purpose ?? null,
      dpop: input.dpop ?? 'optional',
      ...(sameAuth || input.auth === undefined ? {} : { auth: input.auth }),
    },
    operator,
    caller,
  );
  if (!prepared) return;
  if (prepared.clientSecret !== undefined) {
    work.clientSecrets.push({ agent: existing.name, client_id: existing.name, client_secret: prepared.clientSecret });
  }
  work.agents.set(existing.name, prepared.agent);
  show(work, prepared.change, { action: 'update', kind: 'agent', name: existing.name, fields: prepared.fields });
};

/** As the document leaves it; of those it does not name, as it is. */
const find = (work: Work, nameOrId: string): Connection | undefined =>
  work.connections.get(nameOrId) ?? [...work.connections.values()].find(({ id }) => id === nameOrId);

const applyConnection = async (work: Work, input: ConnectionInput): Promise<void> => {
  const { core, caller, operator } = work;
  const existing = core.state.connections.named(input.name);
  if (!existing) {
    const { change, connection } = prepareConnection(core, input, caller, (called) => find(work, called));
    work.connections.set(connection.name, connection);
    show(work, change, { action: 'create', kind: 'connection', name: connection.name, fields: [] });
    return;
  }
  const { provider, settings, origin } = requireExpanded(core, input);
  if (existing.provider !== provider) {
    throw new Refused('conflict', `connection ${input.name} is of provider ${existing.provider}; delete it first`);
  }
  // One that is generated stays as it is (secretIsInForce): nobody gives it anew, whatever the settings say now. Nor does
  // who gives one that was rotated away: that does not come back, and new settings are judged as if none was given.
  const stale = input.secret !== undefined && (await wasRotatedAway(core, existing, input.secret));
  const secret = isToBeGenerated(input.secret) || stale ? undefined : input.secret;
  const patched = prepareConnectionPatch(
    core,
    existing,
    { owner: input.owner ?? null, settings, secret, secret_from: input.secret_from, origin },
    operator,
    caller,
  );
  const row = patched?.connection ?? existing;
  work.connections.set(row.name, row);
  if (patched) {
    show(work, patched.change, { action: 'update', kind: 'connection', name: row.name, fields: patched.fields });
  }
  const source =
    input.secret_from && (await prepareSource(core, row, input.secret_from, caller, (called) => find(work, called)));
  if (source) {
    work.connections.set(row.name, source.connection);
    show(work, source.change, { action: 'update', kind: 'secret', name: row.name, fields: [] });
  }
  if (input.secret !== undefined && !stale && !(await secretIsInForce(core, existing, input.secret))) {
    const { change } = await prepareSecret(core, row, input.secret, caller);
    show(work, change, { action: 'update', kind: 'secret', name: row.name, fields: [] });
  }
};

/** After the connection itself, as it will be. */
const applyRotation = async (
  work: Work,
  { name, rotation, secret }: AccessDocument['connections'][number],
): Promise<void> => {
  const { core, operator, caller } = work;
  const connection = work.connections.get(name);
  if (rotation === undefined || !connection) return;
  const existing = core.state.connections.get(connection.id);
  if (rotation === null) {
    const change = prepareNoPolicy(core, connection.id, caller);
    if (change) show(work, change, { action: 'delete', kind: 'rotation', name, fields: [] });
    return;
  }
  // One that was rotated away is not the one in force: who knows only that does not know the secret.
  const secretGiven = !existing || (secret !== undefined && !(await wasRotatedAway(core, existing, secret)));
  const change = await preparePolicy(core, connection, rotation, { operator, secretGiven }, caller);
  const action = core.state.rotationPolicies.get(connection.id) ? 'update' : 'create';
  if (change) show(work, change, { action, kind: 'rotation', name, fields: [] });
};

/** @returns the id of the entitlement that stands for this line of the document */
const applyEntitlement = (work: Work, input: EntitlementInput): string => {
  const { core, caller, operator } = work;
  const agent = work.agents.get(input.agent);
  const connection = work.connections.get(input.connection);
  if (!agent) throw new InvalidInput(['agent: there is none of this name']);
  if (!connection) throw new InvalidInput(['connection: there is none of this name']);
  const { agent: _agent, connection: _connection, ...given } = input;
  const limits = { ...defaultLimits, ...given };
  const name = `${agent.name} -> ${connection.name}: ${sorted(input.scopes).join(' ')}`;
  const standing = core.state.entitlementsOf(agent.id, connection.id);
  const same = standing.find((row) => sameScopes(row, input.scopes));
  if (!same) {
    const { change, entitlement } = prepareEntitlement(core, agent, connection, limits, operator, caller);
    show(work, change, { action: 'create', kind: 'entitlement', name, fields: [] });
    return entitlement.id;
  }
  const prepared = prepareEntitlementPatch(core, same, limits, operator, caller);
  if (prepared) {
    show(work, prepared.change, { action: 'update', kind: 'entitlement', name, fields: prepared.fields });
  }
  return same.id;
};

const sameScopes = (row: Entitlement, scopes: readonly string[]): boolean =>
  JSON.stringify(sorted(row.scopes)) === JSON.stringify(sorted(scopes));

const prune = async (work: Work, document: AccessDocument, keptEntitlements: ReadonlySet<string>): Promise<void> => {
  const { core, operator, caller } = work;
  const agents = new Set(document.agents.map((agent) => agent.name));
  const connections = new Set(document.connections.map((connection) => connection.name));
  for (const row of core.state.entitlements.all()) {
    if (keptEntitlements.has(row.id)) continue;
    const name = `${core.state.agents.get(row.agent_id)?.name} -> ${core.state.connections.get(row.connection_id)?.name}: ${row.scopes.join(' ')}`;
    const change = prepareEntitlementDeletion(core, row, operator, caller);
    show(work, change, { action: 'delete', kind: 'entitlement', name, fields: [] });
  }
  for (const agent of core.state.agents.all()) {
    if (agents.has(agent.name)) continue;
    show(work, prepareAgentDeletion(core, agent, operator, caller), {
      action: 'delete',
      kind: 'agent',
      name: agent.name,
      fields: [],
    });
  }
  const gone = core.state.connections.all().filter((connection) => !connections.has(connection.name));
  for (const connection of gone) {
    await requireNothingUpstream(core, connection);
    const besides = gone.map(({ id }) => id);
    show(work, prepareConnectionDeletion(core, connection, operator, caller, besides), {
      action: 'delete',
      kind: 'connection',
      name: connection.name,
      fields: [],
    });
  }
};
