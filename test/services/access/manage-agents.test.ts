import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { tokenDigest } from '../../../src/domain/tokens.ts';
import type { Changeset } from '../../../src/ports/ledger.ts';
import {
  agentCalled,
  createAgent,
  deleteAgent,
  renewClientSecret,
  updateAgent,
} from '../../../src/services/access/manage-agents.ts';
import { authenticateAgent } from '../../../src/services/identity/authenticate.ts';
import { issueAgentToken } from '../../../src/services/issuing/issue-agent-token.ts';
import { revoke } from '../../../src/services/revocation/revoke.ts';
import { caller, entriesSince, type Managed, openManaged, refusalOf, sizeOf } from './manage.ts';

let managed: Managed;
beforeAll(async () => {
  managed = await openManaged();
});
afterAll(() => managed.close());

let made = 0;
const newAgent = (over: object = {}) => {
  made += 1;
  const input = { name: `agent-${made}`, owner: 'team-a', auth: { method: 'client_secret_basic' as const }, ...over };
  return createAgent(managed.core, input, caller);
};
const fences = () => managed.core.state.fences.newest;

describe('an agent', () => {
  test('is made with a client secret that is kept as its digest only', async () => {
    const { agent, clientSecret } = await newAgent();
    expect(clientSecret).toMatch(/^wdr_cs_[A-Za-z0-9_-]{43}$/);
    expect(agent.auth).toEqual({ method: 'client_secret_basic', secret_digest: tokenDigest(String(clientSecret)) });
    expect(JSON.stringify(managed.core.state.agents.get(agent.id))).not.toContain(clientSecret);
    const entries = await entriesSince(managed.core, 0);
    expect(JSON.stringify(entries)).not.toContain(clientSecret);
    expect(JSON.stringify(entries)).not.toContain(tokenDigest(String(clientSecret)));
  });

  test('has a name nobody else has, however many want it at once', async () => {
    const answers = await Promise.all(Array.from({ length: 20 }, () => refusalOf(newAgent({ name: 'wanted' }))));
    expect(answers.filter((refusal) => refusal === undefined)).toHaveLength(1);
    for (const refusal of answers) if (refusal) expect(refusal.code).toBe('conflict');
  });

  test('loses what it obtained with an old proof of who it is', async () => {
    for (const change of [
      (agent: Awaited<ReturnType<typeof newAgent>>['agent']) =>
        renewClientSecret(managed.core, agent, managed.admin, caller),
      (agent: Awaited<ReturnType<typeof newAgent>>['agent']) =>
        updateAgent(managed.core, agent, { auth: { method: 'client_secret_post' } }, managed.admin, caller),
    ]) {
      const { agent, clientSecret } = await newAgent();
      const { token } = await issueAgentToken(managed.core, agent, caller);
      expect((await authenticateAgent(managed.core, token)).agent.id).toBe(agent.id);
      const changed = await change(agent);
      expect(await refusalOf(authenticateAgent(managed.core, token))).toMatchObject({ code: 'revoked' });
      expect(changed.clientSecret).toMatch(/^wdr_cs_/);
      expect(changed.clientSecret).not.toBe(clientSecret);
      const again = await issueAgentToken(managed.core, changed.agent, caller);
      expect((await authenticateAgent(managed.core, again.token)).agent.id).toBe(agent.id);
    }
  });

  test('keeps what it has when its owner or purpose changes, or nothing does', async () => {
    const { agent } = await newAgent();
    const { token } = await issueAgentToken(managed.core, agent, caller);
    const before = fences();
    let current = (await updateAgent(managed.core, agent, { owner: 'team-b', purpose: 'x' }, managed.admin, caller))
      .agent;
    current = (await updateAgent(managed.core, current, { owner: 'team-b' }, managed.admin, caller)).agent;
    expect(current.version).toBe(2);
    expect(fences()).toBe(before);
    expect((await authenticateAgent(managed.core, token)).agent.owner).toBe('team-b');
  });

  test('gets nothing back by a new owner that was revoked for the owner before', async () => {
    const { agent } = await newAgent();
    const { token } = await issueAgentToken(managed.core, agent, caller);
    const left = await updateAgent(managed.core, agent, { owner: 'leaver' }, managed.admin, caller);
    await revoke(managed.core, { selector: { owner: 'leaver' }, reason: 'left', suspend: false }, caller);
    expect(await refusalOf(authenticateAgent(managed.core, token))).toMatchObject({ code: 'revoked' });
    await updateAgent(managed.core, left.agent, { owner: 'heir' }, managed.admin, caller);
    expect(await refusalOf(authenticateAgent(managed.core, token))).toMatchObject({ code: 'revoked' });
  });

  test('keeps the owner that is revoked at this moment', async () => {
    const { core, admin } = managed;
    const { agent } = await newAgent({ owner: 'leaving' });
    let moving: ReturnType<typeof refusalOf> | undefined;
    const ledger = {
      ...core.ledger,
      onCommitted: core.ledger.onCommitted.bind(core.ledger),
      trouble: () => undefined,
      commit: (changeset: Changeset) => {
        const fenced = core.ledger.commit(changeset);
        // The fence is on its way, and nobody has heard of it.
        moving ??= refusalOf(updateAgent(core, agent, { owner: 'heir' }, admin, caller));
        return fenced;
      },
    };
    await revoke({ ...core, ledger }, { selector: { owner: 'leaving' }, reason: 'left', suspend: false }, caller);
    expect(await moving).toMatchObject({ code: 'conflict' });
    expect(core.state.agents.get(agent.id)?.owner).toBe('leaving');
  });

  test('is refused while it is suspended, and lives again after, with what it had', async () => {
    const { agent } = await newAgent();
    const { token } = await issueAgentToken(managed.core, agent, caller);
    const suspended = await updateAgent(managed.core, agent, { status: 'suspended' }, managed.admin, caller);
    expect(await refusalOf(authenticateAgent(managed.core, token))).toMatchObject({ code: 'agent_suspended' });
    expect(await refusalOf(issueAgentToken(managed.core, agent, caller))).toMatchObject({ code: 'agent_suspended' });
    await updateAgent(managed.core, suspended.agent, { status: 'active' }, managed.admin, caller);
    expect((await authenticateAgent(managed.core, token)).agent.status).toBe('active');
  });

  test('is gone when deleted, with its tokens and entitlements, and another of its name starts with nothing', async () => {
    const { agent } = await newAgent({ name: 'phoenix' });
    const { token } = await issueAgentToken(managed.core, agent, caller);
    await deleteAgent(managed.core, agent, managed.admin, caller);
    expect(await refusalOf(authenticateAgent(managed.core, token))).toMatchObject({ code: 'revoked' });
    expect(() => agentCalled(managed.core, 'phoenix')).toThrow('no such agent');
    await newAgent({ name: 'phoenix' });
    expect(await refusalOf(authenticateAgent(managed.core, token))).toMatchObject({ code: 'revoked' });
  });

  test('changed by two at once is changed by one of them', async () => {
    const { agent } = await newAgent();
    const change = (owner: string) => refusalOf(updateAgent(managed.core, agent, { owner }, managed.admin, caller));
    const answers = await Promise.all(Array.from({ length: 10 }, (_, i) => change(`team-${i}`)));
    expect(answers.filter((refusal) => refusal === undefined)).toHaveLength(1);
    expect(managed.core.state.agents.get(agent.id)?.version).toBe(2);
  });

  test('with its own key has no client secret to renew', async () => {
    const jwks = { keys: [{ kty: 'OKP' }] };
    const { agent, clientSecret } = await newAgent({
      auth: { method: 'private_key_jwt', algorithms: ['Ed25519'], jwks },
    });
    expect(clientSecret).toBeUndefined();
    const renewal = renewClientSecret(managed.core, agent, managed.admin, caller);
    expect(await refusalOf(renewal)).toMatchObject({ code: 'conflict' });
  });

  test('leaves an entry for each change, and for one that changed nothing', async () => {
    const from = await sizeOf(managed.core);
    const { agent } = await newAgent();
    const changed = await updateAgent(managed.core, agent, { purpose: 'x' }, managed.admin, caller);
    await updateAgent(managed.core, changed.agent, {}, managed.admin, caller);
    const suspended = await updateAgent(managed.core, changed.agent, { status: 'suspended' }, managed.admin, caller);
    const resumed = await updateAgent(managed.core, suspended.agent, { status: 'active' }, managed.admin, caller);
    await deleteAgent(managed.core, resumed.agent, managed.admin, caller);
    expect((await entriesSince(managed.core, from)).map(({ type }) => type)).toEqual([
      'agent.created',
      'agent.updated',
      'agent.unchanged',
      'agent.suspended',
      'agent.resumed',
      'agent.deleted',
    ]);
  });
});
