/** What each step of a rotation works with: commits that only the leader can make, and calls of the provider. */
import type { AuditRecord } from '../../domain/audit-entry.ts';
import { canonicalJson } from '../../domain/canonical-json.ts';
import type { Connection } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import type { Rotation } from '../../domain/rotation.ts';
import type { CommitRefusal, Guard, Write } from '../../ports/ledger.ts';
import { ProviderFailure } from '../../ports/provider.ts';
import type { RotationContext, SecretFields, SecretRotation } from '../../ports/rotation.ts';
import type { Change } from '../change.ts';
import { commit, record } from '../core.ts';
import { inTime } from '../issuing/provider-calls.ts';
import type { CoreWithSecrets } from '../issuing/provider-context.ts';
import { systemCaller } from '../revocation/revoke.ts';
import { openSecretVersion } from '../secrets/secrets.ts';
import { type Leadership, LeaseLost } from './lease.ts';
import { jittered, leaseMarginMs, pauseAfter, type RotationPace } from './pace.ts';
import { rotationNames } from './request-rotation.ts';

export interface Hand {
  core: CoreWithSecrets;
  lease: Leadership;
  pace: RotationPace;
  /** Aborted when the engine stops. */
  stop: AbortSignal;
}

/** The row was changed by somebody else, or the engine stops: what to do next is read from the ledger. */
export class Interrupted extends Error {
  constructor(why: string) {
    super(why);
    this.name = 'Interrupted';
  }
}

export const rotationCaller = systemCaller('rotation');

/** Whether a step was taken, or the same one has to wait. */
export type Next = 'goes on' | 'waits';

/** An audit entry about a rotation. */
export const rotationRecord = (
  { core }: Pick<Hand, 'core'>,
  row: Rotation,
  type: string,
  data: Record<string, unknown> = {},
): AuditRecord =>
  record(core, rotationCaller, {
    type,
    ...rotationNames(core, row),
    data: {
      rotation: row.id,
      ...(row.connection_id === null ? { key: row.policy_id } : {}),
      step: row.step,
      from: row.from_version,
      to: row.to_version,
      attempt: row.attempt,
      ...data,
    },
  });

interface Put {
  type: string;
  data?: Record<string, unknown>;
  writes?: Write[];
  guards?: Guard[];
  more?: AuditRecord[];
}

/**
 * Commits the next state of a rotation, if it is what it was and this engine leads.
 * @returns the row as it is now, or why not where `put.writes` or `put.guards` were refused
 * @throws LeaseLost; Interrupted when the row is another one; Refused `ledger_unavailable`
 */
export const tryPut = async (
  hand: Hand,
  row: Rotation,
  set: Partial<Rotation>,
  put: Put,
): Promise<{ ok: true; row: Rotation } | { ok: false; refusal: CommitRefusal }> => {
  const next: Rotation = { ...row, ...set, version: row.version + 1, updated_at: hand.core.clock.now() };
  const { version, updated_at } = next;
  const result = await commit(hand.core, {
    guards: [hand.lease.guard(), ...(put.guards ?? [])],
    writes: [
      {
        write: 'update',
        table: 'rotations',
        id: row.id,
        set: { ...set, version, updated_at },
        from: { version: row.version },
      },
      ...(put.writes ?? []),
    ],
    audit: [rotationRecord(hand, next, put.type, put.data), ...(put.more ?? [])],
  });
  if (result.ok) return { ok: true, row: next };
  const { ok: _, ...refusal } = result;
  if (refusal.why === 'changed' && refusal.table === 'leases') {
    hand.lease.lost();
    throw new LeaseLost();
  }
  if (refusal.why === 'changed' && refusal.table === 'rotations' && refusal.id === row.id) {
    throw new Interrupted('the rotation was changed at this moment');
  }
  return { ok: false, refusal };
};

/**
 * Commits what only the leader may, beside any rotation.
 * @throws LeaseLost; Interrupted when something it rests on changed
 */
export const commitLeading = async ({ core, lease }: Hand, change: Change): Promise<void> => {
  const [first, ...rest] = change.audit;
  if (!first) throw new Error('a change records nothing');
  const result = await commit(core, {
    guards: [lease.guard(), ...(change.guards ?? [])],
    writes: change.writes,
    audit: [first, ...rest],
  });
  if (result.ok) return;
  if (result.why === 'changed' && result.table === 'leases') {
    lease.lost();
    throw new LeaseLost();
  }
  throw new Interrupted(`the ledger refused: ${result.why}`);
};

/** As {@link tryPut}, where nothing else can be refused. */
export const put = async (hand: Hand, row: Rotation, set: Partial<Rotation>, what: Put): Promise<Rotation> => {
  const result = await tryPut(hand, row, set, what);
  if (!result.ok) throw new Interrupted(`the ledger refused: ${result.refusal.why}`);
  return result.row;
};

/** The same step again, later. */
export const putOff = async (
  hand: Hand,
  row: Rotation,
  failure: string,
  set: Partial<Rotation> = {},
): Promise<Next> => {
  const { core, pace } = hand;
  const tries = row.tries + 1;
  const pauseMs = jittered(core.entropy, pauseAfter(pace, tries));
  const not_before = core.clock.now() + pauseMs;
  await put(
    hand,
    row,
    { tries, failure, not_before, ...set },
    {
      type: set.status === 'stuck' && row.status !== 'stuck' ? 'rotation.stuck' : 'rotation.step',
      data: { failure, tries, next_at: new Date(not_before).toISOString() },
    },
  );
  return 'waits';
};

/** A secret that is kept here, by its number; or the one in force, where that is read from a vault. */
export type Which = number | 'in a vault';

/** The vault that the secret in force is kept in does not say it: nothing can be done that might end it. */
export class Unreadable extends Error {
  constructor(why: string) {
    super(`the secret in force is kept in a vault and could not be read: ${why}`);
    this.name = 'Unreadable';
  }
}

/** @throws Unreadable; Refused `sealed` */
const openWhich = async ({ core }: Hand, connectionId: string, which: Which): Promise<SecretFields> => {
  if (which !== 'in a vault') return openSecretVersion(core, connectionId, which);
  const connection = core.state.connections.get(connectionId);
  if (!connection?.secret_source) throw new Interrupted('the secret was replaced at this moment');
  try {
    const held = await core.secrets.open(core.reader, connection);
    if (held) return held.fields;
  } catch (error) {
    if (!(error instanceof Refused) || error.refusal.code === 'sealed') throw error;
    throw new Unreadable(error.refusal.detail);
  }
  throw new Unreadable('there is none');
};

/** Where the provider is called for this rotation, and with what. */
export interface Standing {
  rotation: SecretRotation;
  /** With the settings the rotation began with: what it made there is tested, undone and retired there. */
  connection: Connection;
  /** The secret in force there. */
  current: Which;
  /** Whether somebody else put a secret in force, or other settings, since it began. */
  overtaken: 'secret' | 'settings' | undefined;
}

/** @throws Interrupted when the connection, or its provider, is gone */
export const standingOf = (hand: Hand, row: Rotation): Standing => {
  const connection = hand.core.state.connections.get(row.connection_id ?? '');
  const rotation = connection && hand.core.providers.get(connection.provider)?.rotation;
  if (!connection || !rotation) throw new Interrupted('the connection or its provider is gone');
  const own = row.finished_at === null ? row.from_version : row.to_version;
  const moved = canonicalJson(connection.settings) !== canonicalJson(row.settings);
  const inForce = connection.secret_source ? null : connection.secret_version;
  const overtaken = inForce !== own ? ('secret' as const) : moved ? ('settings' as const) : undefined;
  // A secret that was set for other settings does not go where the old ones lead.
  const current = moved ? own : connection.secret_source ? 'in a vault' : (inForce ?? own);
  if (current === null) throw new Interrupted('there is no secret to sign in with');
  return { rotation, connection: { ...connection, settings: row.settings }, current, overtaken };
};

/** What became of a call. `refused`: the upstream said no. Otherwise it is in doubt: it may have done its work. */
export type Outcome<T> = { ok: true; value: T } | { ok: false; refused: boolean; why: string };

/**
 * Calls the provider, for no longer than the lease lasts.
 * @param work gets the provider's context; `journal` in it commits
 * @throws LeaseLost, Interrupted, Unreadable, Refused `sealed` or `ledger_unavailable`: then nothing is known of the call
 */
export const callProvider = async <T>(
  hand: Hand,
  row: Rotation,
  standing: Standing,
  work: (rotation: SecretRotation, context: RotationContext) => Promise<T>,
): Promise<{ outcome: Outcome<T>; row: Rotation }> => {
  const { core, lease, pace, stop } = hand;
  const current = await openWhich(hand, standing.connection.id, standing.current);
  if (!(await lease.have(pace.callMs + leaseMarginMs))) throw new LeaseLost();
  if (stop.aborted) throw new Interrupted('the engine stops');
  const deadlineMs = Math.max(1, Math.min(pace.callMs, lease.leftMs() - leaseMarginMs));
  const signal = AbortSignal.any([AbortSignal.timeout(deadlineMs), stop]);
  let now = row;
  let broken: unknown;
  const context: RotationContext = {
    now: () => core.clock.now(),
    signal,
    rotationId: row.id,
    connection: standing.connection,
    method: row.method,
    current,
    get handle() {
      return now.handle;
    },
    journal: async (handle) => {
      if (signal.aborted) throw new ProviderFailure('timeout', 'the time for this call is over');
      try {
        now = await put(hand, now, { handle }, { type: 'rotation.journalled' });
      } catch (error) {
        broken = error;
        throw error;
      }
    },
  };
  try {
    const value = await inTime(signal, work(standing.rotation, context));
    return { outcome: { ok: true, value }, row: now };
  } catch (error) {
    // The provider may have wrapped what the journal said; and who stops learns nothing of the upstream.
    if (broken !== undefined) throw broken;
    if (stop.aborted) throw new Interrupted('the engine stops');
    if (error instanceof Refused || error instanceof LeaseLost || error instanceof Interrupted) throw error;
    return { outcome: failureOf(hand, row, error), row: now };
  }
};

const failureOf = ({ core }: Hand, row: Rotation, error: unknown): Outcome<never> => {
  core.log.warn({ err: error, rotation: row.id, step: row.step }, 'a step of a rotation failed');
  if (error instanceof ProviderFailure) return { ok: false, refused: error.kind === 'refused', why: error.message };
  return { ok: false, refused: false, why: 'the provider failed' };
};

/** Tries a secret with a real call. */
export const testSecret = async (hand: Hand, row: Rotation, standing: Standing, which: Which) => {
  const secret = await openWhich(hand, standing.connection.id, which);
  return callProvider(hand, row, standing, (rotation, context) => rotation.test(secret, context));
};

/** The secret a rotation made, opened; undefined when it was never kept. */
export const nextSecret = async ({ core }: Hand, row: Rotation): Promise<SecretFields | undefined> =>
  row.to_version === null || row.connection_id === null
    ? undefined
    : openSecretVersion(core, row.connection_id, row.to_version);

/**
 * Whether somebody put a secret in force that has something of the secret `of` which `other` has not: the same login, the
 * same key. To end that one upstream would end the one in force.
 */
export const sharesWhatIsInForce = async (
  hand: Hand,
  row: Rotation,
  of: number | null,
  other: number | null,
): Promise<boolean> => {
  const connection = hand.core.state.connections.get(row.connection_id ?? '');
  if (!connection || of === null || other === null) return false;
  const { id, secret_source: source, secret_version: number } = connection;
  const inForce = source ? 'in a vault' : number;
  if (inForce === null || inForce === other) return false;
  const open = (which: Which) => openWhich(hand, id, which);
  const [held, one, two] = await Promise.all([open(inForce), open(of), open(other)]);
  const its = Object.entries(one).filter(([name, value]) => value.reveal() !== two[name]?.reveal());
  return its.some(([name, value]) => held[name]?.reveal() === value.reveal());
};

/** The write that moves a secret from one state to another. @throws Interrupted when it is not in it */
export const moveSecret = async (
  { core }: Hand,
  connectionId: string,
  number: number,
  state: 'current' | 'previous' | 'retired',
): Promise<Write[]> => {
  const secret = await core.reader.secret(connectionId, number);
  if (!secret) throw new Interrupted('the secret is gone');
  if (secret.state === state) return [];
  const set = { state, version: secret.version + 1, updated_at: core.clock.now() };
  return [{ write: 'update', table: 'secrets', id: secret.id, set, from: { version: secret.version } }];
};
