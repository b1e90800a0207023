/**
 * The lines of an audit export (JSON Lines, each ended by one U+000A):
 *
 *     {"seq":0,"entry":{…}}                    the entry's canonical JSON, byte for byte as it is a leaf of the tree
 *     {"seq":1,"leaf":"<base64>"}              an entry whose body was dropped: its RFC 6962 leaf hash remains
 *     {"checkpoint":"<note>","key":"<vkey>"}   last, in an export of everything: what the tree of all entries must be
 *
 * There is one spelling of what stands around an entry, so a verifier finds the entry's bytes by comparing a prefix
 * instead of parsing JSON: that is quicker, and leaves nothing between what was hashed and what is hashed again.
 */

/** An entry has at most 65 535 bytes (audit-entry.ts); a checkpoint with a few witnesses fits as well. */
export const maxExportLineBytes = 80 * 1024;

const hashBytes = 32;
const brace = { open: 0x7b, close: 0x7d };

/** @param body the canonical JSON of the entry, as the ledger keeps it */
export const entryLine = (seq: number, body: string): string => `{"seq":${seq},"entry":${body}}\n`;

/** @param leaf the 32 bytes of the entry's leaf hash */
export const leafLine = (seq: number, leaf: Uint8Array): string =>
  `{"seq":${seq},"leaf":"${Buffer.from(leaf).toString('base64')}"}\n`;

/** @param note the signed checkpoint; @param key the verifier key it can be checked with, as text */
export const checkpointLine = (note: string, key: string): string => `${JSON.stringify({ checkpoint: note, key })}\n`;

/**
 * `{"seq":N,"entry":` for one N after another, as bytes. Counting in the bytes themselves costs a few nanoseconds a
 * line; making and encoding a string for each would cost more than comparing it.
 */
export class EntryPrefix {
  #seq = 0;
  #bytes = Buffer.from(entryLine(0, '').slice(0, -2));
  /** Where the last digit of N stands. */
  #lastDigit = '{"seq":'.length;

  /** The number the next line must have. */
  get seq(): number {
    return this.#seq;
  }

  /** Goes on to the next number. */
  advance(): void {
    this.#seq += 1;
    for (let at = this.#lastDigit; ; at -= 1) {
      const digit = this.#bytes[at] ?? 0;
      if (digit >= 0x30 && digit < 0x39) {
        this.#bytes[at] = digit + 1;
        return;
      }
      if (digit !== 0x39) break;
      this.#bytes[at] = 0x30;
    }
    // All nines: one digit more.
    this.#bytes = Buffer.from(entryLine(this.#seq, '').slice(0, -2));
    this.#lastDigit += 1;
  }

  /**
   * @param buffer holds a line from `start` up to, not including, its line end at `end`
   * @returns where the entry begins, which ends at `end - 1`; or -1 when this is no entry line with the awaited number
   */
  entryStart(buffer: Uint8Array, start: number, end: number): number {
    const bytes = this.#bytes;
    const from = start + bytes.length;
    if (buffer[from] !== brace.open || buffer[end - 1] !== brace.close || buffer[end - 2] !== brace.close) return -1;
    if (end - from < 3) return -1;
    for (let i = 0; i < bytes.length; i += 1) if (buffer[start + i] !== bytes[i]) return -1;
    return from;
  }
}

/** A line that is not the awaited entry: either a fine one of another kind, or what is wrong with it. */
export type OtherLine =
  | { kind: 'leaf'; leaf: Uint8Array }
  | { kind: 'checkpoint'; note: string; key: string }
  | { kind: 'wrong_seq'; found: number }
  | { kind: 'carriage_return' }
  | { kind: 'garbage' };

const numbered = /^\{"seq":(0|[1-9]\d{0,15}),"(entry|leaf)":/;

const readLeaf = (text: string): OtherLine => {
  const [, encoded = ''] = /,"leaf":"([A-Za-z0-9+/]{43}=)"\}$/.exec(text) ?? [];
  const leaf = Buffer.from(encoded, 'base64');
  // The last digit of base64 has spare bits: only the spelling without them counts.
  if (leaf.length !== hashBytes || leaf.toString('base64') !== encoded) return { kind: 'garbage' };
  return { kind: 'leaf', leaf: Uint8Array.from(leaf) };
};

const readCheckpoint = (text: string): OtherLine => {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return { kind: 'garbage' };
  }
  if (typeof parsed !== 'object' || parsed === null || !('checkpoint' in parsed) || !('key' in parsed)) {
    return { kind: 'garbage' };
  }
  const { checkpoint, key } = parsed;
  return typeof checkpoint === 'string' && typeof key === 'string'
    ? { kind: 'checkpoint', note: checkpoint, key }
    : { kind: 'garbage' };
};

/**
 * Reads a line for which {@link EntryPrefix.entryStart} said -1.
 *
 * @param line without its line end
 * @param seq the number an entry or leaf line must have here
 */
export const readOtherLine = (line: Uint8Array, seq: number): OtherLine => {
  const text = Buffer.from(line.buffer, line.byteOffset, line.byteLength).toString('utf8');
  if (text.endsWith('\r')) return { kind: 'carriage_return' };
  if (text.startsWith('{"checkpoint":')) return readCheckpoint(text);
  const [, digits, kind] = numbered.exec(text) ?? [];
  if (digits === undefined) return { kind: 'garbage' };
  if (Number(digits) !== seq) return { kind: 'wrong_seq', found: Number(digits) };
  return kind === 'leaf' ? readLeaf(text) : { kind: 'garbage' };
};
