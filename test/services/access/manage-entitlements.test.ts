import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Entitlement } from '../../../src/domain/model.ts';
import { createAgent } from '../../../src/services/access/manage-agents.ts';
import { createConnection, updateConnection } from '../../../src/services/access/manage-connections.ts';
import {
  createEntitlement,
  deleteEntitlement,
  type EntitlementLimits,
  updateEntitlement,
} from '../../../src/services/access/manage-entitlements.ts';
import { caller, entriesSince, gatewaySettings, type Managed, openManaged, refusalOf, sizeOf } from './manage.ts';

let managed: Managed;
const later = (): number => managed.core.clock.now() + 3_600_000;

beforeAll(async () => {
  managed = await openManaged();
  const auth = { method: 'client_secret_basic' as const };
  await createAgent(managed.core, { name: 'holder', owner: 'team-a', auth }, caller);
  await createConnection(managed.core, { name: 'stripe', provider: 'api-key', settings: gatewaySettings }, caller);
});
afterAll(() => managed.close());

const create = (limits: Partial<EntitlementLimits> = {}): Promise<Entitlement> =>
  createEntitlement(
    managed.core,
    { agent: 'holder', connection: 'stripe', scopes: ['read', 'write'], ...limits },
    managed.admin,
    caller,
  );
const change = (row: Entitlement, limits: Partial<EntitlementLimits>): Promise<Entitlement> =>
  updateEntitlement(managed.core, row, limits, managed.admin, caller);
/** Whether a grant issued under the row before `seq` is dead now. */
const kills = (row: Entitlement, seq: number): boolean => {
  const facts = {
    agent: row.agent_id,
    connection: row.connection_id,
    provider: null,
    owners: [],
    subject: null,
    issuers: [],
    entitlement: row.id,
    grant: null,
  };
  return managed.core.state.fences.fencedBy(seq, facts) !== undefined;
};

describe('an entitlement', () => {
  test('is limited where nobody says so, and keeps its scopes in order', async () => {
    expect(await create({ scopes: ['write', 'read'] })).toMatchObject({
      scopes: ['read', 'write'],
      max_ttl_seconds: 3600,
      approval: 'none',
      hours: null,
      budget: null,
      expires_at: null,
      granted_by: 'admin',
    });
  });

  test.each<[string, (row: Entitlement) => Partial<EntitlementLimits>, boolean]>([
    ['fewer scopes', () => ({ scopes: ['read'] }), true],
    ['other scopes', () => ({ scopes: ['read', 'write'].slice(1) }), true],
    ['a shorter longest life', () => ({ max_ttl_seconds: 60 }), true],
    ['an end', () => ({ expires_at: later() }), true],
    ['an approval', () => ({ approval: 'required' }), true],
    ['the same scopes in another order', () => ({ scopes: ['write', 'read'] }), false],
    ['a longer longest life', () => ({ max_ttl_seconds: 7200 }), false],
    ['a reason', () => ({ reason: 'ticket 8' }), false],
    ['nothing', () => ({}), false],
  ])('with %s kills what was issued under it only when that takes something away', async (_what, limits, killed) => {
    const row = await create();
    const seq = managed.core.state.newestSeq;
    const changed = await change(row, limits(row));
    expect(kills(row, seq)).toBe(killed);
    expect(kills(row, managed.core.state.newestSeq)).toBe(false);
    expect(managed.core.state.entitlements.get(row.id)).toEqual(changed);
  });

  test('with a later end, or none, kills nothing', async () => {
    const row = await create({ expires_at: later() });
    const seq = managed.core.state.newestSeq;
    const longer = await change(row, { expires_at: (row.expires_at ?? 0) + 1000 });
    await change(longer, { expires_at: null });
    expect(kills(row, seq)).toBe(false);
  });

  test('deleted kills what was issued under it', async () => {
    const row = await create();
    const seq = managed.core.state.newestSeq;
    await deleteEntitlement(managed.core, row, managed.admin, caller);
    expect(kills(row, seq)).toBe(true);
    expect(managed.core.state.entitlements.get(row.id)).toBeUndefined();
  });

  test.each<[string, () => Promise<unknown>, string]>([
    [
      'an agent nobody knows',
      () =>
        createEntitlement(
          managed.core,
          { agent: 'nobody', connection: 'stripe', scopes: ['read'] },
          managed.admin,
          caller,
        ),
      'not_found',
    ],
    [
      'a connection nobody knows',
      () =>
        createEntitlement(
          managed.core,
          { agent: 'holder', connection: 'nobody', scopes: ['read'] },
          managed.admin,
          caller,
        ),
      'not_found',
    ],
    ['a scope the connection has not', () => create({ scopes: ['read', 'admin'] }), 'invalid_request'],
    ['a scope in another case', () => create({ scopes: ['Read'] }), 'invalid_request'],
    ['an end in the past', () => create({ expires_at: managed.core.clock.now() }), 'invalid_request'],
    ['more than a day', () => create({ max_ttl_seconds: 86_401 }), 'invalid_request'],
  ])('with %s is refused', async (_what, work, code) => {
    const from = await sizeOf(managed.core);
    expect(await refusalOf(work())).toMatchObject({ code });
    expect(await sizeOf(managed.core)).toBe(from);
  });

  test('is not granted on settings that changed while it was decided', async () => {
    const [stripe] = managed.core.state.connections.all();
    if (!stripe) throw new Error('no connection');
    const settings = { ...gatewaySettings, base_url: 'https://moved.example.com' };
    const [granted] = await Promise.all([
      refusalOf(create()),
      updateConnection(managed.core, stripe, { settings }, managed.admin, caller),
    ]);
    // Whoever was first: what was granted rests on settings that were in force when it was committed.
    if (granted) expect(granted.code).toBe('conflict');
  });

  test('leaves entries that say what it was and what it became', async () => {
    const from = await sizeOf(managed.core);
    const row = await create();
    const changed = await change(row, { scopes: ['read'], reason: 'ticket 9' });
    await change(changed, { reason: 'ticket 9' });
    await deleteEntitlement(managed.core, changed, managed.admin, caller);
    const entries = await entriesSince(managed.core, from);
    expect(entries.map(({ type }) => type)).toEqual([
      'entitlement.created',
      'entitlement.updated',
      'entitlement.unchanged',
      'entitlement.deleted',
    ]);
    expect(entries[1]?.data).toMatchObject({
      fields: ['scopes', 'reason'],
      before: { scopes: ['read', 'write'], reason: null },
      after: { scopes: ['read'], reason: 'ticket 9' },
    });
  });
});
