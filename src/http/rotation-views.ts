/** How rotations and their policies are shown. */
import type { Rotation, RotationPolicy, RotationSchedule } from '../domain/rotation.ts';
import type { Core } from '../services/core.ts';
import { dueAt, opensAt, overdueAfterMs } from '../services/rotation/due.ts';
import { isAccountsMethod } from '../services/rotation/method.ts';
import { iso, isoOrNull } from './views.ts';

/** As they are written in a window, Sunday first. */
export const days = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const;

const shownClock = (minutes: number): string =>
  `${String(Math.floor(minutes / 60)).padStart(2, '0')}:${String(minutes % 60).padStart(2, '0')}`;

/** What a rotation is about: one of the two. */
const subjectOf = (core: Core, row: Pick<Rotation | RotationPolicy, 'connection_id'>, id: string) =>
  row.connection_id === null
    ? { connection: null, key: id }
    : { connection: core.state.connections.get(row.connection_id)?.name ?? row.connection_id, key: null };

/** Never the handle, the settings or the method: of those the audit log and the policy speak. */
export const rotationView = (core: Core, row: Rotation) => ({
  id: row.id,
  ...subjectOf(core, row, row.policy_id),
  status: row.status,
  step: row.step,
  attempt: row.attempt,
  why: row.cause,
  reason: row.reason,
  requested_by: row.requested_by,
  revocation: row.revocation_id,
  from_version: row.from_version,
  to_version: row.to_version,
  fence: row.fence,
  failure: row.failure,
  ...(isAccountsMethod(row.method) && row.handle ? { accounts: row.handle } : {}),
  asked_at: iso(row.created_at),
  started_at: isoOrNull(row.started_at),
  in_force_at: isoOrNull(row.finished_at),
  retires_at: isoOrNull(row.retire_at),
  ended_at: isoOrNull(row.ended_at),
  next_at: isoOrNull(nextAt(core, row)),
  waits_for: waitsFor(core, row),
});

/** The stuck rotation that one has to wait for: it was tried again when this one was asked for, and is still stuck. */
const waitsFor = (core: Core, row: Rotation): string | null => {
  if (row.status !== 'asked') return null;
  const stuck = core.state.rotations.ofPolicy(row.policy_id).find(({ status }) => status === 'stuck');
  return stuck && stuck.updated_at > row.created_at ? stuck.id : null;
};

/** When something is done about it next, as far as that is known. */
const nextAt = (core: Core, row: Rotation): number | null => {
  if (row.ended_at !== null) return null;
  if (row.status !== 'asked' || row.at_once) return row.not_before;
  return opensAt(
    core.state.rotationPolicies.get(row.policy_id)?.window ?? null,
    Math.max(row.not_before, core.clock.now()),
  );
};

const scheduleView = (schedule: RotationSchedule | null) => ({
  every_seconds: schedule && 'every_seconds' in schedule ? schedule.every_seconds : null,
  cron: schedule && 'cron' in schedule ? schedule.cron : null,
  time_zone: schedule && 'cron' in schedule ? (schedule.time_zone ?? 'UTC') : null,
});

const windowView = ({ window }: RotationPolicy) =>
  window && {
    ...(window.days ? { days: window.days.flatMap((day) => days[day] ?? []) } : {}),
    from: shownClock(window.from),
    to: shownClock(window.to),
  };

export const policyView = (core: Core, policy: RotationPolicy) => {
  const due = dueAt(policy);
  return {
    ...subjectOf(core, policy, policy.id),
    ...scheduleView(policy.schedule),
    window: windowView(policy),
    grace_seconds: policy.grace_seconds,
    fence: policy.fence,
    method: policy.method,
    rotated_at: isoOrNull(policy.rotated_at),
    due_at: isoOrNull(due ?? null),
    overdue: due !== undefined && core.clock.now() > due + overdueAfterMs,
    version: policy.version,
    created_at: iso(policy.created_at),
    updated_at: iso(policy.updated_at),
  };
};

/** Of those that have not ended the one that is furthest. */
const currentOf = (core: Core, policyId: string): Rotation | undefined => {
  const open = core.state.rotations.ofPolicy(policyId);
  return open.find(({ status }) => status !== 'asked') ?? open[0];
};

export const rotationList = async (core: Core) => {
  const last = new Map((await core.reader.lastRotations()).map((row) => [row.policy_id, row]));
  const ids = new Set([
    ...core.state.rotationPolicies.all().map(({ id }) => id),
    ...core.state.rotations.all().map(({ policy_id }) => policy_id),
  ]);
  return [...ids].sort().map((id) => {
    const policy = core.state.rotationPolicies.get(id);
    const current = currentOf(core, id);
    const before = last.get(id);
    const about = policy ?? current;
    return {
      ...subjectOf(core, { connection_id: about?.connection_id ?? null }, id),
      policy: policy ? policyView(core, policy) : null,
      current: current ? rotationView(core, current) : null,
      last: before ? rotationView(core, before) : null,
    };
  });
};
