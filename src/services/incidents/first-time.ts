/** Behaviour that was never seen before: what an agent does in the window, held against what it did in the past. */

import type { Incident } from '../../domain/incident.ts';
import type { FirstTime, FirstTimeKind, IncidentReport, Short } from '../../domain/incident-report.ts';
import { pathPattern, pathPrefix, Tally } from '../../domain/incident-tally.ts';
import type { Core } from '../core.ts';
import { entriesBackwards, entryMatcher, filterOf, type LogEntry, textOf, textsOf } from './log-pages.ts';

/** How far back habits are looked for, and how many entries at most. */
export const historyDays = 90;
const maxHistoryEntries = 200_000;
/** So many habits are remembered; agents have dozens. */
const maxHabits = 50_000;
/** So many new ones are told. */
const maxFirsts = 300;

/** Habits are told by the first two segments of a path: which part of a service somebody works in. */
const habitSegments = 2;

interface Trait {
  kind: FirstTimeKind;
  what: string;
}

/** What an entry shows of how an agent behaves. */
const traitsOf = (entry: LogEntry): Trait[] => {
  const traits: Trait[] = [];
  const { data, connection, actor } = entry;
  const add = (kind: FirstTimeKind, what: string): void => void traits.push({ kind, what });
  if (entry.type === 'grant.issued') {
    if (connection) add('connection', connection.name);
    for (const scope of textsOf(data, 'scopes')) add('scope', `${connection?.name ?? ''} ${scope}`);
  } else if (entry.type === 'gateway.call') {
    add('method', `${connection?.name ?? ''} ${textOf(data, 'method')}`);
    const prefix = pathPrefix(pathPattern(textOf(data, 'path')), habitSegments);
    add('path', `${connection?.name ?? ''} ${prefix}`);
  } else if (entry.type !== 'token.issued') {
    return traits;
  }
  add('hour', `${new Date(entry.at).toISOString().slice(11, 13)}:00 UTC`);
  if ('address' in actor && actor.address !== undefined) add('address', actor.address);
  return traits;
};

const keyOf = (entry: LogEntry, { kind, what }: Trait): string => `${entry.agent?.id ?? ''} ${kind} ${what}`;

/** How a scope that was obtained stands among the habits. */
export const scopeKey = (agentId: string, connection: string, scope: string): string =>
  `${agentId} scope ${connection} ${scope}`;

export interface Habits {
  seen: ReadonlySet<string>;
  read: IncidentReport['read']['history'];
}

/** What is known of the past of whom the incident is about: the 90 days before its window, the newest 200 000 entries. */
export const readHabits = async (core: Core, incident: Incident, signal?: AbortSignal): Promise<Habits> => {
  const { selector, window_from: to } = incident;
  const from = Math.max(0, to - historyDays * 86_400_000);
  const matches = entryMatcher(core, selector);
  const seen = new Set<string>();
  let entries = 0;
  let oldest = to;
  for await (const page of entriesBackwards(core, { ...filterOf(selector), from, to }, signal)) {
    for (const entry of page) {
      entries += 1;
      oldest = entry.at;
      if (!(await matches(entry))) continue;
      for (const trait of traitsOf(entry)) seen.add(keyOf(entry, trait));
    }
    if (entries >= maxHistoryEntries || seen.size >= maxHabits) {
      return { seen, read: { from: new Date(oldest).toISOString(), entries, whole: false } };
    }
  }
  return { seen, read: { from: new Date(from).toISOString(), entries, whole: true } };
};

/** Collects what is new. */
export class Firsts {
  readonly #habits: ReadonlySet<string>;
  readonly #found = new Tally<Omit<FirstTime, 'count' | 'first' | 'last'>>(maxFirsts);

  constructor({ seen }: Habits) {
    this.#habits = seen;
  }

  see(entry: LogEntry): void {
    for (const trait of traitsOf(entry)) {
      const key = keyOf(entry, trait);
      if (this.#habits.has(key)) continue;
      if (!this.#found.add(key, entry.at, () => ({ agent: entry.agent?.name ?? '', ...trait }))) this.#found.missed();
    }
  }

  /** In the order in which they were first seen: what somebody reads as a story. */
  short(): Short<FirstTime> {
    const { items, more } = this.#found.short();
    return { items: items.sort((a, b) => (a.first < b.first ? -1 : 1)), more };
  }
}
