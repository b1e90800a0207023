/**
 * Evaluates IAM policies: explicit deny first, then what the identity's policies allow, and of a session only what its
 * session policies allow as well.
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
 */
import { z } from 'zod';

const oneOrMore = z.union([z.string(), z.array(z.string()).min(1)]).transform((value) => [value].flat());

const statement = z.strictObject({
  Sid: z
    .string()
    .regex(/^[A-Za-z0-9]*$/)
    .optional(),
  Effect: z.enum(['Allow', 'Deny']),
  Action: oneOrMore,
  /** Absent in a trust policy, whose resource is the role. */
  Resource: oneOrMore.optional(),
  Principal: z.record(z.string(), oneOrMore).optional(),
  Condition: z.record(z.string(), z.record(z.string(), oneOrMore)).optional(),
});
const document = z.strictObject({
  Version: z.literal('2012-10-17'),
  Id: z.string().optional(),
  Statement: z.union([statement, z.array(statement)]).transform((value) => [value].flat()),
});

export type Policy = z.infer<typeof document>;
type Statement = z.infer<typeof statement>;

export class MalformedPolicy extends Error {}

export interface Asked {
  action: string;
  resource: string;
  /** Condition keys of the request; one that is absent here is absent there. */
  context: Record<string, string>;
}

/** `*` and `?` of IAM; everything else is itself. */
const like = (pattern: string, text: string): boolean =>
  new RegExp(
    `^${pattern
      .replace(/[.+^${}()|[\]\\]/g, '\\$&')
      .replaceAll('*', '.*')
      .replaceAll('?', '.')}$`,
    's',
  ).test(text);

const dateOf = (text: string): number => {
  const time = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text);
  if (Number.isNaN(time)) throw new MalformedPolicy(`not a date: ${text}`);
  return time;
};

type Compare = (asked: string, written: string) => boolean;
const date =
  (compare: (asked: number, written: number) => boolean): Compare =>
  (asked, written) =>
    compare(dateOf(asked), dateOf(written));

const operators: Record<string, Compare> = {
  StringEquals: (asked, written) => asked === written,
  StringEqualsIgnoreCase: (asked, written) => asked.toLowerCase() === written.toLowerCase(),
  StringLike: (asked, written) => like(written, asked),
  ArnLike: (asked, written) => like(written, asked),
  ArnEquals: (asked, written) => like(written, asked),
  Bool: (asked, written) => asked.toLowerCase() === written.toLowerCase(),
  DateEquals: date((a, b) => a === b),
  DateLessThan: date((a, b) => a < b),
  DateLessThanEquals: date((a, b) => a <= b),
  DateGreaterThan: date((a, b) => a > b),
  DateGreaterThanEquals: date((a, b) => a >= b),
};
const negated: Record<string, string> = {
  StringNotEquals: 'StringEquals',
  StringNotLike: 'StringLike',
  ArnNotLike: 'ArnLike',
  ArnNotEquals: 'ArnEquals',
  DateNotEquals: 'DateEquals',
};

const holds = (operator: string, asked: string | undefined, written: string[]): boolean => {
  const ifExists = operator.endsWith('IfExists');
  const name = ifExists ? operator.slice(0, -'IfExists'.length) : operator;
  if (name === 'Null') return (asked === undefined) === (written[0] === 'true');
  const positive = negated[name];
  const compare = operators[positive ?? name];
  if (!compare) throw new MalformedPolicy(`not a condition operator: ${operator}`);
  // An absent key fails what is positive and passes what is negated.
  if (asked === undefined) return ifExists || positive !== undefined;
  const some = written.some((one) => compare(asked, one));
  return positive === undefined ? some : !some;
};

const applies = (one: Statement, { action, resource, context }: Asked): boolean =>
  one.Action.some((pattern) => like(pattern.toLowerCase(), action.toLowerCase())) &&
  (one.Resource ?? ['*']).some((pattern) => like(pattern, resource)) &&
  Object.entries(one.Condition ?? {}).every(([operator, keys]) =>
    Object.entries(keys).every(([key, written]) => {
      const found = Object.entries(context).find(([name]) => name.toLowerCase() === key.toLowerCase());
      return holds(operator, found?.[1], written);
    }),
  );

/** @throws MalformedPolicy */
export const parsePolicy = (text: string): Policy => {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new MalformedPolicy('Syntax errors in policy.');
  }
  const parsed = document.safeParse(json);
  if (!parsed.success) throw new MalformedPolicy('Syntax errors in policy.');
  for (const one of parsed.data.Statement) {
    for (const [operator, keys] of Object.entries(one.Condition ?? {})) {
      for (const written of Object.values(keys)) holds(operator, '2026-01-01T00:00:00Z', written);
    }
  }
  return parsed.data;
};

const effect = (policies: readonly Policy[], asked: Asked): 'allow' | 'deny' | 'none' => {
  const matching = policies.flatMap((policy) => policy.Statement).filter((one) => applies(one, asked));
  if (matching.some((one) => one.Effect === 'Deny')) return 'deny';
  return matching.length > 0 ? 'allow' : 'none';
};

/** @param session the session policies; undefined for an identity that has none */
export const isAllowed = (identity: readonly Policy[], session: readonly Policy[] | undefined, asked: Asked): boolean =>
  effect(identity, asked) === 'allow' && (session === undefined || effect(session, asked) === 'allow');

/** Whether a trust or key policy lets this principal in: its own statements name who. */
export const trusts = (policy: Policy, principals: readonly string[], asked: Asked): boolean => {
  const named = policy.Statement.filter((one) =>
    Object.values(one.Principal ?? {})
      .flat()
      .some((who) => who === '*' || principals.includes(who)),
  );
  return effect([{ ...policy, Statement: named }], asked) === 'allow';
};
