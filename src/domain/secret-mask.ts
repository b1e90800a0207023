/**
 * Keeps an injected secret from coming back in a response that echoes it. Every byte that belongs to an occurrence of
 * a known form of the secret becomes `*`, so lengths stay true.
 *
 * What this does not promise: an upstream that means to leak can always encode in a way not listed here, or send the
 * secret in parts. It catches echoes, debug pages and error messages, not a conspiracy.
 */

/** Half-open ranges of bytes, ascending and apart from each other, flat: start, end, start, end … */
type Spans = readonly number[];

/**
 * The forms of some secrets, ready to be searched for. The forms live in the closures, so that serialising or
 * inspecting this object shows no secret.
 */
export type Needles = {
  /** How many distinct byte forms are searched for. */
  readonly forms: number;
  /** How many of the given secrets are too short to be masked (`MIN_SECRET_BYTES`). */
  readonly ignored: number;
  /** No text with fewer characters can contain a form. */
  readonly shortestText: number;
  /** All bytes of `data` that belong to an occurrence, overlapping ones joined. */
  readonly spansIn: (data: Uint8Array) => Spans;
  /** The first index from which the rest of `data` may be the beginning of an occurrence; its length if none. */
  readonly undecidedFrom: (data: Uint8Array) => number;
};

/**
 * Shorter secrets are not masked: at five bytes and less, ordinary text would be hit and the response ruined, while a
 * secret that short protects nothing. A caller should refuse them when they are stored.
 */
export const MIN_SECRET_BYTES = 6;

const STAR = 0x2a;
const NO_SPANS: Spans = [];

/**
 * Log2 of the shift table's size. 8192 entries of one byte stay in the first-level cache; a full table of 65536 was
 * slower, as each step of the search waits for its look-up.
 */
const HASH_BITS = 13;
const HASH_MASK = (1 << HASH_BITS) - 1;

/**
 * Builds the search for every form in which software commonly repeats a value: as it is, in base64 and base64url (at
 * the three alignments, cut to the characters that depend on the secret alone, so up to four bits at either edge
 * stay), percent-encoded, form-encoded, as JSON and HTML strings, and in hexadecimal.
 *
 * @param secrets in clear; pass the whole injected value as well when it differs (`Basic …`).
 */
export function secretNeedles(secrets: readonly string[]): Needles {
  const long = secrets.filter((secret) => Buffer.byteLength(secret) >= MIN_SECRET_BYTES);
  const distinct = new Map<string, Buffer>();
  for (const secret of long) {
    for (const form of formsOf(secret)) distinct.set(form.toString('latin1'), form);
  }
  const forms = [...distinct.values()].sort((a, b) => b.length - a.length);
  const first = forms[0];
  const last = forms.at(-1);
  const ignored = secrets.length - long.length;
  if (first === undefined || last === undefined) {
    return {
      forms: 0,
      ignored,
      shortestText: Number.POSITIVE_INFINITY,
      spansIn: () => NO_SPANS,
      undecidedFrom: (data) => data.length,
    };
  }
  return {
    forms: forms.length,
    ignored,
    shortestText: Math.min(...forms.map((form) => form.toString('utf8').length)),
    spansIn: spanFinder(forms, last.length),
    undecidedFrom: prefixFinder(forms, first.length),
  };
}
