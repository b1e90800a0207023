/**
 * Back to work with less: freezes are lifted, agents that containing it suspended are resumed, and entitlements are
 * narrowed, all in one commit, so that nothing is issued under the wider ones in between. It gives nobody more than they
 * had before the incident.
 */
import type { EntitlementChange, EntitlementLimits, Incident } from '../../domain/incident.ts';
import type { Agent, Entitlement, Operator } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { prepareAgentPatch } from '../access/manage-agents.ts';
import {
  entitlementCalled,
  prepareEntitlementDeletion,
  prepareEntitlementPatch,
} from '../access/manage-entitlements.ts';
import type { Change } from '../change.ts';
import type { Caller, Core } from '../core.ts';
import { InvalidInput } from '../invalid-input.ts';
import { liftWrites } from './freeze.ts';
import { changeIncident, incidentCalled, incidentRecord, stepOf } from './incidents.ts';
import { entriesBackwards } from './log-pages.ts';
import { exposureOf } from './remediate.ts';
import { idleRules, knowsAllUses } from './used-scopes.ts';

/** How an entitlement is narrowed: fields that are not given stay, and none may give more than before. */
export interface Narrowing {
  entitlement: string;
  remove?: boolean | undefined;
  scopes?: string[] | undefined;
  max_ttl_seconds?: number | undefined;
  approval?: 'required' | undefined;
  /** Milliseconds since the epoch. */
  expires_at?: number | undefined;
}

export interface Recovery {
  reason: string;
  /** Whether its freezes are lifted. */
  lift: boolean;
  /** Whether agents that containing it suspended are resumed. */
  resume: boolean;
  narrow: Narrowing[];
  /** Narrow whatever whom it is about did not obtain in the window or the 90 days before it; remove what would be empty. */
  narrowUnused: boolean;
}

/** One recovery changes so many entitlements, and an incident remembers so many. */
const maxChanges = 500;

/** @throws Refused `not_found`, `conflict`; InvalidInput for a change that is no narrowing */
export const recoverIncident = async (
  core: Core,
  id: string,
  recovery: Recovery,
  operator: Operator,
  caller: Caller,
  signal?: AbortSignal,
): Promise<Incident> => {
  const found = await incidentCalled(core, id);
  stepOf(found, 'recover');
  const idle = recovery.narrowUnused ? await idleRights(core, found, signal) : [];
  const asked = new Set(recovery.narrow.map((one) => one.entitlement));
  const narrow = [...recovery.narrow, ...idle.filter((one) => !asked.has(one.entitlement))];
  return changeIncident(core, id, async (incident) => {
    // Their rows as of now: one that is changed while the log is read refuses the commit, and all is looked at anew.
    const agents = recovery.resume ? suspendedAgents(core, incident) : [];
    const held = recovery.resume ? await heldByOthers(core, id) : new Set<string>();
    const since = await lastResumed(core, incident, agents.length > 0);
    const status = stepOf(incident, 'recover');
    const narrowed = narrow.flatMap((one) => narrowing(core, one, operator, caller));
    const changes = [...incident.changes, ...narrowed.map((one) => one.told)];
    if (changes.length > maxChanges) {
      throw new InvalidInput([`an incident narrows at most ${maxChanges} entitlements; narrow the others one by one`]);
    }
    const lifted = recovery.lift
      ? core.state.freezes
          .all()
          .filter((freeze) => freeze.incident_id === id)
          .map((freeze) => liftWrites(core, freeze, recovery.reason, caller))
      : [];
    const resumed = agents
      .filter(({ agent, at }) => !held.has(agent.id) && (since.get(agent.id) ?? Number.NEGATIVE_INFINITY) < at)
      .flatMap(({ agent }) => {
        const patch = prepareAgentPatch(core, agent, { status: 'active' }, operator, caller);
        return patch ? [{ id: agent.id, name: agent.name, change: patch.change }] : [];
      });
    const together: Change[] = [...narrowed.map((one) => one.change), ...lifted, ...resumed.map((one) => one.change)];
    return {
      set: {
        status,
        recovered_at: core.clock.now(),
        changes,
        measures: {
          ...incident.measures,
          resumed: [...incident.measures.resumed, ...resumed.map(({ id: agent, name }) => ({ id: agent, name }))],
        },
      },
      guards: together.flatMap((change) => change.guards ?? []),
      writes: together.flatMap((change) => change.writes),
      audit: [
        incidentRecord(core, incident, caller, 'incident.recovered', {
          reason: recovery.reason,
          lifted: lifted.map((one) => one.freeze.id).slice(0, maxNamed),
          resumed: resumed.map((one) => one.name).slice(0, maxNamed),
          resumed_count: resumed.length,
          held_by_others: incident.measures.suspended.filter((one) => held.has(one.id)).length || undefined,
          entitlements: narrowed.map((one) => one.told.entitlement).slice(0, maxNamed),
          entitlements_count: narrowed.length,
        }),
        ...together.flatMap((change) => change.audit),
      ],
    };
  });
};

/** Each has an entry of its own; an entry has its limit. */
const maxNamed = 200;

const incidentsPage = 500;

/** Agents that another incident wants suspended and has not recovered. */
const heldByOthers = async (core: Core, id: string): Promise<Set<string>> => {
  const held = new Set<string>();
  for (const status of ['contained', 'remediating'] as const) {
    for (let before: string | undefined; ; ) {
      const page = await core.reader.incidents({ status }, { before, limit: incidentsPage });
      for (const incident of page) {
        if (incident.id !== id) for (const agent of incident.measures.held) held.add(agent);
      }
      if (page.length < incidentsPage) break;
      before = page.at(-1)?.id;
    }
  }
  return held;
};

/** Agents that this incident suspended, each once with when it last did, and that are suspended now. */
const suspendedAgents = (core: Core, { measures }: Incident): { agent: Agent; at: number }[] => {
  const last = new Map(measures.suspended.map(({ id, at }) => [id, at]));
  return [...last].flatMap(([id, at]) => {
    const agent = core.state.agents.get(id);
    return agent && agent.status !== 'active' ? [{ agent, at }] : [];
  });
};

/** When agents were last resumed, by whomever: who is suspended again since then is so for another reason. */
const lastResumed = async (
  core: Core,
  { measures, selector }: Incident,
  wanted: boolean,
): Promise<ReadonlyMap<string, number>> => {
  const last = new Map<string, number>();
  if (!wanted) return last;
  const from = measures.suspended.reduce((least, { at }) => Math.min(least, at), Number.POSITIVE_INFINITY);
  for await (const page of entriesBackwards(core, { type: 'agent.resumed', agent_id: selector.agent, from })) {
    for (const { agent, at } of page) if (agent && !last.has(agent.id)) last.set(agent.id, at);
  }
  return last;
};

const limitsOf = (row: Entitlement): EntitlementLimits => ({
  scopes: row.scopes,
  max_ttl_seconds: row.max_ttl_seconds,
  approval: row.approval,
  expires_at: row.expires_at === null ? null : new Date(row.expires_at).toISOString(),
});

const widening = (row: Entitlement, { scopes, max_ttl_seconds, expires_at }: Narrowing): string | undefined => {
  const more = (scopes ?? []).filter((scope) => !row.scopes.includes(scope));
  if (more.length > 0) return `${row.id} does not have ${more.slice(0, 5).join(', ')}`;
  if ((max_ttl_seconds ?? 0) > row.max_ttl_seconds) return `${row.id} allows ${row.max_ttl_seconds} seconds at most`;
  if (expires_at !== undefined && row.expires_at !== null && expires_at > row.expires_at) {
    return `${row.id} ends before that`;
  }
  return undefined;
};

/** @returns nothing when it changes nothing */
const narrowing = (
  core: Core,
  narrow: Narrowing,
  operator: Operator,
  caller: Caller,
): { change: Change; told: EntitlementChange }[] => {
  const row = entitlementCalled(core, narrow.entitlement);
  const wider = widening(row, narrow);
  if (wider !== undefined) throw new InvalidInput([`narrow: recovering gives nothing new: ${wider}`]);
  const { entitlement: _id, remove, ...patch } = narrow;
  const told = {
    entitlement: row.id,
    agent: core.state.agents.get(row.agent_id)?.name ?? row.agent_id,
    connection: core.state.connections.get(row.connection_id)?.name ?? row.connection_id,
    before: limitsOf(row),
  };
  if (remove) {
    const change = prepareEntitlementDeletion(core, row, operator, caller);
    return [{ change, told: { ...told, after: null } }];
  }
  const given = Object.fromEntries(Object.entries(patch).filter(([, value]) => value !== undefined));
  const prepared = prepareEntitlementPatch(core, row, given, operator, caller);
  if (!prepared) return [];
  return [{ change: prepared.change, told: { ...told, after: limitsOf(prepared.entitlement) } }];
};

/** What to narrow so that only rights stay that were used. */
const idleRights = async (core: Core, incident: Incident, signal?: AbortSignal): Promise<Narrowing[]> => {
  const { habits, activity } = await exposureOf(core, incident, signal);
  const { selector } = incident;
  if (!knowsAllUses(selector, habits, activity)) {
    throw new Refused('conflict', 'what was never used cannot be said of this incident; name what to narrow');
  }
  return idleRules(core, selector, habits, activity).map(
    ({ rule, used }): Narrowing =>
      used.length === 0 ? { entitlement: rule.id, remove: true } : { entitlement: rule.id, scopes: used },
  );
};
