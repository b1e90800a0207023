/** Reads what people type as option values: durations, moments, hours, budgets, gateway scopes. */
import { InvalidArgumentError } from 'commander';

const unitSeconds: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };

/**
 * `90`, `90s`, `15m`, `1h30m`, `2d` → seconds.
 * @throws InvalidArgumentError
 */
export const parseDuration = (text: string): number => {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  if (!/^(?:\d{1,6}d)?(?:\d{1,6}h)?(?:\d{1,6}m)?(?:\d{1,6}s)?$/.test(text) || text === '') {
    throw new InvalidArgumentError('Expected a duration such as 900s, 15m, 1h30m or 7d.');
  }
  return [...text.matchAll(/(\d+)([dhms])/g)].reduce(
    (sum, [, count, unit = '']) => sum + Number(count) * (unitSeconds[unit] ?? 0),
    0,
  );
};

export type Timezone = 'utc' | 'local';

const dayPattern = /^(\d{4})-(\d{2})-(\d{2})$/;
const timePattern = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,3})?)?(Z|[+-]\d{2}:\d{2})?$/;

/** The moment a day begins, `later` days after it; undefined for a day no calendar has (2026-02-30). */
const startOfDay = (text: string, zone: Timezone, later: number): Date | undefined => {
  const [, year, month, day] = dayPattern.exec(text) ?? [];
  const numbers = [Number(year), Number(month) - 1, Number(day)] as const;
  const [y, m, d] = numbers;
  if (new Date(Date.UTC(y, m, d)).toISOString().slice(0, 10) !== text) return undefined;
  return zone === 'utc' ? new Date(Date.UTC(y, m, d + later)) : new Date(y, m, d + later);
};

/** How to read what leaves something open. */
export interface MomentRules {
  /** Milliseconds since the epoch. */
  now: number;
  zone: Timezone;
  /** Which end of a day without a time is meant: `end` is where the next day begins. */
  day: 'start' | 'end';
  /** What a duration counts from now: `2h` is two hours ago, or in two hours. */
  duration: 'ago' | 'ahead';
}

/**
 * `2026-11-21`, `2026-11-21T10:00Z`, `2h` → an ISO 8601 time in UTC.
 * @throws InvalidArgumentError
 */
export const parseMoment = (text: string, { now, zone, day, duration }: MomentRules): string => {
  let moment: Date | undefined;
  if (dayPattern.test(text)) {
    moment = startOfDay(text, zone, day === 'end' ? 1 : 0);
  } else if (timePattern.test(text)) {
    const zoned = timePattern.exec(text)?.[1] !== undefined;
    // ECMAScript reads a time without a zone as local time, and rolls 30 February over into March.
    if (startOfDay(text.slice(0, 10), 'utc', 0)) moment = new Date(zoned || zone === 'local' ? text : `${text}Z`);
  } else if (/^\d+[dhms]/.test(text)) {
    moment = new Date(now + parseDuration(text) * (duration === 'ago' ? -1000 : 1000));
  }
  if (moment === undefined || Number.isNaN(moment.getTime())) {
    throw new InvalidArgumentError('Expected a day (2026-11-21), a time (2026-11-21T10:00Z) or a duration (2h, 7d).');
  }
  return moment.toISOString();
};

/**
 * When something of its own accord ends: a day (its beginning, UTC: the tighter reading), a time, a duration from now;
 * `never` is null; undefined stays undefined, which changes nothing.
 * @throws InvalidArgumentError
 */
export const parseExpiry = (text: string | undefined, now: number): string | null | undefined => {
  if (text === undefined) return undefined;
  if (text === 'never') return null;
  return parseMoment(text, { now, zone: 'utc', day: 'start', duration: 'ahead' });
};

/** `08:00-18:00` → from and to, in UTC; may pass midnight. */
export const parseHours = (text: string): { from: string; to: string } => {
  const time = '(?:[01]\\d|2[0-3]):[0-5]\\d';
  const [, from, to] = new RegExp(`^(${time})-(${time}|24:00)$`).exec(text) ?? [];
  if (from === undefined || to === undefined || from === to) {
    throw new InvalidArgumentError('Expected two times of day in UTC such as 08:00-18:00.');
  }
  return { from, to };
};

/** `100/1h` → at most a hundred grants an hour. */
export const parseBudget = (text: string): { grants: number; per_seconds: number } => {
  const [, grants, per = ''] = /^([1-9]\d{0,8})\/(\w+)$/.exec(text) ?? [];
  if (grants === undefined) throw new InvalidArgumentError('Expected grants/duration such as 100/1h.');
  return { grants: Number(grants), per_seconds: parseDuration(/^[dhms]$/.test(per) ? `1${per}` : per) };
};

/** Names after a repeatable option, also `a,b`: no name of a scope or role has a comma or a space. */
export const collectNames = (text: string, before: string[] = []): string[] => [
  ...before,
  ...text.split(/[\s,]+/).filter((name) => name !== ''),
];

export type GatewayScopes = Record<string, { methods: string[]; path: string }[]>;

/** `charges:read=GET,HEAD /v1/charges/**`; the same name again adds a rule to its scope. */
export const collectScopeRule = (text: string, before: GatewayScopes = {}): GatewayScopes => {
  const [, name = '', methods = '', path = ''] = /^([^=\s]+)=([A-Za-z,*]+)\s+(\/\S*)$/.exec(text) ?? [];
  if (name === '') throw new InvalidArgumentError("Expected 'name=METHOD,METHOD /path', e.g. 'read=GET /v1/**'.");
  const rule = { methods: methods.split(',').map((method) => method.toUpperCase()), path };
  const rules = Object.hasOwn(before, name) ? (before[name] ?? []) : [];
  // A plain assignment to `__proto__` would vanish instead of being refused by the broker.
  return Object.fromEntries([...Object.entries(before), [name, [...rules, rule]]]);
};

/**
 * `subdomain=acme`, for a repeatable option.
 * @throws InvalidArgumentError
 */
export const collectVariable = (text: string, before: Record<string, string> = {}): Record<string, string> => {
  const [, name, value] = /^([a-z][a-z0-9_]{0,39})=(.+)$/.exec(text) ?? [];
  if (name === undefined || value === undefined) throw new InvalidArgumentError('Expected name=value.');
  if (Object.hasOwn(before, name)) throw new InvalidArgumentError('This variable was given before.');
  return { ...before, [name]: value };
};

/** A whole number of at least 1. */
export const parseCount = (text: string): number => {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('Expected a whole number of at least 1.');
  return Number(text);
};

export type ClaimRules = Record<string, string | string[]>;

/** `sub=repo:acme/app:*`; the same claim again adds another value that will do. */
export const collectClaim = (text: string, before: ClaimRules = {}): ClaimRules => {
  const at = text.indexOf('=');
  const [name, value] = [text.slice(0, at), text.slice(at + 1)];
  if (at < 1 || value === '') throw new InvalidArgumentError("Expected claim=pattern, e.g. 'sub=repo:acme/app:*'.");
  const known = Object.hasOwn(before, name) ? (before[name] ?? []) : [];
  const values = [...(typeof known === 'string' ? [known] : known), value];
  // A plain assignment to `__proto__` would vanish instead of being refused by the broker.
  return Object.fromEntries([...Object.entries(before), [name, values.length === 1 ? value : values]]);
};

/** The number of an audit entry, or `now`. */
export const parsePlace = (text: string): number | 'now' => {
  if (text === 'now') return 'now';
  if (!/^(?:0|[1-9]\d{0,14})$/.test(text)) throw new InvalidArgumentError('Expected the number of an entry, or now.');
  return Number(text);
};

/** Patterns after a repeatable option, as they are: they may have commas and spaces. */
export const collectPatterns = (text: string, before: string[] = []): string[] => [...before, text];
