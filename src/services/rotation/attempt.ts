/**
 * One attempt to replace a secret: create -> set -> test -> finish. Each step is committed before it is taken, so a row
 * that is read after a crash says what may have been done and was not heard of:
 *
 * | step     | after a crash                                                                                        |
 * |----------|------------------------------------------------------------------------------------------------------|
 * | `create` | something may exist upstream whose secret nobody has: it is undone, and another attempt makes another |
 * | `set`    | the new secret is kept here, and may be accepted: it is set again                                     |
 * | `test`   | it is tested again                                                                                    |
 * | `finish` | is one commit: it took place or it did not                                                            |
 */
import type { Rotation } from '../../domain/rotation.ts';
import type { Write } from '../../ports/ledger.ts';
import { accompanyingFence } from '../revocation/revoke.ts';
import { openSecretVersion, sealSecret } from '../secrets/secrets.ts';
import { endFailed } from './end.ts';
import {
  callProvider,
  type Hand,
  Interrupted,
  moveSecret,
  type Next,
  nextSecret,
  put,
  putOff,
  rotationRecord,
  type Standing,
  standingOf,
  testSecret,
  tryPut,
} from './hand.ts';
import { judgeMethod } from './method.ts';
import { rotatedWrite } from './rotation-rows.ts';

/** Begins a rotation that was asked for. */
export const begin = async (hand: Hand, row: Rotation): Promise<Next> => {
  const { core } = hand;
  const connection = core.state.connections.get(row.connection_id ?? '');
  if (!connection) return endFailed(hand, row, { failure: 'the connection was deleted', again: false });
  const policy = core.state.rotationPolicies.get(connection.id);
  const method = judgeMethod(core, connection, policy?.method ?? undefined);
  if (!method.ok) return endFailed(hand, row, { failure: method.problem });
  const begun = await put(
    hand,
    row,
    {
      status: 'running',
      step: method.kind === 'accounts' ? 'set' : 'create',
      from_version: method.kind === 'accounts' ? null : connection.secret_version,
      settings: connection.settings,
      method: method.method,
      started_at: core.clock.now(),
      tries: 0,
      failure: null,
    },
    {
      type: 'rotation.started',
      guards: [{ guard: 'unchanged', table: 'connections', id: connection.id, version: connection.version }],
      data: {
        why: row.cause,
        reason: row.reason,
        requested_by: row.requested_by,
        revocation: row.revocation_id ?? undefined,
      },
    },
  );
  return method.kind === 'accounts' ? 'goes on' : create(hand, begun);
};

/** Right after it was committed that it is tried: a row that is found at this step was left by a crash. */
const create = async (hand: Hand, begun: Rotation): Promise<Next> => {
  const { core } = hand;
  const standing = standingOf(hand, begun);
  const called = await callProvider(hand, begun, standing, (rotation, context) => rotation.create(context));
  let { row } = called;
  if (!called.outcome.ok) return giveUp(hand, row, called.outcome.why, { silent: !called.outcome.refused });
  const checked = core.providers.get(standing.connection.provider)?.checkSecret(called.outcome.value);
  if (!checked?.ok || checked.value === undefined) {
    return giveUp(hand, row, 'what was created is not a secret of this provider');
  }
  for (;;) {
    const number = (await core.reader.newestSecretNumber(standing.connection.id)) + 1;
    const secret = sealSecret(core, standing.connection.id, number, checked.value, 'pending');
    const kept = await tryPut(
      hand,
      row,
      { step: 'set', to_version: number, tries: 0 },
      { type: 'rotation.step', writes: [{ write: 'insert', table: 'secrets', row: secret }] },
    );
    if (kept.ok) {
      row = kept.row;
      break;
    }
    // An operator set a secret, which has this number now.
    if (kept.refusal.why !== 'exists') throw new Interrupted(`the ledger refused: ${kept.refusal.why}`);
  }
  return setStep(hand, row);
};

/** The row was left at this step: the answer is lost, and with it the secret. */
export const createWasInterrupted = (hand: Hand, row: Rotation): Promise<Next> =>
  giveUp(hand, row, row.failure ?? 'it was interrupted while the new secret was made', { silent: true });

/**
 * What was begun is undone; why is what the rotation ends with.
 * @param options.silent the upstream was asked to make something and did not say no: it may make it yet, and what comes
 * after an undo would stay for good, and be in the way of the next rotation
 */
export const giveUp = async (hand: Hand, row: Rotation, failure: string, { silent = false } = {}): Promise<Next> => {
  await put(
    hand,
    row,
    { step: 'undo', failure, tries: 0, not_before: hand.core.clock.now() + (silent ? hand.pace.silenceMs : 0) },
    {
      type: 'rotation.step',
      data: { failure },
    },
  );
  return silent ? 'waits' : 'goes on';
};

export const overtakenWhy = {
  secret: 'overtaken: somebody set another secret meanwhile',
  settings: 'overtaken: the settings of the connection were changed meanwhile',
} as const;

export const setStep = async (hand: Hand, row: Rotation): Promise<Next> => {
  const standing = standingOf(hand, row);
  if (standing.overtaken) return giveUp(hand, row, overtakenWhy[standing.overtaken]);
  const next = await nextSecret(hand, row);
  if (!next) throw new Error('a rotation sets a secret that was never kept');
  const called = await callProvider(hand, row, standing, (rotation, context) => rotation.set(next, context));
  if (called.outcome.ok) {
    await put(hand, called.row, { step: 'test', tries: 0, failure: null }, { type: 'rotation.step' });
    return 'goes on';
  }
  return tryAgainOrGiveUp(hand, called.row, called.outcome);
};

export const testStep = async (hand: Hand, row: Rotation): Promise<Next> => {
  const standing = standingOf(hand, row);
  if (standing.overtaken) return giveUp(hand, row, overtakenWhy[standing.overtaken]);
  if (row.to_version === null) throw new Error('a rotation tests a secret that was never kept');
  const tested = await testSecret(hand, row, standing, row.to_version);
  if (tested.outcome.ok) return finish(hand, tested.row, standing);
  const { why, refused } = tested.outcome;
  return tryAgainOrGiveUp(hand, tested.row, { refused, why: `the test of the new secret: ${why}` });
};

/** In doubt the same step again: nothing is assumed. */
const tryAgainOrGiveUp = (
  hand: Hand,
  row: Rotation,
  { refused, why }: { refused: boolean; why: string },
): Promise<Next> => {
  if (!refused && row.tries + 1 < hand.pace.stepTries) return putOff(hand, row, why);
  // What it was told to accept it may accept yet; a test changes nothing.
  return giveUp(hand, row, why, { silent: !refused && row.step === 'set' });
};

/**
 * Puts the new secret in force, in one commit: the connection, both secrets, the policy, the fence, and whoever else
 * asked for a rotation before this one began.
 * @param data what else the record says
 */
export const finish = async (
  hand: Hand,
  row: Rotation,
  standing: Standing,
  data: Record<string, unknown> = {},
): Promise<Next> => {
  const { core } = hand;
  if (row.to_version === null || row.from_version === null) throw new Error('there is no secret to put in force');
  // Opened once more before anything depends on it.
  await openSecretVersion(core, standing.connection.id, row.to_version);
  for (;;) {
    const { overtaken } = standingOf(hand, row);
    const connection = core.state.connections.get(standing.connection.id);
    if (overtaken || !connection) return giveUp(hand, row, overtakenWhy[overtaken ?? 'secret']);
    const now = core.clock.now();
    const satisfied = core.state.rotations
      .ofPolicy(row.policy_id)
      .filter((other) => other.status === 'asked' && other.created_at <= (row.started_at ?? 0));
    const all = [row, ...satisfied];
    const fence = all.some((one) => one.fence)
      ? accompanyingFence(core, { connection: connection.id }, `rotation ${row.id}`, { name: row.requested_by })
      : undefined;
    const overlaps = standing.rotation.overlaps(row.method, row.settings);
    const graceSeconds = Math.min(...all.map((one) => one.grace_seconds));
    const retireAt = overlaps ? now + graceSeconds * 1000 : now;
    const policy = core.state.rotationPolicies.get(row.policy_id);
    const writes: Write[] = [
      {
        write: 'update',
        table: 'connections',
        id: connection.id,
        set: { secret_version: row.to_version, version: connection.version + 1, updated_at: now },
        from: { version: connection.version, secret_version: row.from_version },
      },
      ...(await moveSecret(hand, connection.id, row.to_version, 'current')),
      ...(await moveSecret(hand, connection.id, row.from_version, overlaps ? 'previous' : 'retired')),
      ...(policy ? rotatedWrite(policy, now) : []),
      ...(fence?.writes ?? []),
      ...satisfied.map((other): Write => satisfiedWrite(other, row, now)),
    ];
    const set = {
      finished_at: now,
      retire_at: retireAt,
      not_before: retireAt,
      tries: 0,
      failure: null,
      ...(overlaps
        ? ({ status: 'grace', step: 'retire' } as const)
        : ({ status: 'done', step: 'finish', ended_at: now } as const)),
    };
    const finished = await tryPut(hand, row, set, {
      type: 'rotation.finished',
      writes,
      data: {
        ...data,
        step: 'finish',
        why: row.cause,
        retire_at: overlaps ? new Date(retireAt).toISOString() : undefined,
        fence: fence?.revocationId,
        satisfies: satisfied.length === 0 ? undefined : satisfied.map(({ id }) => id),
      },
      more: satisfied.map((other) =>
        rotationRecord(hand, { ...other, to_version: row.to_version }, 'rotation.satisfied', { by: row.id }),
      ),
    });
    if (finished.ok) return overlaps ? 'goes on' : 'waits';
    // The connection, the policy or a request changed at this moment: looked at anew.
    if (finished.refusal.why !== 'changed') throw new Interrupted(`the ledger refused: ${finished.refusal.why}`);
  }
};

const satisfiedWrite = (other: Rotation, by: Rotation, now: number): Write => ({
  write: 'update',
  table: 'rotations',
  id: other.id,
  set: {
    status: 'done',
    step: 'finish',
    from_version: by.from_version,
    to_version: by.to_version,
    handle: { satisfied_by: by.id },
    finished_at: now,
    ended_at: now,
    version: other.version + 1,
    updated_at: now,
  },
  from: { version: other.version },
});
