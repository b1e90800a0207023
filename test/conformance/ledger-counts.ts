/** The blast radius: `countLiveGrants` against a count that is too simple to be wrong, over histories of every shape. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { Agent, Fence, Grant, Selector } from '../../src/domain/model.ts';
import type { Changeset, GrantCount, LedgerStore } from '../../src/ports/ledger.ts';
import * as make from './ledger-rows.ts';

const { accept, changeset, insert, remove, update } = make;

const agentIds = ['agt_a', 'agt_b', 'agt_c'];
const owners = ['own_x', 'own_y'];

const grants = fc.record({
  agent_id: fc.constantFrom(...agentIds),
  connection_id: fc.constantFrom('con_a', 'con_b'),
  provider: fc.constantFrom('pro_a', 'pro_b'),
  owner: fc.constantFrom(...owners),
  subject: fc.constantFrom('sub_a', null),
  issuers: fc.constantFrom<string[]>([], ['iss_a'], ['iss_b', 'iss_a']),
  entitlement_id: fc.constantFrom('ent_a', 'ent_b'),
  // Most are alive, so that most of what is counted depends on the fences.
  status: fc.oneof(
    { weight: 8, arbitrary: fc.constant('active' as const) },
    { weight: 1, arbitrary: fc.constantFrom('intended' as const, 'revoked' as const) },
  ),
  upstream: fc.constantFrom('live' as const, 'gone' as const, null),
  expires_at: fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(make.now + 1, make.now + make.hour) },
    { weight: 1, arbitrary: fc.constantFrom(make.now - 1, make.now) },
  ),
});

/** A selector of any shape; `grant` stands for the n-th grant there is. */
type Shape = Omit<Selector, 'grant'> & { grant?: number };
const named = fc.record(
  {
    agent: fc.constantFrom(...agentIds),
    connection: fc.constantFrom('con_a', 'con_b'),
    provider: fc.constantFrom('pro_a', 'pro_b'),
    owner: fc.constantFrom(...owners),
    subject: fc.constantFrom('sub_a', 'sub_b'),
    issuer: fc.constantFrom('iss_a', 'iss_b'),
    entitlement: fc.constantFrom('ent_a', 'ent_b'),
    grant: fc.nat(10),
  },
  { requiredKeys: [] },
);
const few = named.map((all): Shape => Object.fromEntries(Object.entries(all).slice(0, 2)));
const single = fc.tuple(named, fc.nat()).map(([all, n]): Shape => {
  const entries = Object.entries(all);
  return Object.fromEntries(entries.length === 0 ? [] : [entries[n % entries.length] ?? []]);
});
const shapes: fc.Arbitrary<Shape> = fc.oneof(
  { weight: 1, arbitrary: fc.constant({ everything: true as const }) },
  { weight: 5, arbitrary: single },
  { weight: 4, arbitrary: few },
  { weight: 1, arbitrary: named },
);

const events = fc.oneof(
  { weight: 4, arbitrary: grants.map((grant) => ({ event: 'grant' as const, grant })) },
  { weight: 2, arbitrary: shapes.map((shape) => ({ event: 'fence' as const, shape })) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.constantFrom(...agentIds), fc.constantFrom(...owners))
      .map(([agent, owner]) => ({ event: 'handOver' as const, agent, owner })),
  },
);

interface History {
  grants: Grant[];
  fences: Fence[];
  ownerOf: Map<string, string>;
}

const matches = (selector: Selector, grant: Grant, owners: (string | undefined)[]): boolean =>
  selector.everything === true ||
  (Object.keys(selector).length > 0 &&
    (selector.agent === undefined || selector.agent === grant.agent_id) &&
    (selector.connection === undefined || selector.connection === grant.connection_id) &&
    (selector.provider === undefined || selector.provider === grant.provider) &&
    (selector.owner === undefined || owners.includes(selector.owner)) &&
    (selector.subject === undefined || selector.subject === grant.subject) &&
    (selector.issuer === undefined || grant.issuers.includes(selector.issuer)) &&
    (selector.entitlement === undefined || selector.entitlement === grant.entitlement_id) &&
    (selector.grant === undefined || selector.grant === grant.id));

const countSimply = (history: History, selector: Selector, at: number, before: number): GrantCount => {
  const live = history.grants.filter((grant) => {
    const owners = [grant.owner, history.ownerOf.get(grant.agent_id)];
    return (
      grant.status === 'active' &&
      grant.expires_at > at &&
      grant.seq < before &&
      matches(selector, grant, owners) &&
      !history.fences.some(
        (fence) => fence.seq < before && fence.seq > grant.seq && matches(fence.selector, grant, owners),
      )
    );
  });
  return { total: live.length, upstream: live.filter((grant) => grant.upstream === 'live').length };
};

export const countTests = (open: make.OpenLedger): void => {
  let opened: make.OpenedLedger;
  let store: LedgerStore;
  let agents: Agent[];
  beforeAll(async () => {
    opened = await open();
    store = opened.store;
    agents = agentIds.map((id) => make.agent({ id, owner: 'own_x' }));
    await accept(store.ledger, changeset(...agents.map((row) => insert('agents', row))));
  });
  afterAll(() => opened.close());

  const count = (history: History, selector: Selector, before: number | null): Promise<GrantCount> =>
    store.reader.countLiveGrants(
      selector,
      make.now,
      selector.owner === undefined ? [] : agentIds.filter((agent) => history.ownerOf.get(agent) === selector.owner),
      before,
    );

  /** Lets it all happen in order, each in a changeset of its own. */
  const happen = async (
    what: readonly (typeof events extends fc.Arbitrary<infer E> ? E : never)[],
  ): Promise<History> => {
    const history: History = { grants: [], fences: [], ownerOf: new Map(agents.map((row) => [row.id, row.owner])) };
    const changesets = what.map((one): Changeset => {
      if (one.event === 'grant') {
        const grant = make.grant({ ...one.grant, issued_at: make.now - make.hour });
        history.grants.push(grant);
        return changeset(insert('grants', grant));
      }
      if (one.event === 'fence') {
        const fence = make.fence(selectorOf(one.shape, history));
        history.fences.push(fence);
        return changeset(insert('fences', fence));
      }
      history.ownerOf.set(one.agent, one.owner);
      return changeset(update('agents', one.agent, { owner: one.owner }));
    });
    await Promise.all(changesets.map((one) => accept(store.ledger, one)));
    return history;
  };

  const undo = (history: History): Promise<number> =>
    accept(
      store.ledger,
      changeset(
        ...history.grants.map((row) => remove('grants', row.id)),
        ...history.fences.map((row) => remove('fences', row.id)),
        ...agents.map((row) => update('agents', row.id, { owner: row.owner })),
      ),
    );

  test('it counts what the selector kills now, whatever older fences had killed before', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(events, { minLength: 2, maxLength: 30 }),
        fc.array(shapes, { minLength: 2, maxLength: 8 }),
        async (what, asked) => {
          const history = await happen(what);
          try {
            for (const shape of asked) {
              const selector = selectorOf(shape, history);
              expect([selector, await count(history, selector, null)]).toEqual([
                selector,
                countSimply(history, selector, make.now, Number.POSITIVE_INFINITY),
              ]);
            }
            for (const { selector, seq } of history.fences) {
              expect([selector, await count(history, selector, seq)]).toEqual([
                selector,
                countSimply(history, selector, make.now, seq),
              ]);
            }
          } finally {
            await undo(history);
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  test('a selector that names nothing counts nothing', async () => {
    const grant = make.grant();
    await accept(store.ledger, changeset(insert('grants', grant)));
    expect(await store.reader.countLiveGrants({}, make.now, [], null)).toEqual({ total: 0, upstream: 0 });
    await accept(store.ledger, changeset(remove('grants', grant.id)));
  });

  test('an owner may own more agents than a statement takes parameters', async () => {
    const grant = make.grant({ agent_id: 'agt_70000', owner: 'somebody else' });
    await accept(store.ledger, changeset(insert('grants', grant)));
    const owned = Array.from({ length: 70_001 }, (_, i) => `agt_${i}`);
    const counted = await store.reader.countLiveGrants({ owner: 'own_z' }, make.now, owned, null);
    expect(counted).toEqual({ total: 1, upstream: 0 });
    await accept(store.ledger, changeset(remove('grants', grant.id)));
  });
};

const selectorOf = ({ grant, ...rest }: Shape, history: History): Selector => ({
  ...rest,
  ...(grant === undefined ? {} : { grant: history.grants[grant]?.id ?? 'grt_none' }),
});
