/**
 * Typed identifiers: a prefix that says what it names, then 26 characters of Crockford base32 = 48 bits of
 * milliseconds and 80 random bits. The time comes first so that new rows land at the end of an index, which keeps
 * inserting at a million rows as quick as at a thousand; 80 random bits make a guess hopeless within a millisecond.
 */
export type IdPrefix =
  | 'agt'
  | 'con'
  | 'sec'
  | 'ent'
  | 'grt'
  | 'rev'
  | 'apr'
  | 'rot'
  | 'rvw'
  | 'inc'
  | 'op'
  | 'tok'
  | 'req';

const alphabet = '0123456789abcdefghjkmnpqrstvwxyz';
const encodedLength = 26;

/** How many random bytes {@link makeId} takes. */
export const idEntropyBytes = 10;

/**
 * @param nowMs milliseconds since the epoch
 * @param random exactly {@link idEntropyBytes} bytes
 * @returns e.g. `grt_01kap2v3w4x5y6z7a8b9cadbec`
 */
export const makeId = (prefix: IdPrefix, nowMs: number, random: Uint8Array): string => {
  let time = '';
  let rest = nowMs;
  for (let i = 0; i < 10; i += 1) {
    time = alphabet.charAt(rest % 32) + time;
    rest = Math.floor(rest / 32);
  }
  let tail = '';
  let bits = 0;
  let held = 0;
  for (const byte of random) {
    held = (held << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      tail += alphabet.charAt((held >> bits) & 31);
    }
    held &= (1 << bits) - 1;
  }
  return `${prefix}_${time}${tail}`;
};

/** @returns whether `text` is spelled exactly as {@link makeId} spells an id of this prefix */
export const isId = (prefix: IdPrefix, text: string): boolean => {
  const start = prefix.length + 1;
  if (text.length !== start + encodedLength || !text.startsWith(`${prefix}_`)) return false;
  for (let i = start; i < text.length; i += 1) if (!alphabet.includes(text.charAt(i))) return false;
  return true;
};
