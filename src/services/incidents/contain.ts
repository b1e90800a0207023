/**
 * Containing an incident: what is out is revoked, agents are suspended, nothing new is issued, secrets are rotated. Fence,
 * suspensions, freeze and what the incident says of them are one commit. Where others keep changing the incident, the
 * fence does not wait for them: then the incident says it in a commit right behind.
 */
import type { Freeze, Incident } from '../../domain/incident.ts';
import type { Agent, Operator, Revocation } from '../../domain/model.ts';
import { prepareAgentPatch } from '../access/manage-agents.ts';
import type { Change } from '../change.ts';
import type { Caller, Core } from '../core.ts';
import { InvalidInput } from '../invalid-input.ts';
import { heldSuspended, reachedAgents, revoke } from '../revocation/revoke.ts';
import { freezeWrites } from './freeze.ts';
import { changed, changeIncident, type IncidentChange, incidentCalled, incidentRecord, stepOf } from './incidents.ts';

export interface Containment {
  revoke: boolean;
  suspend: boolean;
  freeze: boolean;
  rotate: boolean;
  reason: string;
}

/** What a containment did. */
interface Done {
  revocation?: Revocation | undefined;
  freeze?: Freeze | undefined;
  suspended: Pick<Agent, 'id' | 'name'>[];
}
export type Contained = Done & { incident: Incident };

/**
 * @throws Refused `not_found`; `conflict` for a closed incident; `ledger_unavailable`: then nothing was contained, unless
 * the records of a revocation say otherwise
 */
export const containIncident = async (
  core: Core,
  id: string,
  containment: Containment,
  operator: Operator,
  caller: Caller,
): Promise<Contained> => {
  if (!containment.revoke && !containment.suspend && !containment.freeze) {
    throw new InvalidInput(['at least one of revoke, suspend and freeze is true']);
  }
  if (containment.rotate && !containment.revoke) {
    throw new InvalidInput(['rotate: goes with revoke; what was issued from the secret before would live on']);
  }
  const incident = await incidentCalled(core, id);
  stepOf(incident, 'contain');
  return containment.revoke
    ? withFence(core, incident, containment, caller)
    : withoutFence(core, id, containment, operator, caller);
};

/** An entry has its limit, and each suspension has an entry of its own. */
const maxNamed = 200;

/** What the incident says of a containment. */
const noted = (
  core: Core,
  incident: Incident,
  containment: Containment,
  done: Done,
  caller: Caller,
): IncidentChange => {
  const { revocation, freeze, suspended } = done;
  const { measures } = incident;
  const held = containment.suspend ? reachedAgents(core, incident.selector).map((agent) => agent.id) : [];
  return {
    set: {
      // Somebody may have closed it at this very moment. What stands is noted all the same, and it is open again.
      status: incident.status === 'closed' ? 'contained' : stepOf(incident, 'contain'),
      contained_at: incident.contained_at ?? core.clock.now(),
      closed_at: null,
      measures: {
        ...measures,
        revocations: [...measures.revocations, ...(revocation ? [revocation.id] : [])],
        freezes: [...measures.freezes, ...(freeze ? [freeze.id] : [])],
        suspended: [...measures.suspended, ...suspended.map(({ id, name }) => ({ id, name, at: core.clock.now() }))],
        held: [...new Set([...measures.held, ...held])],
      },
    },
    audit: [
      incidentRecord(core, incident, caller, 'incident.contained', {
        revocation: revocation?.id,
        freeze: freeze?.id,
        suspended: suspended.slice(0, maxNamed).map((agent) => agent.name),
        suspended_count: suspended.length,
        rotate: containment.rotate,
        reason: containment.reason,
      }),
    ],
  };
};

const newFreeze = (core: Core, { id, selector }: Incident, { reason }: Containment, caller: Caller) =>
  freezeWrites(core, { selector, reason, incident: id }, caller);

/** A freeze for the incident, unless one for the same selector stands: whoever contains twice need lift it once only. */
const freezeFor = (core: Core, incident: Incident, containment: Containment, caller: Caller) => {
  if (!containment.freeze) return undefined;
  const { id, selector } = incident;
  const wanted = JSON.stringify(selector);
  const stands = core.state.freezes
    .all()
    .some((one) => one.incident_id === id && JSON.stringify(one.selector) === wanted);
  return stands ? undefined : newFreeze(core, incident, containment, caller);
};

/** So often the fence tries to take the incident along. */
const maxTogether = 3;

const withFence = async (
  core: Core,
  before: Incident,
  containment: Containment,
  caller: Caller,
): Promise<Contained> => {
  let attempts = 0;
  let frozen: ReturnType<typeof freezeFor>;
  let together: Incident | undefined;
  const revocation = await revoke(
    core,
    {
      selector: before.selector,
      reason: containment.reason,
      suspend: containment.suspend,
      rotate: containment.rotate,
      incident: before.id,
      along: async (fence) => {
        attempts += 1;
        if (attempts > maxTogether) {
          together = undefined;
          // Whether the one that stands is being lifted at this moment is not guarded here: one more does no harm.
          frozen = containment.freeze ? newFreeze(core, before, containment, caller) : undefined;
          return { writes: frozen?.writes ?? [], audit: frozen?.audit ?? [] };
        }
        const current = attempts === 1 ? before : await incidentCalled(core, before.id);
        frozen = freezeFor(core, current, containment, caller);
        const done = { revocation: fence, freeze: frozen?.freeze, suspended: fence.suspended ?? [] };
        const { set, audit } = noted(core, current, containment, done, caller);
        const { row, write } = changed(core, current, set);
        together = row;
        return { writes: [...(frozen?.writes ?? []), write], audit: [...(frozen?.audit ?? []), ...audit] };
      },
    },
    caller,
  );
  const done = { revocation, freeze: frozen?.freeze, suspended: revocation.suspended ?? [] };
  const incident =
    together ?? (await changeIncident(core, before.id, (current) => noted(core, current, containment, done, caller)));
  return { ...done, incident };
};

const withoutFence = async (
  core: Core,
  id: string,
  containment: Containment,
  operator: Operator,
  caller: Caller,
): Promise<Contained> => {
  let done: Done = { suspended: [] };
  const incident = await changeIncident(core, id, (current) => {
    stepOf(current, 'contain');
    const frozen = freezeFor(core, current, containment, caller);
    const reached = containment.suspend ? reachedAgents(core, current.selector) : [];
    const suspended = reached.filter((agent) => agent.status === 'active');
    const suspensions = suspended.flatMap((agent): Change[] => {
      const patch = prepareAgentPatch(core, agent, { status: 'suspended' }, operator, caller);
      return patch ? [patch.change] : [];
    });
    done = { freeze: frozen?.freeze, suspended };
    const together = [...(frozen ? [frozen] : []), ...suspensions];
    const { set, audit } = noted(core, current, containment, done, caller);
    const [first, ...rest] = audit;
    return {
      set,
      guards: together.flatMap((change) => change.guards ?? []),
      writes: [
        ...together.flatMap((change) => change.writes),
        ...reached.filter((agent) => agent.status !== 'active').map(heldSuspended),
      ],
      audit: [first, ...rest, ...together.flatMap((change) => change.audit)],
    };
  });
  return { ...done, incident };
};
