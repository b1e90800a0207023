/**
 * What an audit entry says. Its canonical JSON (RFC 8785) is the leaf of the Merkle tree, so an entry never changes
 * its spelling afterwards; the columns beside it are only for finding it.
 */
import { canonicalJson } from './canonical-json.ts';
import { tokenPattern } from './tokens.ts';

export type Actor =
  /** `address`: where an agent's request came from. */
  | { kind: 'agent' | 'operator'; id: string; name: string; address?: string }
  | { kind: 'system'; name: string }
  | { kind: 'anonymous'; address: string };

export interface AuditEvent {
  type: string;
  at: number;
  actor: Actor;
  outcome: 'done' | 'refused';
  agent?: { id: string; name: string } | undefined;
  connection?: { id: string; name: string } | undefined;
  grant?: string | undefined;
  request_id?: string | undefined;
  /** Facts of this type of event. Never a secret, never a token. */
  data?: Record<string, unknown> | undefined;
}

/** An entry as the ledger takes it: the canonical body, and what it can be found by. */
export interface AuditRecord {
  type: string;
  at: number;
  agent_id: string | null;
  connection_id: string | null;
  grant_id: string | null;
  body: string;
}

/** An entry is at most this long, so that its length fits the two bytes of a C2SP entry bundle. */
export const maxEntryBytes = 65_535;

/**
 * The last net: what an agent or an upstream put where no token belongs. A token has no character that JSON escapes, so
 * it stands in the text as it is.
 */
const withoutTokens = (body: string): string =>
  body.includes('wdr_') ? body.replace(tokenPattern, '[redacted]') : body;

/** @throws RangeError when the entry would be longer than {@link maxEntryBytes} */
export const auditRecord = (event: AuditEvent): AuditRecord => {
  // Written down in canonical order, so that nothing has to be moved.
  const body = withoutTokens(
    canonicalJson({
      actor: event.actor,
      agent: event.agent,
      connection: event.connection,
      data: event.data,
      grant: event.grant,
      outcome: event.outcome,
      request_id: event.request_id,
      time: new Date(event.at).toISOString(),
      type: event.type,
      v: 1,
    }),
  );
  if (Buffer.byteLength(body) > maxEntryBytes) {
    throw new RangeError(`audit entry ${event.type} is longer than ${maxEntryBytes} bytes`);
  }
  return {
    type: event.type,
    at: event.at,
    agent_id: event.agent?.id ?? null,
    connection_id: event.connection?.id ?? null,
    grant_id: event.grant ?? null,
    body,
  };
};
