/** Judging JSON by its bytes before anything parses it, and what was parsed before anything trusts it. */

/** Deeper than any document of ours; shallow enough that no parser's stack is in danger. */
export const maxJsonDepth = 32;

const quote = 0x22;
const backslash = 0x5c;
const colon = 0x3a;
const openers = new Set([0x7b, 0x5b]);
const closers = new Set([0x7d, 0x5d]);

/**
 * One pass over the bytes, no allocation.
 * @returns how many members its objects have, repeated ones included; undefined when it is nested deeper than
 *   {@link maxJsonDepth}. Of what is not JSON it says nothing useful, and does no harm.
 */
export const countMembers = (bytes: Uint8Array): number | undefined => {
  let depth = 0;
  let members = 0;
  let inString = false;
  for (let i = 0; i < bytes.length; i += 1) {
    const byte = bytes[i] ?? 0;
    if (inString) {
      if (byte === backslash) i += 1;
      else if (byte === quote) inString = false;
    } else if (byte === quote) inString = true;
    else if (byte === colon) members += 1;
    else if (openers.has(byte)) {
      depth += 1;
      if (depth > maxJsonDepth) return undefined;
    } else if (closers.has(byte)) depth -= 1;
  }
  return members;
};

const dangerous = new Set(['__proto__', 'constructor', 'prototype']);

/**
 * Looks through a parsed value, however deep.
 * @param members what {@link countMembers} counted in its bytes: a parser keeps the last of two members of one name,
 *   another reader may keep the first, so a document that has any is refused (RFC 8259 section 4)
 * @returns why it must not be used, in words fit for the caller, or undefined
 */
export const jsonFault = (value: unknown, members: number): string | undefined => {
  let found = 0;
  const faultIn = (one: unknown): string | undefined => {
    // Half a character: no UTF-8, so no database and no canonical JSON can hold it.
    if (typeof one === 'string') return one.isWellFormed() ? undefined : 'a text in it is not valid Unicode';
    if (typeof one !== 'object' || one === null) return undefined;
    if (Array.isArray(one)) {
      for (const item of one) {
        const fault = faultIn(item);
        if (fault !== undefined) return fault;
      }
      return undefined;
    }
    for (const [key, item] of Object.entries(one)) {
      found += 1;
      if (dangerous.has(key)) return `the key ${key} is not allowed`;
      if (!key.isWellFormed()) return 'a key in it is not valid Unicode';
      const fault = faultIn(item);
      if (fault !== undefined) return fault;
    }
    return undefined;
  };
  return faultIn(value) ?? (found === members ? undefined : 'a key is there twice');
};
