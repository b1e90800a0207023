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
const NO_FORMS: readonly Buffer[] = [];
const NOTHING = Buffer.alloc(0);
const BEYOND_LATIN1 = /[\u0100-\uffff]/;
const BEYOND_ASCII = /[\u0080-\uffff]/;
/** Text of which no encoder below changes anything. */
const NEVER_ESCAPED = /^[A-Za-z0-9._-]*$/;

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

/**
 * Masks a body as it streams. The output is the same for every way of cutting the body into chunks, and memory is
 * bounded by the longest form plus one chunk. Compressed bodies must be decoded before, or not asked for.
 *
 * The state it guards: the bytes held back because they may be the beginning of an occurrence.
 */
export class BodyMask {
  readonly #needles: Needles;
  #held: Buffer = NOTHING;
  /** How many leading bytes of `#held` belong to an occurrence already found. */
  #heldMasked = 0;

  constructor(needles: Needles) {
    this.#needles = needles;
  }

  /**
   * Takes the next chunk, which is never written to; returns what is decided, possibly nothing. Without a hit that is
   * `chunk` itself or a view of it. Bytes wait only if they are the beginning of a form, so an event that ends in a
   * newline passes at once.
   */
  push(chunk: Buffer): Buffer {
    const data = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    return this.#release(data, this.#needles.undecidedFrom(data));
  }

  /** Ends the body: returns what was held back, masked. The mask may then be used for another body. */
  end(): Buffer {
    return this.#release(this.#held, this.#held.length);
  }

  #release(data: Buffer, decided: number): Buffer {
    const spans = this.#needles.spansIn(data);
    let masked: Buffer | undefined;
    let maskedTo = this.#heldMasked;
    if (maskedTo > 0) masked = Buffer.from(data).fill(STAR, 0, maskedTo);
    for (let index = 0; index + 1 < spans.length; index += 2) {
      const start = spans[index] ?? 0;
      const end = spans[index + 1] ?? 0;
      // The rest is searched again together with the next chunk, which may lengthen these hits.
      if (start >= decided) break;
      masked ??= Buffer.from(data);
      masked.fill(STAR, start, end);
      maskedTo = Math.max(maskedTo, end);
    }
    // A copy in clear: hits must still be recognised in it, and the caller may reuse the chunk.
    this.#held = decided === data.length ? NOTHING : Buffer.from(data.subarray(decided));
    this.#heldMasked = Math.max(0, maskedTo - decided);
    const released = masked ?? data;
    return decided === data.length ? released : released.subarray(0, decided);
  }
}

/**
 * Masks a header's value (or name). Node gives headers as Latin-1, undici as UTF-8: both are searched.
 *
 * @returns `text` itself without a hit; otherwise as many bytes as before.
 */
export function maskText(needles: Needles, text: string): string {
  if (text.length < needles.shortestText) return text;
  const masked = BEYOND_LATIN1.test(text) ? text : maskEncoded(needles, text, 'latin1');
  return BEYOND_ASCII.test(masked) ? maskEncoded(needles, masked, 'utf8') : masked;
}

function maskEncoded(needles: Needles, text: string, encoding: 'latin1' | 'utf8'): string {
  const bytes = Buffer.from(text, encoding);
  const spans = needles.spansIn(bytes);
  if (spans.length === 0) return text;
  for (let index = 0; index + 1 < spans.length; index += 2) bytes.fill(STAR, spans[index], spans[index + 1]);
  return bytes.toString(encoding);
}

/**
 * Searches for all forms in one pass, after Wu and Manber, "A fast algorithm for multi-pattern searching" (1994): the
 * two bytes at the end of a window, as wide as the shortest form, tell how far the window may jump. Only where they
 * end the beginning of some form are bytes compared. One `indexOf` a form was several times slower.
 */
function spanFinder(forms: readonly Buffer[], window: number): (data: Uint8Array) => Spans {
  const shift = new Uint8Array(1 << HASH_BITS).fill(Math.min(window - 1, 0xff));
  const candidates = new Map<number, Buffer[]>();
  for (const form of forms) {
    for (let at = 1; at < window; at++) {
      const hash = hashPair(form[at - 1] ?? 0, form[at] ?? 0);
      shift[hash] = Math.min(shift[hash] ?? 0, window - 1 - at);
    }
    const hash = hashPair(form[window - 2] ?? 0, form[window - 1] ?? 0);
    // Stays longest first, as `forms` is: the first candidate that matches covers all others.
    candidates.set(hash, [...(candidates.get(hash) ?? NO_FORMS), form]);
  }

  return (data) => {
    let spans: number[] | undefined;
    let at = window - 1;
    while (at < data.length) {
      const hash = hashPair(data[at - 1] ?? 0, data[at] ?? 0);
      const jump = shift[hash] ?? 1;
      if (jump > 0) {
        at += jump;
        continue;
      }
      const start = at - window + 1;
      for (const form of candidates.get(hash) ?? NO_FORMS) {
        if (form.length > data.length - start || !beginsAt(data, start, form, form.length)) continue;
        spans = addSpan(spans ?? [], start, start + form.length);
        break;
      }
      at++;
    }
    return spans ?? NO_SPANS;
  };
}

function hashPair(first: number, second: number): number {
  return ((first << 5) ^ second) & HASH_MASK;
}

/** Appends to `spans`, joining with the last one where they touch. Starts come in ascending order. */
function addSpan(spans: number[], start: number, end: number): number[] {
  const lastEnd = spans.at(-1);
  if (lastEnd === undefined || start > lastEnd) spans.push(start, end);
  else spans[spans.length - 1] = Math.max(lastEnd, end);
  return spans;
}

function prefixFinder(forms: readonly Buffer[], longest: number): (data: Uint8Array) => number {
  const byFirstByte = Array.from({ length: 256 }, (_, byte) => {
    const some = forms.filter((form) => form[0] === byte);
    return some.length === 0 ? NO_FORMS : some;
  });

  return (data) => {
    // Further back, even the longest form would be complete.
    for (let at = Math.max(0, data.length - longest + 1); at < data.length; at++) {
      const left = data.length - at;
      for (const form of byFirstByte[data[at] ?? 0] ?? NO_FORMS) {
        if (form.length > left && beginsAt(data, at, form, left)) return at;
      }
    }
    return data.length;
  };
}

/** Whether the first `length` bytes of `form` stand in `data` at `start`. */
function beginsAt(data: Uint8Array, start: number, form: Uint8Array, length: number): boolean {
  for (let index = 0; index < length; index++) {
    if (data[start + index] !== form[index]) return false;
  }
  return true;
}

function formsOf(secret: string): Buffer[] {
  // A lone surrogate has no UTF-8; what is sent for it is U+FFFD.
  const text = secret.toWellFormed();
  const bytes = Buffer.from(text);
  const hex = bytes.toString('hex');
  const forms = new Set([hex, hex.toUpperCase()]);
  // Base64 is text that gets escaped in its turn: a slash in JSON, a plus in a query.
  for (const each of [text, ...base64Forms(bytes)]) {
    forms.add(each);
    if (NEVER_ESCAPED.test(each)) continue;
    for (const form of [...percentForms(each), ...jsonForms(each), ...htmlForms(each)]) forms.add(form);
  }
  const buffers = Array.from(forms, (form) => Buffer.from(form));
  // A header may carry é as the single byte 0xE9 (RFC 9110 §5.5, obs-text).
  return BEYOND_LATIN1.test(text) ? buffers : [...buffers, Buffer.from(text, 'latin1')];
}

/** The characters of base64 that depend on `bytes` alone, wherever they stand in what is encoded. */
function base64Forms(bytes: Buffer): string[] {
  return [0, 1, 2].flatMap((before) => {
    const encoded = Buffer.concat([Buffer.alloc(before), bytes]).toString('base64');
    const from = Math.ceil((before * 8) / 6);
    const to = Math.floor(((before + bytes.length) * 8) / 6);
    const form = encoded.slice(from, to);
    return [form, form.replaceAll('+', '-').replaceAll('/', '_')];
  });
}

const ALPHANUMERIC = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

/** What common encoders leave as it is, and what they make of a space. */
const PERCENT_ENCODERS: readonly { keep: string; space: string }[] = [
  { keep: `${ALPHANUMERIC}-._~`, space: '%20' }, // RFC 3986 §2.3
  { keep: `${ALPHANUMERIC}-._~!'()*`, space: '%20' }, // encodeURIComponent
  { keep: `${ALPHANUMERIC}-._~/`, space: '%20' }, // Python's quote
  { keep: `${ALPHANUMERIC}-._~!'()*;,/?:@&=+$#`, space: '%20' }, // encodeURI
  { keep: `${ALPHANUMERIC}-._*`, space: '+' }, // application/x-www-form-urlencoded of WHATWG
  { keep: `${ALPHANUMERIC}-._`, space: '+' }, // of PHP
  { keep: `${ALPHANUMERIC}-._~`, space: '+' }, // of Go and Python
];

/** For each encoder, and for both cases of hexadecimal digits, what each byte becomes. */
const PERCENT_TABLES: readonly (readonly string[])[] = PERCENT_ENCODERS.flatMap(({ keep, space }) =>
  [false, true].map((upper) =>
    Array.from({ length: 256 }, (_, byte) => {
      const character = String.fromCharCode(byte);
      if (keep.includes(character)) return character;
      if (character === ' ') return space;
      const hex = byte.toString(16).padStart(2, '0');
      return `%${upper ? hex.toUpperCase() : hex}`;
    }),
  ),
);

function percentForms(text: string): string[] {
  const bytes = Buffer.from(text);
  return PERCENT_TABLES.map((table) => {
    let form = '';
    for (const byte of bytes) form += table[byte] ?? '';
    return form;
  });
}

/** Inside the quotes of a JSON string, as written by different libraries (RFC 8259 §7 leaves the choice). */
function jsonForms(text: string): string[] {
  const plain = JSON.stringify(text).slice(1, -1);
  const ascii = plain.replace(/[\u0080-\uffff]/g, lowerEscape); // Python
  const slashed = (form: string) => form.replaceAll('/', '\\/'); // PHP escapes slashes
  return [
    ...[plain, ascii, slashed(plain), slashed(ascii)],
    ...[plain.replaceAll('/', '\\u002f'), plain.replaceAll('/', '\\u002F')],
    plain.replace(/[<>&\u2028\u2029]/g, lowerEscape), // Go
    // System.Text.Json, which also writes the quote by number.
    plain.replaceAll('\\"', '\\u0022').replace(/[<>&'+`\u007f-\uffff]/g, upperEscape),
  ];
}

function lowerEscape(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

function upperEscape(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}`;
}

const HTML_BASIC: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;' };

/** What common template engines write; the first three characters are the same in all of them. */
const HTML_ESCAPERS: readonly Readonly<Record<string, string>>[] = [
  {},
  { '"': '&quot;' },
  { '"': '&quot;', "'": '&#39;' }, // Django, EJS, Handlebars of old
  { '"': '&quot;', "'": '&#039;' }, // PHP
  { '"': '&quot;', "'": '&#x27;' }, // Python, React
  { '"': '&quot;', "'": '&apos;' }, // XML
  { '"': '&#34;', "'": '&#39;' }, // Go, Jinja
  { '"': '&#34;', "'": '&#39;', '+': '&#43;' }, // Go, html/template
  { '"': '&quot;', "'": '&#39;', '/': '&#x2F;', '`': '&#x60;', '=': '&#x3D;' }, // Mustache
  { '"': '&quot;', "'": '&#x27;', '`': '&#x60;', '=': '&#x3D;' }, // Handlebars
];

function htmlForms(text: string): string[] {
  return HTML_ESCAPERS.map((escaper) => {
    const table = { ...HTML_BASIC, ...escaper };
    return Array.from(text, (character) => table[character] ?? character).join('');
  });
}
