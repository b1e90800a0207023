/**
 * Freezes: nothing new is issued for what a selector matches, until somebody lifts it. What is out goes on working; to
 * end that too, revoke. Every place that issues or prolongs asks {@link requireUnfrozen} and settles under the guard
 * `unfenced` with `unfrozen`, so that a freeze that commits in between wins.
 */
import type { FenceFacts } from '../../domain/fences.ts';
import type { Freeze } from '../../domain/incident.ts';
import type { Selector } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { type Guard, unassigned, type Write } from '../../ports/ledger.ts';
import { type Change, commitChanges } from '../change.ts';
import { type Caller, type Core, newId, record } from '../core.ts';

/** What whoever asks for something is told: that issuing is frozen, and nothing of whom else that concerns. */
export const frozen = (): Refused =>
  new Refused('frozen', 'issuing is frozen for now; what was issued goes on working');

/** @throws Refused `frozen` when a freeze stands that matches */
export const requireUnfrozen = (core: Pick<Core, 'state'>, facts: FenceFacts): void => {
  if (core.state.freezes.frozenBy(facts)) throw frozen();
};

export interface FreezeRequest {
  selector: Selector;
  reason: string;
  /** The incident it belongs to. */
  incident?: string | undefined;
}

/** A freeze, to be committed alone or with what else contains an incident. From its commit on nothing matching settles. */
export const freezeWrites = (
  core: Pick<Core, 'clock' | 'entropy' | 'state'>,
  { selector, reason, incident }: FreezeRequest,
  caller: Caller,
): Change & { freeze: Freeze } => {
  const freeze: Freeze = {
    id: newId(core, 'frz'),
    seq: unassigned,
    selector,
    reason,
    incident_id: incident ?? null,
    created_by: caller.actor.kind === 'anonymous' ? 'anonymous' : caller.actor.name,
    created_at: core.clock.now(),
    lifted_at: null,
    lifted_by: null,
    lift_reason: null,
    version: 1,
  };
  return {
    freeze,
    writes: [{ write: 'insert', table: 'freezes', row: { ...freeze } }],
    audit: [
      record(core, caller, {
        type: 'freeze.created',
        ...named(core, selector),
        data: { freeze: freeze.id, selector, reason, incident },
      }),
    ],
  };
};

/** Whom and what a selector names: what the record is found by. */
const named = ({ state }: Pick<Core, 'state'>, selector: Selector) => {
  const agent = state.agents.get(selector.agent ?? '');
  const connection = state.connections.get(selector.connection ?? '');
  return {
    agent: agent && { id: agent.id, name: agent.name },
    connection: connection && { id: connection.id, name: connection.name },
  };
};

/** @throws Refused `ledger_unavailable`: then nothing is frozen */
export const createFreeze = async (core: Core, request: FreezeRequest, caller: Caller): Promise<Freeze> => {
  const { freeze, ...change } = freezeWrites(core, request, caller);
  const seq = await commitChanges(core, change);
  return { ...freeze, seq };
};

/** Lifting it, to be committed with whatever else lets an incident end. */
export const liftWrites = (
  core: Pick<Core, 'clock' | 'state'>,
  freeze: Freeze,
  reason: string,
  caller: Caller,
): Change & { freeze: Freeze } => {
  const set = {
    lifted_at: core.clock.now(),
    lifted_by: caller.actor.kind === 'anonymous' ? 'anonymous' : caller.actor.name,
    lift_reason: reason,
    version: freeze.version + 1,
  };
  const write: Write = {
    write: 'update',
    table: 'freezes',
    id: freeze.id,
    set,
    from: { lifted_at: null, version: freeze.version },
  };
  return {
    freeze: { ...freeze, ...set },
    writes: [write],
    audit: [
      record(core, caller, {
        type: 'freeze.lifted',
        ...named(core, freeze.selector),
        data: {
          freeze: freeze.id,
          selector: freeze.selector,
          reason,
          incident: freeze.incident_id ?? undefined,
          stood_seconds: Math.round((set.lifted_at - freeze.created_at) / 1000),
        },
      }),
    ],
  };
};

/**
 * Lifts a freeze that stands.
 * @throws Refused `not_found`; `conflict` when it was lifted already, or belongs to an incident that is not recovered yet:
 * recovering lifts what containing it froze, and says so in its report
 */
export const liftFreeze = async (core: Core, id: string, reason: string, caller: Caller): Promise<Freeze> => {
  const freeze = await core.reader.freeze(id);
  if (!freeze) throw new Refused('not_found', 'there is no such freeze');
  if (freeze.lifted_at !== null) throw new Refused('conflict', 'this freeze was lifted already');
  const guards: Guard[] = [];
  const incident = freeze.incident_id === null ? undefined : await core.reader.incident(freeze.incident_id);
  if (incident) {
    if (incident.status !== 'recovered' && incident.status !== 'closed') {
      throw new Refused('conflict', `this freeze contains incident ${incident.id}; recovering the incident lifts it`);
    }
    guards.push({ guard: 'unchanged', table: 'incidents', id: incident.id, version: incident.version });
  }
  const { freeze: lifted, ...change } = liftWrites(core, freeze, reason, caller);
  await commitChanges(core, { ...change, guards });
  return lifted;
};
