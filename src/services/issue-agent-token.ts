/** The agent's own token for `/v1`: short, opaque, durable before it is delivered. */
import { agentTokenFacts } from '../domain/liveness.ts';
import type { Agent, AgentToken } from '../domain/model.ts';
import { Refused } from '../domain/refusals.ts';
import { makeToken, tokenDigest, tokenEntropyBytes } from '../domain/tokens.ts';
import { unassigned } from '../ports/ledger.ts';
import { type Caller, type Core, commit, newId, record } from './core.ts';

export const agentTokenSeconds = 300;

/** @throws Refused `agent_suspended`, `revoked`, `conflict`, `ledger_unavailable` */
export const issueAgentToken = async (
  core: Core,
  authenticated: Agent,
  caller: Caller,
): Promise<{ token: string; expiresInSeconds: number }> => {
  const decidedAt = core.state.newestSeq;
  const agent = core.state.agents.get(authenticated.id);
  if (!agent) throw new Refused('unauthenticated', 'no such client');
  if (agent.status !== 'active') throw new Refused('agent_suspended', 'this agent is suspended');
  core.keyring.requireUnsealed();
  const now = core.clock.now();
  const id = newId(core, 'tok');
  const token = makeToken('agent', id, core.entropy(tokenEntropyBytes));
  const row: AgentToken = {
    id,
    seq: unassigned,
    agent_id: agent.id,
    owner: agent.owner,
    token_digest: tokenDigest(token),
    status: 'active',
    issued_at: now,
    expires_at: now + agentTokenSeconds * 1000,
    version: 1,
  };
  const result = await commit(core, {
    guards: [
      { guard: 'unfenced', since: decidedAt, facts: agentTokenFacts(row, agent) },
      { guard: 'unchanged', table: 'agents', id: agent.id, version: agent.version },
    ],
    writes: [{ write: 'insert', table: 'agent_tokens', row }],
    audit: [
      record(core, caller, {
        type: 'token.issued',
        agent: { id: agent.id, name: agent.name },
        data: { token: id, expires_at: new Date(row.expires_at).toISOString() },
      }),
    ],
  });
  if (!result.ok) {
    if (result.why === 'fenced') throw new Refused('revoked', 'a revocation took place while this was issued');
    throw new Refused('conflict', 'this agent was changed at this moment; try again');
  }
  return { token, expiresInSeconds: agentTokenSeconds };
};
