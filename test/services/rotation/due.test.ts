import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { RotationPolicy, RotationWindow } from '../../../src/domain/rotation.ts';
import {
  dueAt,
  isInside,
  opensAt,
  overdueAfterMs,
  overdueSince,
  periodMs,
  scheduleProblem,
} from '../../../src/services/rotation/due.ts';
import { rotationPolicy } from '../../conformance/rotation-rows.ts';

const at = (text: string): number => Date.parse(`${text}Z`);
const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;
const started = at('2026-11-23T10:00');
const policy = (over: Partial<RotationPolicy>): RotationPolicy =>
  rotationPolicy({ id: 'con_1', created_at: started, ...over });
const night: RotationWindow = { from: 22 * 60, to: 4 * 60 };

describe('a rotation is due', () => {
  test('so long after the last time, a little spread', () => {
    const monthly = { every_seconds: 30 * 86_400 };
    const due = dueAt(policy({ schedule: monthly })) ?? 0;
    expect(due).toBeGreaterThanOrEqual(started + 30 * day);
    expect(due).toBeLessThanOrEqual(started + 30 * day + 15 * minute);
    expect(dueAt(policy({ schedule: monthly, rotated_at: started + day }))).toBeGreaterThanOrEqual(started + 31 * day);
  });

  test('not at the same moment for those of the same schedule, and for each at the same moment whenever it is asked', () => {
    const all = Array.from({ length: 50 }, (_, i) =>
      dueAt(policy({ id: `con_${i}`, schedule: { cron: '0 3 1 * *' } })),
    );
    expect(new Set(all).size).toBeGreaterThan(45);
    expect(all).toEqual(
      Array.from({ length: 50 }, (_, i) => dueAt(policy({ id: `con_${i}`, schedule: { cron: '0 3 1 * *' } }))),
    );
  });

  test('a tenth of a short period is the most it is spread', () => {
    const due = dueAt(policy({ schedule: { every_seconds: 60 } })) ?? 0;
    expect(due - started - 60_000).toBeLessThanOrEqual(6_000);
  });

  test.each([
    ['0 3 1 * *', undefined, '2026-12-01T03:00'],
    ['30 2 * * 1', undefined, '2026-11-30T02:30'],
    // Central European Time is an hour ahead of UTC in winter.
    ['0 3 1 * *', 'Europe/Berlin', '2026-12-01T02:00'],
    ['0 3 1 * *', 'America/New_York', '2026-12-01T08:00'],
  ])('at the times of cron %s in zone %s', (cron, zone, expected) => {
    const due = dueAt(policy({ schedule: { cron, ...(zone ? { time_zone: zone } : {}) } })) ?? 0;
    expect(due - at(expected)).toBeGreaterThanOrEqual(0);
    expect(due - at(expected)).toBeLessThanOrEqual(15 * minute);
  });

  test('at the hour of its zone on the day the clocks change, and once', () => {
    const berlin = { cron: '30 2 * * *', time_zone: 'Europe/Berlin' };
    // On 28 March 2027 there is no 02:30 in Berlin; it is taken at 03:30 there.
    const [first, second] = [
      dueAt(policy({ schedule: berlin, rotated_at: at('2027-03-27T12:00') })),
      periodMs(berlin, at('2027-03-28T12:00')),
    ];
    expect(new Date(first ?? 0).toISOString().slice(0, 13)).toBe('2027-03-28T01');
    expect(second).toBe(day);
  });

  test('never without a schedule', () => {
    expect(dueAt(policy({ schedule: null, window: night }))).toBeUndefined();
  });
});

describe('a window', () => {
  test.each<[RotationWindow, string, boolean]>([
    [night, '2026-11-23T21:59', false],
    [night, '2026-11-23T22:00', true],
    [night, '2026-11-24T03:59', true],
    [night, '2026-11-24T04:00', false],
    // 23 November 2026 is a Monday: Monday's window goes on after midnight.
    [{ ...night, days: [1] }, '2026-11-24T01:00', true],
    [{ ...night, days: [1] }, '2026-11-24T23:00', false],
    [{ from: 0, to: 1440 }, '2026-11-24T23:59', true],
    [{ from: 480, to: 1080, days: [6, 0] }, '2026-11-22T09:00', true],
    [{ from: 480, to: 1080, days: [6, 0] }, '2026-11-23T09:00', false],
  ])('%j at %s is open: %s', (window, time, open) => {
    expect(isInside(window, at(time))).toBe(open);
  });

  test('opens no earlier than it is asked, while it is open, and not later than it must', () => {
    const windows = fc.record({
      from: fc.integer({ min: 0, max: 1439 }),
      to: fc.integer({ min: 0, max: 1440 }),
      days: fc.option(fc.uniqueArray(fc.integer({ min: 0, max: 6 }), { minLength: 1 }), { nil: undefined }),
    });
    fc.assert(
      fc.property(windows, fc.integer({ min: 0, max: 14 * 24 * 60 }), ({ from, to, days }, minutes) => {
        fc.pre(from !== to);
        const window: RotationWindow = { from, to, ...(days ? { days } : {}) };
        const asked = started + minutes * minute;
        const opens = opensAt(window, asked);
        expect(opens).toBeGreaterThanOrEqual(asked);
        expect(isInside(window, opens)).toBe(true);
        if (opens > asked) expect(isInside(window, opens - minute) && opens - minute >= asked).toBe(false);
      }),
    );
  });

  test('is when a rotation that is due begins', () => {
    const due = dueAt(policy({ schedule: { every_seconds: 86_400 }, window: night })) ?? 0;
    expect(due).toBeGreaterThanOrEqual(at('2026-11-24T22:00'));
    expect(due).toBeLessThanOrEqual(at('2026-11-24T22:15'));
    const short = policy({ schedule: { every_seconds: 86_400 }, window: { from: 720, to: 721 } });
    expect(isInside(short.window, dueAt(short) ?? 0)).toBe(true);
  });
});

describe('overdue', () => {
  const daily = policy({ schedule: { every_seconds: 86_400 } });
  const due = dueAt(daily) ?? 0;

  test('is what did not take place a while after its time, once for each period', () => {
    expect(overdueSince(daily, due + overdueAfterMs)).toBeUndefined();
    expect(overdueSince(daily, due + overdueAfterMs + 1)).toBe(due);
    expect(overdueSince(daily, due + day)).toBe(due);
    expect(overdueSince(daily, due + day + overdueAfterMs + 1)).toBe(due + day);
  });
});

describe('a schedule', () => {
  test.each([
    [{ every_seconds: 59 }, 'at least 60 seconds'],
    [{ every_seconds: 1e10 }, 'at most'],
    [{ cron: '* * * *' }, 'not a cron pattern'],
    [{ cron: '0 3 1 * * *' }, 'not a cron pattern'],
    [{ cron: '0 25 * * *' }, 'not a cron pattern'],
    [{ cron: 'once upon a time x' }, 'not a cron pattern'],
    [{ cron: '0 0 30 2 *' }, 'never comes'],
    [{ cron: '0 3 * * *', time_zone: 'Europe/Atlantis' }, 'time zone'],
  ])('%j is refused', (schedule, why) => {
    expect(scheduleProblem(schedule, started)).toContain(why);
  });

  test('that can be used has no problem', () => {
    expect(scheduleProblem({ every_seconds: 60 }, started)).toBeUndefined();
    expect(scheduleProblem({ cron: '0 3 * * MON-FRI', time_zone: 'Europe/Berlin' }, started)).toBeUndefined();
  });
});
