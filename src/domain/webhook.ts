/** Webhooks: what is remembered of one, what it asks for, and how a message is written and signed (Standard Webhooks). */
import { createHmac } from 'node:crypto';
import { alertEvent, alertTypes } from './alert-events.ts';
import type { AuditEvent } from './audit-entry.ts';
import type { DeliveryPlace } from './delivery.ts';
import type { SealedBox } from './model.ts';

export interface Webhook extends DeliveryPlace {
  id: string;
  name: string;
  url: string;
  /** {@link isEventPattern}; at least one. */
  events: string[];
  allow_private_network: boolean;
  status: 'active' | 'disabled';
  /** Why: `operator`, `gone` (it answered 410), `failing`; null while active. */
  disabled_because: string | null;
  /** The secret in force and the one before it ({@link WebhookSecrets}). */
  sealed: SealedBox;
  /** Counts the secrets; the sealed box is bound to it. */
  secret_number: number;
  /** Until when the secret before signs as well; null when there is none. */
  previous_until: number | null;
  version: number;
  created_at: number;
  updated_at: number;
}

/** What is sealed in the row: `whsec_…`. */
export interface WebhookSecrets {
  current: string;
  previous: string | null;
}

/** What `warder webhook test` sends; never in the audit log under this name. */
export const testEventType = 'webhook.test';

const prefixOf = (pattern: string): string | undefined => (pattern.endsWith('.*') ? pattern.slice(0, -1) : undefined);

/** @returns whether this names alerts: one of them, all of one kind (`rotation.*`), or all (`*`) */
export const isEventPattern = (pattern: string): boolean => {
  const prefix = prefixOf(pattern);
  if (pattern === '*') return true;
  return prefix === undefined ? alertEvent(pattern) !== undefined : alertTypes.some((type) => type.startsWith(prefix));
};

/** @returns the alerts these patterns name, each once */
export const wantedTypes = (patterns: readonly string[]): string[] =>
  alertTypes.filter((type) =>
    patterns.some((pattern) => {
      const prefix = prefixOf(pattern);
      return pattern === '*' || pattern === type || (prefix !== undefined && type.startsWith(prefix));
    }),
  );

/** An entry as it is in the log. */
export type LoggedEvent = Omit<AuditEvent, 'at'> & { time: string };

const longestText = 500;
const mostItems = 50;

/** A fact as it leaves the house: short, of a known shape, at most two levels deep. */
const fact = (value: unknown, depth = 2): unknown => {
  if (typeof value === 'string') return value.length > longestText ? `${value.slice(0, longestText)}…` : value;
  if (typeof value === 'number' || typeof value === 'boolean' || value === null) return value;
  if (depth === 0 || typeof value !== 'object') return undefined;
  if (Array.isArray(value)) return value.slice(0, mostItems).map((item) => fact(item, depth - 1) ?? null);
  const fields = Object.entries(value).slice(0, mostItems);
  return Object.fromEntries(fields.map(([name, item]) => [name, fact(item, depth - 1)]));
};

const actorOf = (actor: LoggedEvent['actor']): object =>
  actor.kind === 'anonymous' ? { kind: actor.kind } : { kind: actor.kind, name: actor.name };

/**
 * The document that is sent: `type`, `timestamp` and `data`, as Standard Webhooks has them. `data` is made by a list of
 * fields, those of the catalogue among them; whatever else the entry says stays in the log.
 * @param named what a fact is called by people, e.g. a selector with names instead of ids
 */
export const webhookPayload = (
  seq: number,
  entry: LoggedEvent,
  named: (fact: string, value: unknown) => unknown = (_, value) => value,
): string => {
  const known = alertEvent(entry.type);
  const data = entry.data ?? {};
  const facts = (known?.facts ?? []).flatMap((name) =>
    data[name] === undefined ? [] : [[name, fact(named(name, data[name]))] as const],
  );
  return JSON.stringify({
    type: entry.type,
    timestamp: entry.time,
    data: {
      severity: known?.severity ?? 'info',
      title: known?.title ?? entry.type,
      means: known?.means ?? '',
      seq,
      actor: actorOf(entry.actor),
      agent: entry.agent && { id: entry.agent.id, name: entry.agent.name },
      connection: entry.connection && { id: entry.connection.id, name: entry.connection.name },
      grant: entry.grant,
      request_id: entry.request_id,
      facts: Object.fromEntries(facts),
    },
  });
};

const prefix = 'whsec_';
/** 256 bits; the specification asks for 192 at least. */
export const webhookSecretBytes = 32;

export const makeWebhookSecret = (random: Uint8Array): string => `${prefix}${Buffer.from(random).toString('base64')}`;

/**
 * The value of `webhook-signature`: HMAC-SHA256 over `id.timestamp.body`, once a secret, so that a receiver may know
 * either while a secret is being replaced.
 * @param seconds since the epoch, of this try
 */
export const webhookSignature = (secrets: readonly string[], id: string, seconds: number, body: string): string =>
  secrets
    .map((secret) => {
      const key = Buffer.from(secret.slice(prefix.length), 'base64');
      return `v1,${createHmac('sha256', key).update(`${id}.${seconds}.${body}`).digest('base64')}`;
    })
    .join(' ');
