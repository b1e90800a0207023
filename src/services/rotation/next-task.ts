/** What there is to do for one connection or key, or when to look again: read from memory, nothing is decided twice. */
import type { Rotation, RotationPolicy } from '../../domain/rotation.ts';
import type { Core } from '../core.ts';
import { dueAt, isInside, opensAt, overdueAfterMs, overdueSince } from './due.ts';

/** Clocks that differ by less are not worth a try before its time. */
const clockStepMs = 60_000;

export type Task =
  /** By its schedule it is time to ask for a rotation. */
  | { do: 'ask'; policy: RotationPolicy }
  | { do: 'report overdue'; policy: RotationPolicy; due: number }
  | { do: 'begin'; row: Rotation }
  /** @property nudged somebody changed something, or asked, since it was tried last; `wanted` another one waits for it */
  | { do: 'go on'; row: Rotation; nudged: boolean; wanted: boolean };

/** @returns a task for now, or the moment at which there may be one; undefined when only a change can bring one */
export const nextTask = (
  core: Pick<Core, 'state'>,
  policyId: string,
  now: number,
): Task | { at: number } | undefined => {
  const policy = core.state.rotationPolicies.get(policyId);
  const rows = core.state.rotations.ofPolicy(policyId);
  const underWay = rows.find(({ status }) => status !== 'asked');
  // A schedule waits while everything is frozen: after a restore, until somebody says that this broker is the one.
  const paused = core.state.freezes.all().some(({ selector }) => selector.everything === true);
  const asked = rows.filter(({ status, cause }) => status === 'asked' && !(paused && cause === 'schedule'));

  const wakeUps: number[] = [];
  const planned = policy && dueAt(policy);
  if (policy) {
    const overdue = overdueSince(policy, now);
    if (overdue !== undefined && (policy.overdue_reported ?? 0) < overdue) {
      return { do: 'report overdue', policy, due: overdue };
    }
  }
  if (planned !== undefined && planned + overdueAfterMs >= now) wakeUps.push(planned + overdueAfterMs + 1);

  const startable = startableOf(asked, policy, now);
  if (underWay) {
    const wanted = startable.row !== undefined;
    const task = goOn(core, underWay, asked, wanted, now);
    if ('do' in task) return task;
    wakeUps.push(task.at);
  } else if (startable.row) {
    return { do: 'begin', row: startable.row };
  }
  if (startable.at !== undefined) wakeUps.push(startable.at);
  if (policy && rows.length === 0 && planned !== undefined && !paused) {
    if (planned <= now) return { do: 'ask', policy };
    wakeUps.push(planned);
  }
  return wakeUps.length === 0 ? undefined : { at: Math.min(...wakeUps) };
};

/** The first of those that were asked for whose time has come. */
const startableOf = (
  asked: readonly Rotation[],
  policy: RotationPolicy | undefined,
  now: number,
): { row?: Rotation; at?: number } => {
  const window = policy?.window ?? null;
  const row = asked.find((one) => one.not_before <= now && (one.at_once || isInside(window, now)));
  if (row) return { row };
  const times = asked.map((one) => {
    const earliest = Math.max(one.not_before, now);
    return one.at_once ? earliest : opensAt(window, earliest);
  });
  return times.length === 0 ? {} : { at: Math.min(...times) };
};

const goOn = (
  core: Pick<Core, 'state'>,
  row: Rotation,
  asked: readonly Rotation[],
  wanted: boolean,
  now: number,
): Task | { at: number } => {
  const connection = core.state.connections.get(row.connection_id ?? '');
  // What is of a time to come (the clock was put back) would touch it again after every try.
  const since = (at: number): boolean => at > row.updated_at && at <= now;
  const touched = since(connection?.updated_at ?? 0) || asked.some((one) => since(one.created_at));
  const nudged = row.status === 'stuck' && (touched || (wanted && row.step === 'retire'));
  // Whoever asks for another rotation does not wait for the grace of this one; its failures it does.
  const cut = row.status === 'grace' && wanted && row.tries === 0;
  const at =
    row.status === 'grace' ? Math.max(row.not_before, row.tries === 0 ? (row.retire_at ?? 0) : 0) : row.not_before;
  // Put off by a clock that was far ahead: until then could be years. A grace that is too long does no harm.
  const putBack = row.status !== 'grace' && row.updated_at > now + clockStepMs;
  // A connection that was deleted leaves nothing to wait for.
  return nudged || cut || putBack || at <= now || !connection ? { do: 'go on', row, nudged, wanted } : { at };
};
