/**
 * Instead of one secret: the refresh token of every account connected through a connection is redeemed. That rotates it
 * where the server rotates them, and keeps it from lapsing unused. Redeemed one after another, each durable before the
 * next; after a crash those that were not redeemed since the rotation began are.
 */
import type { Authorization } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import type { Rotation } from '../../domain/rotation.ts';
import { AuthorizationDead } from '../../ports/provider.ts';
import { authorizationServerOf, serverContext } from '../accounts/authorizations.ts';
import { endFailed } from './end.ts';
import { type Hand, Interrupted, type Next, put } from './hand.ts';
import { LeaseLost } from './lease.ts';
import { leaseMarginMs } from './pace.ts';
import { rotatedWrite } from './rotation-rows.ts';

interface Counts {
  accounts: number;
  refreshed: number;
  /** Somebody has to consent again. */
  needs_reconnect: number;
  failed: number;
}

export const refreshAccounts = async (hand: Hand, row: Rotation): Promise<Next> => {
  const { core, lease, pace, stop } = hand;
  const connection = core.state.connections.get(row.connection_id ?? '');
  if (!connection) return endFailed(hand, row, { failure: 'the connection was deleted', again: false });
  const since = row.started_at ?? row.created_at;
  for (const account of core.state.authorizations.ofConnection(connection.id)) {
    if (account.status !== 'connected' || (account.last_refreshed_at ?? 0) > since) continue;
    if (stop.aborted) throw new Interrupted('the engine stops');
    if (!(await lease.have(pace.callMs + leaseMarginMs))) throw new LeaseLost();
    await refresh(hand, account, since);
  }
  const counts = countOf(core.state.authorizations.ofConnection(connection.id), since);
  if (counts.failed > 0) {
    const failure = `${counts.failed} of ${counts.accounts} accounts could not be refreshed`;
    return endFailed(hand, row, { failure });
  }
  const now = core.clock.now();
  const policy = core.state.rotationPolicies.get(row.policy_id);
  await put(
    hand,
    row,
    { status: 'done', step: 'finish', handle: { ...counts }, finished_at: now, ended_at: now, failure: null },
    {
      type: 'rotation.finished',
      writes: policy ? rotatedWrite(policy, now) : [],
      data: { ...counts, why: row.cause },
    },
  );
  return 'waits';
};

const countOf = (accounts: readonly Authorization[], since: number): Counts => {
  const connected = accounts.filter(({ status }) => status === 'connected');
  const refreshed = connected.filter((one) => (one.last_refreshed_at ?? 0) > since).length;
  return {
    accounts: accounts.length,
    refreshed,
    needs_reconnect: accounts.filter(({ status }) => status === 'needs_reconnect').length,
    failed: connected.length - refreshed,
  };
};

/** What fails is recorded with the account, and counted from there. */
const refresh = async ({ core }: Hand, account: Authorization, since: number): Promise<void> => {
  const connection = core.state.connections.get(account.connection_id);
  if (!connection) return;
  const server = authorizationServerOf(core, connection);
  try {
    await core.authorizations.redeem(core, account.connection_id, account.subject, {
      needed: (row) => (row.last_refreshed_at ?? 0) <= since,
      work: async (held, signal) => {
        const tokens = await server.refresh(connection, held, serverContext(core, connection, signal));
        return { tokens, result: undefined };
      },
    });
  } catch (error) {
    if (error instanceof Refused && error.refusal.code !== 'needs_connection') throw error;
    if (error instanceof AuthorizationDead) return;
    core.log.warn({ err: error, authorization: account.id }, 'an account could not be refreshed by its rotation');
  }
};
