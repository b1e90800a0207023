/** A clean-up that was given up on is tried again, because somebody has mended what was in its way. */
import type { Grant, Revocation } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { endingIn, triedAgain } from '../../domain/stored-handle.ts';
import type { Write } from '../../ports/ledger.ts';
import { type Caller, type Core, commit, record } from '../core.ts';
import { revocationCalled } from './receipt.ts';

/** Grants in one changeset. */
const batch = 200;

/** Live upstream again, with the status it had: the drain takes it up, with all its tries. */
const retrying = (grant: Grant): Write => ({
  write: 'update',
  table: 'grants',
  id: grant.id,
  set: {
    status: endingIn(grant.handle).before ?? 'revoked',
    upstream: 'live',
    handle: triedAgain(grant.handle),
    version: grant.version + 1,
  },
  from: { upstream: 'unrevocable', version: grant.version },
});

/** Its clean-up has not ended then, and it has no final receipt until it has. */
const reopening = (revocation: Revocation | undefined): Write[] =>
  revocation && revocation.completed_at !== null
    ? [
        {
          write: 'update',
          table: 'revocations',
          id: revocation.id,
          set: { completed_at: null, version: revocation.version + 1 },
          from: { version: revocation.version },
        },
      ]
    : [];

const recordOf = (core: Core, grant: Grant, caller: Caller) =>
  record(core, caller, {
    type: 'grant.retried',
    agent: { id: grant.agent_id, name: core.state.agents.get(grant.agent_id)?.name ?? grant.agent_id },
    connection: {
      id: grant.connection_id,
      name: core.state.connections.get(grant.connection_id)?.name ?? grant.connection_id,
    },
    grant: grant.id,
    data: { revocation: grant.revocation_id ?? undefined },
  });

/**
 * Has one grant tried again.
 * @throws Refused `conflict` when there is nothing to try, `ledger_unavailable`
 */
export const retryGrant = async (core: Core, grant: Grant, caller: Caller): Promise<Grant> => {
  if (grant.upstream !== 'unrevocable') {
    throw new Refused('conflict', 'only what could not be revoked upstream can be tried again');
  }
  for (;;) {
    const revocation = grant.revocation_id === null ? undefined : await core.reader.revocation(grant.revocation_id);
    const { ok, ...result } = await commit(core, {
      writes: [retrying(grant), ...reopening(revocation)],
      audit: [recordOf(core, grant, caller)],
    });
    if (ok) return (await core.state.grants.get(grant.id)) ?? grant;
    // Its revocation was opened or closed at this moment: once more. The grant itself: somebody else was first.
    if (!('table' in result) || result.table !== 'revocations') {
      throw new Refused('conflict', 'this grant changed at this moment; look again');
    }
  }
};

/**
 * Has all grants tried again that a revocation killed and that could not be revoked upstream.
 * @returns how many
 * @throws Refused `not_found`, `ledger_unavailable`
 */
export const retryRevocation = async (core: Core, id: string, caller: Caller): Promise<number> => {
  for (let retried = 0; ; ) {
    const revocation = await revocationCalled(core, id);
    const grants = await core.reader.unrevocableGrants(id, batch);
    const { ok } = await commit(core, {
      writes: [...grants.map(retrying), ...(grants.length > 0 ? reopening(revocation) : [])],
      audit: [
        record(core, caller, { type: 'revocation.retried', data: { revocation: id, grants: grants.length } }),
        ...grants.map((grant) => recordOf(core, grant, caller)),
      ],
    });
    if (ok) retried += grants.length;
    // A changeset that met a change of somebody else's is made anew from what there is.
    if (ok && grants.length < batch) return retried;
  }
};
