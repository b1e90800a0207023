/**
 * Asking for a rotation: the writes that ask for it, alone or in somebody else's changeset. They never collide with
 * anything: a request waits in the ledger until the engine (engine.ts) comes to it, also behind a rotation that runs.
 */
import type { AuditRecord } from '../../domain/audit-entry.ts';
import type { Connection } from '../../domain/model.ts';
import type { Rotation, RotationCause } from '../../domain/rotation.ts';
import type { Write } from '../../ports/ledger.ts';
import { type Caller, type Core, newId, record } from '../core.ts';
import { methodOf } from './method.ts';

export interface RotationRequest {
  why: RotationCause;
  reason: string | null;
  caller: Caller;
  /** The revocation it comes from. */
  revocation?: string | undefined;
  /** Whether grants of the secret before are fenced when the new one is in force; as the policy says unless given. */
  fence?: boolean | undefined;
  /**
   * Whether it begins at once, and the secret before gets no grace, or in the policy's window and with its grace. Unless
   * given: at once after a revocation and in an incident, where the secret before is to be dead soon.
   */
  now?: boolean | undefined;
}

/** @returns why the secret of this connection cannot be rotated, and what to do instead; undefined when it can */
export const rotationProblem = (core: Core, connection: Connection): string | undefined => {
  const method = methodOf(core, connection);
  return method.ok ? undefined : method.problem;
};

/**
 * What asks for a rotation; the engine hears of the commit and begins. The caller has seen that there is no
 * {@link rotationProblem}.
 */
export const prepareRotation = (
  core: Core,
  connection: Connection,
  request: RotationRequest,
): { writes: Write[]; audit: AuditRecord[]; rotation: Rotation } => {
  const policy = core.state.rotationPolicies.get(connection.id);
  const exposed = request.why === 'revocation' || request.why === 'incident';
  const rotation = askedRow(core, {
    policy_id: connection.id,
    connection_id: connection.id,
    cause: request.why,
    reason: request.reason,
    requested_by: requester(request.caller),
    revocation_id: request.revocation ?? null,
    fence: request.fence ?? policy?.fence ?? false,
    at_once: request.now ?? exposed,
    grace_seconds: exposed ? 0 : (policy?.grace_seconds ?? defaultGraceSeconds),
  });
  return {
    rotation,
    writes: [{ write: 'insert', table: 'rotations', row: rotation }],
    audit: [askedRecord(core, request.caller, rotation)],
  };
};

/** Without a policy: long enough for what is under way with the secret before. */
export const defaultGraceSeconds = 3600;

const requester = ({ actor }: Caller): string => (actor.kind === 'anonymous' ? 'anonymous' : actor.name);

type Asked = Pick<
  Rotation,
  'policy_id' | 'connection_id' | 'cause' | 'reason' | 'requested_by' | 'fence' | 'at_once' | 'grace_seconds'
> &
  Partial<Pick<Rotation, 'revocation_id' | 'attempt' | 'not_before'>>;

/** A rotation that has not begun. */
export const askedRow = (core: Pick<Core, 'clock' | 'entropy'>, asked: Asked): Rotation => {
  const now = core.clock.now();
  return {
    id: newId(core, 'rot'),
    policy_id: asked.policy_id,
    connection_id: asked.connection_id,
    status: 'asked',
    step: 'create',
    from_version: null,
    to_version: null,
    settings: {},
    method: {},
    grace_seconds: asked.grace_seconds,
    fence: asked.fence,
    handle: null,
    attempt: asked.attempt ?? 1,
    tries: 0,
    cause: asked.cause,
    reason: asked.reason,
    requested_by: asked.requested_by,
    revocation_id: asked.revocation_id ?? null,
    at_once: asked.at_once,
    not_before: asked.not_before ?? now,
    retire_at: null,
    failure: null,
    started_at: null,
    finished_at: null,
    ended_at: null,
    version: 1,
    created_at: now,
    updated_at: now,
  };
};

/** The connection or key a rotation is about, as audit entries name it. */
export const rotationNames = (core: Core, rotation: Pick<Rotation, 'connection_id' | 'policy_id'>) => {
  const { connection_id: id } = rotation;
  if (id === null) return {};
  return { connection: { id, name: core.state.connections.get(id)?.name ?? id } };
};

export const askedRecord = (core: Core, caller: Caller, rotation: Rotation): AuditRecord =>
  record(core, caller, {
    type: 'rotation.asked',
    ...rotationNames(core, rotation),
    data: {
      rotation: rotation.id,
      key: rotation.connection_id === null ? rotation.policy_id : undefined,
      why: rotation.cause,
      reason: rotation.reason,
      revocation: rotation.revocation_id ?? undefined,
      fence: rotation.fence,
      at_once: rotation.at_once,
      attempt: rotation.attempt,
      not_before: new Date(rotation.not_before).toISOString(),
    },
  });
