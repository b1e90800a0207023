/** Warder's own keys by the same schedule. Everything is in the ledger: one commit does it, or nothing is done. */

import { Refused } from '../../domain/refusals.ts';
import type { KeyPolicy, Rotation } from '../../domain/rotation.ts';
import type { Write } from '../../ports/ledger.ts';
import type { Change } from '../change.ts';
import { record } from '../core.ts';
import { rotateKek } from '../keys/rotate-keys.ts';
import { endFailed } from './end.ts';
import { commitLeading, type Hand, type Next, rotationCaller, rotationRecord } from './hand.ts';
import { rotatedWrite } from './rotation-rows.ts';

export const rotateKey = async (hand: Hand, row: Rotation): Promise<Next> => {
  try {
    if (row.policy_id === ('key-encryption' satisfies KeyPolicy))
      await rotateKek(hand.core, rotationCaller, alongside(hand, row));
    else await rotateSigningKey(hand, row);
    return 'waits';
  } catch (error) {
    if (!(error instanceof Refused) || error.refusal.code === 'ledger_unavailable' || error.refusal.code === 'sealed') {
      throw error;
    }
    // Somebody rotates at this moment, or the key service is away. If it was this row that changed, ending it says so.
    return endFailed(hand, row, { failure: error.refusal.detail });
  }
};

/** What is committed with the new key. */
const alongside = (hand: Hand, row: Rotation): Change => {
  const now = hand.core.clock.now();
  const policy = hand.core.state.rotationPolicies.get(row.policy_id);
  const set = {
    status: 'done',
    step: 'finish',
    started_at: now,
    finished_at: now,
    ended_at: now,
    failure: null,
    version: row.version + 1,
    updated_at: now,
  } as const;
  const others = hand.core.state.rotations
    .ofPolicy(row.policy_id)
    .filter(({ id, status }) => id !== row.id && status === 'asked');
  const writes: Write[] = [row, ...others].map((one) => ({
    write: 'update',
    table: 'rotations',
    id: one.id,
    set: { ...set, version: one.version + 1 },
    from: { version: one.version },
  }));
  if (policy) writes.push(...rotatedWrite(policy, now));
  return {
    guards: [hand.lease.guard()],
    writes,
    audit: [rotationRecord(hand, { ...row, ...set }, 'rotation.finished', { why: row.cause })],
  };
};

const rotateSigningKey = async (hand: Hand, row: Rotation): Promise<void> => {
  const { core } = hand;
  const { writes, from, to } = await core.signingKeys.rotation();
  const along = alongside(hand, row);
  await commitLeading(hand, {
    writes: [...writes, ...along.writes],
    audit: [
      record(core, rotationCaller, { type: 'signing_key.rotated', data: { from, to, rotation: row.id } }),
      ...along.audit,
    ],
  });
};
