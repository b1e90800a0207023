/** A prepared change: what to write and what to record. Several can be joined into one changeset. */
import type { AuditRecord } from '../domain/audit-entry.ts';
import { canonicalJson } from '../domain/canonical-json.ts';
import { Refused } from '../domain/refusals.ts';
import type { Changeset, Guard, TableName, Write } from '../ports/ledger.ts';
import { type Core, commit } from './core.ts';

export interface Change {
  guards?: Guard[];
  writes: Write[];
  audit: AuditRecord[];
}

/** Where a row that exists already means that somebody made one at this moment, not that a name is taken. */
const nameless: ReadonlySet<TableName> = new Set(['secrets', 'rotation_policies']);

/**
 * Commits changes together, all or none.
 * @throws Refused `conflict` when a name is taken or a row changed meanwhile, or `ledger_unavailable`
 */
export const commitChanges = async (core: Core, ...changes: Change[]): Promise<number> => {
  const [first, ...rest] = changes.flatMap((change) => change.audit);
  if (!first) throw new Error('a change records nothing');
  const changeset: Changeset = {
    guards: changes.flatMap((change) => change.guards ?? []),
    writes: changes.flatMap((change) => change.writes),
    audit: [first, ...rest],
  };
  const result = await commit(core, changeset);
  if (result.ok) return result.seq;
  if (result.why === 'exists' && !nameless.has(result.table)) throw new Refused('conflict', 'this name is taken');
  throw new Refused('conflict', 'this was changed or deleted at this moment; look again and repeat');
};

/** The fields of `set` that differ from `row`, by value: in whatever order settings were written down. */
export const differing = <T extends object>(row: T, set: Partial<T>): string[] =>
  Object.entries(set)
    .filter(([field, value]) => canonicalJson(value) !== canonicalJson(row[field as keyof T]))
    .map(([field]) => field);
