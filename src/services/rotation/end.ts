/** How a rotation ends without a new secret in force: recorded with its reason, and the next attempt asked for. */
import type { Rotation } from '../../domain/rotation.ts';
import type { Write } from '../../ports/ledger.ts';
import { type Hand, moveSecret, type Next, put } from './hand.ts';
import { attemptPause, jittered } from './pace.ts';
import { askedRow } from './request-rotation.ts';

/** @returns whether another attempt, with another secret, follows by itself */
const goesOn = ({ core, pace }: Hand, row: Rotation): boolean => {
  switch (row.cause) {
    case 'schedule':
      return core.state.rotationPolicies.get(row.policy_id)?.schedule != null;
    case 'asked':
      return row.attempt < pace.askedAttempts;
    case 'revocation':
    case 'incident':
      return true;
  }
};

/**
 * @param end.again false where another attempt would be for nothing
 * @returns `waits`: there is nothing more to do with this row
 */
export const endFailed = async (
  hand: Hand,
  row: Rotation,
  end: { failure: string; again?: boolean; status?: 'failed' | 'cancelled' },
): Promise<Next> => {
  const { core, pace } = hand;
  const now = core.clock.now();
  const writes: Write[] = [];
  // Its box stays: should the upstream take it after all, it is not lost.
  if (row.to_version !== null && row.finished_at === null && row.connection_id !== null) {
    writes.push(...(await moveSecret(hand, row.connection_id, row.to_version, 'retired')));
  }
  const again =
    end.again !== false && goesOn(hand, row)
      ? {
          ...askedRow(core, {
            ...row,
            attempt: row.attempt + 1,
            not_before: now + jittered(core.entropy, attemptPause(pace, row.attempt)),
          }),
          // For whoever looks at what is under way.
          failure: end.failure,
        }
      : undefined;
  if (again) writes.push({ write: 'insert', table: 'rotations', row: again });
  const status = end.status ?? 'failed';
  await put(
    hand,
    row,
    { status, failure: end.failure, ended_at: now },
    {
      type: `rotation.${status}`,
      writes,
      data: {
        failure: end.failure,
        next: again?.id,
        next_at: again && new Date(again.not_before).toISOString(),
      },
    },
  );
  return 'waits';
};
