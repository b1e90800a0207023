/**
 * A session's name: who it is for, in CloudTrail, and by what it is denied. AWS takes 64 characters of `[\w+=,.@-]`:
 *
 *     warder.deploy-bot.grt_01kap2v3w4x5y6z7a8b9cadbec.t5k0qo
 *
 * The end of the grant is in it (seconds, base 36), so that a denial can be dropped when its session is over anyway, from
 * what the denial itself says.
 */
const mostCharacters = 64;

export interface SessionName {
  name: string;
  /** Matches `aws:userid` of this session and of no other: `AROA…:warder.….grt_….t5k0qo`. */
  pattern: string;
}

const tailOf = (grantId: string, untilMs: number): string => `.${grantId}.${Math.floor(untilMs / 1000).toString(36)}`;

/** @param agent its name; cut where there is no room for all of it: the grant's id is what counts */
export const sessionName = (prefix: string, agent: string, grantId: string, untilMs: number): SessionName => {
  const tail = tailOf(grantId, untilMs);
  const head = `${prefix}.${agent}`.slice(0, mostCharacters - tail.length);
  return { name: head + tail, pattern: `*${tail}` };
};

const alphabet = '0123456789abcdefghjkmnpqrstvwxyz';
const patternForm = /^\*\.grt_([0-9a-hjkmnp-tv-z]{26})\.([0-9a-z]{1,8})$/;

/** What a pattern says: when its grant was issued (the time in its id) and when it ends. Milliseconds since the epoch. */
export const readPattern = (pattern: string): { issuedAt: number; until: number } | undefined => {
  const [, id, end] = patternForm.exec(pattern) ?? [];
  if (id === undefined || end === undefined) return undefined;
  let issuedAt = 0;
  for (const character of id.slice(0, 10)) issuedAt = issuedAt * 32 + alphabet.indexOf(character);
  return { issuedAt, until: Number.parseInt(end, 36) * 1000 };
};
