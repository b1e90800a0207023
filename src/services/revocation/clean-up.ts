/** How a clean-up upstream ended, written down: for each grant, and for the revocation when nothing of it is left. */
import { grantFacts } from '../../domain/liveness.ts';
import type { Grant, Revocation } from '../../domain/model.ts';
import { endsByIn, providersHandle, whenGone, whenUnrevocable, withEnd } from '../../domain/stored-handle.ts';
import type { Changeset, Committed } from '../../ports/ledger.ts';
import { record } from '../core.ts';
import type { CoreWithSecrets } from '../issuing/provider-context.ts';
import { countKilled, systemCaller } from './revoke.ts';
import { byHandFor, grantNames } from './undo-intended.ts';

/** Gone, failed to the last try, or not to be had before a time (ms since the epoch). */
export type End = { failure?: string } | { endsBy: number };

type Commit = (changeset: Changeset) => Promise<Committed>;

const drainer = systemCaller('drain');

/**
 * Writes down how a grant ended upstream.
 * @param killerOf the revocation that ended it while it lived, as of now
 * @throws Refused `ledger_unavailable`
 */
export const recordEnd = async (
  core: CoreWithSecrets,
  commit: Commit,
  found: Grant,
  end: End,
  killerOf: (grant: Grant) => Revocation | undefined,
): Promise<void> => {
  for (;;) {
    // As it is now: it may have been returned meanwhile.
    const grant = (await core.state.grants.get(found.id)) ?? found;
    if (grant.upstream !== 'live') return;
    const killer = killerOf(grant);
    if ('endsBy' in end) {
      if (endsByIn(grant.handle) !== undefined) return;
      if ((await commit(livesOn(core, grant, killer, end.endsBy))).ok) return;
    } else if ((await commit(cleanedUp(core, grant, killer, end.failure))).ok) return;
  }
};

const cleanedUp = (
  core: CoreWithSecrets,
  grant: Grant,
  killer: Revocation | undefined,
  failure: string | undefined,
): Changeset => {
  const at = core.clock.now();
  const facts = grantFacts(grant, core.state.agents.get(grant.agent_id));
  // One whose time is over and that no open revocation ended had expired before it was fenced.
  const lives = grant.expires_at > at;
  const fenced = killer !== undefined || (lives && core.state.fences.fencedBy(grant.seq, facts) !== undefined);
  const ended = grant.status === 'active' ? (fenced ? 'revoked' : 'expired') : grant.status;
  const status = failure === undefined ? ended : 'unrevocable';
  const byHand = byHandFor(core, grant);
  // One that was tried again has its revocation already.
  const revocation = killer?.id ?? grant.revocation_id;
  return {
    writes: [
      {
        write: 'update',
        table: 'grants',
        id: grant.id,
        set: {
          status,
          upstream: failure === undefined ? 'gone' : 'unrevocable',
          handle:
            failure === undefined
              ? whenGone(grant.handle, at)
              : whenUnrevocable(grant.handle, { at, failure, byHand, before: ended }),
          revocation_id: revocation,
          version: grant.version + 1,
        },
        from: { upstream: 'live', version: grant.version },
      },
    ],
    audit: [
      record(core, drainer, {
        type: failure === undefined ? 'grant.cleaned_up' : 'grant.unrevocable',
        ...grantNames(core, grant),
        data: {
          status,
          revocation: revocation ?? undefined,
          ...(endsByIn(grant.handle) === undefined ? {} : { ended_by_itself: true }),
          ...(failure === undefined ? {} : { failure, by_hand: byHand, handle: providersHandle(grant.handle) }),
        },
      }),
    ],
  };
};

/** Said once; the grant's status is what it was. */
const livesOn = (core: CoreWithSecrets, grant: Grant, killer: Revocation | undefined, endsBy: number): Changeset => {
  const revocation = killer?.id ?? grant.revocation_id;
  return {
    writes: [
      {
        write: 'update',
        table: 'grants',
        id: grant.id,
        set: { handle: withEnd(grant.handle, endsBy), revocation_id: revocation, version: grant.version + 1 },
        from: { upstream: 'live', version: grant.version },
      },
    ],
    audit: [
      record(core, drainer, {
        type: 'grant.lives_on',
        ...grantNames(core, grant),
        data: { ends_by: new Date(endsBy).toISOString(), revocation: revocation ?? undefined },
      }),
    ],
  };
};

/**
 * A revocation is complete when nothing it killed is left upstream.
 * @returns false when its row changed meanwhile
 * @throws Refused `ledger_unavailable`
 */
export const closeRevocation = async (core: CoreWithSecrets, commit: Commit, id: string): Promise<boolean> => {
  const revocation = await core.reader.revocation(id);
  if (!revocation || revocation.completed_at !== null) return true;
  const killed = await countKilled(core, revocation);
  const { ok } = await commit({
    writes: [
      {
        write: 'update',
        table: 'revocations',
        id: revocation.id,
        set: {
          ...killed,
          grants: revocation.grants ?? killed.grants,
          upstream_pending: 0,
          completed_at: core.clock.now(),
          version: revocation.version + 1,
        },
        from: { completed_at: null, version: revocation.version },
      },
    ],
    audit: [
      record(core, drainer, {
        type: 'revocation.completed',
        data: {
          revocation: revocation.id,
          revoked: killed.upstream_revoked,
          unrevocable: killed.upstream_unrevocable,
        },
      }),
    ],
  });
  return ok;
};
