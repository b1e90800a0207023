/** Deleting a connection: only when nothing is left that could be taken back through it. */
import type { Connection, Grant, Operator } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { endsByIn } from '../../domain/stored-handle.ts';
import { type Change, commitChanges } from '../change.ts';
import { type Caller, type Core, record } from '../core.ts';
import { accompanyingFence } from '../revocation/revoke.ts';
import { requireUnreferenced } from '../secrets/refer-secret.ts';
import { named } from './connection-parts.ts';

/**
 * @param besides ids of connections that are deleted with it
 * @throws Refused `conflict` while another connection's secret is read through it
 */
export const prepareConnectionDeletion = (
  core: Core,
  connection: Connection,
  operator: Operator,
  caller: Caller,
  besides: readonly string[] = [],
): Change => {
  requireUnreferenced(core, connection, besides);
  const fence = accompanyingFence(core, { connection: connection.id }, 'connection deleted', operator);
  return {
    // A grant may be issued between the look and the commit; without its connection nobody could clean it up.
    guards: [
      { guard: 'nothing_upstream', connection_id: connection.id },
      { guard: 'unreferenced', connection_id: connection.id, besides: [...besides] },
    ],
    writes: [
      ...fence.writes,
      { write: 'delete', table: 'connections', id: connection.id, from: { version: connection.version } },
    ],
    audit: [
      record(core, caller, {
        type: 'connection.deleted',
        ...named(connection),
        data: { revocation: fence.revocationId },
      }),
    ],
  };
};

const upstreamPage = 1000;

/** What a rotation made upstream is ended through the connection. @throws Refused `conflict` */
const requireNoRotation = (core: Core, connection: Connection): void => {
  const row = core.state.rotations
    .ofPolicy(connection.id)
    .find(({ status }) => status === 'running' || status === 'grace');
  if (!row) return;
  const when =
    row.status === 'grace' ? `its grace is over (${new Date(row.retire_at ?? 0).toISOString()})` : 'it has ended';
  throw new Refused(
    'conflict',
    `rotation ${row.id} of the secret of ${connection.name} is under way, and what it made would be left upstream; repeat when ${when}`,
  );
};

/**
 * While something made through this connection exists upstream, the connection is what it can be taken back with: also
 * when a revocation or the clock has killed it here already, and the drain has not come to it yet.
 * @throws Refused `conflict` then
 */
export const requireNothingUpstream = async (core: Core, connection: Connection): Promise<void> => {
  const accounts = core.state.authorizations.ofConnection(connection.id).length;
  if (accounts > 0) {
    throw new Refused(
      'conflict',
      `${accounts} accounts are connected through ${connection.name}, and their tokens would live on at the server; disconnect them (warder connection disconnect ${connection.name} --all), then repeat`,
    );
  }
  requireNoRotation(core, connection);
  const is = (grant: Grant): boolean => grant.connection_id === connection.id;
  let livesOnUntil = 0;
  let left = (await core.reader.intendedGrants(core.state.newestSeq, upstreamPage)).filter(is).length;
  for (let after = ''; left === 0; ) {
    const page = await core.reader.upstreamGrants(after, upstreamPage);
    const found = page.filter(is);
    left = found.length;
    const ends = found.map(({ handle }) => endsByIn(handle));
    if (ends.every((end) => end !== undefined)) livesOnUntil = Math.max(0, ...ends);
    const last = page.at(-1);
    if (!last || page.length < upstreamPage) break;
    after = last.id;
  }
  if (left === 0) return;
  if (livesOnUntil > 0) {
    const until = new Date(livesOnUntil).toISOString();
    throw new Refused(
      'conflict',
      `credentials of connection ${connection.name} cannot be taken back upstream and may live until ${until}; repeat then, or suspend it`,
    );
  }
  throw new Refused(
    'conflict',
    `grants of connection ${connection.name} still exist upstream; revoke them (warder revoke-all --connection ${connection.name} --wait), then repeat`,
  );
};

/** Deletes a connection. @throws Refused `conflict` while something of it exists upstream */
export const deleteConnection = async (
  core: Core,
  connection: Connection,
  operator: Operator,
  caller: Caller,
): Promise<void> => {
  await requireNothingUpstream(core, connection);
  await commitChanges(core, prepareConnectionDeletion(core, connection, operator, caller));
};
