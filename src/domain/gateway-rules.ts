/**
 * What a scope lets through the gateway: methods and path patterns, matched segment by segment on the exact bytes that
 * go upstream. No regular expressions, so no rule, however written, can make matching slow.
 */

import { type PathFault, pathFault } from './gateway-path.ts';

/** A rule as it is written in a connection's settings. */
export type GatewayRule = {
  /** Upper-case methods of `GATEWAY_METHODS`, or `['*']` for all of them. */
  methods: readonly string[];
  /** Segments: literal, `*` (one, not empty) or `**` (none or more; never first unless it is all). */
  path: string;
};

export type RuleFault =
  | PathFault
  | 'no_methods'
  | 'unknown_method'
  | 'pattern_too_long'
  | 'pattern_with_query'
  | 'lower_case_encoding'
  | 'partial_wildcard'
  | 'leading_double_star'
  | 'too_many_double_stars';

/** A rule that has been checked; plain data, safe to keep and share. */
export type CompiledRule = {
  readonly methods: ReadonlySet<string>;
  /** The literal beginning of the pattern: a path that does not start with it cannot match. */
  readonly head: string;
  readonly segments: readonly string[];
};

/**
 * Methods an agent may be given: RFC 9110 §9.3, RFC 5789, QUERY of the HTTP working group, and those of WebDAV
 * and its kin (RFC 4918, 3253, 5323). CONNECT would open a tunnel past every rule; TRACE echoes the injected
 * secret by design. Both are left out for good, also from `*`.
 */
export const GATEWAY_METHODS: ReadonlySet<string> = new Set([
  ...['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'QUERY'],
  ...['PROPFIND', 'PROPPATCH', 'MKCOL', 'COPY', 'MOVE', 'LOCK', 'UNLOCK', 'REPORT', 'SEARCH'],
]);

/** Long enough for any real API; short enough that a rule fits on a reviewer's screen. */
export const MAX_PATTERN_LENGTH = 1024;

/** Enough for "anything below this, and anything below that"; more is a rule nobody can review. */
const MAX_DOUBLE_STARS = 2;

const LOWER_CASE_ENCODING = /%(?:[a-f]|.[a-f])/;

/**
 * Checks a rule and prepares it for `matches`.
 *
 * @returns the compiled rule, or why it is refused. A pattern obeys the same law as a request's path, and spells
 *   percent-encodings in upper case (RFC 3986 §6.2.2.1): another spelling would silently match nothing.
 */
export function compileRule(rule: GatewayRule): { ok: true; rule: CompiledRule } | { ok: false; why: RuleFault } {
  const why = methodsFault(rule.methods) ?? patternFault(rule.path);
  if (why !== undefined) return { ok: false, why };
  const segments = rule.path.slice(1).split('/');
  return {
    ok: true,
    rule: {
      methods: rule.methods.includes('*') ? GATEWAY_METHODS : new Set(rule.methods),
      head: literalHead(segments),
      segments,
    },
  };
}

/**
 * Whether a rule lets a request through.
 *
 * @param method as it will be sent, case-sensitive (RFC 9110 §9.1).
 * @param path as `parseGatewayTarget` gave it; comparing is byte for byte and a trailing slash counts: `/a` is not
 *   `/a/`, while `/a/**` takes `/a`, `/a/` and all below. At most (segments of path × segments of pattern) steps.
 */
export function matches(rule: CompiledRule, method: string, path: string): boolean {
  if (!rule.methods.has(method)) return false;
  if (!path.startsWith(rule.head)) return false;
  return segmentsMatch(rule.segments, path.slice(1).split('/'));
}

/**
 * The usual wildcard walk, over segments: on a mismatch only the latest `**` takes one segment more, because an
 * earlier one could not have done better. No recursion, and no exponential case.
 */
function segmentsMatch(pattern: readonly string[], path: readonly string[]): boolean {
  let at = 0;
  let next = 0;
  let starAt = -1;
  let starNext = 0;
  while (next < path.length) {
    const wanted = pattern[at];
    const segment = path[next];
    if (wanted === '**') {
      starAt = at;
      starNext = next;
      at++;
    } else if (wanted !== undefined && (wanted === segment || (wanted === '*' && segment !== ''))) {
      at++;
      next++;
    } else if (starAt >= 0) {
      starNext++;
      at = starAt + 1;
      next = starNext;
    } else {
      return false;
    }
  }
  while (pattern[at] === '**') at++;
  return at === pattern.length;
}

/** `/a/b` for `/a/b/**`, which also matches `/a/b` itself; `/a/` for `/a/*`; all of a pattern without wildcards. */
function literalHead(segments: readonly string[]): string {
  const wild = segments.findIndex((segment) => segment === '*' || segment === '**');
  if (wild < 0) return `/${segments.join('/')}`;
  const literal = segments.slice(0, wild).map((segment) => `/${segment}`);
  return segments[wild] === '*' ? `${literal.join('')}/` : literal.join('');
}

function methodsFault(methods: readonly string[]): RuleFault | undefined {
  if (methods.length === 0) return 'no_methods';
  return methods.every((method) => method === '*' || GATEWAY_METHODS.has(method)) ? undefined : 'unknown_method';
}

function patternFault(path: string): RuleFault | undefined {
  if (path.length > MAX_PATTERN_LENGTH) return 'pattern_too_long';
  if (path.includes('?')) return 'pattern_with_query';
  const fault = pathFault(path);
  if (fault !== undefined) return fault;
  if (LOWER_CASE_ENCODING.test(path)) return 'lower_case_encoding';
  const segments = path.slice(1).split('/');
  if (segments.some((segment) => segment.includes('*') && segment !== '*' && segment !== '**')) {
    return 'partial_wildcard';
  }
  // `/**/x` would grant every path that merely ends in x; nobody reviewing it would see how much that is.
  if (segments.length > 1 && segments[0] === '**') return 'leading_double_star';
  if (segments.filter((segment) => segment === '**').length > MAX_DOUBLE_STARS) return 'too_many_double_stars';
  return undefined;
}
