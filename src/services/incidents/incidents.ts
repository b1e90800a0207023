/** Incidents as objects: opening one, noting something, closing it; and how every other step changes it. */
import type { AuditRecord } from '../../domain/audit-entry.ts';
import {
  type Incident,
  type IncidentSeverity,
  type IncidentStep,
  noMeasures,
  statusAfter,
} from '../../domain/incident.ts';
import type { Selector } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import type { Guard, Write } from '../../ports/ledger.ts';
import { commitChanges } from '../change.ts';
import { type Caller, type Core, commit, newId, record } from '../core.ts';
import { InvalidInput } from '../invalid-input.ts';

export interface IncidentInput {
  title: string;
  severity: IncidentSeverity;
  selector: Selector;
  /** Milliseconds since the epoch; `to` undefined while it goes on. */
  from: number;
  to?: number | undefined;
  reason: string;
  drill: boolean;
}

const whoIs = ({ actor }: Caller): string => (actor.kind === 'anonymous' ? 'anonymous' : actor.name);

/** Whom and what a selector names: what records of the incident are found by. */
const named = ({ state }: Core, { agent, connection }: Selector) => {
  const rows = { agent: state.agents.get(agent ?? ''), connection: state.connections.get(connection ?? '') };
  return {
    agent: rows.agent && { id: rows.agent.id, name: rows.agent.name },
    connection: rows.connection && { id: rows.connection.id, name: rows.connection.name },
  };
};

const namesIn = ({ state }: Core, { agent, connection, issuer }: Selector): Incident['names'] => {
  const rows = {
    agent: state.agents.get(agent ?? ''),
    connection: state.connections.get(connection ?? ''),
    issuer: state.trustedIssuers.get(issuer ?? ''),
  };
  return Object.fromEntries(Object.entries(rows).flatMap(([field, row]) => (row ? [[field, row.name]] : [])));
};

/** A record of something done in an incident. */
export const incidentRecord = (
  core: Core,
  incident: Pick<Incident, 'id' | 'selector' | 'drill'>,
  caller: Caller,
  type: string,
  data: Record<string, unknown>,
): AuditRecord =>
  record(core, caller, {
    type,
    ...named(core, incident.selector),
    data: { incident: incident.id, ...(incident.drill ? { drill: true } : {}), ...data },
  });

export const openIncident = async (core: Core, input: IncidentInput, caller: Caller): Promise<Incident> => {
  const now = core.clock.now();
  if (input.from > now) throw new InvalidInput(['window.from: is in the future']);
  if (input.to !== undefined && input.to <= input.from)
    throw new InvalidInput(['window.to: is not after its beginning']);
  const incident: Incident = {
    id: newId(core, 'inc'),
    title: input.title,
    severity: input.severity,
    status: 'open',
    drill: input.drill,
    selector: input.selector,
    names: namesIn(core, input.selector),
    window_from: input.from,
    window_to: input.to ?? null,
    reason: input.reason,
    opened_by: whoIs(caller),
    measures: { ...noMeasures },
    changes: [],
    contained_at: null,
    recovered_at: null,
    closed_at: null,
    version: 1,
    created_at: now,
    updated_at: now,
  };
  await commitChanges(core, {
    writes: [{ write: 'insert', table: 'incidents', row: incident }],
    audit: [
      incidentRecord(core, incident, caller, 'incident.opened', {
        title: incident.title,
        severity: incident.severity,
        selector: incident.selector,
        from: new Date(incident.window_from).toISOString(),
        to: incident.window_to === null ? null : new Date(incident.window_to).toISOString(),
        reason: incident.reason,
      }),
    ],
  });
  return incident;
};

/** @throws Refused `not_found` */
export const incidentCalled = async (core: Core, id: string): Promise<Incident> => {
  const incident = await core.reader.incident(id);
  if (!incident) throw new Refused('not_found', 'there is no such incident');
  return incident;
};

/** What a step changes, decided on the row as it is. */
export interface IncidentChange {
  set: Partial<Incident>;
  guards?: Guard[];
  writes?: Write[];
  audit: [AuditRecord, ...AuditRecord[]];
}

/** The write that changes an incident if nobody else did meanwhile, and what it is then. */
export const changed = (core: Core, incident: Incident, set: Partial<Incident>): { row: Incident; write: Write } => {
  const next = { ...set, version: incident.version + 1, updated_at: core.clock.now() };
  const { id, version } = incident;
  return {
    row: { ...incident, ...next },
    write: { write: 'update', table: 'incidents', id, set: next, from: { version } },
  };
};

/** How often a step is decided anew because somebody else took one at the same moment. */
const maxAttempts = 200;

/**
 * Takes a step in an incident by compare-and-swap of its row; two that are taken at once are taken one after the other.
 * @param decide called with the newest row, again after each collision
 * @throws Refused `not_found`, `conflict`, and what `decide` throws
 */
export const changeIncident = async (
  core: Core,
  id: string,
  decide: (incident: Incident) => IncidentChange | Promise<IncidentChange>,
): Promise<Incident> => {
  for (let attempt = 1; attempt <= maxAttempts; attempt += 1) {
    const incident = await incidentCalled(core, id);
    const { set, guards, writes, audit } = await decide(incident);
    const { row, write } = changed(core, incident, set);
    const result = await commit(core, { guards: guards ?? [], writes: [write, ...(writes ?? [])], audit });
    if (result.ok) return row;
  }
  throw new Refused('conflict', 'this incident is changed all the time; look again and repeat');
};

/** @throws Refused `conflict` when this step cannot be taken now */
export const stepOf = (incident: Incident, step: IncidentStep): Incident['status'] => {
  const next = statusAfter(step, incident.status);
  if (!next.ok) throw new Refused('conflict', next.why);
  return next.status;
};

/** A note for the timeline. Closed incidents take notes, too: what is learnt later belongs there. */
export const noteIncident = async (core: Core, id: string, text: string, caller: Caller): Promise<Incident> => {
  const incident = await incidentCalled(core, id);
  await commitChanges(core, {
    writes: [],
    audit: [incidentRecord(core, incident, caller, 'incident.noted', { note: text })],
  });
  return incident;
};

/**
 * @throws Refused `conflict` while a freeze of it stands or an item of its check list is open: lift or recover, and do
 * or waive each
 */
export const closeIncident = (core: Core, id: string, summary: string, caller: Caller): Promise<Incident> =>
  changeIncident(core, id, async (incident) => {
    const status = stepOf(incident, 'close');
    const items = await core.reader.incidentItems(id);
    const open = items.filter((item) => item.status === 'open');
    if (open.length > 0) {
      const numbers = open.map((item) => item.number);
      throw new Refused(
        'conflict',
        `${open.length} of its items are open (${shortList(numbers)}): do each, or waive it with a reason`,
      );
    }
    const [freeze] = core.state.freezes.all().filter((one) => one.incident_id === id);
    if (freeze) throw new Refused('conflict', `freeze ${freeze.id} stands: recover the incident, which lifts it`);
    return {
      set: { status, closed_at: core.clock.now() },
      // Items and freezes come with a new version of the incident, so that none can have been added meanwhile.
      audit: [
        incidentRecord(core, incident, caller, 'incident.closed', {
          summary,
          open_seconds: Math.round((core.clock.now() - incident.created_at) / 1000),
        }),
      ],
    };
  });

const shortList = (numbers: number[]): string =>
  numbers.length > 10 ? `${numbers.slice(0, 10).join(', ')} and ${numbers.length - 10} more` : numbers.join(', ');
