import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { mayActFor, subjectOf } from '../../src/domain/subject.ts';

describe('a subject', () => {
  test('of one name at two issuers is two subjects', () => {
    expect(subjectOf('corp', 'alice')).toBe('corp:alice');
    expect(subjectOf('partner', 'alice')).toBe('partner:alice');
    expect(subjectOf('corp', 'partner:alice')).toBe('corp:partner:alice');
  });

  test('is another one whenever issuer or name differ', () => {
    const name = fc.stringMatching(/^[a-z0-9][a-z0-9.-]{0,5}$/);
    const sub = fc.stringMatching(/^[!-~]{1,12}$/);
    fc.assert(
      fc.property(name, sub, name, sub, (a, x, b, y) => {
        const [one, two] = [subjectOf(a, x), subjectOf(b, y)];
        if (one !== undefined && two !== undefined) expect(one === two).toBe(a === b && x === y);
      }),
    );
  });

  test.each([[''], [' x'], ['a\nb'], ['a\u202eb'], ['a\u200bb'], ['a\0'], ['\ud800'], ['x'.repeat(256)], ['e\u0301']])(
    'that could not be shown as it is, is none: %j',
    (sub) => {
      expect(subjectOf('corp', sub)).toBeUndefined();
    },
  );

  test('may be acted for by whom a pattern names, and by nobody where there is none', () => {
    expect(mayActFor(null, 'corp:alice')).toBe(false);
    expect(mayActFor([], 'corp:alice')).toBe(false);
    expect(mayActFor(['corp:bob', 'corp:al*'], 'corp:alice')).toBe(true);
    expect(mayActFor(['corp:*'], 'corp2:alice')).toBe(false);
    expect(mayActFor(['corp:*'], 'corp:a:b')).toBe(false);
    expect(mayActFor(['corp:**'], 'corp:a:b')).toBe(true);
  });
});
