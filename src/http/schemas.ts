/** The fields requests are made of, each in one place. */
import { z } from 'zod';
import { isName, isPlainLine, isScopeName, nameRule, scopeNameRule } from '../domain/names.ts';

export const name = z.string().refine(isName, nameRule);
/** Of something that exists already: its name or its id. Anything unknown is `not_found`, not malformed. */
export const reference = z.string().min(1).max(100);
export const scopeName = z.string().refine(isScopeName, scopeNameRule);

const line = (max: number) =>
  z.string().refine((text) => isPlainLine(text, max), `one printable line of at most ${max} characters`);

export const owner = line(200);
export const purpose = line(500);
export const reason = line(500);
export const subject = line(200);

export const scopes = z
  .array(scopeName)
  .min(1)
  .max(50)
  .refine((list) => new Set(list).size === list.length, 'a scope is named twice');

/** Seconds. What is longest is decided by the entitlement, not here. */
export const ttlSeconds = z.int().min(1).max(31_536_000);

/** A moment in ISO 8601, with its offset; as milliseconds. */
export const moment = z.iso.datetime({ offset: true }).transform((text) => Date.parse(text));

/** A moment, or a day (its beginning in UTC): for filters. */
export const momentOrDay = z.union([z.iso.date().transform((text) => Date.parse(text)), moment]);

export const status = z.enum(['active', 'suspended']);

export const pageQuery = {
  cursor: z.string().min(1).max(100).optional(),
  limit: z.coerce.number().int().min(1).max(500).default(100),
};
