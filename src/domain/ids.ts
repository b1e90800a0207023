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
  | 'iss'
  | 'grt'
  | 'rev'
  | 'apr'
  | 'rot'
  | 'rvw'
  | 'inc'
  | 'frz'
  | 'whk'
  | 'ssf'
  | 'evt'
  | 'bkp'
  | 'op'
  | 'aut'
  | 'flw'
  | 'tok'
  | 'req';

const alphabet = '0123456789abcdefghjkmnpqrstvwxyz';
const encodedLength = 26;

/** Two characters at a time: ids are made on every request. */
const pairs = Array.from({ length: 1024 }, (_, i) => alphabet.charAt(i >> 5) + alphabet.charAt(i & 31));
const pair = (tenBits: number): string => pairs[tenBits] ?? '';

/** How many random bytes {@link makeId} takes. */
export const idEntropyBytes = 10;

/**
 * @param nowMs milliseconds since the epoch
 * @param random exactly {@link idEntropyBytes} bytes
 * @returns e.g. `grt_01kap2v3w4x5y6z7a8b9cadbec`
 */
export const makeId = (prefix: IdPrefix, nowMs: number, random: Uint8Array): string => {
  let tail = '';
  for (let i = 0; i < idEntropyBytes; i += 5) {
    // Five bytes are eight characters: four pairs of ten bits each.
    const [a = 0, b = 0, c = 0, d = 0, e = 0] = random.subarray(i, i + 5);
    tail += pair((a << 2) | (b >> 6)) + pair(((b & 63) << 4) | (c >> 4)) + pair(((c & 15) << 6) | (d >> 2));
    tail += pair(((d & 3) << 8) | e);
  }
  const high = Math.floor(nowMs / 2 ** 30);
  const low = nowMs % 2 ** 30;
  const time = pair(Math.floor(high / 2 ** 10)) + pair(high % 2 ** 10) + pair(low >> 20) + pair((low >> 10) & 1023);
  return `${prefix}_${time}${pair(low & 1023)}${tail}`;
};

/** @returns whether `text` is spelled exactly as {@link makeId} spells an id of this prefix */
export const isId = (prefix: IdPrefix, text: string): boolean => {
  const start = prefix.length + 1;
  if (text.length !== start + encodedLength || !text.startsWith(`${prefix}_`)) return false;
  for (let i = start; i < text.length; i += 1) if (!alphabet.includes(text.charAt(i))) return false;
  return true;
};
