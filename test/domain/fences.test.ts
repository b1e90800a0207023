import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type FenceFacts, FenceIndex, selectorFields, selectorMatches } from '../../src/domain/fences.ts';
import type { Fence, Selector } from '../../src/domain/model.ts';

/** Few values, so that they meet; some that would collide if fields were joined carelessly. */
const value = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom('a', 'b') },
  { weight: 1, arbitrary: fc.constantFrom('a:b', ':a', 'owner:a', 'agent:a', '', '__proto__', 'constructor') },
);
const nullable = fc.option(value);

const facts: fc.Arbitrary<FenceFacts> = fc.record({
  agent: value,
  connection: nullable,
  provider: nullable,
  owners: fc.array(value, { minLength: 1, maxLength: 2 }),
  subject: nullable,
  issuers: fc.array(value, { maxLength: 2 }),
  entitlement: nullable,
  grant: nullable,
});

const named = fc.record(
  {
    agent: value,
    connection: value,
    provider: value,
    owner: value,
    subject: value,
    issuer: value,
    entitlement: value,
    grant: value,
  },
  { requiredKeys: [] },
);
const selector: fc.Arbitrary<Selector> = fc.oneof(
  { weight: 6, arbitrary: named },
  { weight: 1, arbitrary: fc.constant({ everything: true as const }) },
  { weight: 1, arbitrary: fc.constant({}) },
);
const seq = fc.integer({ min: -1, max: 12 });
const fence: fc.Arbitrary<Fence> = fc.record({
  id: fc.constant('f'),
  seq: fc.integer({ min: 0, max: 12 }),
  revocation_id: fc.constant('rev_1'),
  selector,
  created_at: fc.constant(0),
});

/** What a selector means, in one line. */
const means = (given: Selector, of: FenceFacts): boolean => {
  if (given.everything) return true;
  const { owner, issuer, ...rest } = given;
  const fields = Object.entries(rest) as [keyof typeof rest & keyof FenceFacts, string][];
  if (fields.length === 0 && owner === undefined && issuer === undefined) return false;
  return (
    fields.every(([name, wanted]) => of[name] === wanted) &&
    (owner === undefined || of.owners.includes(owner)) &&
    (issuer === undefined || of.issuers.includes(issuer))
  );
};

describe('a selector', () => {
  test('matches what it means', () => {
    fc.assert(
      fc.property(selector, facts, (given, of) => {
        expect(selectorMatches(given, of)).toBe(means(given, of));
      }),
      { numRuns: 3000 },
    );
  });

  test('with a field nobody knows matches nothing: a fence of a newer version kills nothing by mistake', () => {
    const of: FenceFacts = {
      agent: 'a',
      connection: null,
      provider: null,
      owners: ['a'],
      subject: null,
      issuers: [],
      entitlement: null,
      grant: null,
    };
    const newer = { agent: 'a', planet: 'mars' } as Selector;
    expect(selectorMatches(newer, of)).toBe(false);
    expect(
      new FenceIndex([{ id: '', seq: 9, revocation_id: '', selector: newer, created_at: 0 }]).fencedBy(1, of),
    ).toBe(undefined);
  });

  test('knows the fields the model has, and no other', () => {
    expect([...selectorFields].sort()).toEqual(
      ['agent', 'connection', 'entitlement', 'everything', 'grant', 'issuer', 'owner', 'provider', 'subject'].sort(),
    );
  });
});

describe('the index of fences', () => {
  test('agrees with a walk over all of them, for any fences, facts and sequence number', () => {
    fc.assert(
      fc.property(fc.array(fence, { maxLength: 12 }), facts, seq, (fences, of, at) => {
        const index = new FenceIndex(fences);
        const killers = fences.filter((one) => one.seq > at && means(one.selector, of)).map((one) => one.seq);
        const found = index.fencedBy(at, of);
        if (killers.length === 0) expect(found).toBeUndefined();
        else expect(killers).toContain(found);
      }),
      { numRuns: 5000 },
    );
  });

  test('is the same in whatever order the fences are heard of, and only ever kills more', () => {
    fc.assert(
      fc.property(fc.array(fence, { minLength: 1, maxLength: 8 }), facts, seq, (fences, of, at) => {
        const forward = new FenceIndex(fences);
        const backward = new FenceIndex([...fences].reverse());
        expect(forward.fencedBy(at, of) === undefined).toBe(backward.fencedBy(at, of) === undefined);
        const growing = new FenceIndex();
        let dead = false;
        for (const one of fences) {
          growing.add(one.selector, one.seq);
          const now = growing.fencedBy(at, of) !== undefined;
          expect(dead && !now).toBe(false);
          dead = now;
        }
      }),
      { numRuns: 1000 },
    );
  });

  test('knows its newest fence, and none when there is none', () => {
    expect(new FenceIndex().newest).toBe(-1);
    fc.assert(
      fc.property(fc.array(fence, { minLength: 1, maxLength: 8 }), (fences) => {
        expect(new FenceIndex(fences).newest).toBe(Math.max(...fences.map((one) => one.seq)));
      }),
    );
  });

  test('answers as fast with a hundred thousand fences as with one', () => {
    const of: FenceFacts = {
      agent: 'nobody',
      connection: 'c',
      provider: 'p',
      owners: ['o', 'o2'],
      subject: 's',
      issuers: ['i'],
      entitlement: 'e',
      grant: 'g',
    };
    const index = new FenceIndex();
    for (let i = 1; i <= 100_000; i += 1) index.add({ agent: `agt_${i}` }, i);
    const started = performance.now();
    for (let i = 0; i < 100_000; i += 1) index.fencedBy(0, of);
    // A walk would take minutes; a handful of look-ups each takes tens of milliseconds.
    expect(performance.now() - started).toBeLessThan(2_000);
  });
});
