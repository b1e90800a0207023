/** The agent's own token for `/v1`: short, opaque, durable before it is delivered. */
import { inForce } from '../../domain/decide.ts';
import { agentTokenFacts } from '../../domain/liveness.ts';
import type { Agent, AgentToken } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { mayActFor } from '../../domain/subject.ts';
import { makeToken, tokenDigest, tokenEntropyBytes } from '../../domain/tokens.ts';
import { type Guard, unassigned } from '../../ports/ledger.ts';
import { type Caller, type Core, commit, newId, record } from '../core.ts';
import { frozen, requireUnfrozen } from '../incidents/freeze.ts';

export const agentTokenSeconds = 300;

/** On what a token or grant is issued beside the agent's own standing. */
export interface Standing {
  /** Ids of the trusted issuers on whose word it is issued. */
  issuers: string[];
  /** The key it is to be bound to, by its thumbprint; undefined = none. */
  jkt?: string | undefined;
  /** Whom it acts for, and when (ms) the proof of that ends. */
  behalf?: { subject: string; endsAt: number } | undefined;
  /** It ends by then (ms), where that is before its own time. */
  notAfter?: number | undefined;
  /** What must still be so when it is committed, beside what the issuing itself needs. */
  guards?: Guard[] | undefined;
}

/** Said of a subject that cannot be acted for, whatever the reason: nobody learns who may act for whom. */
export const subjectRefused = (): Refused =>
  new Refused(
    'invalid_request',
    'the subject or actor token was not accepted, or this agent may not act for its subject',
  );

/** @throws Refused `agent_suspended`, `frozen`, `revoked`, `conflict`, `invalid_request`, `ledger_unavailable` */
export const issueAgentToken = async (
  core: Core,
  authenticated: Agent,
  caller: Caller,
  standing: Standing = { issuers: [] },
): Promise<{ token: string; row: AgentToken; expiresInSeconds: number }> => {
  const decidedAt = core.state.newestSeq;
  const agent = core.state.agents.get(authenticated.id);
  if (!agent) throw new Refused('unauthenticated', 'no such client');
  if (agent.status !== 'active') throw new Refused('agent_suspended', 'this agent is suspended');
  core.keyring.requireUnsealed();
  const now = core.clock.now();
  const { behalf } = standing;
  if (behalf && !actsForSomewhere(core, agent, behalf.subject, now)) throw subjectRefused();
  const expiresAt = Math.min(now + agentTokenSeconds * 1000, behalf?.endsAt ?? Infinity, standing.notAfter ?? Infinity);
  if (expiresAt <= now) throw new Refused('expired', 'what this was asked for with has expired');
  const id = newId(core, 'tok');
  const token = makeToken('agent', id, core.entropy(tokenEntropyBytes));
  const row: AgentToken = {
    id,
    seq: unassigned,
    agent_id: agent.id,
    owner: agent.owner,
    subject: behalf?.subject ?? null,
    issuers: standing.issuers,
    jkt: standing.jkt ?? null,
    subject_expires_at: behalf?.endsAt ?? null,
    token_digest: tokenDigest(token),
    status: 'active',
    issued_at: now,
    expires_at: expiresAt,
    version: 1,
  };
  const facts = agentTokenFacts(row, agent);
  requireUnfrozen(core, facts);
  const result = await commit(core, {
    guards: [
      { guard: 'unfenced', since: decidedAt, facts, unfrozen: true },
      { guard: 'unchanged', table: 'agents', id: agent.id, version: agent.version },
      ...(standing.guards ?? []),
    ],
    writes: [{ write: 'insert', table: 'agent_tokens', row }],
    audit: [
      record(core, caller, {
        type: 'token.issued',
        agent: { id: agent.id, name: agent.name },
        data: {
          token: id,
          expires_at: new Date(row.expires_at).toISOString(),
          ...(behalf ? { subject: behalf.subject } : {}),
          ...(row.issuers.length > 0 ? { issuers: row.issuers } : {}),
          ...(row.jkt === null ? {} : { jkt: row.jkt }),
        },
      }),
    ],
  });
  if (!result.ok) {
    if (result.why === 'fenced') throw new Refused('revoked', 'a revocation took place while this was issued');
    if (result.why === 'frozen') throw frozen();
    throw new Refused('conflict', 'this agent was changed at this moment; try again');
  }
  return { token, row: { ...row, seq: result.seq }, expiresInSeconds: Math.floor((expiresAt - now) / 1000) };
};

/** Whether any rule lets the agent act for this subject: a token for one it may do nothing for is not given out. */
const actsForSomewhere = (core: Core, agent: Agent, subject: string, now: number): boolean =>
  core.state.entitlements
    .all()
    .some((rule) => rule.agent_id === agent.id && inForce(rule, now) && mayActFor(rule.on_behalf_of, subject));
