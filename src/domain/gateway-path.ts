/**
 * The path of a gateway request, as bytes. What a rule is asked about is exactly what is sent upstream, so a path
 * that two readers could understand differently is refused here, never repaired: repair is how `..%2f`, `//` and
 * `..;x` have walked around rules. Sources: RFC 3986 (§2.1-2.3 characters, §3.3 path, §6.2.2 normal form),
 * RFC 9112 §3.2 (request target), WHATWG URL (dot segments).
 */

/** Why a path is refused. A fixed word, safe to show: it never repeats what the caller sent. */
export type PathFault =
  | 'not_rooted'
  | 'empty_segment'
  | 'dot_segment'
  | 'forbidden_character'
  | 'bad_percent_encoding'
  | 'encoded_delimiter'
  | 'encoded_control'
  | 'encoded_unreserved'
  | 'bad_utf8'
  | 'confusable_character';

export type TargetFault =
  | PathFault
  | 'too_long'
  | 'not_origin_form'
  | 'not_gateway'
  | 'bad_connection_name'
  | 'bad_query_character'
  | 'bad_query_encoding';

export type GatewayTarget =
  | { ok: true; connection: string; path: string; query: string }
  | { ok: false; why: TargetFault };

/** Bytes of a whole request target. 8 KiB is what common upstreams take (nginx, Apache); more only feeds attacks. */
export const MAX_TARGET_BYTES = 8192;

const PREFIX = '/gateway/';

/** The canonical spelling of a connection name; no other spelling names a connection. */
const CONNECTION_NAME = /^[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?$/;

const SLASH = 0x2f;
const PERCENT = 0x25;
const DOT = 0x2e;
const SEMICOLON = 0x3b;

const UNRESERVED = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~';

/** RFC 3986 §3.3: pchar without pct-encoded, which is read on its own. */
const IS_PCHAR = charTable(`${UNRESERVED}!$&'()*+,;=:@`);
const IS_UNRESERVED = charTable(UNRESERVED);

/**
 * Octets that must not arrive percent-encoded, because some server decodes them and only then looks for segments,
 * parameters, a query or (`%25`) another layer of encoding.
 */
const IS_DELIMITER = charTable('/\\.%?#;');

/** Bidirectional controls and line separators: what a person reads in a log or an approval is not what is sent. */
const DECEPTIVE = /[\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/;

/** C1 controls; C0 and DEL are refused byte by byte before anything is decoded. */
const C1_CONTROL = /[\u0080-\u009f]/;

/** Characters that NFKC leaves alone but "best fit" code pages and lenient file systems turn into a slash. */
const SLASH_LIKE = /[\u2044\u2215\u2216\u29f5\u29f8\u29f9]/;

/** Code points that lenient readers skip (HFS+ did: `.` ZWNJ `.` opened the parent folder; CVE-2014-9390). */
const IGNORABLE = /\p{Default_Ignorable_Code_Point}/gu;

function charTable(characters: string): Uint8Array {
  const table = new Uint8Array(128);
  for (const character of characters) table[character.charCodeAt(0)] = 1;
  return table;
}

/** The value of the two hexadecimal digits after the `%` at `index`, or -1. */
function octetAt(text: string, index: number): number {
  const high = hexDigit(text.charCodeAt(index + 1));
  const low = hexDigit(text.charCodeAt(index + 2));
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  if (code >= 0x41 && code <= 0x46) return code - 0x37;
  if (code >= 0x61 && code <= 0x66) return code - 0x57;
  // Also where charCodeAt ran past the end and gave NaN.
  return -1;
}

/**
 * Reads the raw target of a request to `/gateway/<connection>/<path>`.
 *
 * @param rawUrl `req.url` of Node, untouched: no decoding, no `URL` before this.
 * @returns the canonical connection name, and `path` (starts with `/`) and `query` (`''`, or starts with `?`) as the
 *   very bytes to send upstream; or why the target is refused. `/gateway/<connection>` alone means path `/`.
 */
export function parseGatewayTarget(rawUrl: string): GatewayTarget {
  if (rawUrl.length > MAX_TARGET_BYTES) return { ok: false, why: 'too_long' };
  if (rawUrl.charCodeAt(0) !== SLASH) return { ok: false, why: 'not_origin_form' };
  if (!rawUrl.startsWith(PREFIX)) return { ok: false, why: 'not_gateway' };

  const queryMark = rawUrl.indexOf('?', PREFIX.length);
  const pathEnd = queryMark < 0 ? rawUrl.length : queryMark;
  const slash = rawUrl.indexOf('/', PREFIX.length);
  const nameEnd = slash < 0 || slash > pathEnd ? pathEnd : slash;

  const connection = rawUrl.slice(PREFIX.length, nameEnd);
  if (!CONNECTION_NAME.test(connection)) return { ok: false, why: 'bad_connection_name' };

  const path = nameEnd === pathEnd ? '/' : rawUrl.slice(nameEnd, pathEnd);
  const query = rawUrl.slice(pathEnd);
  const why = pathFault(path) ?? queryFault(query);
  return why === undefined ? { ok: true, connection, path, query } : { ok: false, why };
}

/**
 * Judges a path by the same law for requests and for the patterns of rules.
 *
 * @param path raw path, without query.
 * @returns why it is refused, or `undefined` when every reader must agree on its segments. A trailing slash is fine.
 */
export function pathFault(path: string): PathFault | undefined {
  if (path.charCodeAt(0) !== SLASH) return 'not_rooted';
  let segmentStart = 1;
  let encoded = false;
  for (let index = 1; index <= path.length; index++) {
    const code = index === path.length ? SLASH : path.charCodeAt(index);
    if (code === SLASH) {
      // Empty is allowed in one place only: after the last slash.
      if (index === segmentStart && index < path.length) return 'empty_segment';
      const first = path.charCodeAt(segmentStart);
      if ((first === DOT || first === SEMICOLON) && isDotSegment(path.slice(segmentStart, index))) return 'dot_segment';
      segmentStart = index + 1;
    } else if (code === PERCENT) {
      const octet = octetAt(path, index);
      const why = octetFault(octet);
      if (why !== undefined) return why;
      encoded = true;
      index += 2;
    } else if (code > 0x7f || IS_PCHAR[code] === 0) {
      return 'forbidden_character';
    }
  }
  return encoded ? decodedFault(path) : undefined;
}

function octetFault(octet: number): PathFault | undefined {
  if (octet < 0) return 'bad_percent_encoding';
  if (octet < 0x20 || octet === 0x7f) return 'encoded_control';
  if (octet > 0x7f) return undefined;
  if (IS_DELIMITER[octet] === 1) return 'encoded_delimiter';
  // RFC 3986 §6.2.2.2: a normaliser would decode these, so they are a second spelling of another path.
  return IS_UNRESERVED[octet] === 1 ? 'encoded_unreserved' : undefined;
}

/** What only shows after decoding. Runs for paths with a percent sign; their octets have been judged one by one. */
function decodedFault(path: string): PathFault | undefined {
  let text: string;
  try {
    // Strict UTF-8: overlong forms, surrogates and truncated sequences throw.
    text = decodeURIComponent(path);
  } catch {
    return 'bad_utf8';
  }
  if (C1_CONTROL.test(text)) return 'encoded_control';
  if (DECEPTIVE.test(text) || SLASH_LIKE.test(text)) return 'confusable_character';
  for (const segment of text.split('/')) {
    const folded = segment.replace(IGNORABLE, '').normalize('NFKC');
    // Compatibility forms such as U+FF0F or U+2025 become delimiters in readers that normalise. Delimiters themselves
    // never arrive encoded, so any that folding adds came from such a form.
    if (countDelimiters(folded) !== countDelimiters(segment)) return 'confusable_character';
    if (segment !== '' && isDotSegment(folded)) return 'dot_segment';
  }
  return undefined;
}

function countDelimiters(text: string): number {
  let count = 0;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code <= 0x7f && IS_DELIMITER[code] === 1) count++;
  }
  return count;
}

/**
 * Whether some server takes the segment for nothing, `.` or `..`: after it cut path parameters (`..;x`, servlet
 * containers), trailing blanks (`..%20`, Windows) or surplus dots (`...`, old Windows).
 */
function isDotSegment(segment: string): boolean {
  const semicolon = segment.indexOf(';');
  const name = (semicolon < 0 ? segment : segment.slice(0, semicolon)).trim();
  for (let index = 0; index < name.length; index++) {
    if (name.charCodeAt(index) !== DOT) return false;
  }
  return true;
}

/**
 * The query reaches no rule, so it is only kept well-formed: printable ASCII without `#`, whole percent-encodings, no
 * encoded control. Raw brackets and the like stay, as many APIs take `expand[]=…`.
 */
function queryFault(query: string): TargetFault | undefined {
  for (let index = 0; index < query.length; index++) {
    const code = query.charCodeAt(index);
    if (code === PERCENT) {
      const octet = octetAt(query, index);
      if (octet < 0x20 || octet === 0x7f) return 'bad_query_encoding';
      index += 2;
    } else if (code <= 0x20 || code >= 0x7f || code === 0x23) {
      return 'bad_query_character';
    }
  }
  return undefined;
}
