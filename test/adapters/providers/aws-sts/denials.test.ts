/** The policy that denies sessions: what it says is what AWS reads, and nothing is dropped that still denies something. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  type Denials,
  denies,
  fitted,
  noDenials,
  readDenials,
  union,
  withoutWhatIsOver,
  writeDenials,
} from '../../../../adapters/providers/aws-sts/denials.ts';
import { readPattern, sessionName } from '../../../../adapters/providers/aws-sts/session-name.ts';
import { makeId } from '../../../../src/domain/ids.ts';
import { isAllowed, parsePolicy } from '../../../vendors/aws/policy.ts';

const now = Date.UTC(2026, 10, 22, 12);
const minute = 60_000;
const hour = 60 * minute;

interface Made {
  name: string;
  pattern: string;
  issuedAt: number;
  until: number;
}

/** Sessions of grants issued up to an hour ago or just now, with up to twelve hours to go. */
const madeSession = fc
  .record({
    agent: fc.stringMatching(/^[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?$/),
    issuedAgo: fc.integer({ min: 0, max: hour }),
    left: fc.integer({ min: -hour, max: 12 * hour }),
    random: fc.uint8Array({ minLength: 10, maxLength: 10 }),
  })
  .map(({ agent, issuedAgo, left, random }): Made => {
    const issuedAt = now - issuedAgo;
    const until = Math.floor((now + left) / 1000) * 1000;
    const { name, pattern } = sessionName('warder', agent, makeId('grt', issuedAt, random), until);
    return { name, pattern, issuedAt, until };
  });

const of = (sessions: readonly Made[], olderThan = 0): Denials => ({
  patterns: new Set(sessions.map(({ pattern }) => pattern)),
  olderThan,
});

/** As AWS decides about a session that was issued `delayMs` after Warder asked for it. */
const isDenied = (denials: Denials, { name, issuedAt }: Made, delayMs = 0): boolean => {
  if (denials.patterns.size === 0 && denials.olderThan === 0) return false;
  const all = parsePolicy('{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}');
  return !isAllowed([all, parsePolicy(writeDenials(denials))], undefined, {
    action: 's3:GetObject',
    resource: 'arn:aws:s3:::a/b',
    context: {
      'aws:userid': `AROAABCDEFGHIJKLMNOP:${name}`,
      'aws:TokenIssueTime': new Date(Math.floor((issuedAt + delayMs) / 1000) * 1000).toISOString(),
    },
  });
};

describe('a session’s name', () => {
  test('fits AWS for every agent and prefix, and its pattern tells when it was issued and when it ends', () => {
    fc.assert(
      fc.property(madeSession, ({ name, pattern, issuedAt, until }) => {
        expect(name).toMatch(/^[\w+=,.@-]{2,64}$/);
        expect(readPattern(pattern)).toEqual({ issuedAt, until });
      }),
    );
  });

  test('is denied by its own pattern and by no other', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(madeSession, { minLength: 2, maxLength: 8, selector: ({ pattern }) => pattern }),
        (all) => {
          const [first, ...others] = all as [Made, ...Made[]];
          expect(isDenied(of([first]), first)).toBe(true);
          for (const other of others) expect(isDenied(of([first]), other)).toBe(false);
        },
      ),
    );
  });
});

describe('the denying policy', () => {
  test('reads back as it was written', () => {
    fc.assert(
      fc.property(fc.array(madeSession, { maxLength: 50 }), fc.constantFrom(0, now - hour), (sessions, olderThan) => {
        const denials = of(sessions, olderThan);
        expect(readDenials(writeDenials(denials))).toEqual(denials);
      }),
    );
  });

  test.each([
    ['nothing', ''],
    ['no JSON', '<<<'],
    ['another policy', '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}'],
    ['names that are not sessions', writeDenials({ patterns: new Set(['*', '*:admin', '*.grt_x.1']), olderThan: 0 })],
    ['a number', '7'],
    [
      'a moment that is none',
      writeDenials(noDenials).replace(
        '[]',
        '[{"Condition":{"StringLike":{"aws:userid":"*"},"DateLessThan":{"aws:TokenIssueTime":"soon"}}}]',
      ),
    ],
  ])('takes %s for an empty one', (_what, text) => {
    expect(readDenials(text)).toEqual(noDenials);
  });

  test('drops only what denies nothing any more', () => {
    fc.assert(
      fc.property(fc.array(madeSession, { maxLength: 50 }), fc.integer({ min: 0, max: 2 * hour }), (sessions, ago) => {
        const kept = withoutWhatIsOver(of(sessions, ago === 0 ? 0 : now - ago), now);
        for (const session of sessions) {
          if (session.until > now) expect(denies(kept, session.pattern)).toBe(true);
        }
      }),
    );
  });

  test('fits into its room, and still denies every session that was revoked, even one AWS issued late', () => {
    fc.assert(
      fc.property(
        fc.array(madeSession, { minLength: 1, maxLength: 400 }),
        fc.integer({ min: 1_500, max: 8_000 }),
        fc.integer({ min: 0, max: 10_000 }),
        (sessions, room, delayMs) => {
          const denials = fitted(of(sessions), now, room);
          if (!denials) {
            // Only a crowd of the last minute cannot be folded yet.
            const young = sessions.filter(({ issuedAt, until }) => issuedAt >= now - 61_000 && until > now - minute);
            expect(young.length * 30).toBeGreaterThan(room / 4);
            return;
          }
          expect(writeDenials(denials).length).toBeLessThanOrEqual(room);
          expect(denials.olderThan).toBeLessThanOrEqual(now);
          for (const session of sessions) {
            if (session.until > now) expect(isDenied(denials, session, delayMs)).toBe(true);
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  test('when it folds, leaves alone sessions of others and those issued from now on', () => {
    const old = Array.from({ length: 400 }, (_, i) => {
      const issuedAt = now - hour + i * 1_000;
      const { name, pattern } = sessionName('warder', 'a', makeId('grt', issuedAt, new Uint8Array(10)), now + hour);
      return { name, pattern, issuedAt, until: now + hour };
    });
    const denials = fitted(of(old), now, 8_000) ?? noDenials;
    expect(denials.olderThan).toBeGreaterThan(0);
    const session = (name: string, issuedAt: number): Made => ({ name, pattern: '', issuedAt, until: now + hour });
    expect(isDenied(denials, session('terraform', now - 2 * hour))).toBe(false);
    expect(isDenied(denials, session('other.b.grt_x.1', now + 1_000))).toBe(false);
    // The price: a live session that is older than the fold dies with the revoked ones.
    expect(isDenied(denials, session('other.b.grt_x.1', now - 2 * hour))).toBe(true);
  });

  test('a crowd of the last minute waits, and fits a minute later', () => {
    const young = Array.from({ length: 400 }, (_, i) => {
      const issuedAt = now - i;
      return sessionName('warder', 'a', makeId('grt', issuedAt, new Uint8Array(10)), now + hour).pattern;
    });
    const denials = { patterns: new Set(young), olderThan: 0 };
    expect(fitted(denials, now, 8_000)).toBeUndefined();
    expect(fitted(denials, now + minute + 5_000, 8_000)).toBeDefined();
  });

  test('the union of two denies what either denies', () => {
    fc.assert(
      fc.property(fc.array(madeSession, { maxLength: 9 }), fc.array(madeSession, { maxLength: 9 }), (a, b) => {
        const both = union(of(a), of(b, now - hour));
        for (const { pattern } of [...a, ...b]) expect(denies(both, pattern)).toBe(true);
        expect(both.olderThan).toBe(now - hour);
      }),
    );
  });
});
