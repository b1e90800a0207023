/** Reading the audit log for an incident: page after page, so that no amount of it holds up anybody else. */
import type { Actor } from '../../domain/audit-entry.ts';
import { type FenceFacts, selectorMatches } from '../../domain/fences.ts';
import type { Grant, Selector } from '../../domain/model.ts';
import type { AuditFilter } from '../../ports/ledger.ts';
import type { Core } from '../core.ts';

/** An entry as this part of Warder reads it. What an entry does not say is not there. */
export interface LogEntry {
  seq: number;
  at: number;
  type: string;
  outcome: 'done' | 'refused';
  actor: Actor;
  agent?: { id: string; name: string };
  connection?: { id: string; name: string };
  grant?: string;
  data: Record<string, unknown>;
}

interface WrittenEntry extends Omit<LogEntry, 'seq' | 'at' | 'data'> {
  time: string;
  data?: Record<string, unknown>;
}

export const readEntry = ({ seq, body }: { seq: number; body: string }): LogEntry => {
  const { time, data, ...written }: WrittenEntry = JSON.parse(body);
  return { ...written, seq, at: Date.parse(time), data: data ?? {} };
};

/** A text of an entry's data; '' when it has none. */
export const textOf = (data: Record<string, unknown>, name: string): string => {
  const value = data[name];
  return typeof value === 'string' ? value : '';
};

export const numberOf = (data: Record<string, unknown>, name: string): number => {
  const value = data[name];
  return typeof value === 'number' ? value : 0;
};

export const textsOf = (data: Record<string, unknown>, name: string): string[] => {
  const value = data[name];
  return Array.isArray(value) ? value.filter((one) => typeof one === 'string') : [];
};

/** What the ledger itself can narrow a selector to. */
export const filterOf = ({ agent, connection }: Selector): Pick<AuditFilter, 'agent_id' | 'connection_id'> => ({
  agent_id: agent,
  connection_id: connection,
});

/** A page takes a few milliseconds of the event loop to read. */
const pageEntries = 500;

/** Entries in order, oldest first. The signal ends it between pages. */
export async function* entriesBetween(
  core: Core,
  filter: AuditFilter,
  upTo: number,
  signal?: AbortSignal,
  first = 0,
): AsyncGenerator<LogEntry[]> {
  for (let from = first; from < upTo; ) {
    signal?.throwIfAborted();
    const page = await core.reader.auditRange(filter, from, upTo, pageEntries);
    const last = page.at(-1);
    if (!last) return;
    yield page.map(readEntry);
    from = last.seq + 1;
  }
}

/** The same, newest first. */
export async function* entriesBackwards(
  core: Core,
  filter: AuditFilter,
  signal?: AbortSignal,
): AsyncGenerator<LogEntry[]> {
  for (let before: number | undefined; ; ) {
    signal?.throwIfAborted();
    const page = await core.reader.audit(filter, { before, limit: pageEntries });
    const last = page.at(-1);
    if (!last) return;
    yield page.map(readEntry);
    before = last.seq;
  }
}

/** So many grants' facts are kept while a log is read; calls of one grant stand close together. */
const keptGrants = 20_000;

/** Fields of a selector that entries of calls do not say, but their grants do. */
const asksTheGrant = ({ owner, subject, issuer, entitlement, provider }: Selector): boolean =>
  [owner, subject, issuer, entitlement, provider].some((field) => field !== undefined);

/** @returns whether an entry is about what the selector names, as a fence would see it */
export const entryMatcher = (core: Core, selector: Selector): ((entry: LogEntry) => Promise<boolean> | boolean) => {
  if (selector.everything) return () => true;
  const grants = new Map<string, Grant | undefined>();
  const grantOf = async (id: string): Promise<Grant | undefined> => {
    if (grants.has(id)) return grants.get(id);
    // Not through the state: it would forget what agents use now for what they used long ago.
    const grant = await core.reader.grant(id);
    if (grants.size >= keptGrants) grants.clear();
    grants.set(id, grant);
    return grant;
  };
  const matches = (entry: LogEntry, grant: Grant | undefined): boolean => {
    const { agent, connection, data } = entry;
    const owner = core.state.agents.get(agent?.id ?? '')?.owner;
    const facts: FenceFacts = {
      agent: agent?.id ?? '',
      connection: connection?.id ?? null,
      provider: grant?.provider ?? core.state.connections.get(connection?.id ?? '')?.provider ?? null,
      owners: [owner, grant?.owner].filter((one) => one !== undefined),
      subject: grant?.subject ?? (textOf(data, 'subject') || null),
      issuers: grant?.issuers ?? textsOf(data, 'issuers'),
      entitlement: grant?.entitlement_id ?? (textOf(data, 'entitlement') || null),
      grant: entry.grant ?? null,
    };
    return selectorMatches(selector, facts);
  };
  const needsGrant = asksTheGrant(selector);
  return (entry) => {
    if (!needsGrant || entry.grant === undefined) return matches(entry, undefined);
    const known = grants.get(entry.grant);
    return known ? matches(entry, known) : grantOf(entry.grant).then((grant) => matches(entry, grant));
  };
};
