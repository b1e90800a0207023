/** Judging JSON by its bytes before anything parses it, and its keys before anything trusts them. */

/** Deeper than any document of ours; shallow enough that no parser's stack is in danger. */
export const maxJsonDepth = 32;

const quote = 0x22;
const backslash = 0x5c;
const openers = new Set([0x7b, 0x5b]);
const closers = new Set([0x7d, 0x5d]);

/** @returns whether nesting stays within {@link maxJsonDepth}; one pass, no allocation */
export const isShallow = (bytes: Uint8Array): boolean => {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < bytes.length; i += 1) {
    const byte = bytes[i] ?? 0;
    if (inString) {
      if (byte === backslash) i += 1;
      else if (byte === quote) inString = false;
    } else if (byte === quote) inString = true;
    else if (openers.has(byte)) {
      depth += 1;
      if (depth > maxJsonDepth) return false;
    } else if (closers.has(byte)) depth -= 1;
  }
  return true;
};

const dangerous = new Set(['__proto__', 'constructor', 'prototype']);

/** @returns the first key that could reach a prototype, however deep, or undefined */
export const dangerousKey = (value: unknown): string | undefined => {
  if (typeof value !== 'object' || value === null) return undefined;
  if (Array.isArray(value)) {
    for (const item of value) {
      const found = dangerousKey(item);
      if (found) return found;
    }
    return undefined;
  }
  for (const [key, item] of Object.entries(value)) {
    if (dangerous.has(key)) return key;
    const found = dangerousKey(item);
    if (found) return found;
  }
  return undefined;
};
