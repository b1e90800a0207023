/**
 * The decision: may this agent have these scopes on this connection for so long, now? Pure; denied unless an
 * entitlement says yes. What it answers is what gets issued, field by field.
 */
import type { Agent, Connection, Entitlement } from './model.ts';
import type { RefusalCode } from './refusals.ts';
import { mayActFor } from './subject.ts';

/** Lives in seconds: what a grant has unless it asks, and what an entitlement allows unless it says. */
export const defaultGrantSeconds = 900;
export const defaultMaxGrantSeconds = 3600;
/** No entitlement may allow more than a day: past that it is a standing credential by another name. */
export const longestGrantSeconds = 86_400;

export interface GrantRequest {
  scopes: readonly string[];
  /** Seconds; undefined asks for the default. */
  ttlSeconds?: number | undefined;
  /** Whom it shall act for; the agent itself unless said. */
  subject?: string | undefined;
  /** Milliseconds since the epoch: it shall end by then, whatever the entitlement allows. */
  notAfter?: number | undefined;
}

export type Decision =
  | {
      outcome: 'allow';
      entitlement: Entitlement;
      scopes: string[];
      issuedAt: number;
      expiresAt: number;
      maxExpiresAt: number;
    }
  | { outcome: 'needs_approval'; entitlement: Entitlement }
  | { outcome: 'deny'; code: RefusalCode; detail: string };

const deny = (code: RefusalCode, detail: string): Decision => ({ outcome: 'deny', code, detail });

/** One answer for "no such connection", "not yours" and "not now", so that nobody can map what exists. */
const notEntitled = deny('not_entitled', 'no entitlement allows this agent to use this connection now');

/** @returns whether the entitlement is in force: not past its end, and within its hours (UTC) */
export const inForce = (entitlement: Entitlement, now: number): boolean => {
  if (entitlement.expires_at !== null && entitlement.expires_at <= now) return false;
  if (entitlement.hours === null) return true;
  const { from, to } = entitlement.hours;
  const minute = Math.floor(now / 60_000) % 1440;
  return from <= to ? minute >= from && minute < to : minute >= from || minute < to;
};

const decideOne = (entitlement: Entitlement, request: GrantRequest, now: number): Decision => {
  const longest = Math.min(entitlement.max_ttl_seconds, longestGrantSeconds);
  const ttl = request.ttlSeconds ?? Math.min(defaultGrantSeconds, longest);
  if (ttl > longest) return deny('ttl_too_long', `the longest life here is ${longest} seconds`);
  if (entitlement.approval === 'required') return { outcome: 'needs_approval', entitlement };
  const end = Math.min(
    entitlement.expires_at ?? Number.POSITIVE_INFINITY,
    request.notAfter ?? Number.POSITIVE_INFINITY,
  );
  return {
    outcome: 'allow',
    entitlement,
    scopes: [...new Set(request.scopes)],
    issuedAt: now,
    expiresAt: Math.min(now + ttl * 1000, end),
    maxExpiresAt: Math.min(now + longest * 1000, end),
  };
};

/**
 * @param entitlements those of this agent on this connection
 * @param offered the scopes the connection has today
 * @param now milliseconds since the epoch
 */
export const decide = (
  agent: Agent,
  connection: Connection | undefined,
  entitlements: readonly Entitlement[],
  offered: readonly string[],
  request: GrantRequest,
  now: number,
): Decision => {
  if (agent.status !== 'active') return deny('agent_suspended', 'this agent is suspended');
  const { subject, notAfter } = request;
  if (notAfter !== undefined && notAfter <= now) return deny('expired', 'what this is asked for with has expired');
  const standing = entitlements.filter(
    (entitlement) =>
      inForce(entitlement, now) && (subject === undefined || mayActFor(entitlement.on_behalf_of, subject)),
  );
  if (connection?.status !== 'active' || standing.length === 0) return notEntitled;
  const covering = standing.filter((entitlement) =>
    request.scopes.every((scope) => entitlement.scopes.includes(scope) && offered.includes(scope)),
  );
  if (request.scopes.length === 0 || covering.length === 0) {
    return deny('scope_not_allowed', 'no entitlement of this agent on this connection covers all the scopes asked for');
  }
  const decisions = covering.map((entitlement) => decideOne(entitlement, request, now));
  return (
    decisions.find((decision) => decision.outcome === 'allow') ??
    decisions.find((decision) => decision.outcome === 'needs_approval') ??
    decisions[0] ??
    notEntitled
  );
};

/**
 * The new end of a grant that is prolonged.
 * @returns milliseconds since the epoch, never later than the end of the longest life
 */
export const renewedEnd = (grant: { max_expires_at: number }, ttlSeconds: number, now: number): number =>
  Math.min(now + ttlSeconds * 1000, grant.max_expires_at);
