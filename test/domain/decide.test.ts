import { afterEach, describe, expect, jest, test } from '@jest/globals';
import fc from 'fast-check';
import { systemClock } from '../../adapters/system.ts';
import {
  type Decision,
  decide,
  defaultGrantSeconds,
  inForce,
  longestGrantSeconds,
  renewedEnd,
} from '../../src/domain/decide.ts';
import { FenceIndex } from '../../src/domain/fences.ts';
import { deadGrant } from '../../src/domain/liveness.ts';
import type { Entitlement } from '../../src/domain/model.ts';
import { agentRow, connectionRow, entitlementRow, grantRow, noon } from './rows.ts';

const scopeNames = ['read', 'write', 'admin', 'Read', 'x'];
const scopes = fc.subarray(scopeNames);
const minuteOfDay = fc.integer({ min: 0, max: 1440 });
const moment = fc.integer({ min: noon - 2 * 86_400_000, max: noon + 2 * 86_400_000 });

const entitlement: fc.Arbitrary<Entitlement> = fc
  .record({
    scopes: fc.subarray(scopeNames, { minLength: 1 }),
    // Above the longest life of all, too: a row written by hand must not get more.
    max_ttl_seconds: fc.oneof(fc.integer({ min: 1, max: 200_000 }), fc.constantFrom(1, 60, 86_400, 86_401)),
    approval: fc.constantFrom('none', 'none', 'required'),
    hours: fc.option(fc.record({ from: minuteOfDay, to: minuteOfDay })),
    expires_at: fc.option(moment),
  })
  .map((fields) => entitlementRow(fields));

const situation = fc.record({
  agentStatus: fc.constantFrom('active', 'active', 'active', 'suspended'),
  connectionStatus: fc.constantFrom('active', 'active', 'active', 'suspended', 'missing'),
  entitlements: fc.array(entitlement, { maxLength: 4 }),
  offered: scopes,
  asked: scopes,
  ttlSeconds: fc.option(fc.integer({ min: 1, max: 200_000 }), { nil: undefined }),
  now: moment,
});
type Situation = typeof situation extends fc.Arbitrary<infer S> ? S : never;

const decided = (given: Situation): Decision =>
  decide(
    agentRow({ status: given.agentStatus === 'active' ? 'active' : 'suspended' }),
    given.connectionStatus === 'missing'
      ? undefined
      : connectionRow({ status: given.connectionStatus === 'active' ? 'active' : 'suspended' }),
    given.entitlements.map((row, i) => ({ ...row, id: `ent_${i}` })),
    given.offered,
    { scopes: given.asked, ttlSeconds: given.ttlSeconds },
    given.now,
  );

/** The rule, written the slow and obvious way: what one entitlement would allow. */
const allows = (row: Entitlement, given: Situation): boolean => {
  const minute = Math.floor((given.now / 60_000) % 1440);
  const inHours =
    row.hours === null ||
    Array.from({ length: 1440 }, (_, i) => i)
      .filter((i) => {
        const { from, to } = row.hours ?? { from: 0, to: 0 };
        return from <= to ? i >= from && i < to : i >= from || i < to;
      })
      .includes(minute);
  return (
    given.agentStatus === 'active' &&
    given.connectionStatus === 'active' &&
    (row.expires_at === null || given.now < row.expires_at) &&
    inHours &&
    given.asked.length > 0 &&
    given.asked.every((scope) => row.scopes.includes(scope) && given.offered.includes(scope)) &&
    row.approval === 'none' &&
    (given.ttlSeconds ?? 1) <= Math.min(row.max_ttl_seconds, longestGrantSeconds)
  );
};

describe('a decision', () => {
  test('allows exactly what some entitlement allows by itself, and nothing that none does', () => {
    fc.assert(
      fc.property(situation, (given) => {
        const decision = decided(given);
        expect(decision.outcome === 'allow').toBe(given.entitlements.some((row) => allows(row, given)));
        if (decision.outcome === 'allow') expect(allows(decision.entitlement, given)).toBe(true);
      }),
      { numRuns: 3000 },
    );
  });

  test('grants no more scopes than asked, entitled and offered, and no fewer than asked', () => {
    fc.assert(
      fc.property(situation, (given) => {
        const decision = decided(given);
        if (decision.outcome !== 'allow') return;
        expect([...decision.scopes].sort()).toEqual([...given.asked].sort());
        for (const scope of decision.scopes) {
          expect(decision.entitlement.scopes).toContain(scope);
          expect(given.offered).toContain(scope);
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('ends within what was asked, the longest life, a day, and the end of the entitlement', () => {
    fc.assert(
      fc.property(situation, (given) => {
        const decision = decided(given);
        if (decision.outcome !== 'allow') return;
        const { entitlement: row, issuedAt, expiresAt, maxExpiresAt } = decision;
        const longestMs = Math.min(row.max_ttl_seconds, longestGrantSeconds) * 1000;
        expect(issuedAt).toBe(given.now);
        expect(expiresAt).toBeGreaterThan(issuedAt);
        expect(expiresAt).toBeLessThanOrEqual(maxExpiresAt);
        expect(expiresAt).toBeLessThanOrEqual(issuedAt + (given.ttlSeconds ?? defaultGrantSeconds) * 1000);
        expect(maxExpiresAt).toBeLessThanOrEqual(issuedAt + longestMs);
        if (row.expires_at !== null) expect(maxExpiresAt).toBeLessThanOrEqual(row.expires_at);
      }),
      { numRuns: 2000 },
    );
  });

  test('says the same of a connection that does not exist, is suspended, or is not this agent’s', () => {
    const ask = { scopes: ['read'] };
    const rows = [entitlementRow()];
    const missing = decide(agentRow(), undefined, rows, ['read'], ask, noon);
    expect(missing).toMatchObject({ outcome: 'deny', code: 'not_entitled' });
    expect(decide(agentRow(), connectionRow({ status: 'suspended' }), rows, ['read'], ask, noon)).toEqual(missing);
    expect(decide(agentRow(), connectionRow(), [], ['read'], ask, noon)).toEqual(missing);
    const over = entitlementRow({ expires_at: noon });
    expect(decide(agentRow(), connectionRow(), [over], ['read'], ask, noon)).toEqual(missing);
  });

  test('does not put two entitlements together to one that nobody gave', () => {
    const rows = [entitlementRow({ scopes: ['read'] }), entitlementRow({ scopes: ['write'] })];
    const decision = decide(agentRow(), connectionRow(), rows, ['read', 'write'], { scopes: ['read', 'write'] }, noon);
    expect(decision).toMatchObject({ outcome: 'deny', code: 'scope_not_allowed' });
  });

  test('asks for a person only where no entitlement does without one', () => {
    const strict = entitlementRow({ approval: 'required' });
    const free = entitlementRow({ id: 'ent_2' });
    const ask = { scopes: ['read'] };
    expect(decide(agentRow(), connectionRow(), [strict], ['read'], ask, noon).outcome).toBe('needs_approval');
    expect(decide(agentRow(), connectionRow(), [strict, free], ['read'], ask, noon)).toMatchObject({
      outcome: 'allow',
      entitlement: { id: 'ent_2' },
    });
  });

  test.each([
    ['within the day', { from: 480, to: 1080 }, [480, 600, 1079], [0, 479, 1080, 1439]],
    ['over midnight', { from: 1320, to: 360 }, [1320, 1439, 0, 359], [360, 720, 1319]],
    ['to the end of the day', { from: 600, to: 1440 }, [600, 1439], [0, 599]],
    ['of no length', { from: 600, to: 600 }, [], [0, 599, 600, 601]],
  ])('keeps to hours %s', (_what, hours, inside, outside) => {
    const at = (minute: number): number => Date.UTC(2026, 10, 22) + minute * 60_000 + 59_999;
    for (const minute of inside) expect(inForce(entitlementRow({ hours }), at(minute))).toBe(true);
    for (const minute of outside) expect(inForce(entitlementRow({ hours }), at(minute))).toBe(false);
  });
});

/** A machine whose two clocks the test moves: the real one (monotonic), and the wall, which jumps. */
const machine = (wallStart: number, monotonicStart: number) => {
  let wall = wallStart;
  let monotonic = monotonicStart;
  jest.spyOn(Date, 'now').mockImplementation(() => Math.floor(wall));
  jest.spyOn(performance, 'now').mockImplementation(() => monotonic);
  return {
    /** Milliseconds since the machine was started. */
    elapsed: () => monotonic - monotonicStart,
    pass: (ms: number): void => {
      wall += ms;
      monotonic += ms;
    },
    jump: (ms: number): void => {
      wall += ms;
    },
  };
};

afterEach(() => {
  jest.restoreAllMocks();
});

describe('the clock', () => {
  const step = fc.record({
    pass: fc.oneof(fc.double({ min: 0, max: 5_000, noNaN: true }), fc.integer({ min: 0, max: 86_400_000 })),
    jump: fc.oneof(fc.constant(0), fc.integer({ min: -10_000_000_000, max: 10_000_000_000 })),
  });

  test('never goes back, and loses at most a millisecond against real time, however the wall clock jumps', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: -10_000_000, max: 10_000_000 }),
        fc.double({ min: 0, max: 1e9, noNaN: true }),
        fc.array(step, { maxLength: 20 }),
        (ahead, uptime, steps) => {
          const hardware = machine(noon, uptime);
          const floor = noon + ahead;
          const clock = systemClock(floor);
          const start = clock.now();
          expect(start).toBeGreaterThanOrEqual(Math.max(noon, floor) - 1);
          let last = start;
          for (const { pass, jump } of steps) {
            hardware.pass(pass);
            hardware.jump(jump);
            const now = clock.now();
            expect(Number.isInteger(now)).toBe(true);
            expect(now).toBeGreaterThanOrEqual(last);
            expect(now - start).toBeGreaterThanOrEqual(Math.floor(hardware.elapsed()) - 2);
            last = now;
          }
        },
      ),
    );
  });

  test('follows the wall clock forward, and starts behind nothing the ledger has seen', () => {
    const hardware = machine(noon, 1000);
    const clock = systemClock(noon + 5_000);
    expect(clock.now()).toBe(noon + 5_000);
    hardware.jump(60_000);
    expect(clock.now()).toBe(noon + 60_000);
    hardware.jump(-3_600_000);
    hardware.pass(10);
    expect(clock.now()).toBe(noon + 60_010);
  });
});

describe('a lease', () => {
  const renewal = fc.record({
    /** Real time until it is asked for; often near the end. */
    pass: fc.oneof(
      fc.integer({ min: 0, max: 100_000 }),
      fc.constantFrom(0, 1, 999, 1000, 1001, 59_000, 59_999, 60_000, 60_001),
    ),
    jump: fc.oneof(fc.constant(0), fc.integer({ min: -200_000_000, max: 200_000_000 })),
    ttlSeconds: fc.oneof(fc.integer({ min: 1, max: 200 }), fc.constantFrom(1, 60, 86_400, 31_536_000)),
  });

  test('never outlives its longest life, in real time, whenever it is renewed and however the wall clock jumps', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 120 }),
        fc.integer({ min: 1, max: 120 }),
        fc.array(renewal, { maxLength: 12 }),
        (longestSeconds, askedSeconds, renewals) => {
          const hardware = machine(noon, 12_345.678);
          const clock = systemClock(0);
          const row = entitlementRow({ max_ttl_seconds: longestSeconds });
          const ask = { scopes: ['read'], ttlSeconds: Math.min(askedSeconds, longestSeconds) };
          const decision = decide(agentRow(), connectionRow(), [row], ['read'], ask, clock.now());
          if (decision.outcome !== 'allow') throw new Error('not allowed');
          let grant = grantRow({
            issued_at: decision.issuedAt,
            expires_at: decision.expiresAt,
            max_expires_at: decision.maxExpiresAt,
          });
          const fences = new FenceIndex();
          const alive = (): boolean => deadGrant(grant, agentRow(), connectionRow(), fences, clock.now()) === undefined;
          let wasDead = false;
          for (const { pass, jump, ttlSeconds } of renewals) {
            hardware.pass(pass);
            hardware.jump(jump);
            // What is dead stays dead: nothing renews it, no clock revives it.
            if (!alive()) wasDead = true;
            expect(alive() && wasDead).toBe(false);
            if (alive()) {
              const end = Math.max(grant.expires_at, renewedEnd(grant, ttlSeconds, clock.now()));
              grant = { ...grant, expires_at: end };
            }
            expect(grant.expires_at).toBeLessThanOrEqual(decision.issuedAt + longestSeconds * 1000);
            // A clock in whole milliseconds may be one behind.
            if (alive()) expect(hardware.elapsed()).toBeLessThanOrEqual(longestSeconds * 1000 + 1);
          }
          hardware.pass(longestSeconds * 1000 + 2);
          expect(alive()).toBe(false);
        },
      ),
      { numRuns: 1000 },
    );
  });

  test('renewed within its last second ends when its longest life ends, to the millisecond', () => {
    const grant = { max_expires_at: noon + 60_000 };
    for (const left of [1, 2, 500, 999, 1000, 1001]) {
      expect(renewedEnd(grant, 60, noon + 60_000 - left)).toBe(noon + 60_000);
      expect(renewedEnd(grant, 1, noon + 60_000 - left)).toBe(noon + 60_000 + Math.min(0, 1000 - left));
    }
  });
});
