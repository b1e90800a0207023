import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { countMembers, jsonFault, maxJsonDepth } from '../../src/domain/json-limits.ts';

const bytesOf = (text: string): Uint8Array => Buffer.from(text);
/** What the edge does with a body. */
const faultOf = (text: string): string | undefined => {
  const members = countMembers(bytesOf(text));
  return members === undefined ? 'too deep' : jsonFault(JSON.parse(text), members);
};

const depthOf = (value: unknown): number =>
  typeof value === 'object' && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depthOf)) : 0;
const membersOf = (value: unknown): number => {
  if (typeof value !== 'object' || value === null) return 0;
  const own = Array.isArray(value) ? 0 : Object.keys(value).length;
  return Object.values(value).reduce((sum: number, item) => sum + membersOf(item), own);
};

describe('nesting', () => {
  test.each([
    ['arrays', '[', ']'],
    ['objects', '{"a":', '}'],
  ])('of %s is allowed to a depth of 32 and no deeper', (_what, open, close) => {
    const nested = (depth: number): string => open.repeat(depth) + (open === '[' ? '' : '1') + close.repeat(depth);
    expect(countMembers(bytesOf(nested(maxJsonDepth)))).toBe(open === '[' ? 0 : maxJsonDepth);
    expect(countMembers(bytesOf(nested(maxJsonDepth + 1)))).toBeUndefined();
    expect(countMembers(bytesOf(nested(100_000)))).toBeUndefined();
  });

  test('is judged without being fooled by brackets in strings, escapes or what comes before', () => {
    expect(countMembers(bytesOf(JSON.stringify({ a: '['.repeat(100) })))).toBe(1);
    expect(countMembers(bytesOf(JSON.stringify({ a: `"${'['.repeat(100)}\\` })))).toBe(1);
    expect(countMembers(bytesOf(`{"a\\\\":${'['.repeat(40)}`))).toBeUndefined();
    // Closing what was never opened buys no depth that a parser would follow.
    const bought = `${']'.repeat(50)}${'['.repeat(60)}`;
    expect(() => JSON.parse(bought)).toThrow();
  });

  test('of ten megabytes of brackets is judged at once', () => {
    const started = performance.now();
    expect(countMembers(new Uint8Array(10_000_000).fill(0x5b))).toBeUndefined();
    expect(performance.now() - started).toBeLessThan(50);
  });

  test('is counted as a parser counts it', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 6, stringUnit: 'grapheme' }), (value) => {
        const text = JSON.stringify(value);
        const members = countMembers(bytesOf(text));
        if (depthOf(value) > maxJsonDepth) expect(members).toBeUndefined();
        else expect(members).toBe(membersOf(JSON.parse(text)));
      }),
    );
  });

  test('of any bytes at all is judged without an error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        expect(() => countMembers(bytes)).not.toThrow();
      }),
    );
  });
});

describe('a parsed document', () => {
  test('of plain values has no fault', () => {
    expect(faultOf('{"a":[1,"x",null,true,{"b":{}}],"c":":"}')).toBeUndefined();
  });

  test.each(['__proto__', 'constructor', 'prototype'])('with a key %s is refused wherever it is', (key) => {
    for (const text of [
      `{"${key}":1}`,
      `{"a":{"${key}":1}}`,
      `{"a":[[{"b":1},{"${key}":{}}]]}`,
      `[{"${[...key].map((char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`).join('')}":0}]`,
    ]) {
      expect(faultOf(text)).toBe(`the key ${key} is not allowed`);
    }
    expect(faultOf(`{"a":"${key}"}`)).toBeUndefined();
  });

  test.each([
    '{"a":1,"a":2}',
    '{"x":{"a":1,"a":1}}',
    '[{"a":1,"\\u0061":2}]',
    '{"":1,"":2}',
    '{"a":[1],"b":0,"a":[1]}',
  ])('with a key twice (%s) is refused: two readers could take two values', (text) => {
    expect(faultOf(text)).toBe('a key is there twice');
  });

  test.each(['"\\ud800"', '["x\\udc00y"]', '{"\\ud800":1}', '{"a":{"b":"\\ud83d"}}'])(
    'with half a character (%s) is refused',
    (text) => {
      expect(faultOf(text)).toMatch(/not valid Unicode$/);
    },
  );

  test('with any key repeated anywhere is refused, and without one is not', () => {
    const key = fc.string({ unit: 'grapheme', maxLength: 5 });
    fc.assert(
      fc.property(
        fc.dictionary(key, fc.jsonValue({ maxDepth: 2 }), { minKeys: 1, maxKeys: 5 }),
        fc.nat(),
        (object, pick) => {
          fc.pre(faultOf(JSON.stringify(object)) === undefined);
          const keys = Object.keys(object);
          const again = keys[pick % keys.length] ?? '';
          const text = JSON.stringify(object);
          expect(faultOf(`${text.slice(0, -1)},${JSON.stringify(again)}:null}`)).toBe('a key is there twice');
        },
      ),
    );
  });
});
