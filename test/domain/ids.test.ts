import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type IdPrefix, idEntropyBytes, isId, makeId } from '../../src/domain/ids.ts';

const prefixes: IdPrefix[] = [
  ...(['agt', 'con', 'sec', 'ent', 'grt', 'rev', 'apr', 'rot', 'rvw', 'inc', 'op', 'tok', 'req'] as const),
];
const prefix = fc.constantFrom(...prefixes);
/** Until the year 10889, when 48 bits of milliseconds are used up. */
const moment = fc.integer({ min: 0, max: 2 ** 48 - 1 });
const random = fc.uint8Array({ minLength: idEntropyBytes, maxLength: idEntropyBytes });

describe('an id', () => {
  test('is its prefix and 26 characters of Crockford base32', () => {
    expect(makeId('grt', 0, new Uint8Array(10))).toBe(`grt_${'0'.repeat(26)}`);
    expect(makeId('op', 2 ** 48 - 1, new Uint8Array(10).fill(255))).toBe(`op_7${'z'.repeat(25)}`);
  });

  test('is read as what it was made as, and as nothing else', () => {
    fc.assert(
      fc.property(prefix, prefix, moment, random, (mine, other, at, bytes) => {
        const id = makeId(mine, at, bytes);
        expect(isId(mine, id)).toBe(true);
        expect(isId(other, id)).toBe(mine === other);
      }),
    );
  });

  test('sorts by the time it was made', () => {
    fc.assert(
      fc.property(moment, moment, random, random, (one, two, a, b) => {
        fc.pre(one !== two);
        expect(makeId('grt', one, a) < makeId('grt', two, b)).toBe(one < two);
      }),
    );
  });

  test('keeps all 80 random bits: two of one moment differ wherever their bits do', () => {
    fc.assert(
      fc.property(moment, random, random, (at, a, b) => {
        expect(makeId('grt', at, a) === makeId('grt', at, b)).toBe(Buffer.from(a).equals(b));
        expect(Math.sign(Buffer.compare(Buffer.from(a), Buffer.from(b)))).toBe(
          makeId('grt', at, a) < makeId('grt', at, b) ? -1 : makeId('grt', at, a) > makeId('grt', at, b) ? 1 : 0,
        );
      }),
    );
  });

  test('has one spelling', () => {
    const id = makeId('agt', 1_790_000_000_000, new Uint8Array(10).fill(7));
    const others = [id.toUpperCase(), ` ${id}`, `${id} `, `${id}\n`, `${id}0`, id.slice(0, -1), id.replace('_', '-')];
    for (const other of [...others, id.replace('0', 'o'), id.replace('1', 'l'), `${id.slice(0, -1)}u`, '']) {
      expect(other === id || isId('agt', other)).toBe(other === id);
    }
  });

  test('is nothing that was not spelled like one', () => {
    fc.assert(
      fc.property(prefix, fc.string({ unit: 'binary', maxLength: 40 }), (kind, given) => {
        if (isId(kind, given)) expect(given).toMatch(/^[a-z]+_[0-9a-hjkmnp-tv-z]{26}$/);
      }),
    );
  });
});
