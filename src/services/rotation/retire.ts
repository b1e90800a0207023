/** The end of a rotation that went well: after the grace the secret before is ended upstream. */
import type { Rotation } from '../../domain/rotation.ts';
import { openSecretVersion } from '../secrets/secrets.ts';
import {
  callProvider,
  type Hand,
  moveSecret,
  type Next,
  put,
  putOff,
  sharesWhatIsInForce,
  standingOf,
} from './hand.ts';

/** @param wanted another rotation waits for this one */
export const retireStep = async (hand: Hand, row: Rotation, wanted: boolean): Promise<Next> => {
  const { core } = hand;
  const standing = standingOf(hand, row);
  if (row.from_version === null) throw new Error('there is no secret to retire');
  if (standing.overtaken && (await sharesWhatIsInForce(hand, row, row.from_version, row.to_version))) {
    return end(hand, row, standing.connection.id, { why: 'it was put in force again, and lives on', alert: false });
  }
  const previous = await openSecretVersion(core, standing.connection.id, row.from_version);
  const called = await callProvider(hand, row, standing, (rotation, context) => rotation.retire(previous, context));
  if (called.outcome.ok) return end(hand, called.row, standing.connection.id, null);
  const failure = `version ${row.from_version} could not be retired: ${called.outcome.why}`;
  const tries = called.row.tries + 1;
  if (wanted && (row.status === 'stuck' || tries >= hand.pace.stepTries)) {
    const why = `${failure}; it may still be accepted upstream: end it there by hand`;
    return end(hand, called.row, standing.connection.id, { why, alert: true });
  }
  return putOff(hand, called.row, failure, tries >= hand.pace.cleanTries ? { status: 'stuck' } : {});
};

/** @param left why the secret before is not ended */
const end = async (
  hand: Hand,
  row: Rotation,
  connectionId: string,
  left: { why: string; alert: boolean } | null,
): Promise<Next> => {
  const writes = row.from_version === null ? [] : await moveSecret(hand, connectionId, row.from_version, 'retired');
  const failure = left?.why ?? null;
  const set = { status: 'done', failure, ended_at: hand.core.clock.now() } as const;
  const type = left?.alert ? 'rotation.stuck' : 'rotation.retired';
  await put(hand, row, set, { type, writes, data: failure === null ? {} : { failure } });
  return 'waits';
};
