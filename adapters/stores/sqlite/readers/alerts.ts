/** Questions of those who are told of what happens. */
import type Database from 'better-sqlite3';
import type { AlertReader, EntryToTell } from '../../../../src/ports/readers/alerts.ts';
import type { DirectReader } from '../reader.ts';

/**
 * @param rareTypes the condition of the index over types, as SQL: it answers only to a query that says the same
 * @param firstGrantId the least id of a grant that may be alive at this moment
 */
export const alertReader = (
  db: Database.Database,
  rareTypes: string,
  firstGrantId: (aliveAt: number) => string,
): Pick<DirectReader, keyof AlertReader> => {
  // One type at a time, each in the order of its index and no further than the page: a list of types would be sorted
  // whole, and behind an outage it is long.
  const numbers = db
    .prepare<[string, number, number], number>(
      `SELECT seq FROM audit WHERE type = ? AND ${rareTypes} AND seq >= ? ORDER BY seq LIMIT ?`,
    )
    .pluck();
  const entry = db.prepare<[number], EntryToTell>('SELECT seq, type, at, body FROM audit WHERE seq = ?');
  const agents = db
    .prepare<[string, string, number, string, number], string>(
      `SELECT DISTINCT agent_id FROM grants
        WHERE connection_id = ? AND id >= ? AND expires_at > ? AND agent_id > ? ORDER BY agent_id LIMIT ?`,
    )
    .pluck();

  return {
    entriesToTell: db.transaction((types: readonly string[], from: number, limit: number): EntryToTell[] =>
      types
        .flatMap((type) => numbers.all(type, from, limit))
        .sort((a, b) => a - b)
        .slice(0, limit)
        .flatMap((seq) => entry.get(seq) ?? []),
    ),
    agentsWithGrants: (connectionId, aliveAt, after, limit) =>
      agents.all(connectionId, firstGrantId(aliveAt), aliveAt, after, limit),
  };
};
