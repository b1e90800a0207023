import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { Agent, Connection, Entitlement, Grant } from '../../src/domain/model.ts';
import type { Changeset, Ledger, LedgerReader, LedgerSnapshot, Write } from '../../src/ports/ledger.ts';
import { State } from '../../src/services/state.ts';
import { agentRow, connectionRow, entitlementRow, grantRow } from '../domain/rows.ts';

const nothing: LedgerSnapshot = {
  size: 5,
  newestAt: 0,
  agents: [],
  operators: [],
  connections: [],
  entitlements: [],
  authorizations: [],
  trusted_issuers: [],
  fences: [],
  freezes: [],
  key_encryption_keys: [],
  signing_keys: [],
  rotation_policies: [],
  rotations: [],
  webhooks: [],
  signal_streams: [],
};
const entry = { type: 'test', at: 0, agent_id: null, connection_id: null, grant_id: null, body: '{}' };

/** A state that hears what the test announces, over a reader the test answers for. */
const stateOver = (snapshot: Partial<LedgerSnapshot>, grant: (id: string) => Promise<Grant | undefined>) => {
  let hear: (changeset: Changeset, seq: number) => void = () => undefined;
  const ledger: Ledger = {
    commit: async () => ({ ok: true, seq: 0 }),
    onCommitted: (listener) => {
      hear = listener;
      return () => undefined;
    },
    trouble: () => undefined,
  };
  const reader = { grant } as unknown as LedgerReader;
  const state = new State({ ...nothing, ...snapshot }, ledger, reader);
  let seq = 5;
  return {
    state,
    announce: (...writes: Write[]): void => {
      hear({ writes, audit: [entry] }, seq);
      seq += 1;
    },
  };
};
const noGrants = async (): Promise<undefined> => undefined;

describe('rows held in memory', () => {
  test('are found by id and by name, follow changes, and are gone when deleted', () => {
    const { state, announce } = stateOver({ agents: [agentRow()] }, noGrants);
    expect(state.agentCalled('reporter')).toBe(state.agentCalled('agt_1'));
    announce({ write: 'insert', table: 'agents', row: agentRow({ id: 'agt_2', name: 'writer' }) });
    announce({ write: 'update', table: 'agents', id: 'agt_2', set: { owner: 'team-b', version: 2 } });
    expect(state.agentCalled('writer')).toMatchObject({ id: 'agt_2', owner: 'team-b', version: 2 });
    announce({ write: 'delete', table: 'agents', id: 'agt_2' });
    expect([state.agentCalled('writer'), state.agentCalled('agt_2'), state.agents.size]).toEqual([
      undefined,
      undefined,
      1,
    ]);
    // A change to what is not there makes nothing.
    announce({ write: 'update', table: 'agents', id: 'agt_2', set: { status: 'active' } });
    expect(state.agents.size).toBe(1);
  });

  test('of a name taken again are those of the new one', () => {
    const { state, announce } = stateOver({ agents: [agentRow()] }, noGrants);
    announce(
      { write: 'delete', table: 'agents', id: 'agt_1' },
      { write: 'insert', table: 'agents', row: agentRow({ id: 'agt_9' }) },
    );
    expect(state.agentCalled('reporter')?.id).toBe('agt_9');
    announce({ write: 'delete', table: 'agents', id: 'agt_1' });
    expect(state.agentCalled('reporter')?.id).toBe('agt_9');
  });

  test('know the number of the newest entry they rest on', () => {
    const { state, announce } = stateOver({}, noGrants);
    expect(state.newestSeq).toBe(4);
    announce({ write: 'insert', table: 'agents', row: agentRow() });
    expect(state.newestSeq).toBe(5);
  });
});

describe('entitlements of an agent on a connection', () => {
  const agents = ['agt_1', 'agt_2'];
  const connections = ['con_1', 'con_2'];
  const step = fc.record({
    what: fc.constantFrom('insert', 'insert', 'insert', 'update', 'delete', 'ask', 'agent gone', 'connection gone'),
    entitlement: fc.integer({ min: 1, max: 6 }),
    agent: fc.constantFrom(...agents),
    connection: fc.constantFrom(...connections),
  });

  test('are those in force, after any changes and deletions of what they hang on', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const { state, announce } = stateOver({ entitlements: [entitlementRow({ id: 'ent_0' })] }, noGrants);
        let model: Entitlement[] = [entitlementRow({ id: 'ent_0' })];
        for (const { what, entitlement, agent, connection } of steps) {
          const id = `ent_${entitlement}`;
          const known = model.some((row) => row.id === id);
          if (what === 'insert' && !known) {
            const row = entitlementRow({ id, agent_id: agent, connection_id: connection });
            announce({ write: 'insert', table: 'entitlements', row });
            model.push(row);
          } else if (what === 'update' && known) {
            announce({ write: 'update', table: 'entitlements', id, set: { max_ttl_seconds: entitlement } });
            model = model.map((row) => (row.id === id ? { ...row, max_ttl_seconds: entitlement } : row));
          } else if (what === 'delete' && known) {
            announce({ write: 'delete', table: 'entitlements', id });
            model = model.filter((row) => row.id !== id);
          } else if (what === 'agent gone') {
            announce({ write: 'delete', table: 'agents', id: agent });
            model = model.filter((row) => row.agent_id !== agent);
          } else if (what === 'connection gone') {
            announce({ write: 'delete', table: 'connections', id: connection });
            model = model.filter((row) => row.connection_id !== connection);
          }
          for (const a of what === 'ask' ? [agent] : agents) {
            for (const c of connections) {
              const wanted = model.filter((row) => row.agent_id === a && row.connection_id === c);
              const byId = (one: Entitlement, other: Entitlement): number => (one.id < other.id ? -1 : 1);
              expect([...state.entitlementsOf(a, c)].sort(byId)).toEqual(wanted.sort(byId));
            }
          }
        }
      }),
    );
  });

  test('of ids that would run together are kept apart', () => {
    const rows = [
      entitlementRow({ agent_id: 'a b', connection_id: 'c' }),
      entitlementRow({ id: 'ent_2', agent_id: 'a' }),
    ];
    const { state } = stateOver({ entitlements: rows }, noGrants);
    expect(state.entitlementsOf('a', 'con_1')).toHaveLength(1);
    expect(state.entitlementsOf('nobody', 'con_1')).toEqual([]);
  });

  test('are found as fast among ten thousand as among ten', () => {
    const entitlements = Array.from({ length: 10_000 }, (_, i) =>
      entitlementRow({ id: `ent_${i}`, agent_id: `agt_${i}`, connection_id: `con_${i % 10}` }),
    );
    const { state, announce } = stateOver({ entitlements }, noGrants);
    const started = performance.now();
    for (let i = 0; i < 10_000; i += 1) expect(state.entitlementsOf(`agt_${i}`, `con_${i % 10}`).length).toBe(1);
    announce({ write: 'delete', table: 'entitlements', id: 'ent_5' });
    expect(state.entitlementsOf('agt_5', 'con_5')).toEqual([]);
    expect(performance.now() - started).toBeLessThan(3_000);
  });
});

describe('listeners for what may have killed something', () => {
  const heard = (...writes: Write[]): boolean => {
    const { state, announce } = stateOver({ agents: [agentRow()], connections: [connectionRow()] }, noGrants);
    let called = false;
    state.onKilled(() => {
      called = true;
    });
    announce(...writes);
    return called;
  };
  const fence = { id: 'f', seq: 9, revocation_id: 'rev_1', selector: { everything: true as const }, created_at: 0 };

  test('hear of fences, suspensions, deletions and ended grants', () => {
    expect(heard({ write: 'insert', table: 'fences', row: fence })).toBe(true);
    expect(heard({ write: 'update', table: 'agents', id: 'agt_1', set: { status: 'suspended' } })).toBe(true);
    expect(heard({ write: 'delete', table: 'agents', id: 'agt_1' })).toBe(true);
    expect(heard({ write: 'update', table: 'connections', id: 'con_1', set: { status: 'suspended' } })).toBe(true);
    expect(heard({ write: 'delete', table: 'connections', id: 'con_1' })).toBe(true);
    for (const status of ['revoked', 'expired', 'returned'] as const) {
      expect(heard({ write: 'update', table: 'grants', id: 'grt_1', set: { status } })).toBe(true);
    }
  });

  test('hear it after the state has changed, and no more once they said so', () => {
    const { state, announce } = stateOver({ agents: [agentRow()] }, noGrants);
    const seen: (string | undefined)[] = [];
    const stop = state.onKilled(() => seen.push(state.agentCalled('reporter')?.status));
    announce({ write: 'update', table: 'agents', id: 'agt_1', set: { status: 'suspended' } });
    stop();
    announce({ write: 'delete', table: 'agents', id: 'agt_1' });
    expect(seen).toEqual(['suspended']);
  });
});

/** One row of the database, and everything that is under way between the threads. */
interface World {
  durable: Grant | undefined;
  announced: number;
  unheard: Write[];
  reads: { result?: { row: Grant | undefined }; resolve: (row: Grant | undefined) => void }[];
}

describe('grants read on demand', () => {
  const event = fc.constantFrom('ask', 'commit', 'commit', 'announce', 'announce', 'read', 'deliver', 'end', 'delete');

  test('are never older than what was heard of before they were asked for, whatever overtakes what', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(event, { maxLength: 40 }), fc.boolean(), async (events, there) => {
        const world: World = { durable: undefined, announced: 0, unheard: [], reads: [] };
        if (there) world.durable = grantRow({ version: 1 });
        let version = there ? 1 : 0;
        world.announced = version;
        const { state, announce } = stateOver({}, () => new Promise((resolve) => world.reads.push({ resolve })));
        const asked: Promise<void>[] = [];
        const commit = (write: Write, row: Grant | undefined): void => {
          world.durable = row;
          world.unheard.push(write);
        };
        const settle = async (): Promise<void> => {
          for (let i = 0; i < 5; i += 1) await Promise.resolve();
        };
        const run = async (what: typeof event extends fc.Arbitrary<infer E> ? E : never): Promise<void> => {
          const { durable } = world;
          if (what === 'ask') {
            const atLeast = world.announced;
            asked.push(
              state.grants.get('grt_1').then((row) => {
                if (atLeast > 0 && row) expect(row.version).toBeGreaterThanOrEqual(atLeast);
              }),
            );
          } else if (what === 'commit' && durable) {
            version += 1;
            const set = { expires_at: durable.expires_at + 1, version };
            commit({ write: 'update', table: 'grants', id: 'grt_1', set }, { ...durable, ...set });
          } else if (what === 'end' && durable) {
            version += 1;
            const set = { status: 'returned' as const, version };
            commit({ write: 'update', table: 'grants', id: 'grt_1', set }, { ...durable, ...set });
          } else if (what === 'commit') {
            version += 1;
            const row = grantRow({ version });
            commit({ write: 'insert', table: 'grants', row }, row);
          } else if (what === 'delete' && durable) {
            commit({ write: 'delete', table: 'grants', id: 'grt_1' }, undefined);
          } else if (what === 'announce') {
            const write = world.unheard.shift();
            if (!write) return;
            announce(write);
            if (write.table !== 'grants') return;
            if (write.write === 'insert') world.announced = write.row.version;
            else world.announced = write.write === 'update' ? (write.set.version ?? 0) : 0;
          } else if (what === 'read') {
            const read = world.reads.find((one) => one.result === undefined);
            if (read) read.result = { row: durable && { ...durable } };
          } else if (what === 'deliver') {
            const at = world.reads.findIndex((one) => one.result !== undefined);
            const [read] = at < 0 ? [] : world.reads.splice(at, 1);
            read?.resolve(read.result?.row);
          }
          await settle();
        };
        for (const what of events) await run(what);
        while (world.unheard.length > 0) await run('announce');
        for (let i = 0; i < 60 && world.reads.length > 0; i += 1) {
          await run('read');
          await run('deliver');
        }
        await Promise.all(asked);
        const last = state.grants.get('grt_1');
        await settle();
        await run('read');
        await run('deliver');
        // Nothing is under way: memory says what the file says.
        expect(await last).toEqual(world.durable);
      }),
      { numRuns: 1500 },
    );
  });
});

describe('a row in memory', () => {
  test('is replaced when it changes, never changed in place: whoever holds it holds what it was', () => {
    const { state, announce } = stateOver({ agents: [agentRow()], connections: [connectionRow()] }, noGrants);
    const before: [Agent | undefined, Connection | undefined] = [
      state.agents.get('agt_1'),
      state.connections.get('con_1'),
    ];
    announce(
      { write: 'update', table: 'agents', id: 'agt_1', set: { status: 'suspended', version: 2 } },
      { write: 'update', table: 'connections', id: 'con_1', set: { settings: { a: 1 }, version: 2 } },
    );
    expect(before).toEqual([agentRow(), connectionRow()]);
    expect(state.agents.get('agt_1')).toMatchObject({ status: 'suspended', version: 2 });
  });
});
