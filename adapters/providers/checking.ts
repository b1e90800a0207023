/** How providers turn a zod schema into what the port promises: a value, or problems that name a field. */
import { z } from 'zod';
import type { Checked } from '../../src/ports/provider.ts';

/** @returns the parsed value, or one line a problem: where, and what was expected; never the value itself */
export const checked = <T>(schema: z.ZodType<T>, value: unknown, at: string): Checked<T> => {
  const parsed = schema.safeParse(value);
  if (parsed.success) return { ok: true, value: parsed.data };
  return {
    ok: false,
    problems: parsed.error.issues.map((issue) => `${[at, ...issue.path].join('.')}: ${issue.message}`),
  };
};

export const jsonSchemaOf = (schema: z.ZodType): Record<string, unknown> => z.toJSONSchema(schema, { io: 'input' });
