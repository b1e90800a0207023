/** What happened in the window of an incident, counted from the audit log in one pass and in bounded memory. */

import type { Incident } from '../../domain/incident.ts';
import type {
  IncidentReport,
  Obtained,
  PathTouched,
  RefusedAttempts,
  Span,
  SystemTouched,
} from '../../domain/incident-report.ts';
import { pathPattern, pathPrefix, Tally } from '../../domain/incident-tally.ts';
import type { Core } from '../core.ts';
import { Firsts, type Habits, scopeKey } from './first-time.ts';
import { entriesBetween, entryMatcher, filterOf, type LogEntry, numberOf, textOf, textsOf } from './log-pages.ts';

/** A report reads so many entries of the window; it says when there were more. */
const maxWindowEntries = 1_000_000;
/** Kinds that are counted apart, of each list. */
const maxKinds = 500;
/**
 * Paths: the first 200 as they are, then by their first three segments, then by their first one: an agent that tries path
 * after path must not push out of the list what it does later.
 */
const pathRooms = [
  { segments: Infinity, max: 200 },
  { segments: 3, max: 260 },
  { segments: 1, max: 300 },
];
const maxScopesListed = 50;

type Counted<T extends Span> = Omit<T, keyof Span>;

/** What a report says of the window. */
export type Activity = Pick<IncidentReport, 'obtained' | 'did' | 'refused' | 'people' | 'first_time'> & {
  entries: number;
  matched: number;
  cutAt: number | null;
  /** Connections that grants of the window were for, by id: what may have been exposed. */
  reached: Map<string, ReachedConnection>;
  /** Every scope that was obtained ({@link scopeKey}). */
  used: ReadonlySet<string>;
};

export interface ReachedConnection {
  id: string;
  name: string;
  /** Whether credentials of the system itself were handed out, not only calls through the gateway. */
  upstream: boolean;
  grants: number;
  agents: Set<string>;
}

class Pass {
  readonly #firsts: Firsts;
  readonly #obtained = new Tally<Counted<Obtained>>(maxKinds);
  readonly #systems = new Tally<Counted<SystemTouched>>(maxKinds);
  readonly #paths = new Tally<Counted<PathTouched>>(maxKinds);
  readonly #refused = new Tally<Counted<RefusedAttempts>>(maxKinds);
  readonly #people = new Tally<{ subject: string }>(maxKinds);
  readonly reached = new Map<string, ReachedConnection>();
  readonly #used = new Set<string>();
  readonly #counts = { grants: 0, renewals: 0, tokens: 0, calls: 0, refused: 0, sent: 0, received: 0 };

  constructor(habits: Habits) {
    this.#firsts = new Firsts(habits);
  }

  see(entry: LogEntry): void {
    this.#firsts.see(entry);
    if (entry.outcome === 'refused' || entry.type === 'agent.authentication_failed') this.#refusal(entry);
    else if (entry.type === 'grant.issued') this.#grant(entry);
    else if (entry.type === 'gateway.call') this.#call(entry);
    else if (entry.type === 'gateway.completed') this.#completed(entry);
    else if (entry.type === 'grant.renewed') this.#counts.renewals += 1;
    else if (entry.type === 'token.issued') this.#token(entry);
  }

  #grant({ agent, connection, data, at }: LogEntry): void {
    this.#counts.grants += 1;
    const names = { agent: agent?.name ?? '', connection: connection?.name ?? '' };
    const enforcement = textOf(data, 'enforcement');
    const key = JSON.stringify([agent?.id, connection?.id, enforcement, data['credential_type']]);
    const kind = this.#obtained.add(key, at, () => ({
      ...names,
      provider: textOf(data, 'provider'),
      enforcement,
      credential_type: textOf(data, 'credential_type'),
      scopes: [],
    }));
    if (!kind) this.#obtained.missed();
    for (const scope of textsOf(data, 'scopes')) {
      if (kind && !kind.scopes.includes(scope) && kind.scopes.length < maxScopesListed) kind.scopes.push(scope);
      this.#used.add(scopeKey(agent?.id ?? '', names.connection, scope));
    }
    this.#subject(data, at);
    if (connection) this.#reach(connection, names.agent, enforcement !== 'gateway');
  }

  #reach({ id, name }: { id: string; name: string }, agent: string, upstream: boolean): void {
    const known = this.reached.get(id) ?? { id, name, upstream: false, grants: 0, agents: new Set<string>() };
    known.upstream ||= upstream;
    known.grants += 1;
    if (known.agents.size < maxKinds) known.agents.add(agent);
    this.reached.set(id, known);
  }

  #token({ data, at }: LogEntry): void {
    this.#counts.tokens += 1;
    this.#subject(data, at);
  }

  #subject(data: Record<string, unknown>, at: number): void {
    const subject = textOf(data, 'subject');
    if (subject !== '' && !this.#people.add(subject, at, () => ({ subject }))) this.#people.missed();
  }

  #system({ agent, connection, at }: LogEntry, counts: boolean): Counted<SystemTouched> | undefined {
    const key = JSON.stringify([agent?.id, connection?.id]);
    if (!counts) return this.#systems.get(key);
    return this.#systems.add(key, at, () => ({
      agent: agent?.name ?? '',
      connection: connection?.name ?? '',
      methods: {},
      statuses: {},
      bytes_sent: 0,
      bytes_received: 0,
    }));
  }

  #call(entry: LogEntry): void {
    this.#counts.calls += 1;
    const method = textOf(entry.data, 'method');
    const system = this.#system(entry, true);
    if (system) system.methods[method] = (system.methods[method] ?? 0) + 1;
    else this.#systems.missed();
    const connection = entry.connection?.name ?? '';
    const pattern = pathPattern(textOf(entry.data, 'path'));
    for (const { segments, max } of pathRooms) {
      const path = pathPrefix(pattern, segments);
      const key = JSON.stringify([entry.connection?.id, method, path]);
      if (this.#paths.add(key, entry.at, () => ({ connection, method, path }), max)) return;
    }
    this.#paths.missed();
  }

  #completed(entry: LogEntry): void {
    const sent = numberOf(entry.data, 'bytes_in');
    const received = numberOf(entry.data, 'bytes_out');
    this.#counts.sent += sent;
    this.#counts.received += received;
    const system = this.#system(entry, false);
    if (!system) return;
    const status = numberOf(entry.data, 'status');
    const kind = status === 0 ? 'none' : `${Math.floor(status / 100)}xx`;
    system.statuses[kind] = (system.statuses[kind] ?? 0) + 1;
    system.bytes_sent += sent;
    system.bytes_received += received;
  }

  #refusal({ type, agent, connection, data, at }: LogEntry): void {
    this.#counts.refused += 1;
    const code = textOf(data, 'code') || textOf(data, 'why');
    const asked = connection?.name ?? textOf(data, 'asked');
    const made = this.#refused.add(JSON.stringify([type, agent?.id, asked, code]), at, () => ({
      agent: agent?.name ?? '',
      connection: asked,
      type,
      code,
    }));
    if (!made) this.#refused.missed();
  }

  result(): Omit<Activity, 'entries' | 'matched' | 'cutAt'> {
    const { grants, renewals, tokens, calls, refused, sent, received } = this.#counts;
    return {
      obtained: { grants, renewals, agent_tokens: tokens, by_connection: this.#obtained.short() },
      did: {
        calls,
        bytes_sent: sent,
        bytes_received: received,
        systems: this.#systems.short(),
        paths: this.#paths.short(),
      },
      refused: { count: refused, attempts: this.#refused.short() },
      people: this.#people.short(),
      first_time: this.#firsts.short(),
      reached: this.reached,
      used: this.#used,
    };
  }
}

/** @param upTo how many entries the log had when this began; what comes later is not in it */
export const readActivity = async (
  core: Core,
  incident: Incident,
  habits: Habits,
  upTo: number,
  signal?: AbortSignal,
): Promise<Activity> => {
  const { selector, window_from: from, window_to, closed_at } = incident;
  const to = window_to ?? closed_at ?? undefined;
  const matches = entryMatcher(core, selector);
  const pass = new Pass(habits);
  const read = { entries: 0, matched: 0 };
  for await (const page of entriesBetween(core, { ...filterOf(selector), from, to }, upTo, signal)) {
    for (const entry of page) {
      read.entries += 1;
      const found = matches(entry);
      if (!(typeof found === 'boolean' ? found : await found)) continue;
      read.matched += 1;
      pass.see(entry);
    }
    if (read.entries >= maxWindowEntries) return { ...pass.result(), ...read, cutAt: page.at(-1)?.at ?? null };
  }
  return { ...pass.result(), ...read, cutAt: null };
};
