/**
 * Introspection (RFC 7662) and revocation by the client (RFC 7009). Unknown, expired, revoked and not-yours are one
 * answer. What decides is the live row, never the token's own claims.
 */
import { decodeJwt } from 'jose';
import { isId } from '../../domain/ids.ts';
import { deadAgentToken, deadGrant } from '../../domain/liveness.ts';
import type { Agent, AgentToken, Connection, Grant } from '../../domain/model.ts';
import { sameDigest, tokenDigest, tokenRowId } from '../../domain/tokens.ts';
import { type Caller, type Core, commit, record } from '../core.ts';
import { findAgentToken } from '../identity/authenticate.ts';
import { returnGrant } from './use-grant.ts';

type Found = { kind: 'agent'; row: AgentToken } | { kind: 'grant'; row: Grant };

/** The row this exact token belongs to. Another spelling of the same JWT is another string, and unknown. */
export const findToken = async (core: Core, token: string): Promise<Found | undefined> => {
  const agentToken = await findAgentToken(core, token);
  if (agentToken) return { kind: 'agent', row: agentToken.row };
  const id = tokenRowId('gateway', token) ?? grantIdOfJwt(token);
  if (id === undefined) return undefined;
  const row = core.state.grants.peek(id) ?? (await core.state.grants.get(id));
  if (!row?.token_digest || !sameDigest(row.token_digest, tokenDigest(token))) return undefined;
  return { kind: 'grant', row };
};

/** Only to find the row: nothing else of the JWT is believed. */
const grantIdOfJwt = (token: string): string | undefined => {
  if (!token.startsWith('eyJ')) return undefined;
  try {
    const { jti } = decodeJwt(token);
    return typeof jti === 'string' && isId('grt', jti) ? jti : undefined;
  } catch {
    return undefined;
  }
};

/** The holder, and services the connection names as introspectors, may ask about a grant. */
const mayAsk = (agent: Agent, grant: Grant, connection: Connection | undefined): boolean => {
  if (grant.agent_id === agent.id) return true;
  const introspectors = connection?.settings['introspectors'];
  return Array.isArray(introspectors) && introspectors.includes(agent.name);
};

/** Whom it is about, and who really acts (RFC 8693 section 4.1). */
const actingFor = (subject: string | null, agent: Agent) =>
  subject === null ? { sub: agent.name } : { sub: subject, act: { sub: agent.name } };

/** RFC 9449 section 6.2. */
const boundTo = (jkt: string | null) =>
  jkt === null ? { token_type: 'Bearer' } : { token_type: 'DPoP', cnf: { jkt } };

const seconds = (ms: number): number => Math.floor(ms / 1000);

/** Check point `introspection`. @returns the body of the response: `{ active: false }`, or the facts of a live token */
export const introspect = async (core: Core, client: Agent, token: string): Promise<Record<string, unknown>> => {
  const inactive = { active: false };
  const found = await findToken(core, token);
  if (!found) return inactive;
  const { state, issuer } = core;
  const now = core.clock.now();
  const holder = state.agents.get(found.row.agent_id);
  if (found.kind === 'agent') {
    const dead = deadAgentToken(found.row, holder, state.fences, now);
    if (dead || !holder || found.row.agent_id !== client.id) return inactive;
    return {
      active: true,
      iss: issuer,
      client_id: holder.name,
      ...actingFor(found.row.subject, holder),
      ...boundTo(found.row.jkt),
      iat: seconds(found.row.issued_at),
      exp: seconds(found.row.expires_at),
      jti: found.row.id,
    };
  }
  const grant = found.row;
  const connection = state.connections.get(grant.connection_id);
  const dead = deadGrant(grant, holder, connection, state.fences, now);
  if (dead || !holder || !connection || !mayAsk(client, grant, connection)) return inactive;
  return {
    active: true,
    iss: issuer,
    client_id: holder.name,
    ...actingFor(grant.subject, holder),
    aud: connection.settings['audience'] ?? `${issuer}/connections/${connection.name}`,
    scope: grant.scopes.join(' '),
    ...boundTo(grant.jkt),
    ...(grant.authorization_details === null ? {} : { authorization_details: grant.authorization_details }),
    iat: seconds(grant.issued_at),
    exp: seconds(grant.expires_at),
    jti: grant.id,
    grant_id: grant.id,
  };
};

/**
 * RFC 7009: the client gives a token back. Another client's token is not touched, an unknown one is no error, and both
 * leave a record.
 * @throws Refused `ledger_unavailable`: never a success that did nothing
 */
export const revokeByClient = async (core: Core, client: Agent, token: string, caller: Caller): Promise<void> => {
  const found = await findToken(core, token);
  if (found?.kind === 'grant' && found.row.agent_id === client.id) return returnGrant(core, found.row, caller);
  const own = found?.kind === 'agent' && found.row.agent_id === client.id ? found.row : undefined;
  await commit(core, {
    writes:
      own?.status === 'active'
        ? [
            {
              write: 'update',
              table: 'agent_tokens',
              id: own.id,
              set: { status: 'revoked', version: own.version + 1 },
            },
          ]
        : [],
    audit: [
      record(core, caller, {
        type: own ? 'token.revoked' : 'token.revocation_ignored',
        agent: { id: client.id, name: client.name },
        data: own ? { token: own.id } : { why: found ? 'another client’s token' : 'unknown token' },
      }),
    ],
  });
};
