/**
 * Which header fields cross the gateway. A list of what is dropped, with a reason each, on both ways; what is added is
 * added last, so nothing the agent sends can remove or shadow it.
 */

import { maskText, type Needles } from './secret-mask.ts';

/** Raw fields as Node gives them: name, value, name, value … in wire order, duplicates kept, spelling kept. */
export type RawHeaders = readonly string[];

export type RequestHeaderOptions = {
  /** Further names to drop, in any spelling. */
  readonly drop?: readonly string[];
};

/** RFC 9110 §7.6.1 and RFC 2616 §13.5.1, besides all of `proxy-*` and whatever `Connection` lists. */
const HOP_BY_HOP = [
  'connection',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  // Not hop-by-hop, but the `Proxy` field becomes HTTP_PROXY in CGI programs (CVE-2016-5385).
  'proxy',
];

const DROPPED_FROM_REQUESTS: ReadonlySet<string> = new Set([
  ...HOP_BY_HOP,
  // Framing and routing are the gateway's own.
  ...['host', 'content-length', 'expect'],
  // The agent's proofs towards Warder, never towards the upstream.
  ...['authorization', 'dpop'],
  // Answers must come uncompressed and in a charset that writes ASCII as ASCII, or a secret in them could not be seen.
  ...['accept-encoding', 'accept-charset'],
  // Statements about the way here; the upstream would believe the agent.
  ...['forwarded', 'via', 'x-real-ip', 'x-client-ip', 'x-cluster-client-ip', 'true-client-ip', 'cf-connecting-ip'],
  // These make frameworks act on another path or method than the one that was authorised.
  ...['x-original-url', 'x-rewrite-url', 'x-http-method-override', 'x-http-method', 'x-method-override'],
]);

const DROPPED_FROM_RESPONSES: ReadonlySet<string> = new Set([
  ...HOP_BY_HOP,
  // Said for a whole origin, and the origin the agent sees is Warder's.
  ...['strict-transport-security', 'alt-svc', 'clear-site-data'],
  ...['public-key-pins', 'public-key-pins-report-only'],
]);

/** Any kind of Warder token (`wdr_at_`, `wdr_gw_`, `wdr_op_` and kinds to come), in any position. */
const WARDER_TOKEN = /wdr_[a-z]{2}_/i;

/**
 * The fields to send upstream, without `Host` and `Content-Length`, which the caller sets.
 *
 * @param raw `req.rawHeaders`.
 * @param inject the field that carries the secret; every field of that name from the agent is dropped.
 * @returns a flat list like `raw`, ending in `Accept-Encoding: identity` and the injected field.
 */
export function requestHeaders(
  raw: RawHeaders,
  inject: { readonly name: string; readonly value: string } | undefined,
  options: RequestHeaderOptions = {},
): string[] {
  const listed = connectionOptions(raw);
  const own = new Set((options.drop ?? []).map(foldName));
  if (inject !== undefined) own.add(foldName(inject.name));
  const kept: string[] = [];
  for (let index = 0; index + 1 < raw.length; index += 2) {
    const name = raw[index] ?? '';
    const value = raw[index + 1] ?? '';
    const folded = foldName(name);
    if (DROPPED_FROM_REQUESTS.has(folded) || hasDroppedPrefix(folded) || folded.startsWith('x-forwarded-')) continue;
    if (listed.has(folded) || own.has(folded)) continue;
    if (WARDER_TOKEN.test(value) || WARDER_TOKEN.test(name)) continue;
    kept.push(name, value);
  }
  kept.push('Accept-Encoding', 'identity');
  if (inject !== undefined) kept.push(inject.name, inject.value);
  return kept;
}

/**
 * The fields to give back to the agent: no hop-by-hop fields, nothing in Warder's own name, no injected secret.
 *
 * @param raw the upstream's fields, flat or by name; `Content-Length` stays, as masking keeps lengths.
 */
export function responseHeaders(
  raw: RawHeaders | Readonly<Record<string, string | readonly string[] | undefined>>,
  needles: Needles,
): string[] {
  const flat = isFlat(raw) ? raw : flatten(raw);
  const listed = connectionOptions(flat);
  const kept: string[] = [];
  for (let index = 0; index + 1 < flat.length; index += 2) {
    const name = flat[index] ?? '';
    const folded = foldName(name);
    if (DROPPED_FROM_RESPONSES.has(folded) || hasDroppedPrefix(folded) || listed.has(folded)) continue;
    // `*` is allowed in names too (RFC 9110 §5.6.2), should an upstream put the secret there.
    kept.push(maskText(needles, name), maskText(needles, flat[index + 1] ?? ''));
  }
  return kept;
}

/** CGI, WSGI and their heirs read `X_Api_Key` as `X-Api-Key`, so both must count as one name. */
function foldName(name: string): string {
  const lower = name.toLowerCase();
  return lower.includes('_') ? lower.replaceAll('_', '-') : lower;
}

function hasDroppedPrefix(folded: string): boolean {
  return folded.startsWith('proxy-') || folded.startsWith('warder-');
}

/** The names that `Connection` declares to be for this hop only (RFC 9110 §7.6.1). */
function connectionOptions(raw: RawHeaders): ReadonlySet<string> {
  const names = new Set<string>();
  for (let index = 0; index + 1 < raw.length; index += 2) {
    if (foldName(raw[index] ?? '') !== 'connection') continue;
    for (const option of (raw[index + 1] ?? '').split(',')) names.add(foldName(option.trim()));
  }
  return names;
}

function isFlat(raw: RawHeaders | Readonly<Record<string, unknown>>): raw is RawHeaders {
  return Array.isArray(raw);
}

function flatten(record: Readonly<Record<string, string | readonly string[] | undefined>>): string[] {
  return Object.entries(record).flatMap(([name, value]) =>
    value === undefined ? [] : [value].flat().flatMap((each) => [name, each]),
  );
}
