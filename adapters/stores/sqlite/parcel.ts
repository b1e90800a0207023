/**
 * A batch on its way to the writing thread. Small objects as one JSON text, which costs less than cloning them one
 * by one; the bodies of audit entries beside it as they are, for they are JSON already and would only be
 * escaped and unescaped.
 */
import type { Changeset } from '../../../src/ports/ledger.ts';

export interface Parcel {
  changesets: string;
  /** In the order of the entries. */
  bodies: string[];
}

/** @throws TypeError for what JSON cannot say (a cycle, a bigint) */
export const pack = (batch: readonly Changeset[]): Parcel => {
  const bodies: string[] = [];
  const changesets = batch.map(({ guards, writes, audit }) => ({
    guards,
    writes,
    audit: audit.map((entry) => {
      bodies.push(entry.body);
      return [entry.type, entry.at, entry.agent_id, entry.connection_id, entry.grant_id];
    }),
  }));
  return { changesets: JSON.stringify(changesets), bodies };
};

type PackedEntry = [string, number, string | null, string | null, string | null];
type Packed = Pick<Changeset, 'guards' | 'writes'> & { audit: [PackedEntry, ...PackedEntry[]] };

/** The reverse of {@link pack}. @throws Error when there are fewer bodies than entries */
export const unpack = ({ changesets, bodies }: Parcel): Changeset[] => {
  let next = 0;
  const entryOf = ([type, at, agent_id, connection_id, grant_id]: PackedEntry): Changeset['audit'][number] => {
    const body = bodies[next++];
    if (body === undefined) throw new Error('a batch came with fewer bodies than entries');
    return { type, at, agent_id, connection_id, grant_id, body };
  };
  const packed: Packed[] = JSON.parse(changesets);
  return packed.map(({ guards, writes, audit: [first, ...rest] }) => ({
    ...(guards ? { guards } : {}),
    writes,
    audit: [entryOf(first), ...rest.map(entryOf)],
  }));
};
