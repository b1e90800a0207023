/**
 * What a receipt of a revocation says of each grant. A line is a pure function of rows that do not change once the
 * clean-up upstream has ended, so that the list of a final receipt is the same whenever it is made.
 */
import { canonicalJson } from './canonical-json.ts';
import type { FenceIndex } from './fences.ts';
import { grantFacts } from './liveness.ts';
import type { Grant, GrantStatus } from './model.ts';
import { endingIn, endsByIn } from './stored-handle.ts';

/**
 * What became of the credential where it is used.
 * - `none`: nothing came to exist there; Warder itself is asked at each use, and refuses since the fence
 * - `offline`: a JWT; dead wherever Warder is asked, and taken until `until` by whoever only checks its signature
 * - `revoked`: taken back there at `at` (null: before this was written down)
 * - `ends_by_itself`: cannot be taken back; nobody takes it after `until`
 * - `pending`: being taken back
 * - `unrevocable`: given up on at `at`; it may work there until a person takes it back
 */
export type UpstreamState =
  | { state: 'none' }
  | { state: 'offline'; until: string }
  | { state: 'revoked'; at: string | null }
  | { state: 'ends_by_itself'; until: string }
  | { state: 'pending' }
  | { state: 'unrevocable'; at: string | null; why: string | null; by_hand: string | null };

/** One grant. Ids stay what they are when an agent or a connection is deleted; their names stand beside the list. */
export interface Listed {
  id: string;
  agent: string;
  connection: string;
  provider: string;
  credential_type: string;
  scopes: string[];
  subject: string | null;
  issued_at: string;
  expires_at: string;
  /** When the fence killed it; null for one that had ended before and was left upstream. */
  fenced_at: string | null;
  /** How it had ended, where that was before the fence. */
  ended_before: 'returned' | 'expired' | 'revoked' | 'aborted' | null;
  upstream: UpstreamState;
}

/** How many there are; what ends by itself is counted by whether it has. */
export interface StateCounts {
  none: number;
  revoked: number;
  ended_by_itself: number;
  lives_on: number;
  pending: number;
  unrevocable: number;
}
export interface ListedCounts {
  /** Alive when the fence was put up. */
  killed: StateCounts;
  /** Ended before, by a return, the clock or an older fence, and still there upstream when the fence was put up. */
  left_over: StateCounts;
}

export const noCounts = (): ListedCounts => {
  const none = (): StateCounts => ({
    none: 0,
    revoked: 0,
    ended_by_itself: 0,
    lives_on: 0,
    pending: 0,
    unrevocable: 0,
  });
  return { killed: none(), left_over: none() };
};

export const addCounts = (to: ListedCounts, more: ListedCounts): void => {
  for (const part of ['killed', 'left_over'] as const) {
    for (const [state, count] of Object.entries(more[part])) to[part][state as keyof StateCounts] += count;
  }
};

export const totalOf = (counts: StateCounts): number => Object.values(counts).reduce((sum, one) => sum + one, 0);

/** @param now milliseconds since the epoch */
export const countListed = (counts: ListedCounts, { fenced_at, upstream }: Listed, now: number): void => {
  const part = counts[fenced_at === null ? 'left_over' : 'killed'];
  if (upstream.state === 'offline' || upstream.state === 'ends_by_itself') {
    part[Date.parse(upstream.until) > now ? 'lives_on' : 'ended_by_itself'] += 1;
  } else part[upstream.state] += 1;
};

const iso = (ms: number): string => new Date(ms).toISOString();

const upstreamState = (grant: Grant): UpstreamState => {
  if (grant.upstream === null) {
    return grant.credential_type === 'jwt' ? { state: 'offline', until: iso(grant.expires_at) } : { state: 'none' };
  }
  const { at, failure, byHand } = endingIn(grant.handle);
  const when = at === null ? null : iso(at);
  if (grant.upstream === 'unrevocable') return { state: 'unrevocable', at: when, why: failure, by_hand: byHand };
  const endsBy = endsByIn(grant.handle);
  // Said the same way before that moment and after it.
  if (endsBy !== undefined) return { state: 'ends_by_itself', until: iso(endsBy) };
  return grant.upstream === 'gone' ? { state: 'revoked', at: when } : { state: 'pending' };
};

/** The status it had when the drain came to it. */
const statusBefore = (grant: Grant): GrantStatus =>
  grant.status === 'unrevocable' ? (endingIn(grant.handle).before ?? 'revoked') : grant.status;

/**
 * @param grant of before the fence, one that its selector matches
 * @param older the fences that stood before this one
 * @returns undefined when it was over before the fence in every respect
 */
export const listed = (grant: Grant, fence: { at: number }, older: FenceIndex): Listed | undefined => {
  const status = statusBefore(grant);
  const fencedBefore = older.fencedBy(grant.seq, grantFacts(grant, undefined)) !== undefined;
  const running = status === 'active' || status === 'revoked';
  const killed = running && !fencedBefore && grant.expires_at > fence.at;
  if (!killed && !wasLeft(grant, fence.at)) return undefined;
  return {
    id: grant.id,
    agent: grant.agent_id,
    connection: grant.connection_id,
    provider: grant.provider,
    credential_type: grant.credential_type,
    scopes: grant.scopes,
    subject: grant.subject,
    issued_at: iso(grant.issued_at),
    expires_at: iso(grant.expires_at),
    fenced_at: killed ? iso(fence.at) : null,
    ended_before: killed ? null : endBefore(status, fencedBefore),
    upstream: upstreamState(grant),
  };
};

const endBefore = (status: GrantStatus, fencedBefore: boolean): NonNullable<Listed['ended_before']> => {
  if (status === 'returned') return 'returned';
  // Not delivered to anybody.
  if (status === 'intended' || status === 'aborted') return 'aborted';
  return fencedBefore || status === 'revoked' ? 'revoked' : 'expired';
};

/** Whether something of it was there upstream at `at`, or may have been. */
const wasLeft = (grant: Grant, at: number): boolean => {
  if (grant.upstream === null) return false;
  if (grant.upstream !== 'gone') return true;
  return Math.max(endingIn(grant.handle).at ?? 0, endsByIn(grant.handle) ?? 0) >= at;
};

/** A line of the list, as it is hashed. */
export const listedLine = (one: Listed): string => canonicalJson(one);
