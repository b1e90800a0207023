/** Agents: registering, changing, suspending, deleting. A deletion and a change of proof kill what was issued. */
import type { Agent, AgentAuth, Operator } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { tokenDigest } from '../../domain/tokens.ts';
import type { Guard } from '../../ports/ledger.ts';
import { type Change, commitChanges, differing } from '../change.ts';
import { type Caller, type Core, newId, record } from '../core.ts';
import { InvalidInput } from '../invalid-input.ts';
import { accompanyingFence } from '../revocation/revoke.ts';

/** How an operator says an agent shall authenticate: as stored, but without a secret Warder has yet to make. */
export type AuthInput =
  | { method: 'client_secret_basic' | 'client_secret_post' }
  | Extract<AgentAuth, { method: 'private_key_jwt' | 'workload' }>;

export interface AgentInput {
  name: string;
  owner: string;
  purpose?: string | null | undefined;
  auth: AuthInput;
  dpop?: Agent['dpop'] | undefined;
}

export type AgentPatch = Partial<Pick<Agent, 'owner' | 'purpose' | 'status' | 'dpop'>> & { auth?: AuthInput };

const clientSecretBytes = 32;

/** A client secret: `wdr_cs_` for the scanners, then 256 random bits. Stored as its digest only. */
const makeAuth = (
  core: Core,
  input: AuthInput,
): { auth: AgentAuth; clientSecret: string | undefined; guards: Guard[] } => {
  if (input.method === 'private_key_jwt') return { auth: input, clientSecret: undefined, guards: [] };
  if (input.method === 'workload') return { ...workloadAuth(core, input), clientSecret: undefined };
  const clientSecret = `wdr_cs_${Buffer.from(core.entropy(clientSecretBytes)).toString('base64url')}`;
  return { auth: { method: input.method, secret_digest: tokenDigest(clientSecret) }, clientSecret, guards: [] };
};

type WorkloadAuth = Extract<AgentAuth, { method: 'workload' }>;

/**
 * A binding to a workload, its issuer as an id; the rules in one order, so that writing them anew changes nothing.
 * @throws InvalidInput
 */
const workloadAuth = (
  core: Core,
  { method, issuer, claims }: WorkloadAuth,
): { auth: WorkloadAuth; guards: Guard[] } => {
  const row = core.state.issuerCalled(issuer);
  if (!row) throw new InvalidInput(['auth.issuer: there is no such issuer']);
  if (!row.uses.includes('workload')) throw new InvalidInput(['auth.issuer: it is not trusted for workloads']);
  const rules = Object.entries(claims).sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    auth: { method, issuer: row.id, claims: Object.fromEntries(rules) },
    guards: [{ guard: 'unchanged', table: 'trusted_issuers', id: row.id, version: row.version }],
  };
};

const named = (agent: Agent) => ({ agent: { id: agent.id, name: agent.name } });

/** @throws Refused `not_found` */
export const agentCalled = (core: Core, nameOrId: string): Agent => {
  const agent = core.state.agentCalled(nameOrId);
  if (!agent) throw new Refused('not_found', 'there is no such agent');
  return agent;
};

export const prepareAgent = (
  core: Core,
  input: AgentInput,
  caller: Caller,
): { change: Change; agent: Agent; clientSecret: string | undefined } => {
  if (core.state.agents.named(input.name)) throw new Refused('conflict', `there is an agent ${input.name} already`);
  const now = core.clock.now();
  const { auth, clientSecret, guards } = makeAuth(core, input.auth);
  const agent: Agent = {
    id: newId(core, 'agt'),
    name: input.name,
    owner: input.owner,
    purpose: input.purpose ?? null,
    auth,
    dpop: input.dpop ?? 'optional',
    status: 'active',
    version: 1,
    created_at: now,
    updated_at: now,
  };
  return {
    agent,
    clientSecret,
    change: {
      guards,
      writes: [{ write: 'insert', table: 'agents', row: agent }],
      audit: [
        record(core, caller, {
          type: 'agent.created',
          ...named(agent),
          data: { owner: agent.owner, purpose: agent.purpose, auth_method: auth.method, dpop: agent.dpop },
        }),
      ],
    },
  };
};

/** A fence on the owner that comes at this moment reaches the agent: whoever changes its owner looks again. */
const unfencedOwner = (core: Core, { id, owner }: Agent): Guard => ({
  guard: 'unfenced',
  since: core.state.newestSeq,
  facts: {
    ...{ agent: id, owners: [owner], connection: null, provider: null, subject: null },
    ...{ issuers: [], entitlement: null, grant: null },
  },
});

/** @returns undefined when nothing differs. A new way to authenticate kills what the old one obtained. */
export const prepareAgentPatch = (
  core: Core,
  agent: Agent,
  patch: AgentPatch,
  operator: Operator,
  caller: Caller,
): { change: Change; agent: Agent; fields: string[]; clientSecret: string | undefined } | undefined => {
  const made = patch.auth && makeAuth(core, patch.auth);
  const set: Partial<Agent> = {
    ...(patch.owner === undefined ? {} : { owner: patch.owner }),
    ...(patch.purpose === undefined ? {} : { purpose: patch.purpose }),
    ...(patch.status === undefined ? {} : { status: patch.status }),
    ...(patch.dpop === undefined ? {} : { dpop: patch.dpop }),
    ...(made ? { auth: made.auth } : {}),
  };
  const fields = differing(agent, set);
  if (fields.length === 0) return undefined;
  const changed = { ...set, version: agent.version + 1, updated_at: core.clock.now() };
  const statusChanged = fields.includes('status');
  // What it holds that is bound to no key would work on for its whole life.
  const why = fields.includes('auth')
    ? 'new authentication'
    : fields.includes('dpop') && patch.dpop === 'required'
      ? 'proof of possession required'
      : // What a fence on the owner before killed for the owner's sake alone would live again.
        fields.includes('owner') && core.state.fences.namesOwner(agent.owner)
        ? 'new owner, after a revocation of the owner before'
        : undefined;
  const fence = why === undefined ? undefined : accompanyingFence(core, { agent: agent.id }, why, operator);
  const type = statusChanged ? (patch.status === 'suspended' ? 'agent.suspended' : 'agent.resumed') : 'agent.updated';
  return {
    agent: { ...agent, ...changed },
    fields,
    clientSecret: made?.clientSecret,
    change: {
      guards: [...(made?.guards ?? []), ...(fields.includes('owner') ? [unfencedOwner(core, agent)] : [])],
      writes: [
        { write: 'update', table: 'agents', id: agent.id, set: changed, from: { version: agent.version } },
        ...(fence?.writes ?? []),
      ],
      audit: [
        record(core, caller, {
          type,
          ...named(agent),
          data: {
            fields,
            owner: set.owner,
            purpose: set.purpose,
            status: set.status,
            auth_method: made?.auth.method,
            dpop: set.dpop,
            revocation: fence?.revocationId,
          },
        }),
      ],
    },
  };
};

export const prepareAgentDeletion = (core: Core, agent: Agent, operator: Operator, caller: Caller): Change => {
  const fence = accompanyingFence(core, { agent: agent.id }, 'agent deleted', operator);
  return {
    writes: [...fence.writes, { write: 'delete', table: 'agents', id: agent.id, from: { version: agent.version } }],
    audit: [record(core, caller, { type: 'agent.deleted', ...named(agent), data: { revocation: fence.revocationId } })],
  };
};

/** @returns the agent, and the client secret, which nobody will see again */
export const createAgent = async (core: Core, input: AgentInput, caller: Caller) => {
  const { change, agent, clientSecret } = prepareAgent(core, input, caller);
  await commitChanges(core, change);
  return { agent, clientSecret };
};

export const updateAgent = async (core: Core, agent: Agent, patch: AgentPatch, operator: Operator, caller: Caller) => {
  const prepared = prepareAgentPatch(core, agent, patch, operator, caller);
  if (!prepared) {
    await commitChanges(core, {
      writes: [],
      audit: [record(core, caller, { type: 'agent.unchanged', ...named(agent) })],
    });
    return { agent, clientSecret: undefined };
  }
  await commitChanges(core, prepared.change);
  return { agent: prepared.agent, clientSecret: prepared.clientSecret };
};

/** A new client secret; the old one and all it obtained are dead at once. @throws Refused `conflict` */
export const renewClientSecret = async (core: Core, agent: Agent, operator: Operator, caller: Caller) => {
  if (agent.auth.method === 'private_key_jwt' || agent.auth.method === 'workload') {
    throw new Refused('conflict', 'this agent has no client secret; it proves who it is in another way');
  }
  return updateAgent(core, agent, { auth: { method: agent.auth.method } }, operator, caller);
};

export const deleteAgent = async (core: Core, agent: Agent, operator: Operator, caller: Caller): Promise<void> => {
  await commitChanges(core, prepareAgentDeletion(core, agent, operator, caller));
};
