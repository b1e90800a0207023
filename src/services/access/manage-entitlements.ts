/** Entitlements: who may obtain what. Taking something away kills what was issued under it. */
import { defaultMaxGrantSeconds, longestGrantSeconds } from '../../domain/decide.ts';
import type { Agent, Connection, Entitlement, Operator } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { type Change, commitChanges, differing } from '../change.ts';
import { type Caller, type Core, newId, record } from '../core.ts';
import { InvalidInput } from '../invalid-input.ts';
import { accompanyingFence } from '../revocation/revoke.ts';
import { agentCalled } from './manage-agents.ts';
import { connectionCalled } from './manage-connections.ts';

export type EntitlementLimits = Pick<
  Entitlement,
  'scopes' | 'max_ttl_seconds' | 'approval' | 'hours' | 'budget' | 'reason' | 'on_behalf_of' | 'expires_at'
>;
export type EntitlementInput = { agent: string; connection: string; scopes: string[] } & Partial<EntitlementLimits>;

/** What an entitlement is limited to where nobody says otherwise. */
export const defaultLimits: Omit<EntitlementLimits, 'scopes'> = {
  max_ttl_seconds: defaultMaxGrantSeconds,
  approval: 'none',
  hours: null,
  budget: null,
  reason: null,
  on_behalf_of: null,
  expires_at: null,
};

const names = (agent: Agent | undefined, connection: Connection | undefined, row: Entitlement) => ({
  agent: { id: row.agent_id, name: agent?.name ?? row.agent_id },
  connection: { id: row.connection_id, name: connection?.name ?? row.connection_id },
});

const checkLimits = (core: Core, connection: Connection, limits: Partial<EntitlementLimits>): void => {
  const offered = core.providers.get(connection.provider)?.scopes(connection.settings) ?? [];
  const problems: string[] = [];
  for (const [i, scope] of (limits.scopes ?? []).entries()) {
    if (!offered.includes(scope)) problems.push(`scopes.${i}: connection ${connection.name} has no such scope`);
  }
  if ((limits.max_ttl_seconds ?? 1) > longestGrantSeconds) {
    problems.push(`max_ttl_seconds: at most ${longestGrantSeconds}`);
  }
  if (typeof limits.expires_at === 'number' && limits.expires_at <= core.clock.now()) {
    problems.push('expires_at: is in the past');
  }
  if (problems.length > 0) throw new InvalidInput(problems);
};

/** @throws Refused `not_found` */
export const entitlementCalled = (core: Core, id: string): Entitlement => {
  const entitlement = core.state.entitlements.get(id);
  if (!entitlement) throw new Refused('not_found', 'there is no such entitlement');
  return entitlement;
};

/** `agent` and `connection` are rows, so that they may be part of the same changeset. */
export const prepareEntitlement = (
  core: Core,
  agent: Agent,
  connection: Connection,
  limits: Partial<EntitlementLimits> & { scopes: string[] },
  operator: Operator,
  caller: Caller,
): { change: Change; entitlement: Entitlement } => {
  checkLimits(core, connection, limits);
  const now = core.clock.now();
  const entitlement: Entitlement = {
    id: newId(core, 'ent'),
    agent_id: agent.id,
    connection_id: connection.id,
    scopes: [...limits.scopes].sort(),
    max_ttl_seconds: limits.max_ttl_seconds ?? defaultLimits.max_ttl_seconds,
    approval: limits.approval ?? defaultLimits.approval,
    hours: limits.hours ?? null,
    budget: limits.budget ?? null,
    reason: limits.reason ?? null,
    on_behalf_of: limits.on_behalf_of ? [...limits.on_behalf_of].sort() : null,
    granted_by: operator.name,
    expires_at: limits.expires_at ?? null,
    version: 1,
    created_at: now,
    updated_at: now,
  };
  return {
    entitlement,
    change: {
      writes: [{ write: 'insert', table: 'entitlements', row: entitlement }],
      audit: [
        record(core, caller, {
          type: 'entitlement.created',
          ...names(agent, connection, entitlement),
          data: factsOf(entitlement),
        }),
      ],
    },
  };
};

/** Whether the change takes anything away that a living grant may rest on. */
const narrows = (from: Entitlement, to: Entitlement): boolean =>
  from.scopes.some((scope) => !to.scopes.includes(scope)) ||
  to.max_ttl_seconds < from.max_ttl_seconds ||
  (to.expires_at ?? Number.POSITIVE_INFINITY) < (from.expires_at ?? Number.POSITIVE_INFINITY) ||
  (from.approval === 'none' && to.approval !== 'none') ||
  (from.on_behalf_of ?? []).some((pattern) => !to.on_behalf_of?.includes(pattern));

export const prepareEntitlementPatch = (
  core: Core,
  row: Entitlement,
  patch: Partial<EntitlementLimits>,
  operator: Operator,
  caller: Caller,
): { change: Change; entitlement: Entitlement; fields: string[] } | undefined => {
  const connection = core.state.connections.get(row.connection_id);
  if (!connection) throw new Refused('not_found', 'the connection of this entitlement is gone');
  const set = {
    ...patch,
    ...(patch.scopes ? { scopes: [...patch.scopes].sort() } : {}),
    ...(patch.on_behalf_of ? { on_behalf_of: [...patch.on_behalf_of].sort() } : {}),
  };
  const fields = differing(row, set);
  if (fields.length === 0) return undefined;
  checkLimits(core, connection, Object.fromEntries(Object.entries(set).filter(([field]) => fields.includes(field))));
  const changed = { ...set, version: row.version + 1, updated_at: core.clock.now() };
  const entitlement = { ...row, ...changed };
  const fence = narrows(row, entitlement)
    ? accompanyingFence(core, { entitlement: row.id }, 'entitlement narrowed', operator)
    : undefined;
  return {
    entitlement,
    fields,
    change: {
      writes: [
        { write: 'update', table: 'entitlements', id: row.id, set: changed, from: { version: row.version } },
        ...(fence?.writes ?? []),
      ],
      audit: [
        record(core, caller, {
          type: 'entitlement.updated',
          ...names(core.state.agents.get(row.agent_id), connection, row),
          data: { fields, before: factsOf(row), after: factsOf(entitlement), revocation: fence?.revocationId },
        }),
      ],
    },
  };
};

export const prepareEntitlementDeletion = (
  core: Core,
  row: Entitlement,
  operator: Operator,
  caller: Caller,
): Change => {
  const fence = accompanyingFence(core, { entitlement: row.id }, 'entitlement deleted', operator);
  const { agents, connections } = core.state;
  return {
    writes: [...fence.writes, { write: 'delete', table: 'entitlements', id: row.id, from: { version: row.version } }],
    audit: [
      record(core, caller, {
        type: 'entitlement.deleted',
        ...names(agents.get(row.agent_id), connections.get(row.connection_id), row),
        data: { ...factsOf(row), revocation: fence.revocationId },
      }),
    ],
  };
};

const factsOf = (row: Entitlement): Record<string, unknown> => ({
  entitlement: row.id,
  scopes: row.scopes,
  max_ttl_seconds: row.max_ttl_seconds,
  approval: row.approval,
  hours: row.hours,
  budget: row.budget,
  reason: row.reason,
  on_behalf_of: row.on_behalf_of,
  expires_at: row.expires_at === null ? null : new Date(row.expires_at).toISOString(),
});

export const createEntitlement = async (
  core: Core,
  input: EntitlementInput,
  operator: Operator,
  caller: Caller,
): Promise<Entitlement> => {
  const agent = agentCalled(core, input.agent);
  const connection = connectionCalled(core, input.connection);
  const { change, entitlement } = prepareEntitlement(core, agent, connection, input, operator, caller);
  await commitChanges(core, {
    ...change,
    // The scopes were checked against these settings.
    guards: [{ guard: 'unchanged', table: 'connections', id: connection.id, version: connection.version }],
  });
  return entitlement;
};

export const updateEntitlement = async (
  core: Core,
  row: Entitlement,
  patch: Partial<EntitlementLimits>,
  operator: Operator,
  caller: Caller,
): Promise<Entitlement> => {
  const prepared = prepareEntitlementPatch(core, row, patch, operator, caller);
  if (!prepared) {
    const { agents, connections } = core.state;
    await commitChanges(core, {
      writes: [],
      audit: [
        record(core, caller, {
          type: 'entitlement.unchanged',
          ...names(agents.get(row.agent_id), connections.get(row.connection_id), row),
          data: { entitlement: row.id },
        }),
      ],
    });
    return row;
  }
  await commitChanges(core, prepared.change);
  return prepared.entitlement;
};

export const deleteEntitlement = async (
  core: Core,
  row: Entitlement,
  operator: Operator,
  caller: Caller,
): Promise<void> => {
  await commitChanges(core, prepareEntitlementDeletion(core, row, operator, caller));
};
