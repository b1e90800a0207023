/** What a revocation remembers beside its fence. Spelled as model.ts says. */
import type { Revocation } from './model.ts';

/** A connection whose secret was to be replaced: the rotation that was asked for, or why a person has to do it. */
export type RotationAfter = { connection: { id: string; name: string } } & ({ rotation: string } | { by_hand: string });

/** What a revocation is before anything has followed from it. */
export const nothingFollowed: Omit<
  Revocation,
  'id' | 'seq' | 'selector' | 'reason' | 'requested_by' | 'suspend' | 'rotate' | 'created_at'
> = {
  suspended: [],
  owned_agents: null,
  rotations: null,
  grants: null,
  upstream_pending: 0,
  upstream_revoked: 0,
  upstream_unrevocable: 0,
  completed_at: null,
  version: 1,
};
