/** Requests against their schemas: a value of the right type, or a 400 that names each field. Never the value. */
import type { z } from 'zod';
import { Refused } from '../domain/refusals.ts';

export class InvalidRequest extends Refused {
  readonly problems: string[];
  constructor(problems: string[]) {
    super('invalid_request', problems[0] ?? 'the request is not valid');
    this.problems = problems;
  }
}

const maxProblems = 20;

/** Keys come from the caller: shown short and printable. */
const printable = (text: string): string => text.slice(0, 200).replace(/[^\x20-\x7e]/g, '?');

/** @throws InvalidRequest */
export const parse = <T>(schema: z.ZodType<T>, value: unknown): T => {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => {
    const at = issue.path.map(String).join('.');
    return printable(at === '' ? issue.message : `${at}: ${issue.message}`);
  });
  throw new InvalidRequest(problems.slice(0, maxProblems));
};
