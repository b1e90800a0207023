/**
 * The inline policy that denies everything to sessions that were revoked before their end. Pure: what it says, what it
 * must say, and what may be dropped from it.
 *
 * Each session is denied by its name. AWS takes 10 240 characters of inline policies a role, so what is over is dropped;
 * where that is not enough, all sessions of Warder that were issued before a moment are denied in one line, as AWS's
 * console does with "revoke older sessions": docs/adr/0015-aws-sessions.md.
 */
import { z } from 'zod';
import { readPattern } from './session-name.ts';
import { awsTime, limits } from './session-policy.ts';

export interface Denials {
  /** Patterns of session names (session-name.ts). */
  patterns: ReadonlySet<string>;
  /** Every session of Warder that AWS issued before this moment is denied; 0: none. Milliseconds since the epoch. */
  olderThan: number;
}

export const noDenials: Denials = { patterns: new Set(), olderThan: 0 };

/** For clocks that differ, and for what a slow AWS issued some time after Warder asked for it. */
const marginMs = 60_000;
const longestSessionMs = limits.mostSeconds * 1000;

const oneOrMore = z.union([z.string(), z.array(z.string())]).transform((value) => [value].flat());
const written = z.object({
  Statement: z.array(
    z.object({
      Condition: z.object({
        StringLike: z.object({ 'aws:userid': oneOrMore }),
        DateLessThan: z.object({ 'aws:TokenIssueTime': z.string() }).optional(),
      }),
    }),
  ),
});

/** @returns what a policy denies; nothing for what Warder did not write */
export const readDenials = (text: string): Denials => {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return noDenials;
  }
  const parsed = written.safeParse(json);
  if (!parsed.success) return noDenials;
  const patterns = new Set<string>();
  let olderThan = 0;
  for (const { Condition } of parsed.data.Statement) {
    const before = Condition.DateLessThan?.['aws:TokenIssueTime'];
    if (before !== undefined) olderThan = Math.max(olderThan, Date.parse(before) || 0);
    else for (const one of Condition.StringLike['aws:userid']) if (readPattern(one)) patterns.add(one);
  }
  return { patterns, olderThan };
};

/** Sessions of Warder and no others. Not by their prefix: that may have been another when they were issued. */
const everySession = '*.grt_*';

export const writeDenials = ({ patterns, olderThan }: Denials): string => {
  const deny = (Sid: string, Condition: object): object => ({
    Sid,
    Effect: 'Deny',
    Action: '*',
    Resource: '*',
    Condition,
  });
  return JSON.stringify({
    Version: '2012-10-17',
    Statement: [
      ...(patterns.size === 0 ? [] : [deny('WarderSessions', { StringLike: { 'aws:userid': [...patterns].sort() } })]),
      ...(olderThan === 0
        ? []
        : [
            deny('WarderOlderSessions', {
              StringLike: { 'aws:userid': everySession },
              DateLessThan: { 'aws:TokenIssueTime': awsTime(olderThan) },
            }),
          ]),
    ],
  });
};

export const union = (...all: readonly Denials[]): Denials => ({
  patterns: new Set(all.flatMap((one) => [...one.patterns])),
  olderThan: Math.max(0, ...all.map((one) => one.olderThan)),
});

/** Whether the session of this pattern is denied: by its name, or with all that are older. */
export const denies = (denials: Denials, pattern: string): boolean =>
  denials.patterns.has(pattern) ||
  (readPattern(pattern)?.issuedAt ?? Number.POSITIVE_INFINITY) + marginMs < denials.olderThan;

/** Without what denies nothing any more: sessions whose end has passed, and those the older line covers. */
export const withoutWhatIsOver = ({ patterns, olderThan }: Denials, now: number): Denials => {
  const older = olderThan + longestSessionMs + marginMs > now ? olderThan : 0;
  const needed = [...patterns].filter((pattern) => {
    const { issuedAt, until } = readPattern(pattern) ?? { issuedAt: 0, until: 0 };
    return until + marginMs > now && issuedAt + marginMs >= older;
  });
  return { patterns: new Set(needed), olderThan: older };
};

/**
 * Makes the policy fit. When there are too many names, the oldest are folded into the older line; half of the room stays
 * free, so that this is not done at each revocation.
 * @returns undefined when too many were issued within the last minute: then it fits in a minute
 */
export const fitted = (denials: Denials, now: number, mostCharacters: number): Denials | undefined => {
  const needed = withoutWhatIsOver(denials, now);
  if (writeDenials(needed).length <= mostCharacters) return needed;
  const times = [...needed.patterns].map((pattern) => readPattern(pattern)?.issuedAt ?? 0).sort((a, b) => a - b);
  // The fewest that must go, so that no more live sessions go with them than need be.
  const each = writeDenials(needed).length / Math.max(1, times.length);
  const keep = Math.floor(mostCharacters / 2 / each);
  const newestToGo = times[times.length - keep - 1] ?? 0;
  // Never in the future: what is issued after this must work. Whole seconds, as it is written.
  const olderThan = Math.floor(Math.min(now, newestToGo + marginMs + 1_000) / 1000) * 1000;
  const folded = withoutWhatIsOver(
    { patterns: needed.patterns, olderThan: Math.max(needed.olderThan, olderThan) },
    now,
  );
  return writeDenials(folded).length <= mostCharacters ? folded : undefined;
};
