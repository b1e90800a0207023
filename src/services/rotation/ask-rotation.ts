/** What operators ask for: a rotation of one secret, of all, or what it would do. */
import type { Connection, Operator } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import type { KeyPolicy, Rotation } from '../../domain/rotation.ts';
import { type Change, commitChanges } from '../change.ts';
import { type Caller, type Core, record } from '../core.ts';
import { inTime, providerTimeoutMs, refusalOfProvider } from '../issuing/provider-calls.ts';
import type { CoreWithSecrets } from '../issuing/provider-context.ts';
import { dueAt, opensAt } from './due.ts';
import { methodOf } from './method.ts';
import { askedRecord, askedRow, prepareRotation, rotationNames, rotationProblem } from './request-rotation.ts';

export interface AskOptions {
  reason: string | null;
  now: boolean;
  fence?: boolean | undefined;
}

const askOne = (core: Core, connection: Connection, options: AskOptions, caller: Caller) =>
  prepareRotation(core, connection, { why: 'asked', caller, ...options });

/**
 * Asks for the rotation of one connection's secret.
 * @throws Refused `conflict` when that cannot be rotated, with what to do instead
 */
export const askRotation = async (
  core: Core,
  connection: Connection,
  options: AskOptions,
  caller: Caller,
): Promise<Rotation> => {
  const problem = rotationProblem(core, connection);
  if (problem !== undefined) throw new Refused('conflict', problem);
  const { writes, audit, rotation } = askOne(core, connection, options, caller);
  await commitChanges(core, { writes, audit });
  return rotation;
};

/** Of one of Warder's own keys. */
export const askKeyRotation = async (
  core: Core,
  which: KeyPolicy,
  options: AskOptions,
  caller: Caller,
): Promise<Rotation> => {
  const rotation = askedRow(core, {
    policy_id: which,
    connection_id: null,
    cause: 'asked',
    reason: options.reason,
    requested_by: caller.actor.kind === 'anonymous' ? 'anonymous' : caller.actor.name,
    fence: false,
    at_once: options.now,
    grace_seconds: 0,
  });
  await commitChanges(core, {
    writes: [{ write: 'insert', table: 'rotations', row: rotation }],
    audit: [askedRecord(core, caller, rotation)],
  });
  return rotation;
};

export interface AskedMany {
  rotations: Rotation[];
  /** Names of connections whose policy says to rotate them and that cannot be. */
  skipped: { connection: string; why: string }[];
}

/**
 * Asks for the rotation of everything that has a policy, or of what is due of it; what is under way already is left.
 * In one commit: all of them, or none.
 */
export const askForAll = async (
  core: Core,
  { due, ...options }: AskOptions & { due: boolean },
  caller: Caller,
): Promise<AskedMany> => {
  const asked: AskedMany = { rotations: [], skipped: [] };
  const changes: Change[] = [];
  for (const policy of core.state.rotationPolicies.all()) {
    const connection = core.state.connections.get(policy.connection_id ?? '');
    const isDue = (dueAt(policy) ?? Number.POSITIVE_INFINITY) <= core.clock.now();
    const underWay = core.state.rotations.ofPolicy(policy.id).some(({ status }) => status === 'running');
    if (!connection || underWay || (due && !isDue)) continue;
    const problem = rotationProblem(core, connection);
    if (problem !== undefined) {
      asked.skipped.push({ connection: connection.name, why: problem });
      continue;
    }
    const { writes, audit, rotation } = askOne(core, connection, options, caller);
    changes.push({ writes, audit });
    asked.rotations.push(rotation);
  }
  const data = { asked: asked.rotations.length, skipped: asked.skipped.map(({ connection }) => connection), due };
  const whole = { writes: [], audit: [record(core, caller, { type: 'rotation.asked_for_all', data })] };
  await commitChanges(core, whole, ...changes);
  return asked;
};

/** What rotating would do, tried as far as it can be without changing anything. */
export interface RotationPreview {
  dry_run: true;
  connection: string;
  provider: string;
  can_rotate: boolean;
  /** Why not, and what to do instead. */
  problem: string | null;
  /** Whether the secret before works until it is retired. */
  overlaps: boolean | null;
  grace_seconds: number | null;
  fence: boolean;
  /** Live grants that the fence would kill; null without a fence. */
  grants: number | null;
  /** ms since the epoch. */
  begins_at: number | null;
  /** Where the secret is sent for it. */
  sends_to: string[];
  /** Whether the secret in force is accepted upstream now, tried with a real call; null where nothing was tried. */
  test: { ok: true } | { ok: false; why: string } | null;
}

/** Tries the secret in force with a real call, which is recorded; nothing else is done. @throws Refused `sealed` */
export const previewRotation = async (
  core: CoreWithSecrets,
  connection: Connection,
  options: AskOptions,
  caller: Caller,
): Promise<RotationPreview> => {
  const preview = await previewOf(core, connection, options);
  const { can_rotate, problem, test } = preview;
  await commitChanges(core, {
    writes: [],
    audit: [
      record(core, caller, {
        type: 'rotation.tried',
        connection: { id: connection.id, name: connection.name },
        data: { can_rotate, problem, test: test === null ? null : test.ok ? 'accepted' : test.why },
      }),
    ],
  });
  return preview;
};

const previewOf = async (
  core: CoreWithSecrets,
  connection: Connection,
  options: AskOptions,
): Promise<RotationPreview> => {
  const method = methodOf(core, connection);
  const policy = core.state.rotationPolicies.get(connection.id);
  const fence = options.fence ?? policy?.fence ?? false;
  const now = core.clock.now();
  const preview: RotationPreview = {
    dry_run: true,
    connection: connection.name,
    provider: connection.provider,
    can_rotate: method.ok,
    problem: method.ok ? null : method.problem,
    overlaps: null,
    grace_seconds: null,
    fence,
    grants: null,
    begins_at: method.ok ? (options.now ? now : opensAt(policy?.window ?? null, now)) : null,
    sends_to: [],
    test: null,
  };
  if (!method.ok || method.kind === 'accounts') return preview;
  const { rotation: asked } = askOne(core, connection, options, {
    actor: { kind: 'system', name: 'preview' },
    requestId: '',
  });
  const overlaps = method.rotation.overlaps(method.method, connection.settings);
  const counted = fence ? await core.reader.countLiveGrants({ connection: connection.id }, now, [], null) : undefined;
  return {
    ...preview,
    overlaps,
    grace_seconds: overlaps ? asked.grace_seconds : 0,
    grants: counted?.total ?? null,
    sends_to: method.rotation.destinations(method.method, connection.settings),
    test: await tryCurrent(core, connection, asked.id, method),
  };
};

const tryCurrent = async (
  core: CoreWithSecrets,
  connection: Connection,
  rotationId: string,
  { rotation, method }: Extract<ReturnType<typeof methodOf>, { ok: true; kind: 'secret' }>,
): Promise<RotationPreview['test']> => {
  const signal = AbortSignal.timeout(providerTimeoutMs);
  try {
    const held = await core.secrets.open(core.reader, connection);
    if (!held) return { ok: false, why: 'there is no secret' };
    const context = {
      now: () => core.clock.now(),
      signal,
      rotationId,
      connection,
      method,
      current: held.fields,
      handle: null,
      journal: () => Promise.reject(new Error('a test journals nothing')),
    };
    await inTime(signal, rotation.test(held.fields, context));
    return { ok: true };
  } catch (error) {
    const refusal = refusalOfProvider(error);
    if (refusal.refusal.code === 'sealed') throw refusal;
    return { ok: false, why: refusal.refusal.detail };
  }
};

/** Takes back what was asked for and has not begun. @throws Refused `not_found`, `conflict` */
export const cancelRotation = async (
  core: Core,
  id: string,
  operator: Pick<Operator, 'name'>,
  caller: Caller,
): Promise<Rotation> => {
  const row = core.state.rotations.get(id) ?? (await core.reader.rotation(id));
  if (!row) throw new Refused('not_found', 'there is no such rotation');
  if (row.status !== 'asked') {
    throw new Refused('conflict', `this rotation is ${row.status}: only one that has not begun can be cancelled`);
  }
  const now = core.clock.now();
  const set = {
    status: 'cancelled',
    failure: `cancelled by ${operator.name}`,
    ended_at: now,
    version: row.version + 1,
    updated_at: now,
  } as const;
  await commitChanges(core, {
    writes: [{ write: 'update', table: 'rotations', id, set, from: { version: row.version } }],
    audit: [
      record(core, caller, {
        type: 'rotation.cancelled',
        ...rotationNames(core, row),
        data: { rotation: id, why: row.cause },
      }),
    ],
  });
  return { ...row, ...set };
};
