import { mentionsToken } from './tokens.ts';

/**
 * One canonical spelling of a name; anything else is refused, never repaired. Two checks that repair a name
 * differently read two names (Vault CVE-2025-6004, -6013).
 */
const canonical = /^[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?$/;
const looksLikeId = /^(?:agt|con|sec|ent|grt|rev|apr|rot|rvw|inc|frz|whk|ssf|evt|bkp|op|tok|req|aut|flw|iss)_/;
const scopeName = /^[a-z0-9](?:[a-z0-9._:/*-]{0,98}[a-z0-9*])?$/i;

export const nameRule =
  'lower-case letters, digits, ".", "_" and "-", at most 63, beginning and ending with a letter or digit, not spelled like an id';

/** @returns whether this is the canonical name of an agent, connection or operator */
export const isName = (text: string): boolean =>
  canonical.test(text) && !looksLikeId.test(text) && !mentionsToken(text);

export const scopeNameRule = 'letters, digits and . _ : / * -, at most 100, case matters';

/** @returns whether this names a scope: a subset of RFC 6749 section 3.3, so it never needs quoting anywhere */
export const isScopeName = (text: string): boolean => scopeName.test(text) && !mentionsToken(text);

export const plainLineRule = (max: number): string =>
  `one line of at most ${max} visible characters, and no token in it`;

/** Control, format, separator, private and unassigned characters, and those no font shows (UAX #44, DI). */
const unseen = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}\p{Default_Ignorable_Code_Point}]/u;

/** @returns whether a text can be shown and recorded as it is: whole characters, all of them visible, no token */
export const isShowable = (text: string): boolean => text.isWellFormed() && !unseen.test(text) && !mentionsToken(text);

/**
 * A line a person typed: an owner, a reason, a subject. Printable, trimmed, NFC, one line, at most `max` characters;
 * control, bidirectional and zero-width characters would let one record look like another. A token pasted into it
 * would stay in the audit log for ever.
 */
export const isPlainLine = (text: string, max: number): boolean =>
  text.length > 0 && text.length <= max && text.trim() === text && text.normalize('NFC') === text && isShowable(text);
