import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { pathFault } from '../../src/domain/gateway-path.ts';
import {
  type CompiledRule,
  compileRule,
  GATEWAY_METHODS,
  MAX_PATTERN_LENGTH,
  matches,
} from '../../src/domain/gateway-rules.ts';
import { HOSTILE_TARGETS } from '../corpora/paths.ts';

function compiled(path: string, methods: string[] = ['GET']): CompiledRule {
  const result = compileRule({ methods, path });
  if (!result.ok) throw new Error(`${path}: ${result.why}`);
  return result.rule;
}

function lets(pattern: string, path: string): boolean {
  return matches(compiled(pattern), 'GET', path);
}

/** The meaning of patterns, written the slow and obvious way. */
function reference(pattern: readonly string[], path: readonly string[]): boolean {
  const [wanted, ...wantedRest] = pattern;
  const [segment, ...rest] = path;
  if (wanted === undefined) return segment === undefined;
  if (wanted === '**') return reference(wantedRest, path) || (segment !== undefined && reference(pattern, rest));
  return (
    segment !== undefined && (wanted === segment || (wanted === '*' && segment !== '')) && reference(wantedRest, rest)
  );
}

describe('compiling rules', () => {
  test.each([
    '/',
    '/v1/charges',
    '/v1/charges/',
    '/v1/*/refunds',
    '/*',
    '/*/*',
    '/**',
    '/v1/**',
    '/v1/**/',
    '/v1/**/refunds',
    '/v1/**/a/**',
    '/v1/**/**',
    '/caf%C3%A9/%20x',
    "/users('x')/a:b;c=d",
    '/.well-known/x',
  ])('takes %s', (path) => {
    expect(compileRule({ methods: ['GET'], path }).ok).toBe(true);
  });

  test.each([
    ['', 'not_rooted'],
    ['v1/charges', 'not_rooted'],
    ['*', 'not_rooted'],
    ['**', 'not_rooted'],
    ['//', 'empty_segment'],
    ['/v1//x', 'empty_segment'],
    ['/v1/../x', 'dot_segment'],
    ['/v1/..;x/y', 'dot_segment'],
    ['/v1/%2e%2e/x', 'encoded_delimiter'],
    ['/v1/%2A%2f', 'encoded_delimiter'],
    ['/v1/%61', 'encoded_unreserved'],
    ['/v1/café', 'forbidden_character'],
    ['/v1/{id}', 'forbidden_character'],
    ['/v1/[a-z]+', 'forbidden_character'],
    ['/v1/a|b', 'forbidden_character'],
    ['/v1/^x$', 'forbidden_character'],
    ['/v1/x?limit=1', 'pattern_with_query'],
    ['/v1/?', 'pattern_with_query'],
    ['/caf%c3%A9', 'lower_case_encoding'],
    ['/caf%C3%a9', 'lower_case_encoding'],
    ['/caf%Cc', 'bad_utf8'],
    ['/v1/ch_*', 'partial_wildcard'],
    ['/v1/*.json', 'partial_wildcard'],
    ['/v1/***', 'partial_wildcard'],
    ['/v1/**x', 'partial_wildcard'],
    ['/v1/a**', 'partial_wildcard'],
    ['/v1/*;x', 'partial_wildcard'],
    ['/**/x', 'leading_double_star'],
    ['/**/', 'leading_double_star'],
    ['/a/**/b/**/c/**', 'too_many_double_stars'],
    ['/a/**/**/**', 'too_many_double_stars'],
    [`/${'a'.repeat(MAX_PATTERN_LENGTH)}`, 'pattern_too_long'],
  ])('refuses the pattern %s as %s', (path, why) => {
    expect(compileRule({ methods: ['GET'], path })).toEqual({ ok: false, why });
  });

  test('refuses as a pattern every path that is refused in a request', () => {
    for (const { target } of HOSTILE_TARGETS) {
      const path = target.replace('/gateway/stripe', '');
      if (pathFault(path) !== undefined) expect(compileRule({ methods: ['GET'], path }).ok).toBe(false);
    }
  });

  test.each([
    [[], 'no_methods'],
    [['get'], 'unknown_method'],
    [['Get'], 'unknown_method'],
    [['GET '], 'unknown_method'],
    [[''], 'unknown_method'],
    [['CONNECT'], 'unknown_method'],
    [['TRACE'], 'unknown_method'],
    [['GET', 'TRACE'], 'unknown_method'],
    [['*', 'CONNECT'], 'unknown_method'],
    [['**'], 'unknown_method'],
    [['GET,POST'], 'unknown_method'],
    [['ＧＥＴ'], 'unknown_method'],
    [['__proto__'], 'unknown_method'],
  ])('refuses the methods %j as %s', (methods, why) => {
    expect(compileRule({ methods, path: '/x' })).toEqual({ ok: false, why });
  });

  test('is not changed by what happens to the rule afterwards', () => {
    const rule = { methods: ['GET'], path: '/x' };
    const result = compileRule(rule);
    rule.methods.push('DELETE');
    rule.path = '/y';
    if (!result.ok) throw new Error(result.why);
    expect(matches(result.rule, 'DELETE', '/x')).toBe(false);
    expect(matches(result.rule, 'GET', '/y')).toBe(false);
    expect(matches(result.rule, 'GET', '/x')).toBe(true);
  });
});

describe('matching rules', () => {
  test.each([
    ['/', '/', true],
    ['/', '/a', false],
    ['/a', '/a', true],
    ['/a', '/a/', false],
    ['/a/', '/a', false],
    ['/a/', '/a/', true],
    ['/a', '/A', false],
    ['/a', '/ab', false],
    ['/a', '/a/b', false],
    ['/a/b', '/a', false],
    ['/a%20b', '/a%20b', true],
    ['/caf%C3%A9', '/caf%c3%a9', false],
    ['/*', '/', false],
    ['/*', '/a', true],
    ['/*', '/a/', false],
    ['/*', '/a/b', false],
    ['/*', '/**', true],
    ['/*/', '/a/', true],
    ['/a/*', '/a', false],
    ['/a/*', '/a/', false],
    ['/a/*', '/a/b', true],
    ['/a/*', '/ab', false],
    ['/a/*/c', '/a/b/c', true],
    ['/a/*/c', '/a/c', false],
    ['/a/*/c', '/a/b/b/c', false],
    ['/**', '/', true],
    ['/**', '/a', true],
    ['/**', '/a/', true],
    ['/**', '/a/b/c', true],
    ['/a/**', '/a', true],
    ['/a/**', '/a/', true],
    ['/a/**', '/a/b', true],
    ['/a/**', '/a/b/', true],
    ['/a/**', '/a/b/c/d', true],
    ['/a/**', '/', false],
    ['/a/**', '/ab', false],
    ['/a/**', '/ab/c', false],
    ['/a/**', '/b/a', false],
    ['/a/**/', '/a/', true],
    ['/a/**/', '/a/b/', true],
    ['/a/**/', '/a', false],
    ['/a/**/', '/a/b', false],
    ['/a/**/z', '/a/z', true],
    ['/a/**/z', '/a/b/z', true],
    ['/a/**/z', '/a/z/z', true],
    ['/a/**/z', '/a/z/b', false],
    ['/a/**/z', '/a/b/z/', false],
    ['/a/**/z', '/z', false],
    ['/a/**/*', '/a', false],
    ['/a/**/*', '/a/', false],
    ['/a/**/*', '/a/b', true],
    ['/a/**/*', '/a/b/c', true],
    ['/a/**/m/**', '/a/m', true],
    ['/a/**/m/**', '/a/x/y/m/z', true],
    ['/a/**/m/**', '/a/x/y/z', false],
    ['/a/**/m/*/**/z', '/a/m/m/1/z', true],
    ['/a/**/m/*/**/z', '/a/m/z', false],
  ])('%s and %s: %p', (pattern, path, expected) => {
    expect(lets(pattern, path)).toBe(expected);
  });

  test('methods are compared exactly', () => {
    const rule = compiled('/x', ['GET', 'POST']);
    const answers = ['GET', 'POST', 'HEAD', 'get', 'GET ', '', '*', 'DELETE'].map((method) =>
      matches(rule, method, '/x'),
    );
    expect(answers).toEqual([true, true, false, false, false, false, false, false]);
  });

  test('the star method stands for every known method and for no other', () => {
    const rule = compiled('/x', ['*']);
    for (const method of GATEWAY_METHODS) expect(matches(rule, method, '/x')).toBe(true);
    for (const method of ['CONNECT', 'TRACE', 'get', '*', 'BREW']) expect(matches(rule, method, '/x')).toBe(false);
  });

  test('agrees with the obvious definition on all paths', () => {
    const path = fc.array(fc.constantFrom('a', 'b', '*', '**'), { maxLength: 7 });
    const slash = fc.boolean();
    fc.assert(
      fc.property(path, slash, path, slash, (pattern, patternSlash, segments, pathSlash) => {
        const wanted = [...pattern, ...(patternSlash || pattern.length === 0 ? [''] : [])];
        const given = [...segments, ...(pathSlash || segments.length === 0 ? [''] : [])];
        const result = compileRule({ methods: ['GET'], path: `/${wanted.join('/')}` });
        fc.pre(result.ok);
        expect(matches(result.rule, 'GET', `/${given.join('/')}`)).toBe(reference(wanted, given));
      }),
      { numRuns: 20_000 },
    );
  });

  test('the longest path against the most costly pattern takes milliseconds', () => {
    const rule = compiled(`/a/**${'/a'.repeat(500)}/b/**`);
    const path = `/${'a/'.repeat(4095)}`;
    const start = performance.now();
    expect(matches(rule, 'GET', path)).toBe(false);
    expect(performance.now() - start).toBeLessThan(500);
  });
});
