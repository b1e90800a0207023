/**
 * How far an endpoint has been told: the audit log is the outbox, and an endpoint keeps its place in it. Shared by
 * webhooks and by streams of signals; pure.
 */
import { createHash } from 'node:crypto';

/** The columns that both tables of endpoints have. */
export interface DeliveryPlace {
  /** Number of the first entry that is not dealt with yet. */
  cursor: number;
  /** Of an entry that makes several messages: the last part of it that is dealt with; '' when none is. */
  cursor_part: string;
  /** Counts the changes of the place; who moves it names the one it started from, so that of two at once one wins. */
  progress: number;
  /** How often the message at the place was tried in vain. */
  tries: number;
  /** Not before this moment; null when nothing failed. */
  next_try_at: number | null;
  /** Since when nothing was taken; null when the last one was. */
  failing_since: number | null;
  /** Whether people were told that it is failing. */
  failing_told: boolean;
  /** What came of the last try that failed, as a stable word. */
  last_failure: string | null;
  last_delivered_at: number | null;
  delivered: number;
  /** Given up. */
  failed: number;
  /** Entries whose bodies retention had dropped before they were sent. */
  skipped: number;
}

/** Where something new begins: with what happens from now on. */
export const placeAt = (cursor: number): DeliveryPlace => ({
  cursor,
  cursor_part: '',
  progress: 1,
  tries: 0,
  next_try_at: null,
  failing_since: null,
  failing_told: false,
  last_failure: null,
  last_delivered_at: null,
  delivered: 0,
  failed: 0,
  skipped: 0,
});

/** An endpoint is put to another place by hand. */
export const movedTo = (row: DeliveryPlace, cursor: number) => ({
  cursor,
  cursor_part: '',
  progress: row.progress + 1,
  tries: 0,
  next_try_at: null,
});

/**
 * The name of a message: the same at every try and after every restart. The digest is of the entry itself, so that a log
 * that was restored from a backup and has another entry at this number does not give two messages one name.
 * @returns e.g. `evt_8123_k3v9…`; letters, digits, `-` and `_` only: never the `.` that parts what is signed
 */
export const messageId = (seq: number, body: string, part = ''): string =>
  `evt_${seq}_${createHash('sha256').update(`${part}\n${body}`).digest('base64url').slice(0, 22)}`;

export interface RetrySchedule {
  /** Pauses after the first try that failed, the second, … ; after the last of them it is given up. */
  retriesMs: readonly number[];
  /** For what an endpoint refused with a reason of its own: more of the same would change little. */
  refusedRetriesMs: readonly number[];
  /** Nothing was taken for so long: people are told. */
  failingAfterMs: number;
  /** Nothing was taken for so long: a webhook is disabled, as Standard Webhooks advises. */
  disabledAfterMs: number;
}

const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;

/** The pauses of Standard Webhooks ("Deliverability and reliability"), over a little more than a day. */
export const retrySchedule: RetrySchedule = {
  retriesMs: [5 * second, 5 * minute, 30 * minute, 2 * hour, 5 * hour, 10 * hour, 10 * hour],
  refusedRetriesMs: [5 * second, minute],
  failingAfterMs: 30 * minute,
  disabledAfterMs: 5 * 24 * hour,
};

/** What an endpoint asks for is honoured up to here. */
const longestRetryAfterMs = 24 * hour;

/**
 * @param tries how many have failed by now, at least one
 * @param random from 0 up to 1: up to a fifth is added, so that endpoints that failed together do not come back together
 * @returns the pause before the next try in milliseconds, or undefined when it is given up
 */
export const pauseAfter = (
  tries: number,
  pausesMs: readonly number[],
  retryAfterMs: number | undefined,
  random: number,
): number | undefined => {
  const pause = pausesMs[tries - 1];
  if (pause === undefined) return undefined;
  return Math.max(pause * (1 + random / 5), Math.min(retryAfterMs ?? 0, longestRetryAfterMs));
};

/** RFC 9110 section 10.2.3: seconds or a date. @returns milliseconds from now, undefined for what is neither */
export const retryAfterMs = (header: string | undefined, now: number): number | undefined => {
  if (header === undefined) return undefined;
  if (/^\d{1,9}$/.test(header)) return Number(header) * second;
  // Date.parse takes more for a date than HTTP does.
  const at = /^[A-Z][a-z]+,? /.test(header) ? Date.parse(header) : Number.NaN;
  return Number.isNaN(at) ? undefined : Math.max(0, at - now);
};
