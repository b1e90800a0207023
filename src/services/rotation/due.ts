/** When a rotation is due: pure, from the policy and the time. All times in milliseconds since the epoch. */
import { createHash } from 'node:crypto';
import { Cron } from 'croner';
import type { RotationPolicy, RotationSchedule, RotationWindow } from '../../domain/rotation.ts';

const minuteMs = 60_000;
const dayMinutes = 24 * 60;

/** More often than this is no rotation but a loop; it also leaves room for the steps and a grace. */
export const shortestPeriodSeconds = 60;
export const longestPeriodSeconds = 10 * 366 * 86_400;

/** Rotations of the same time are spread over this long, or a tenth of their period where that is less. */
const longestSpreadMs = 15 * minuteMs;

const parsed = new Map<string, Cron>();
const maxParsed = 1000;
/** Without a function to call, croner makes no timer: it only computes. Standard five fields, as crontab(5) reads them. */
const cronOf = ({ cron, time_zone }: { cron: string; time_zone?: string }): Cron => {
  const key = JSON.stringify([cron, time_zone]);
  let known = parsed.get(key);
  if (!known) {
    known = new Cron(cron, { timezone: time_zone ?? 'UTC', mode: '5-part' });
    if (parsed.size >= maxParsed) parsed.clear();
    parsed.set(key, known);
  }
  return known;
};

/** @returns the first time of the schedule after `after`; undefined when there is none */
const nextAfter = (schedule: RotationSchedule, after: number): number | undefined =>
  'cron' in schedule ? cronOf(schedule).nextRun(new Date(after))?.getTime() : after + schedule.every_seconds * 1000;

/** @returns what is wrong with a schedule, as an operator wrote it; undefined when it can be used */
export const scheduleProblem = (schedule: RotationSchedule, now: number): string | undefined => {
  if (!('cron' in schedule)) {
    const { every_seconds: every } = schedule;
    if (every < shortestPeriodSeconds) return `at least ${shortestPeriodSeconds} seconds`;
    return every > longestPeriodSeconds ? `at most ${longestPeriodSeconds} seconds` : undefined;
  }
  let first: number | undefined;
  try {
    first = nextAfter(schedule, now);
  } catch (error) {
    return error instanceof Error
      ? `not a cron pattern of five fields, or no such time zone: ${error.message}`
      : 'not a cron pattern';
  }
  return first === undefined ? 'never comes' : undefined;
};

/** How far apart two times of the schedule are, from `at` on. */
export const periodMs = (schedule: RotationSchedule, at: number): number => {
  const first = nextAfter(schedule, at);
  const second = first === undefined ? undefined : nextAfter(schedule, first);
  return first === undefined || second === undefined ? longestPeriodSeconds * 1000 : second - first;
};

/** @returns whether a rotation may begin at this moment */
export const isInside = (window: RotationWindow | null, at: number): boolean => {
  if (!window) return true;
  const minute = Math.floor(at / minuteMs) % dayMinutes;
  const wraps = window.from > window.to;
  const open = wraps ? minute >= window.from || minute < window.to : minute >= window.from && minute < window.to;
  if (!open) return false;
  // After midnight it is still the window that opened the day before.
  const opened = new Date(wraps && minute < window.to ? at - dayMinutes * minuteMs : at).getUTCDay();
  return window.days === undefined || window.days.includes(opened);
};

/** @returns `at` where the window is open then, and when it opens next otherwise */
export const opensAt = (window: RotationWindow | null, at: number): number => {
  if (!window || isInside(window, at)) return at;
  const midnight = Math.floor(at / (dayMinutes * minuteMs)) * dayMinutes * minuteMs;
  for (let day = 0; day <= 8; day += 1) {
    const opening = midnight + (day * dayMinutes + window.from) * minuteMs;
    if (opening >= at && isInside(window, opening)) return opening;
  }
  throw new RangeError('a window that never opens');
};

/** A fraction from 0 to 1 that is the same for the same policy at the same time: a restart must not draw another one. */
const share = (id: string, at: number): number =>
  createHash('sha256').update(`${id} ${at}`).digest().readUInt32BE(0) / 2 ** 32;

type Planned = Pick<RotationPolicy, 'id' | 'schedule' | 'window' | 'rotated_at' | 'created_at'>;

interface Plan {
  due: number;
  /** From then to the next time. */
  periodMs: number;
}

/** Rows are replaced, never changed in place, so a plan holds for its row. A cron pattern is slow, and all policies are looked at often. */
const plans = new WeakMap<Planned, { plan: Plan | undefined }>();

const planOf = (policy: Planned): Plan | undefined => {
  const known = plans.get(policy);
  if (known) return known.plan;
  const plan = planned(policy);
  plans.set(policy, { plan });
  return plan;
};

const planned = (policy: Planned): Plan | undefined => {
  const { schedule, window } = policy;
  if (!schedule) return undefined;
  const base = policy.rotated_at ?? policy.created_at;
  const nominal = nextAfter(schedule, base);
  if (nominal === undefined) return undefined;
  const opening = opensAt(window, nominal);
  const spread = Math.min(longestSpreadMs, periodMs(schedule, base) / 10) * share(policy.id, nominal);
  const at = opening + Math.floor(spread);
  const due = isInside(window, at) ? at : opening;
  return { due, periodMs: periodMs(schedule, due) };
};

/** @returns when the next rotation of this policy begins: due by its schedule, in its window, a little spread; undefined: never */
export const dueAt = (policy: Planned): number | undefined => planOf(policy)?.due;

/** A rotation that did not take place so long after its time is overdue. */
export const overdueAfterMs = 15 * minuteMs;

/**
 * @returns for a policy whose rotation is overdue: the time it is reported for, once; a whole period later it is another
 * time
 */
export const overdueSince = (policy: Planned, now: number): number | undefined => {
  const plan = planOf(policy);
  if (!plan || now <= plan.due + overdueAfterMs) return undefined;
  const period = Math.max(plan.periodMs, overdueAfterMs);
  return plan.due + Math.floor((now - overdueAfterMs - plan.due) / period) * period;
};
