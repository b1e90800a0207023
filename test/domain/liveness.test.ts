import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { FenceIndex } from '../../src/domain/fences.ts';
import { deadAgentToken, deadGrant, shownStatus } from '../../src/domain/liveness.ts';
import type { GrantStatus, Selector } from '../../src/domain/model.ts';
import { agentRow, agentTokenRow, connectionRow, grantRow, noon } from './rows.ts';

const none = new FenceIndex();
const fenced = (selector: Selector, seq = 20): FenceIndex =>
  new FenceIndex([{ id: 'f', seq, revocation_id: 'rev_1', selector, created_at: noon }]);

describe('a grant', () => {
  const statuses: GrantStatus[] = ['intended', 'active', 'expired', 'revoked', 'returned', 'aborted', 'unrevocable'];

  test('lives only while it is active', () => {
    for (const status of statuses) {
      const dead = deadGrant(grantRow({ status }), agentRow(), connectionRow(), none, noon);
      if (status === 'active') expect(dead).toBeUndefined();
      else expect(dead?.code).toBe(status === 'expired' ? 'expired' : 'revoked');
    }
  });

  test('is dead in the very millisecond it ends', () => {
    const dead = (at: number, over = {}): string | undefined =>
      deadGrant(grantRow(over), agentRow(), connectionRow(), none, at)?.code;
    expect(dead(noon + 299_999)).toBeUndefined();
    expect(dead(noon + 300_000)).toBe('expired');
    // Even if a renewal had gone wrong: its longest life is judged by itself.
    expect(dead(noon + 3_600_000, { expires_at: noon + 9_999_999 })).toBe('expired');
  });

  test('dies with its agent or connection, or while one is suspended', () => {
    const dead = (agent: Parameters<typeof deadGrant>[1], connection: Parameters<typeof deadGrant>[2]) =>
      deadGrant(grantRow(), agent, connection, none, noon)?.code;
    expect(dead(undefined, connectionRow())).toBe('revoked');
    expect(dead(agentRow(), undefined)).toBe('revoked');
    expect(dead(agentRow({ status: 'suspended' }), connectionRow())).toBe('agent_suspended');
    expect(dead(agentRow(), connectionRow({ status: 'suspended' }))).toBe('not_entitled');
  });

  const killing: [string, Selector][] = [
    ['everything', { everything: true }],
    ['its agent', { agent: 'agt_1' }],
    ['its connection', { connection: 'con_1' }],
    ['its provider', { provider: 'api-key' }],
    ['its owner when issued', { owner: 'team-a' }],
    ['its agent’s owner now', { owner: 'team-b' }],
    ['its subject', { subject: 'alice' }],
    ['its entitlement', { entitlement: 'ent_1' }],
    ['itself', { grant: 'grt_1' }],
    ['several of these', { agent: 'agt_1', owner: 'team-b', connection: 'con_1', subject: 'alice' }],
  ];
  test.each(killing)('is revoked by a newer fence on %s', (_what, selector) => {
    const grant = grantRow({ subject: 'alice' });
    const agent = agentRow({ owner: 'team-b' });
    expect(deadGrant(grant, agent, connectionRow(), fenced(selector), noon)?.code).toBe('revoked');
    expect(shownStatus(grant, agent, fenced(selector), noon)).toBe('revoked');
    expect(deadGrant(grant, agent, connectionRow(), fenced(selector, 10), noon)).toBeUndefined();
    expect(deadGrant(grant, agent, connectionRow(), fenced(selector, 9), noon)).toBeUndefined();
  });

  test.each<[string, Selector]>([
    ['another agent', { agent: 'agt_2' }],
    ['an agent by its name', { agent: 'reporter' }],
    ['another subject', { subject: 'bob' }],
    ['no subject', { subject: '' }],
    ['its agent and another connection', { agent: 'agt_1', connection: 'con_2' }],
    ['nothing', {}],
  ])('is not touched by a fence on %s', (_what, selector) => {
    expect(deadGrant(grantRow(), agentRow(), connectionRow(), fenced(selector), noon)).toBeUndefined();
  });

  test('that is shown as active is alive, unless its agent or connection is not', () => {
    const arbitrary = fc.record({
      status: fc.constantFrom(...statuses),
      now: fc.integer({ min: noon - 1000, max: noon + 4_000_000 }),
      expires: fc.integer({ min: noon, max: noon + 3_600_000 }),
      fenceSeq: fc.integer({ min: 0, max: 20 }),
    });
    fc.assert(
      fc.property(arbitrary, ({ status, now, expires, fenceSeq }) => {
        const grant = grantRow({ status, expires_at: expires });
        const fences = fenced({ agent: 'agt_1' }, fenceSeq);
        const shown = shownStatus(grant, agentRow(), fences, now);
        const dead = deadGrant(grant, agentRow(), connectionRow(), fences, now);
        expect(shown === 'active').toBe(dead === undefined);
      }),
    );
  });
});

describe('an agent token', () => {
  test('lives while it is active, unexpired, unfenced, and its agent is active', () => {
    const dead = (over = {}, agent: Parameters<typeof deadAgentToken>[1] = agentRow(), fences = none, now = noon) =>
      deadAgentToken(agentTokenRow(over), agent, fences, now)?.code;
    expect(dead()).toBeUndefined();
    expect(dead({ status: 'revoked' })).toBe('revoked');
    expect(dead({}, agentRow(), none, noon + 299_999)).toBeUndefined();
    expect(dead({}, agentRow(), none, noon + 300_000)).toBe('expired');
    expect(dead({}, agentRow({ status: 'suspended' }))).toBe('agent_suspended');
    expect(deadAgentToken(agentTokenRow(), undefined, none, noon)?.code).toBe('revoked');
    for (const selector of [{ everything: true } as const, { agent: 'agt_1' }, { owner: 'team-a' }]) {
      expect(dead({}, agentRow(), fenced(selector))).toBe('revoked');
      expect(dead({ seq: 20 }, agentRow(), fenced(selector))).toBeUndefined();
    }
    expect(dead({}, agentRow({ owner: 'team-b' }), fenced({ owner: 'team-b' }))).toBe('revoked');
  });

  test('is not touched by a fence that names what only grants have', () => {
    for (const selector of [
      { connection: 'con_1' },
      { provider: 'api-key' },
      { agent: 'agt_1', connection: 'con_1' },
    ]) {
      expect(deadAgentToken(agentTokenRow(), agentRow(), fenced(selector), noon)).toBeUndefined();
    }
  });
});
