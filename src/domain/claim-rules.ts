/**
 * Rules over the claims of a token somebody else signed: each named claim must be there and have one of the values. A
 * claim is named by its name, or, inside another, by a JSON Pointer (RFC 6901): `/kubernetes.io/namespace`.
 */
import { globMatches, isGlob } from './glob.ts';

/** Claim -> a pattern (glob.ts), or several of which one must match. */
export type ClaimRules = Record<string, string | string[]>;

export const maxClaimRules = 20;
export const maxPatterns = 50;
/** As JSON: a change is recorded with what was before and what is after, and an audit entry has its limit. */
const maxRulesLength = 4000;

/** The steps of a name; undefined where it is spelled as no pointer is (`~` stands before 0 and 1 only). */
const stepsOf = (name: string): string[] | undefined => {
  if (!name.startsWith('/')) return [name];
  if (/~(?![01])/.test(name)) return undefined;
  return name
    .slice(1)
    .split('/')
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
};

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** @returns the value of a claim, or undefined when there is none: only own members count */
export const claimAt = (claims: Record<string, unknown>, name: string): unknown => {
  let value: unknown = claims;
  for (const step of stepsOf(name) ?? []) {
    if (!isObject(value) || !Object.hasOwn(value, step)) return undefined;
    value = value[step];
  }
  return value === claims ? undefined : value;
};

/** What a rule can be compared with: texts, the words true and false, and each text of a list. */
const textsOf = (value: unknown): string[] => {
  if (typeof value === 'string') return [value];
  if (typeof value === 'boolean') return [String(value)];
  return Array.isArray(value) ? value.filter((one) => typeof one === 'string').slice(0, 200) : [];
};

/** @returns the name of the first claim that breaks its rule, or undefined when all are kept */
export const brokenRule = (rules: ClaimRules, claims: Record<string, unknown>): string | undefined =>
  Object.entries(rules).find(([name, wanted]) => {
    const texts = textsOf(claimAt(claims, name));
    const patterns = typeof wanted === 'string' ? [wanted] : wanted;
    return !patterns.some((pattern) => texts.some((text) => globMatches(pattern, text)));
  })?.[0];

/** @returns what is wrong with rules somebody wrote, each with the name of the claim; nothing when they are fine */
export const faultsOfRules = (rules: ClaimRules): string[] => {
  const entries = Object.entries(rules);
  if (entries.length > maxClaimRules) return [`at most ${maxClaimRules} claims`];
  if (JSON.stringify(rules).length > maxRulesLength) return [`at most ${maxRulesLength} characters in all`];
  return entries.flatMap(([name, wanted]) => {
    if (name === '' || name.length > 200 || stepsOf(name) === undefined) {
      return ['a claim is named by its name or by a JSON Pointer such as /kubernetes.io/namespace'];
    }
    const patterns = typeof wanted === 'string' ? [wanted] : wanted;
    if (patterns.length === 0 || patterns.length > maxPatterns) return [`${name}: 1 to ${maxPatterns} values`];
    return patterns.every(isGlob)
      ? []
      : [`${name}: a value in which * and ** stand for a part of it, not for all of it`];
  });
};
