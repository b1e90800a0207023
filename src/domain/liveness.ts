/** Is it alive? The one question every check point asks, with one answer. */
import type { FenceFacts, FenceIndex } from './fences.ts';
import type { Agent, AgentToken, Connection, Grant, GrantStatus } from './model.ts';
import type { RefusalCode } from './refusals.ts';

export type Dead = {
  code: Extract<RefusalCode, 'revoked' | 'expired' | 'agent_suspended' | 'not_entitled'>;
  detail: string;
};

/**
 * Every place where a credential of Warder is judged. A new one is added here first; the test that walks
 * selectors x check points (test/scenarios/revocation.test.ts) fails until it exercises it.
 */
export const checkPoints = {
  'agent-api': 'any call of /v1 with an agent token',
  'token-endpoint': 'POST /token for a new grant: settling compares fences newer than the decision',
  exchange: 'POST /token with a token of Warder as the subject or actor token (RFC 8693)',
  introspection: 'POST /introspect of an agent token, a gateway token or a JWT',
  gateway: 'a call through /gateway, when it begins',
  'gateway-stream': 'a call through /gateway that is still running',
  renewal: 'POST /v1/grants/:id/renew',
  settle: 'the commit that turns an intent into a grant',
} as const;
export type CheckPoint = keyof typeof checkPoints;

const revoked: Dead = { code: 'revoked', detail: 'this credential was revoked' };
const expired: Dead = { code: 'expired', detail: 'this credential has expired' };

export const grantFacts = (grant: Grant, agent: Agent | undefined): FenceFacts => ({
  agent: grant.agent_id,
  connection: grant.connection_id,
  provider: grant.provider,
  owners: agent && agent.owner !== grant.owner ? [grant.owner, agent.owner] : [grant.owner],
  subject: grant.subject,
  issuers: grant.issuers,
  entitlement: grant.entitlement_id,
  grant: grant.id,
});

export const agentTokenFacts = (token: AgentToken, agent: Agent | undefined): FenceFacts => ({
  agent: token.agent_id,
  connection: null,
  provider: null,
  owners: agent && agent.owner !== token.owner ? [token.owner, agent.owner] : [token.owner],
  subject: token.subject,
  issuers: token.issuers,
  entitlement: null,
  grant: null,
});

const agentState = (agent: Agent | undefined): Dead | undefined => {
  if (!agent) return revoked;
  return agent.status === 'active' ? undefined : { code: 'agent_suspended', detail: 'this agent is suspended' };
};

/** @returns why the grant is dead at `now` (milliseconds), or undefined while it lives */
export const deadGrant = (
  grant: Grant,
  agent: Agent | undefined,
  connection: Connection | undefined,
  fences: FenceIndex,
  now: number,
): Dead | undefined => {
  if (grant.status !== 'active') return grant.status === 'expired' ? expired : revoked;
  if (fences.fencedBy(grant.seq, grantFacts(grant, agent)) !== undefined) return revoked;
  if (grant.expires_at <= now || grant.max_expires_at <= now) return expired;
  if (!connection) return revoked;
  if (connection.status !== 'active') return { code: 'not_entitled', detail: 'this connection is suspended' };
  return agentState(agent);
};

/** @returns why the agent token is dead at `now` (milliseconds), or undefined while it lives */
export const deadAgentToken = (
  token: AgentToken,
  agent: Agent | undefined,
  fences: FenceIndex,
  now: number,
): Dead | undefined => {
  if (token.status !== 'active') return revoked;
  if (fences.fencedBy(token.seq, agentTokenFacts(token, agent)) !== undefined) return revoked;
  if (token.expires_at <= now) return expired;
  if (token.subject_expires_at !== null && token.subject_expires_at <= now) return expired;
  return agentState(agent);
};

/** The status to show: what is stored, unless a fence or the clock has overtaken it. */
export const shownStatus = (grant: Grant, agent: Agent | undefined, fences: FenceIndex, now: number): GrantStatus => {
  if (grant.status !== 'active') return grant.status;
  if (fences.fencedBy(grant.seq, grantFacts(grant, agent)) !== undefined) return 'revoked';
  return grant.expires_at <= now ? 'expired' : 'active';
};
