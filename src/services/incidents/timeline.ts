/** The timeline of an incident: in order, what whom it is about did that matters, and what was done about it. */
import type { Incident } from '../../domain/incident.ts';
import type { Core } from '../core.ts';
import { incidentCalled } from './incidents.ts';
import { entriesBetween, entryMatcher, filterOf, type LogEntry, readEntry, textOf } from './log-pages.ts';

export interface TimelineEntry {
  seq: number;
  time: string;
  type: string;
  outcome: 'done' | 'refused';
  actor: LogEntry['actor'];
  agent: string | null;
  connection: string | null;
  grant: string | null;
  data: Record<string, unknown>;
}

/** Every call and its end are in the report, counted; here they would bury the rest. */
const everyday = new Set([
  'gateway.call',
  'gateway.completed',
  'grant.intended',
  'grant.journalled',
  'agent.authenticated',
  'agent.proved_possession',
  'maintenance.swept',
]);

/** Entries of these are of the incident when they name it, or a revocation or rotation of it. */
const linkedTypes = [
  'incident.opened',
  'incident.contained',
  'incident.noted',
  'incident.remediating',
  'incident.item_added',
  'incident.item_updated',
  'incident.recovered',
  'incident.closed',
  'freeze.created',
  'freeze.lifted',
  'revocation.created',
  'revocation.counted',
  'revocation.completed',
  'rotation.asked',
  'rotation.started',
  'rotation.finished',
  'rotation.failed',
  'rotation.stuck',
  'rotation.retired',
];

/** So many entries are looked at for a page; then it ends early, and the next one goes on from there. */
const maxScanned = 20_000;

export interface TimelinePage {
  items: TimelineEntry[];
  /** Where the next page begins; null when there is no more. */
  next: number | null;
}

/**
 * A page of the timeline, oldest first: from the beginning of the window until the incident is closed.
 * @param after the sequence number before the first entry of this page
 */
export const readTimeline = async (
  core: Core,
  id: string,
  after: number,
  limit: number,
  signal?: AbortSignal,
): Promise<TimelinePage> => {
  const incident = await incidentCalled(core, id);
  const { size } = await core.reader.treeHead();
  const acts = await actsAfter(core, incident, after, size, limit, signal);
  // What lies behind the end of a page of acts that was cut short belongs to a later page.
  const upTo = acts.scannedTo ?? size;
  const linked = await linkedBetween(core, incident, after, upTo, limit);
  const merged = new Map([...acts.entries, ...linked.entries].map((entry) => [entry.seq, entry]));
  const inOrder = [...merged.values()].sort((a, b) => a.seq - b.seq);
  const items = inOrder.slice(0, limit);
  const whole = inOrder.length <= limit && acts.scannedTo === undefined && !linked.more;
  const last = inOrder.length > limit || linked.more ? items.at(-1)?.seq : (acts.scannedTo ?? items.at(-1)?.seq);
  return { items: items.map(viewOf), next: whole ? null : (last ?? null) };
};

/** What whom the incident is about did, and what was done to it. */
const actsAfter = async (
  core: Core,
  incident: Incident,
  after: number,
  size: number,
  limit: number,
  signal: AbortSignal | undefined,
): Promise<{ entries: LogEntry[]; scannedTo: number | undefined }> => {
  const matches = entryMatcher(core, incident.selector);
  const filter = { ...filterOf(incident.selector), from: incident.window_from, to: incident.closed_at ?? undefined };
  const entries: LogEntry[] = [];
  let scanned = 0;
  for await (const page of entriesBetween(core, filter, size, signal, after + 1)) {
    for (const entry of page) {
      if (everyday.has(entry.type) || !(await matches(entry))) continue;
      entries.push(entry);
      if (entries.length > limit) return { entries, scannedTo: entry.seq };
    }
    scanned += page.length;
    const last = page.at(-1);
    if (scanned >= maxScanned && last) return { entries, scannedTo: last.seq };
  }
  return { entries, scannedTo: undefined };
};

/** So many linked entries are asked for at once; other incidents' are among them. */
const linkedPage = 500;

/** What was done about the incident, by its id or by those of its revocations and rotations. */
const linkedBetween = async (
  core: Core,
  incident: Incident,
  after: number,
  upTo: number,
  limit: number,
): Promise<{ entries: LogEntry[]; more: boolean }> => {
  const { measures } = incident;
  const rotations = await rotationsOf(core, incident);
  const belongs = ({ data }: LogEntry): boolean =>
    textOf(data, 'incident') === incident.id ||
    measures.revocations.includes(textOf(data, 'revocation')) ||
    measures.freezes.includes(textOf(data, 'freeze')) ||
    rotations.has(textOf(data, 'rotation'));
  const entries: LogEntry[] = [];
  for (let from = after + 1; from <= upTo; ) {
    const page = (await core.reader.auditOfTypes(linkedTypes, from, upTo + 1, linkedPage)).map(readEntry);
    const last = page.at(-1);
    entries.push(...page.filter(belongs));
    if (!last || page.length < linkedPage) break;
    if (entries.length > limit) return { entries, more: true };
    from = last.seq + 1;
  }
  return { entries, more: false };
};

const rotationsOf = async (core: Core, { measures }: Incident): Promise<Set<string>> => {
  const rows = await Promise.all(measures.revocations.map((id) => core.reader.revocation(id)));
  const asked = rows.flatMap((row) => row?.rotations ?? []);
  return new Set([
    ...measures.rotations.map((one) => one.rotation),
    ...asked.flatMap((one) => ('rotation' in one ? [one.rotation] : [])),
  ]);
};

const viewOf = (entry: LogEntry): TimelineEntry => ({
  seq: entry.seq,
  time: new Date(entry.at).toISOString(),
  type: entry.type,
  outcome: entry.outcome,
  actor: entry.actor,
  agent: entry.agent?.name ?? null,
  connection: entry.connection?.name ?? null,
  grant: entry.grant ?? null,
  data: entry.data,
});
