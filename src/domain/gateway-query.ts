/**
 * The query of a gateway request. It goes upstream as it came and reaches no rule, so it must not change what a rule
 * decided by: the method. And where the secret travels in a parameter, the agent must not bring one that the upstream
 * could take for it.
 */

import { mentionsToken } from './tokens.ts';

/** Layers of percent-encoding that are undone; some frameworks decode twice, none four times. */
const MAX_LAYERS = 3;

const PERCENT_OCTETS = /%[0-9a-fA-F]{2}/g;

/**
 * @param query `''`, or text that begins with `?`.
 * @param value in clear; it is percent-encoded here.
 * @returns `query` with the parameter behind all others, as bytes to send.
 */
export function withParameter(query: string, name: string, value: string): string {
  const before = query === '' || query === '?' ? '?' : `${query}&`;
  return `${before}${name}=${encodeURIComponent(value)}`;
}

/**
 * Whether some server would read a parameter of this name out of the query. Besides plain decoding it takes into
 * account: names without regard to case (ASP.NET), `;` between parameters (HTML 4 §B.2.2, old CGI libraries), `.`,
 * blanks and `[` that PHP turns into `_`, arrays (`key[]`, `key[0]`), blanks before the name (PHP), and double encoding.
 */
export function namesParameter(query: string, name: string): boolean {
  const wanted = foldParameter(name);
  return query
    .slice(1)
    .split(/[&;]/)
    .some((part) => readings(part).some((reading) => foldParameter(reading) === wanted));
}

/**
 * Parameters that make a server act on another method than the one that was judged: Rack, Laravel, Symfony and
 * WordPress (`_method`), Salesforce (`_HttpMethod`), Google (`$httpMethod`, and `$httpHeaders`, which carries any header
 * field), and the header fields of `gateway-headers.ts` where a framework reads them out of the query, too.
 */
const METHOD_OVERRIDES: ReadonlySet<string> = new Set([
  ...['_method', '_httpmethod', '$httpmethod', '$httpheaders'],
  ...['x-http-method-override', 'x-http-method', 'x-method-override'],
]);

/** @returns whether some server would act on another method than that of the request */
export const overridesMethod = (query: string): boolean =>
  query
    .slice(1)
    .split(/[&;]/)
    .some((part) => readings(part).some((reading) => METHOD_OVERRIDES.has(foldParameter(reading))));

/** The name as written, and after each layer of decoding; an encoded `=`, `&` or `;` ends or begins a name too. */
function readings(part: string): string[] {
  const names: string[] = [];
  let text = part;
  for (let layer = 0; layer <= MAX_LAYERS; layer++) {
    for (const piece of text.split(/[&;]/)) names.push(piece.split('=', 1)[0] ?? '');
    const decoded = text.replaceAll('+', ' ').replace(PERCENT_OCTETS, octet);
    if (decoded === text) break;
    text = decoded;
  }
  return names;
}

/** Latin-1 is enough: names of parameters that carry secrets are ASCII (adapters/providers/api-key.ts). */
function octet(encoded: string): string {
  return String.fromCharCode(Number.parseInt(encoded.slice(1), 16));
}

function foldParameter(name: string): string {
  const bracket = name.indexOf('[', 1);
  const array = bracket > 0 && name.includes(']', bracket);
  return (array ? name.slice(0, bracket) : name).trim().toLowerCase().replace(/[. []/g, '_');
}

/** @returns whether a path or query holds a token of Warder or a good part of one, percent-encoded or not */
export function holdsWarderToken(text: string): boolean {
  return mentionsToken(text) || (text.includes('%') && mentionsToken(text.replace(PERCENT_OCTETS, octet)));
}
