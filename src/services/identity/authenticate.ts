/** Who is it? Bearer tokens of agents and operators. Every refusal of an unknown token is the same refusal. */
import { type Dead, deadAgentToken } from '../../domain/liveness.ts';
import type { Agent, AgentToken, Operator } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { sameDigest, tokenDigest, tokenRowId } from '../../domain/tokens.ts';
import type { Core } from '../core.ts';
import { requireBinding } from './verify-proof.ts';

export interface AuthenticatedAgent {
  agent: Agent;
  token: AgentToken;
}

const unauthenticated = (): Refused => new Refused('unauthenticated', 'no valid token was presented');

/**
 * Check point `agent-api`.
 * @param binding judges how a token of this row was presented (RFC 9449); as Bearer unless said
 * @throws Refused `unauthenticated`, `revoked`, `expired` or `agent_suspended`
 */
export const authenticateAgent = async (
  core: Core,
  token: string,
  binding: (row: AgentToken, agent: Agent) => Promise<void> | undefined = requireUnbound,
): Promise<AuthenticatedAgent> => {
  const found = await findAgentToken(core, token);
  if (!found) throw unauthenticated();
  const { row, agent, dead } = found;
  if (dead) throw new Refused(dead.code, dead.detail);
  if (!agent) throw unauthenticated();
  const checking = binding(row, agent);
  if (!checking) return { agent, token: row };
  await checking;
  // A revocation may have come while the proof was checked and spent.
  return authenticateAgent(core, token, () => undefined);
};

/**
 * That a token which was alive when its request began still is: bodies take up to ten seconds to arrive, and a revocation
 * may be acknowledged meanwhile. What is decided in the same turn of the event loop is guarded from here on.
 * @throws Refused `revoked`, `expired` or `agent_suspended`
 */
export const requireStillAlive = (core: Core, token: AgentToken): void => {
  const row = core.state.agentTokens.peek(token.id) ?? token;
  const dead = deadAgentToken(row, core.state.agents.get(row.agent_id), core.state.fences, core.clock.now());
  if (dead) throw new Refused(dead.code, dead.detail);
};

const requireUnbound = (row: AgentToken): undefined => {
  requireBinding(row.jkt, 'Bearer', undefined);
};

/** @returns the token's row and whether it is alive, or undefined when Warder never issued this token */
export const findAgentToken = async (
  core: Core,
  token: string,
): Promise<{ row: AgentToken; agent: Agent | undefined; dead: Dead | undefined } | undefined> => {
  const id = tokenRowId('agent', token);
  if (id === undefined) return undefined;
  const row = core.state.agentTokens.peek(id) ?? (await core.state.agentTokens.get(id));
  if (!row || !sameDigest(row.token_digest, tokenDigest(token))) return undefined;
  const agent = core.state.agents.get(row.agent_id);
  return { row, agent, dead: deadAgentToken(row, agent, core.state.fences, core.clock.now()) };
};

/** @throws Refused `unauthenticated` */
export const authenticateOperator = (core: Core, token: string): Operator => {
  const id = tokenRowId('operator', token);
  const operator = id === undefined ? undefined : core.state.operators.get(id);
  if (!operator || !sameDigest(operator.token_digest, tokenDigest(token))) throw unauthenticated();
  const expired = operator.expires_at !== null && operator.expires_at <= core.clock.now();
  if (operator.status !== 'active' || expired) throw unauthenticated();
  return operator;
};
