/**
 * What is left to do when an incident is contained: a check list, made from what was exposed. Secrets to rotate, what the
 * upstream did not take back, accounts, rights that nobody used, people to tell. Making it again adds what is new.
 */
import type { Incident, IncidentItem, ItemKind } from '../../domain/incident.ts';
import { Refused } from '../../domain/refusals.ts';
import type { Write } from '../../ports/ledger.ts';
import type { Caller, Core } from '../core.ts';
import { InvalidInput } from '../invalid-input.ts';
import { prepareRotation, rotationProblem } from '../rotation/request-rotation.ts';
import { readActivity } from './activity.ts';
import { readHabits } from './first-time.ts';
import { changeIncident, incidentCalled, incidentRecord, stepOf } from './incidents.ts';
import { maxOfAKind, type PlannedItem, planItems } from './plan-items.ts';

const maxItems = 500;

/** What the log says an incident touched. */
export const exposureOf = async (core: Core, incident: Incident, signal?: AbortSignal) => {
  const { size } = await core.reader.treeHead();
  const habits = await readHabits(core, incident, signal);
  return { habits, activity: await readActivity(core, incident, habits, size, signal) };
};

/** Makes the check list, or adds to it what has become known since. */
export const remediateIncident = async (
  core: Core,
  id: string,
  caller: Caller,
  signal?: AbortSignal,
): Promise<{ incident: Incident; items: IncidentItem[]; added: number }> => {
  const found = await incidentCalled(core, id);
  stepOf(found, 'remediate');
  const { habits, activity } = await exposureOf(core, found, signal);
  const left = await core.reader.grantsLeftUpstream(found.measures.revocations, maxOfAKind + 1);
  const planned = planItems(core, found.selector, habits, activity, left);
  let added: IncidentItem[] = [];
  const incident = await changeIncident(core, id, async (current) => {
    const items = await core.reader.incidentItems(id);
    const known = new Set(items.map((item) => `${item.kind} ${item.about}`));
    const fresh = planned.filter((item) => !known.has(`${item.kind} ${item.about}`));
    added = rowsFor(core, current, items, fresh);
    return {
      set: { status: stepOf(current, 'remediate') },
      writes: added.map((row): Write => ({ write: 'insert', table: 'incident_items', row })),
      audit: [
        incidentRecord(core, current, caller, 'incident.remediating', {
          added: added.length,
          items: added.map(({ number, kind, about }) => ({ number, kind, about: about.slice(0, 100) })).slice(0, 200),
        }),
      ],
    };
  });
  return { incident, items: await core.reader.incidentItems(id), added: added.length };
};

const rowsFor = (core: Core, incident: Incident, items: IncidentItem[], fresh: PlannedItem[]): IncidentItem[] => {
  if (items.length + fresh.length > maxItems) throw new InvalidInput([`an incident has at most ${maxItems} items`]);
  const now = core.clock.now();
  const before = items.at(-1)?.number ?? 0;
  return fresh.map((item, i) => ({
    id: `${incident.id}:${before + i + 1}`,
    incident_id: incident.id,
    number: before + i + 1,
    ...item,
    assigned_to: null,
    status: 'open',
    note: null,
    closed_by: null,
    closed_at: null,
    version: 1,
    created_at: now,
    updated_at: now,
  }));
};

/** A line somebody adds by hand. */
export const addItem = async (
  core: Core,
  id: string,
  input: { text: string; kind?: ItemKind | undefined; assigned_to?: string | undefined },
  caller: Caller,
): Promise<IncidentItem> => {
  let made: IncidentItem | undefined;
  await changeIncident(core, id, async (incident) => {
    stepOf(incident, 'remediate');
    const items = await core.reader.incidentItems(id);
    const number = (items.at(-1)?.number ?? 0) + 1;
    const [row] = rowsFor(core, incident, items, [
      { kind: input.kind ?? 'other', about: `item:${number}`, text: input.text },
    ]);
    if (!row) throw new Error('one item makes one row');
    made = { ...row, assigned_to: input.assigned_to ?? null };
    return {
      set: {},
      writes: [{ write: 'insert', table: 'incident_items', row: made }],
      audit: [
        incidentRecord(core, incident, caller, 'incident.item_added', {
          item: number,
          kind: made.kind,
          text: made.text,
          assigned_to: made.assigned_to,
        }),
      ],
    };
  });
  if (!made) throw new Error('unreachable: the change was decided');
  return made;
};

const itemCalled = async (core: Core, id: string, number: number): Promise<IncidentItem> => {
  const item = (await core.reader.incidentItems(id)).find((one) => one.number === number);
  if (!item) throw new Refused('not_found', 'this incident has no such item');
  return item;
};

export interface ItemPatch {
  status?: IncidentItem['status'] | undefined;
  assigned_to?: string | null | undefined;
  note?: string | undefined;
}

/** Assigns an item, or says that it is done, or need not be. @throws InvalidInput when nobody says how or why */
export const updateItem = async (
  core: Core,
  id: string,
  number: number,
  patch: ItemPatch,
  caller: Caller,
): Promise<IncidentItem> => {
  if (patch.status !== undefined && patch.status !== 'open' && patch.note === undefined) {
    throw new InvalidInput([
      `note: ${patch.status === 'done' ? 'how it was done' : 'why it need not be done'} is needed`,
    ]);
  }
  return changeItem(core, id, number, caller, (item) => ({
    set: {
      ...(patch.assigned_to === undefined ? {} : { assigned_to: patch.assigned_to }),
      ...(patch.note === undefined ? {} : { note: patch.note }),
      ...(patch.status === undefined ? {} : closing(core, caller, patch.status)),
    },
    facts: {
      status: patch.status ?? item.status,
      assigned_to: patch.assigned_to ?? item.assigned_to,
      note: patch.note,
    },
  }));
};

const closing = (core: Core, { actor }: Caller, status: IncidentItem['status']): Partial<IncidentItem> =>
  status === 'open'
    ? { status, closed_by: null, closed_at: null }
    : { status, closed_by: actor.kind === 'anonymous' ? 'anonymous' : actor.name, closed_at: core.clock.now() };

/**
 * Starts the rotation an item asks for.
 * @throws Refused `conflict` when it is no such item, or this secret is not one that Warder can rotate
 */
export const rotateItem = async (core: Core, id: string, number: number, caller: Caller): Promise<IncidentItem> =>
  changeItem(core, id, number, caller, (item, incident) => {
    if (item.kind !== 'rotate') throw new Refused('conflict', 'this item is not about a secret to rotate');
    const [what, about = ''] = item.about.split(':');
    if (what !== 'connection') throw new Refused('conflict', 'this one is replaced by hand, as the item says');
    const connection = core.state.connections.get(about);
    if (!connection) throw new Refused('conflict', 'its connection was deleted: end the secret at the service itself');
    const problem = rotationProblem(core, connection);
    if (problem !== undefined) throw new Refused('conflict', problem);
    const { rotation, writes, audit } = prepareRotation(core, connection, {
      why: 'incident',
      reason: `incident ${incident.id}`,
      caller,
    });
    const { measures } = incident;
    return {
      set: { note: `rotation ${rotation.id} was asked for` },
      facts: { rotation: rotation.id },
      writes,
      audit,
      measures: {
        ...measures,
        rotations: [...measures.rotations, { connection: connection.name, rotation: rotation.id }],
      },
    };
  });

interface ItemChange {
  set: Partial<IncidentItem>;
  facts: Record<string, unknown>;
  writes?: Write[];
  audit?: ReturnType<typeof incidentRecord>[];
  measures?: Incident['measures'];
}

const changeItem = async (
  core: Core,
  id: string,
  number: number,
  caller: Caller,
  decide: (item: IncidentItem, incident: Incident) => ItemChange,
): Promise<IncidentItem> => {
  let changed: IncidentItem | undefined;
  await changeIncident(core, id, async (incident) => {
    stepOf(incident, 'remediate');
    const item = await itemCalled(core, id, number);
    const { set, facts, writes = [], audit = [], measures } = decide(item, incident);
    const next = { ...set, version: item.version + 1, updated_at: core.clock.now() };
    changed = { ...item, ...next };
    return {
      set: measures ? { measures } : {},
      writes: [
        { write: 'update', table: 'incident_items', id: item.id, set: next, from: { version: item.version } },
        ...writes,
      ],
      audit: [incidentRecord(core, incident, caller, 'incident.item_updated', { item: number, ...facts }), ...audit],
    };
  });
  if (!changed) throw new Error('unreachable: the change was decided');
  return changed;
};
