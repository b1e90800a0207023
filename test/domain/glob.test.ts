import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { globMatches, isGlob } from '../../src/domain/glob.ts';

describe('a pattern', () => {
  test.each([
    ['repo:acme/app:ref:refs/heads/main', 'repo:acme/app:ref:refs/heads/main', true],
    ['repo:acme/app:ref:refs/heads/main', 'repo:acme/app:ref:refs/heads/main2', false],
    ['repo:acme/*:environment:prod', 'repo:acme/app:environment:prod', true],
    ['repo:acme/*:environment:prod', 'repo:acme/app:ref:refs/heads/x:environment:prod', false],
    ['repo:acme/*', 'repo:acme/app:ref:refs/heads/main', false],
    ['repo:acme/**', 'repo:acme/app:ref:refs/heads/main', true],
    ['repo:acme/app:ref:refs/heads/*', 'repo:acme/app:ref:refs/heads/a/b', false],
    ['system:serviceaccount:agents:*', 'system:serviceaccount:agents:deployer', true],
    ['system:serviceaccount:*:deployer', 'system:serviceaccount:a:b:deployer', false],
    ['spiffe://example.org/ns/*/sa/deployer', 'spiffe://example.org/ns/x/sa/y/sa/deployer', false],
    ['corp:*@example.com', 'corp:alice@example.com', true],
    ['corp:*@example.com', 'corp:alice@example.com.evil.org', false],
    ['corp:*@example.com', 'other:alice@example.com', false],
    ['corp:*@example.com', 'corp:@example.com', true],
    ['a*b*c', 'a-b-b-c', true],
    ['a*b*c', 'a-b-b-', false],
    ['**x', 'x', true],
    ['**x', 'a/b:x', true],
    ['A', 'a', false],
    ['a.c', 'abc', false],
    ['a?c', 'abc', false],
    ['[a]', 'a', false],
    ['(a|b)', 'a', false],
    ['', '', false],
    ['*', 'anything', false],
    ['**', 'anything', false],
    ['a***', 'ab', false],
  ])('%j and %j: %j', (pattern, text, matches) => {
    expect(globMatches(pattern, text)).toBe(matches);
  });

  test('without a star matches itself and nothing else', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (pattern, text) => {
        fc.pre(!pattern.includes('*') && pattern !== '');
        expect(globMatches(pattern, text)).toBe(pattern === text);
      }),
    );
  });

  test('means what the regular expression made from it by hand means', () => {
    const part = fc.constantFrom('a', 'b', '/', ':', '*', '**', '.', '+');
    fc.assert(
      fc.property(
        fc.array(part, { maxLength: 8 }),
        fc.array(fc.constantFrom('a', 'b', '/', ':', '.', '+', '\n'), { maxLength: 10 }),
        (parts, characters) => {
          const pattern = parts.join('');
          fc.pre(isGlob(pattern));
          const source = pattern
            .split(/(\*+)/)
            .map((one) => (one === '*' ? '[^/:]*' : one === '**' ? '[^]*' : one.replace(/[.+]/g, '\\$&')))
            .join('');
          const text = characters.join('');
          expect([pattern, text, globMatches(pattern, text)]).toEqual([
            pattern,
            text,
            new RegExp(`^${source}$`).test(text),
          ]);
        },
      ),
      { numRuns: 3000 },
    );
  });

  test('takes no longer for being made to', () => {
    const before = performance.now();
    expect(globMatches(`${'a*'.repeat(200)}b`, 'a'.repeat(2000))).toBe(false);
    expect(globMatches(`${'**a'.repeat(150)}b`, 'a'.repeat(2000))).toBe(false);
    expect(performance.now() - before).toBeLessThan(1000);
    expect(globMatches('a*', 'a'.repeat(2001))).toBe(false);
    expect(isGlob('a'.repeat(501))).toBe(false);
  });
});
