/** The fields requests are made of, each in one place. */
import { z } from 'zod';
import { faultsOfRules } from '../domain/claim-rules.ts';
import { isGlob, maxPatternLength } from '../domain/glob.ts';
import { type IdPrefix, isId } from '../domain/ids.ts';
import { isName, isPlainLine, isScopeName, nameRule, plainLineRule, scopeNameRule } from '../domain/names.ts';
import { maxSubjectLength } from '../domain/subject.ts';

export const name = z.string().refine(isName, nameRule);
/** Of something that exists already: its name or its id. What is spelled like one and unknown is `not_found`. */
export const reference = z.string().regex(/^[a-z0-9][a-z0-9._-]{0,99}$/, 'a name or an id');
export const scopeName = z.string().refine(isScopeName, scopeNameRule);

/** The type of a provider, as the registry spells it. Whether there is one is the registry's to say. */
export const provider = z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'the type of a provider');

const line = (max: number) => z.string().refine((text) => isPlainLine(text, max), plainLineRule(max));

export const owner = line(200);
export const purpose = line(500);
export const reason = line(500);
/** As in WARDER_KMS; domain/key-service-name.ts reads it. */
export const keyService = line(500);
/** Whom a grant acts for, as subject.ts spells it. */
export const subject = line(maxSubjectLength);
/** Patterns over subjects (glob.ts). */
export const subjects = z
  .array(line(maxPatternLength).refine(isGlob, 'a pattern in which * and ** stand for a part of it, not for all of it'))
  .min(1)
  .max(100)
  .refine((list) => new Set(list).size === list.length, 'a pattern is named twice')
  // A change is recorded with what was before and what is after, and an audit entry has its limit.
  .refine((list) => list.join().length <= 4000, 'at most 4000 characters in all');

/** Rules over the claims of a token (claim-rules.ts). */
export const claimRules = z
  .record(z.string().max(200), z.union([line(maxPatternLength), z.array(line(maxPatternLength))]))
  .superRefine((rules, context) => {
    for (const message of faultsOfRules(rules)) context.addIssue({ code: 'custom', message });
  });

export const scopes = z
  .array(scopeName)
  .min(1)
  .max(50)
  .refine((list) => new Set(list).size === list.length, 'a scope is named twice');

/** What a provider wants to know beside scopes; what is in it is the provider's to judge. */
export const parameters = z
  .record(z.string().max(100), z.unknown())
  .refine((value) => Buffer.byteLength(JSON.stringify(value)) <= 4096, 'at most 4096 bytes of JSON');

/** Seconds. What is longest is decided by the entitlement, not here. */
export const ttlSeconds = z.int().min(1).max(31_536_000);

/** A moment in ISO 8601, with its offset; as milliseconds. */
export const moment = z.iso.datetime({ offset: true }).transform((text) => Date.parse(text));

/** A moment, or a day (its beginning in UTC): for filters. */
export const momentOrDay = z.union([z.iso.date().transform((text) => Date.parse(text)), moment]);

export const status = z.enum(['active', 'suspended']);

/** A whole number in a query, in digits only: `0x10`, ` 5` and `1e1` are what some other reader takes for a number. */
export const digits = (min: number, max: number) =>
  z
    .string()
    .regex(/^(?:0|[1-9][0-9]{0,14})$/, `a whole number from ${min} to ${max}`)
    .transform(Number)
    .pipe(z.number().min(min).max(max));

/** The `next_cursor` of a page is the id of its last row. */
export const pageQuery = (prefix: IdPrefix) => ({
  cursor: z
    .string()
    .refine((text) => isId(prefix, text), 'the next_cursor of the page before')
    .optional(),
  limit: digits(1, 500).default(100),
});
