/**
 * Back to the secret in force, after a step that failed or was overtaken. What works is found out by trying it: only when
 * the secret in force is accepted is anything taken away, and when the new one alone is accepted it goes into force.
 */
import type { Rotation } from '../../domain/rotation.ts';
import { finish, overtakenWhy } from './attempt.ts';
import { endFailed } from './end.ts';
import {
  callProvider,
  type Hand,
  type Next,
  nextSecret,
  putOff,
  type Standing,
  sharesWhatIsInForce,
  standingOf,
  testSecret,
} from './hand.ts';

/** @param nudged somebody asked for a rotation, or changed the connection, since it was tried last */
export const undoStep = async (hand: Hand, found: Rotation, nudged: boolean): Promise<Next> => {
  const standing = standingOf(hand, found);
  if (standing.overtaken && (await sharesWhatIsInForce(hand, found, found.to_version, found.from_version))) {
    return endFailed(hand, found, { failure: `${overtakenWhy.secret}, of the same account upstream`, again: false });
  }
  const failure = standing.overtaken ? overtakenWhy[standing.overtaken] : reasonOf(found.failure ?? 'it failed');
  const before = await testSecret(hand, found, standing, standing.current);
  let { row } = before;
  if (before.outcome.ok) return undo(hand, row, standing, { failure, nudged });
  if (!before.outcome.refused)
    return later(hand, row, failure, `the secret in force could not be tested: ${before.outcome.why}`);

  if (row.to_version !== null && !standing.overtaken) {
    const after = await testSecret(hand, row, standing, row.to_version);
    row = after.row;
    if (after.outcome.ok) return finish(hand, row, standing, { rolled_forward: true, failure });
    if (!after.outcome.refused)
      return later(hand, row, failure, `the new secret could not be tested: ${after.outcome.why}`);
    // Where both may exist side by side, undoing would delete one of two secrets of which none works.
    if (standing.rotation.overlaps(row.method, row.settings)) {
      return stuck(
        hand,
        row,
        failure,
        'neither the secret in force nor the new one is accepted upstream; nothing was deleted',
      );
    }
  }
  return undo(hand, row, standing, { failure, nudged });
};

const undo = async (
  hand: Hand,
  found: Rotation,
  standing: Standing,
  { failure, nudged }: { failure: string; nudged: boolean },
): Promise<Next> => {
  const next = await nextSecret(hand, found);
  const undone = await callProvider(hand, found, standing, (rotation, context) => rotation.undo(next, context));
  if (!undone.outcome.ok && !undone.outcome.refused)
    return later(hand, undone.row, failure, `undoing: ${undone.outcome.why}`);
  const tested = await testSecret(hand, undone.row, standing, standing.current);
  const { row } = tested;
  if (!tested.outcome.ok && !tested.outcome.refused) {
    return later(hand, row, failure, `the secret in force could not be tested: ${tested.outcome.why}`);
  }
  if (undone.outcome.ok) {
    if (tested.outcome.ok) return endFailed(hand, row, { failure, again: standing.overtaken !== 'secret' });
    // Nothing of the new one is left, and somebody else chose the one in force: that is not this rotation's to mend.
    if (standing.overtaken || row.to_version === null) {
      return endFailed(hand, row, {
        failure: `${failure}; the secret in force is refused upstream`,
        again: standing.overtaken !== 'secret',
      });
    }
    return stuck(hand, row, failure, 'the secret in force is refused upstream, and the new one was taken back');
  }
  const left = `undoing was refused: ${undone.outcome.why}; ${row.to_version === null ? 'what was made' : `version ${row.to_version}`} may still be accepted upstream`;
  if (!tested.outcome.ok) return stuck(hand, row, failure, `the secret in force is refused upstream; ${left}`);
  // The secret in force works. After many tries, and with somebody at hand who reads it, the rest is theirs.
  if (row.status === 'stuck' && nudged)
    return endFailed(hand, row, { failure: `${failure}; ${left}`, again: standing.overtaken !== 'secret' });
  return later(hand, row, failure, left);
};

/** Tried again and again; after a while somebody is called. The first reason stays, with what is in the way now. */
const later = (hand: Hand, row: Rotation, failure: string, trouble: string): Promise<Next> =>
  putOff(hand, row, both(failure, trouble), row.tries + 1 >= hand.pace.cleanTries ? { status: 'stuck' } : {});

const stuck = (hand: Hand, row: Rotation, failure: string, trouble: string): Promise<Next> =>
  putOff(hand, { ...row, tries: Math.max(row.tries, hand.pace.cleanTries) }, both(failure, trouble), {
    status: 'stuck',
  });

const between = '; now: ';
const both = (failure: string, trouble: string): string => `${failure}${between}${trouble}`;
/** Without what was in the way when it was tried last. */
const reasonOf = (failure: string): string => failure.split(between)[0] ?? failure;
