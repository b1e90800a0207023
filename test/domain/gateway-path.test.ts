import { posix } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { MAX_TARGET_BYTES, parseGatewayTarget, pathFault } from '../../src/domain/gateway-path.ts';
import { compileRule, matches } from '../../src/domain/gateway-rules.ts';
import { GOOD_TARGETS, HOSTILE_TARGETS } from '../corpora/paths.ts';

/** Short and quoted, for the names of tests. */
function shown(target: string): string {
  return JSON.stringify(target.length > 80 ? `${target.slice(0, 77)}...` : target);
}

/** Paths from pieces that have fooled servers; most are refused, enough are not. */
const PIECES = [
  ...['/', '/', '/', '//', '.', '..', '...', ';', ';x', 'a', 'v1', 'admin', 'pub', '~', '@', ':', '*', '\\', '?', '#'],
  ...['%2f', '%5c', '%2e', '%25', '%00', '%20', '%20', '%3b', '%61', '%', '%c0%ae', '%C3%A9', '%EF%BC%8F', '%E2%80%A5'],
  ...['%E2%80%8B', '%CC%B8', '%21', '%2A', '%7B', 'é', ' ', '\t', '\u0000'],
];
const mixedPath = fc.array(fc.constantFrom(...PIECES), { maxLength: 12 }).map((pieces) => `/${pieces.join('')}`);
const tamePath = fc
  .array(fc.constantFrom('a', 'b.c', '.d', 'e..', 'f;g', '%20h', '%C3%A9', 'i%20j', ':k', '*'), { maxLength: 6 })
  .map((segments) => `/${segments.join('/')}`);
const anyPath = fc.oneof(
  mixedPath,
  tamePath,
  fc.string({ unit: 'binary-ascii' }).map((text) => `/${text}`),
);
const acceptedPath = anyPath.filter((path) => pathFault(path) === undefined);

describe('reading a gateway target', () => {
  test('the corpora are as large as they claim and hold nothing twice', () => {
    expect(HOSTILE_TARGETS.length).toBeGreaterThanOrEqual(150);
    expect(GOOD_TARGETS.length).toBeGreaterThanOrEqual(40);
    const all = [...HOSTILE_TARGETS, ...GOOD_TARGETS].map((each) => each.target);
    expect(all.filter((target, index) => all.indexOf(target) !== index)).toEqual([]);
  });

  test.each(HOSTILE_TARGETS.map(({ target, why }) => [shown(target), why, target] as const))(
    'refuses %s as %s',
    (_, why, target) => {
      expect(parseGatewayTarget(target)).toEqual({ ok: false, why });
    },
  );

  test.each(GOOD_TARGETS.map((each) => [shown(each.target), each] as const))('passes %s byte for byte', (_, each) => {
    const { connection, path, query } = each;
    expect(parseGatewayTarget(each.target)).toEqual({ ok: true, connection, path, query });
  });

  test('an accepted target is put together again from its parts', () => {
    fc.assert(
      fc.property(anyPath, fc.string({ unit: 'grapheme-ascii' }), (path, query) => {
        const target = `/gateway/stripe${path}?${query}`;
        const parsed = parseGatewayTarget(target);
        if (parsed.ok) expect(`/gateway/${parsed.connection}${parsed.path}${parsed.query}`).toBe(target);
      }),
      { numRuns: 2000 },
    );
  });

  test('the WHATWG parser finds nothing to change in an accepted path', () => {
    fc.assert(
      fc.property(acceptedPath, (path) => {
        const url = new URL(`http://x${path}`);
        expect({ host: url.host, pathname: url.pathname, rest: url.search + url.hash }).toEqual({
          host: 'x',
          pathname: path,
          rest: '',
        });
      }),
      { numRuns: 5000 },
    );
  });

  test('the query cannot move the end of the path', () => {
    fc.assert(
      fc.property(acceptedPath, fc.string({ unit: 'binary-ascii' }), (path, query) => {
        const parsed = parseGatewayTarget(`/gateway/stripe${path}?${query}`);
        fc.pre(parsed.ok);
        const url = new URL(`http://x${parsed.path}${parsed.query}`);
        expect(url.pathname).toBe(path);
        expect(url.hash).toBe('');
      }),
      { numRuns: 2000 },
    );
  });

  test('no accepted path leaves the prefix of a `**` rule, however an upstream reads it', () => {
    const compiled = compileRule({ methods: ['GET'], path: '/pub/**' });
    if (!compiled.ok) throw new Error(compiled.why);
    fc.assert(
      fc.property(anyPath, (rest) => {
        const path = `/pub${rest}`;
        fc.pre(pathFault(path) === undefined);
        expect(matches(compiled.rule, 'GET', path)).toBe(true);
        for (const read of LENIENT_READERS) expect(read(path)).toMatch(/^\/pub(\/|$)/);
      }),
      { numRuns: 10_000 },
    );
  });

  test('the lenient readers are lenient enough to be fooled by paths that are refused', () => {
    const fooled = HOSTILE_TARGETS.map(({ target }) => target.replace('/gateway/stripe/v1/', '/pub/')).filter(
      (path) => path.startsWith('/pub/') && LENIENT_READERS.some((read) => !/^\/pub(\/|$)/.test(read(path))),
    );
    expect(fooled.length).toBeGreaterThan(25);
  });

  test('a target of the longest length is read, one byte more is refused', () => {
    const target = `/gateway/stripe/${'a'.repeat(MAX_TARGET_BYTES - 16)}`;
    expect(parseGatewayTarget(target).ok).toBe(true);
    expect(parseGatewayTarget(`${target}a`)).toEqual({ ok: false, why: 'too_long' });
  });

  test('reading takes microseconds, also for the longest targets that take the long way', () => {
    const clean = '/gateway/stripe/v1/charges/ch_3NqXyZ2eZv';
    const worst = ['%C3%A9', '%E2%80%8B', 'a/', 'a;', '%20', '/%20'].map(
      (piece) => `/gateway/stripe/${piece.repeat(Math.floor(8000 / piece.length))}`,
    );
    expect(microseconds(() => parseGatewayTarget(clean))).toBeLessThan(5);
    for (const target of worst) expect(microseconds(() => parseGatewayTarget(target))).toBeLessThan(5000);
  });
});

/** How servers in the field turn the bytes of a path into the path they act on. */
const LENIENT_READERS: readonly ((path: string) => string)[] = [
  posix.normalize,
  (path) => posix.normalize(decode(path)),
  (path) => posix.normalize(decode(decode(path))),
  (path) => posix.normalize(decode(path).replaceAll('\\', '/')),
  // Servlet containers cut parameters, before or after decoding.
  (path) => posix.normalize(decode(path.replace(/;[^/]*/g, ''))),
  (path) => posix.normalize(decode(path).replace(/;[^/]*/g, '')),
  // Windows strips blanks at the end of a name.
  (path) => posix.normalize(decode(path).replace(/\s+(?=\/|$)/g, '')),
  // Readers that normalise, or skip what is invisible.
  (path) => posix.normalize(decode(path).normalize('NFKC')),
  (path) =>
    posix.normalize(
      decode(path)
        .replace(/\p{Default_Ignorable_Code_Point}/gu, '')
        .normalize('NFKC'),
    ),
  // C strings end at NUL, line readers at CR or LF, URL readers at ? and #.
  (path) => posix.normalize(decode(path).replace(/[\p{Cc}?#].*$/su, '')),
  (path) => new URL(`http://x${path}`).pathname,
];

function decode(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

/** The best of some rounds, so that a busy machine does not fail the test. */
function microseconds(work: () => unknown): number {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 20; round++) {
    const start = performance.now();
    for (let count = 0; count < 50; count++) work();
    best = Math.min(best, ((performance.now() - start) * 1000) / 50);
  }
  return best;
}
