/** How providers turn a zod schema into what the port promises: a value, or problems that name a field. */
import { z } from 'zod';
import type { Checked } from '../../../src/ports/provider.ts';

/** @returns the parsed value, or one line a problem: where, and what was expected; never the value itself */
export const checked = <T>(schema: z.ZodType<T>, value: unknown, at: string): Checked<T> => {
  const parsed = schema.safeParse(value);
  if (parsed.success) return { ok: true, value: parsed.data };
  return {
    ok: false,
    problems: parsed.error.issues.map((issue) => `${[at, ...issue.path].join('.')}: ${issue.message}`),
  };
};

/**
 * Parses settings once for each object: rows in memory are replaced when they change, never changed in place.
 * @throws z.ZodError for settings that were stored by another version of the schema
 */
export const parsedOnce = <T>(schema: z.ZodType<T>): ((settings: object) => T) => {
  const known = new WeakMap<object, T>();
  return (settings) => {
    const found = known.get(settings);
    if (found !== undefined) return found;
    const parsed = schema.parse(settings);
    known.set(settings, parsed);
    return parsed;
  };
};

export const jsonSchemaOf = (schema: z.ZodType): Record<string, unknown> => z.toJSONSchema(schema, { io: 'input' });
