/** When and how secrets are rotated: the policies, of connections and of Warder's own keys. */
import type { Connection, Operator } from '../../domain/model.ts';
import { isShowable } from '../../domain/names.ts';
import { Refused } from '../../domain/refusals.ts';
import type { KeyPolicy, Rotation, RotationPolicy, RotationSchedule, RotationWindow } from '../../domain/rotation.ts';
import type { Write } from '../../ports/ledger.ts';
import { prepareSecret } from '../access/set-secret.ts';
import { type Change, commitChanges } from '../change.ts';
import { type Caller, type Core, record } from '../core.ts';
import { InvalidInput } from '../invalid-input.ts';
import { jwksMaxAgeSeconds } from '../keys/signing-keys.ts';
import { requireKnownDestinations } from './destinations.ts';
import { periodMs, scheduleProblem } from './due.ts';
import { judgeMethod } from './method.ts';
import { rotationNames } from './request-rotation.ts';

export interface PolicyInput {
  schedule: RotationSchedule | null;
  window: RotationWindow | null;
  grace_seconds: number;
  fence: boolean;
  /** undefined: the usual way of the provider. */
  method?: Record<string, unknown> | undefined;
  /** The secret anew, for a method that sends it somewhere else. */
  secret?: unknown;
}

const maxMethodBytes = 16 * 1024;

/** @throws InvalidInput */
const checkTimes = (core: Core, input: PolicyInput): void => {
  const { schedule, window, grace_seconds: grace } = input;
  const problems: string[] = [];
  if (window && window.from === window.to) problems.push('window: it would never open; leave it out for any time');
  if (schedule) {
    const now = core.clock.now();
    const problem = scheduleProblem(schedule, now);
    if (problem !== undefined) problems.push(`${'cron' in schedule ? 'cron' : 'every_seconds'}: ${problem}`);
    else if (grace * 1000 >= periodMs(schedule, now))
      problems.push('grace_seconds: less than the time between two rotations');
  }
  if (problems.length > 0) throw new InvalidInput(problems);
};

/** @throws InvalidInput */
const checkMethodText = (method: Record<string, unknown> | undefined): void => {
  const text = JSON.stringify(method ?? {});
  if (Buffer.byteLength(text) > maxMethodBytes)
    throw new InvalidInput([`method: at most ${maxMethodBytes} bytes of JSON`]);
  const all: string[] = [];
  JSON.parse(text, (key, value: unknown) => {
    all.push(key);
    if (typeof value === 'string') all.push(...value.split(/[\n\t]/));
    return value;
  });
  if (!all.every(isShowable)) throw new InvalidInput(['method: visible characters only, and no token']);
};

/**
 * Sets the policy of a connection as a whole.
 * @throws InvalidInput; Refused `conflict`, `sealed`, `ledger_unavailable`
 */
export const setPolicy = async (
  core: Core,
  connection: Connection,
  input: PolicyInput,
  operator: Operator,
  caller: Caller,
): Promise<RotationPolicy> => {
  const secretGiven = input.secret !== undefined;
  const change = await preparePolicy(core, connection, input, { operator, secretGiven }, caller);
  await commitChanges(
    core,
    change ?? unchanged(core, caller, { connection_id: connection.id, policy_id: connection.id }),
  );
  const policy = core.state.rotationPolicies.get(connection.id);
  if (!policy) throw new Refused('conflict', 'the policy was removed at this moment');
  return policy;
};

/**
 * @param connection as it will be; it may be new
 * @param by.secretGiven whether its secret is given in the same request
 * @returns undefined when that is the policy already
 */
export const preparePolicy = async (
  core: Core,
  connection: Connection,
  input: PolicyInput,
  by: { operator: Operator; secretGiven: boolean },
  caller: Caller,
): Promise<Change | undefined> => {
  checkTimes(core, input);
  checkMethodText(input.method);
  const judged = judgeMethod(core, connection, input.method);
  if (!judged.ok) throw new InvalidInput([judged.problem]);
  const added = requireKnownDestinations(core, connection, input.method, by);
  const secret = input.secret !== undefined ? await prepareSecret(core, connection, input.secret, caller) : undefined;
  const known = core.state.connections.get(connection.id);
  const policy = policyChange(core, connection.id, connection.id, input, caller, {
    // A method is judged against the connection as it is now.
    guards: known ? [{ guard: 'unchanged', table: 'connections', id: known.id, version: known.version }] : [],
    rotatedAt: await lastRotated(core, connection.id),
    ...(added.length === 0 ? {} : { sends_to: added }),
  });
  if (!secret) return policy;
  if (!policy) return secret.change;
  return {
    // The secret's own write holds on to the connection's version, and counts it up.
    guards: [],
    writes: [...secret.change.writes, ...policy.writes],
    audit: [...secret.change.audit, ...policy.audit],
  };
};

/** Sets the policy of one of Warder's own keys. @throws InvalidInput, Refused */
export const setKeyPolicy = async (
  core: Core,
  which: KeyPolicy,
  input: Pick<PolicyInput, 'schedule' | 'window'>,
  caller: Caller,
): Promise<RotationPolicy> => {
  const whole = { ...input, grace_seconds: 0, fence: false };
  checkTimes(core, whole);
  if (which === 'signing' && input.schedule && periodMs(input.schedule, core.clock.now()) <= jwksMaxAgeSeconds * 1000) {
    throw new InvalidInput([
      `schedule: more than ${jwksMaxAgeSeconds} seconds apart, or verifiers meet a key they have not seen`,
    ]);
  }
  const change = policyChange(core, which, null, whole, caller, { rotatedAt: await lastRotated(core, which) });
  await commitChanges(core, change ?? unchanged(core, caller, { connection_id: null, policy_id: which }));
  const policy = core.state.rotationPolicies.get(which);
  if (!policy) throw new Refused('conflict', 'the policy was removed at this moment');
  return policy;
};

/** What a new schedule counts from, where there was a rotation before. */
const lastRotated = async (core: Core, id: string): Promise<number | null> =>
  (await core.reader.lastRotations()).find((row) => row.policy_id === id)?.finished_at ?? null;

/** Somebody wanted what is so already. */
const unchanged = (core: Core, caller: Caller, about: Pick<Rotation, 'connection_id' | 'policy_id'>): Change => ({
  writes: [],
  audit: [
    record(core, caller, {
      type: 'rotation.policy_unchanged',
      ...rotationNames(core, about),
      data: about.connection_id === null ? { key: about.policy_id } : {},
    }),
  ],
});

const policyChange = (
  core: Core,
  id: string,
  connectionId: string | null,
  input: PolicyInput,
  caller: Caller,
  {
    guards = [],
    sends_to,
    rotatedAt = null,
  }: { guards?: Change['guards']; sends_to?: string[]; rotatedAt?: number | null },
): Change | undefined => {
  const known = core.state.rotationPolicies.get(id);
  const now = core.clock.now();
  const wanted = {
    schedule: input.schedule,
    window: input.window,
    grace_seconds: input.grace_seconds,
    fence: input.fence,
    method: input.method ?? null,
  };
  if (
    known &&
    Object.entries(wanted).every(
      ([field, value]) => JSON.stringify(known[field as keyof typeof wanted]) === JSON.stringify(value),
    )
  ) {
    return undefined;
  }
  const write: Write = known
    ? {
        write: 'update',
        table: 'rotation_policies',
        id,
        set: { ...wanted, overdue_reported: null, version: known.version + 1, updated_at: now },
        from: { version: known.version },
      }
    : {
        write: 'insert',
        table: 'rotation_policies',
        row: {
          id,
          connection_id: connectionId,
          ...wanted,
          rotated_at: rotatedAt,
          overdue_reported: null,
          version: 1,
          created_at: now,
          updated_at: now,
        },
      };
  return {
    guards,
    writes: [write],
    audit: [
      record(core, caller, {
        type: 'rotation.policy_set',
        ...rotationNames(core, { connection_id: connectionId, policy_id: id }),
        data: {
          ...(connectionId === null ? { key: id } : {}),
          ...wanted,
          ...(sends_to === undefined ? {} : { sends_to }),
        },
      }),
    ],
  };
};

/**
 * Removes a policy, and what its schedule asked for and has not begun.
 * @throws Refused `not_found`, `conflict`, `ledger_unavailable`
 */
export const unsetPolicy = async (core: Core, id: string, caller: Caller): Promise<void> => {
  const change = prepareNoPolicy(core, id, caller);
  if (!change) throw new Refused('not_found', 'there is no rotation policy');
  await commitChanges(core, change);
};

/** @returns undefined when there is no policy */
export const prepareNoPolicy = (core: Core, id: string, caller: Caller): Change | undefined => {
  const policy = core.state.rotationPolicies.get(id);
  if (!policy) return undefined;
  const now = core.clock.now();
  const waiting = core.state.rotations.ofPolicy(id).filter((row) => row.status === 'asked' && row.cause === 'schedule');
  return {
    writes: [
      { write: 'delete', table: 'rotation_policies', id, from: { version: policy.version } },
      ...waiting.map(
        (row): Write => ({
          write: 'update',
          table: 'rotations',
          id: row.id,
          set: {
            status: 'cancelled',
            failure: 'its policy was removed',
            ended_at: now,
            version: row.version + 1,
            updated_at: now,
          },
          from: { version: row.version },
        }),
      ),
    ],
    audit: [
      record(core, caller, {
        type: 'rotation.policy_unset',
        ...rotationNames(core, { connection_id: policy.connection_id, policy_id: id }),
        data: { ...(policy.connection_id === null ? { key: id } : {}), cancelled: waiting.map((row) => row.id) },
      }),
    ],
  };
};
