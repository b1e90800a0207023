import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { isName, isPlainLine, isScopeName, isShowable } from '../../src/domain/names.ts';
import { unacceptableVariants } from '../http/name-variants.ts';

const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 80 }),
  fc.string({ unit: 'grapheme', maxLength: 80 }),
  fc.string({ unit: fc.constantFrom(...'abcxyz019._-ABÅé ßſ\u212a\u200b'), maxLength: 70 }),
);

describe('a name', () => {
  test.each(['a', '0', 'billing-db', 'a.b_c-d', 'x'.repeat(63), 'agt', 'operations', 'grtx'])('may be %j', (name) => {
    expect(isName(name)).toBe(true);
  });

  test.each([
    '',
    'x'.repeat(64),
    '-a',
    'a-',
    '.a',
    'a.',
    '_a',
    'Billing-db',
    'a b',
    ' a',
    'a\n',
    'é',
    'ﬁ',
    'ſ',
    '\u212a',
    'a/b',
    'a%20b',
    'agt_01kap2v3w4x5y6z7a8b9cadbec',
    'op_team',
    'tok_x',
    '__proto__',
  ])('is not %j', (name) => {
    expect(isName(name)).toBe(false);
  });

  test('has more than a thousand hostile variants, and none of them is one', () => {
    const variants = [...unacceptableVariants('billing-reporter'), ...unacceptableVariants('a.b')];
    expect(variants.length).toBeGreaterThan(1000);
    expect(variants.filter(isName)).toEqual([]);
  });

  test('has one spelling: no case, form, encoding or space of it is another', () => {
    fc.assert(
      fc.property(text, (candidate) => {
        fc.pre(isName(candidate));
        expect(candidate.toLowerCase()).toBe(candidate);
        expect(candidate.normalize('NFKC')).toBe(candidate);
        expect(candidate.trim()).toBe(candidate);
        expect(encodeURIComponent(candidate)).toBe(candidate);
        expect(JSON.stringify(candidate)).toBe(`"${candidate}"`);
      }),
      { numRuns: 2000 },
    );
  });

  test('that two texts become under any usual repair is at most one of them', () => {
    const repairs = [
      (given: string) => given.trim(),
      (given: string) => given.toLowerCase(),
      (given: string) => given.normalize('NFKC'),
      (given: string) => given.normalize('NFKD').replaceAll(/\p{M}/gu, ''),
      (given: string) => given.replaceAll(/\p{Cf}|\p{Cc}/gu, ''),
    ];
    for (const variant of unacceptableVariants('billing-reporter')) {
      for (const repair of repairs) {
        // Whatever a repair makes of it, what was given is refused: nobody else's reading of it counts.
        if (isName(repair(variant))) expect(isName(variant)).toBe(false);
      }
    }
  });
});

describe('the name of a scope', () => {
  test('fits RFC 6749 section 3.3 without quoting, and keeps its case', () => {
    for (const scope of ['read', 'Charges:Read', 'repo/contents:*', 'a', '*a'.slice(1), 'x'.repeat(100)]) {
      expect(isScopeName(scope)).toBe(true);
    }
    for (const scope of ['', ' ', 'a b', 'a"b', 'a\\b', '*', ':a', 'a:', 'é', 'ſ', '\u212a', 'x'.repeat(101), 'a\n']) {
      expect(isScopeName(scope)).toBe(false);
    }
  });

  test('is printable ASCII without a space, quote or backslash, whatever is tried', () => {
    fc.assert(
      fc.property(text, (candidate) => {
        if (isScopeName(candidate)) expect(candidate).toMatch(/^[\x21\x23-\x5b\x5d-\x7e]{1,100}$/);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('a line a person typed', () => {
  test.each(['x', 'monthly report', 'finance@example.com', 'Zoë – 5 € für 東京', '✅ done', 'ü'.normalize('NFC')])(
    'may be %j',
    (line) => {
      expect(isPlainLine(line, 200)).toBe(true);
    },
  );

  test.each([
    ['empty', ''],
    ['space before', ' x'],
    ['space after', 'x\u00a0'],
    ['two lines', 'a\nb'],
    ['carriage return', 'a\rb'],
    ['NUL', 'a\u0000b'],
    ['ANSI', 'a\u001b[31mb'],
    ['C1 control', 'a\u009b31mb'],
    ['bidirectional override', 'a\u202eb'],
    ['bidirectional isolate', 'a\u2066b'],
    ['zero-width space', 'a\u200bb'],
    ['zero-width joiner', 'a\u200db'],
    ['soft hyphen', 'a\u00adb'],
    ['byte order mark', '\ufeffa'],
    ['line separator', 'a\u2028b'],
    ['Hangul filler', 'a\u3164b'],
    ['combining grapheme joiner', 'a\u034fb'],
    ['variation selector', 'a\ufe0fb'],
    ['tag character', 'a\u{e0041}b'],
    ['private use', 'a\ue000b'],
    ['unassigned', 'a\u0378b'],
    ['lone surrogate', 'a\ud800b'],
    ['not in NFC', 'u\u0308'],
    ['too long', 'x'.repeat(201)],
  ])('has no %s', (_what, line) => {
    expect(isPlainLine(line, 200)).toBe(false);
  });

  test.each(['at', 'gw', 'op', 'cs'])('has no wdr_%s_ token in it, whole or in part', (kind) => {
    const token = `wdr_${kind}_${'0123456789abcdefghjkmnpqrs'.slice(0, kind === 'cs' ? 0 : 26)}${'Ab-_'.repeat(11).slice(0, 43)}`;
    expect(isPlainLine(token, 500)).toBe(false);
    expect(isPlainLine(`I was given ${token}, why?`, 500)).toBe(false);
    expect(isPlainLine(token.slice(0, 30), 500)).toBe(false);
    expect(isShowable(`x${token}`)).toBe(false);
    expect(isPlainLine(`tokens begin with wdr_${kind}_ here`, 500)).toBe(true);
  });

  test('is one line in any log, whatever is tried', () => {
    fc.assert(
      fc.property(text, (candidate) => {
        if (!isPlainLine(candidate, 80)) return;
        expect(JSON.stringify(candidate)).not.toContain('\\u');
        expect(candidate.split(/\r\n|[\n\r\u0085\u2028\u2029]/)).toHaveLength(1);
        expect(Buffer.from(candidate).toString()).toBe(candidate);
      }),
      { numRuns: 3000 },
    );
  });
});
