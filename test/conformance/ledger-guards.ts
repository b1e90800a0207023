/** Guards, compare-and-swap, unique rows and budgets: what makes a decision still true in the commit that rests on it. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type FenceFacts, selectorFields } from '../../src/domain/fences.ts';
import type { Selector } from '../../src/domain/model.ts';
import { withBox } from '../../src/domain/stored-handle.ts';
import {
  type Changeset,
  type Committed,
  type Guard,
  type LedgerStore,
  sealedTables,
  type TableName,
  type Tables,
  type Write,
} from '../../src/ports/ledger.ts';
import * as make from './ledger-rows.ts';
import { rotation } from './rotation-rows.ts';

const { accept, changeset, insert, remove, spend, update } = make;

const inserted = <T extends TableName>(table: T, row: Tables[T]) => ({ write: insert(table, row), table, id: row.id });

const accepted = (results: Committed[]): number => results.filter((result) => result.ok).length;

/** Facts that every field of {@link selecting} matches. */
const known: FenceFacts = {
  agent: 'agt_k',
  connection: 'con_k',
  provider: 'prov_k',
  owners: ['own_then', 'own_now'],
  subject: 'sub_k',
  issuers: ['iss_other', 'iss_k'],
  entitlement: 'ent_k',
  grant: 'grt_k',
};
const selecting: { [F in Exclude<keyof Selector, 'everything'>]: string } = {
  agent: 'agt_k',
  connection: 'con_k',
  provider: 'prov_k',
  owner: 'own_now',
  subject: 'sub_k',
  issuer: 'iss_k',
  entitlement: 'ent_k',
  grant: 'grt_k',
};
const fields = Object.keys(selecting) as (keyof typeof selecting)[];

export const guardTests = (open: make.OpenLedger): void => {
  let opened: make.OpenedLedger;
  let store: LedgerStore;
  beforeAll(async () => {
    opened = await open();
    store = opened.store;
  });
  afterAll(() => opened.close());

  const guarded = (...guards: Guard[]): Promise<Committed> => store.ledger.commit({ ...changeset(), guards });
  const fenceOff = (selector: Selector): Promise<number> =>
    accept(store.ledger, changeset(insert('fences', make.fence(selector))));

  const versioned: [TableName, () => Write[]][] = [
    ['agents', () => [insert('agents', make.agent())]],
    ['operators', () => [insert('operators', make.operator())]],
    ['connections', () => [insert('connections', make.connection())]],
    [
      'secrets',
      () => {
        const connection = make.connection();
        return [insert('connections', connection), insert('secrets', make.secret(connection))];
      },
    ],
    [
      'entitlements',
      () => {
        const [agent, connection] = [make.agent(), make.connection()];
        const entitlement = make.entitlement(agent, connection);
        return [insert('agents', agent), insert('connections', connection), insert('entitlements', entitlement)];
      },
    ],
    ['grants', () => [insert('grants', make.grant())]],
    ['agent_tokens', () => [insert('agent_tokens', make.agentToken())]],
    ['revocations', () => [insert('revocations', make.revocation())]],
    ['key_encryption_keys', () => [insert('key_encryption_keys', make.keyEncryptionKey())]],
    ['signing_keys', () => [insert('signing_keys', make.signingKey())]],
  ];
  test.each(versioned)('“unchanged” holds on to the version of a row of %s', async (table, writes) => {
    const made = writes();
    await accept(store.ledger, changeset(...made));
    const last = made.at(-1);
    const id = last?.write === 'insert' ? last.row.id : '';
    const unchanged = (version: number): Guard => ({ guard: 'unchanged', table, id, version });
    expect((await guarded(unchanged(1))).ok).toBe(true);
    expect(await guarded(unchanged(2))).toEqual({ ok: false, why: 'changed', table, id });
    await accept(store.ledger, changeset({ write: 'update', table, id, set: { version: 2 } } as Write));
    expect(await guarded(unchanged(1))).toEqual({ ok: false, why: 'changed', table, id });
    expect((await guarded(unchanged(2))).ok).toBe(true);
    await accept(store.ledger, changeset({ write: 'delete', table, id } as Write));
    expect(await guarded(unchanged(2))).toEqual({ ok: false, why: 'changed', table, id });
  });

  test('every guard of a changeset must hold', async () => {
    const agent = make.agent();
    await accept(store.ledger, changeset(insert('agents', agent)));
    const holds: Guard = { guard: 'unchanged', table: 'agents', id: agent.id, version: 1 };
    const broken: Guard = { guard: 'unchanged', table: 'agents', id: 'agt_none', version: 1 };
    expect((await guarded(holds, holds)).ok).toBe(true);
    expect(await guarded(holds, broken)).toMatchObject({ ok: false, id: 'agt_none' });
    expect(await guarded(broken, holds)).toMatchObject({ ok: false, id: 'agt_none' });
  });

  test('“nothing_upstream” refuses while a grant of the connection is intended or live upstream', async () => {
    const grant = make.grant({ connection_id: make.id('con'), status: 'intended', upstream: 'live' });
    const clear: Guard = { guard: 'nothing_upstream', connection_id: grant.connection_id };
    const refused = { ok: false, why: 'changed', table: 'grants', id: grant.id };
    await accept(store.ledger, changeset(insert('grants', make.grant({ upstream: 'live' }))));
    await accept(store.ledger, changeset(insert('grants', make.grant({ connection_id: grant.connection_id }))));
    expect((await guarded(clear)).ok).toBe(true);
    await accept(store.ledger, changeset(insert('grants', grant)));
    expect(await guarded(clear)).toEqual(refused);
    await accept(store.ledger, changeset(update('grants', grant.id, { status: 'active' })));
    expect(await guarded(clear)).toEqual(refused);
    await accept(store.ledger, changeset(update('grants', grant.id, { status: 'revoked', upstream: 'gone' })));
    expect((await guarded(clear)).ok).toBe(true);
  });

  test('“nothing_upstream” refuses while an account is connected, in whatever state', async () => {
    const connection = make.connection();
    const clear: Guard = { guard: 'nothing_upstream', connection_id: connection.id };
    const account = make.authorization(connection, { status: 'disconnected' });
    await accept(store.ledger, changeset(insert('connections', connection)));
    expect((await guarded(clear)).ok).toBe(true);
    await accept(store.ledger, changeset(insert('authorizations', account)));
    expect(await guarded(clear)).toEqual({ ok: false, why: 'changed', table: 'authorizations', id: account.id });
    await accept(store.ledger, changeset(remove('authorizations', account.id)));
    expect((await guarded(clear)).ok).toBe(true);
  });

  test('“nothing_upstream” refuses while a rotation has made something, and not while one waits or is stuck', async () => {
    const connection = make.connection();
    const clear: Guard = { guard: 'nothing_upstream', connection_id: connection.id };
    const one = rotation({ policy_id: connection.id, connection_id: connection.id });
    await accept(store.ledger, changeset(insert('connections', connection), insert('rotations', one)));
    for (const [status, ok] of [
      ['asked', true],
      ['running', false],
      ['grace', false],
      ['stuck', true],
      ['done', true],
    ] as const) {
      await accept(store.ledger, changeset(update('rotations', one.id, { status })));
      expect([status, (await guarded(clear)).ok]).toEqual([status, ok]);
    }
  });

  test('two rotations of one secret are never under way at once, however many are asked for', async () => {
    const policy_id = make.id('con');
    const rows = Array.from({ length: 5 }, () => rotation({ policy_id }));
    for (const row of rows) await accept(store.ledger, changeset(insert('rotations', row)));
    const begun = await Promise.all(
      rows.map((row) => store.ledger.commit(changeset(update('rotations', row.id, { status: 'running' })))),
    );
    expect(begun.filter(({ ok }) => ok)).toHaveLength(1);
    expect(begun.find(({ ok }) => !ok)).toMatchObject({ ok: false, why: 'exists', table: 'rotations' });
  });

  test('a connection has one account of the organisation, and one of each subject', async () => {
    const [one, two] = [make.connection(), make.connection()];
    await accept(store.ledger, changeset(insert('connections', one), insert('connections', two)));
    const add = (of: { id: string }, subject: string | null) =>
      store.ledger.commit(changeset(insert('authorizations', make.authorization(of, { subject }))));
    for (const [of, subject, ok] of [
      [one, null, true],
      [one, null, false],
      [one, 'a', true],
      [one, 'b', true],
      [one, 'a', false],
      [two, null, true],
      [two, 'a', true],
    ] as const) {
      expect([subject, (await add(of, subject)).ok]).toEqual([subject, ok]);
    }
  });

  test('“unreferenced” refuses while a secret is read through the connection by another than those named', async () => {
    const [via, other] = [make.connection(), make.connection()];
    const source = { connection_id: via.id, path: 'a/data/b', fields: {}, version: null, max_age_seconds: 60 };
    const reader = make.connection({ secret_source: source });
    const clear = (...besides: string[]): Guard => ({ guard: 'unreferenced', connection_id: via.id, besides });
    await accept(store.ledger, changeset(insert('connections', via), insert('connections', other)));
    expect((await guarded(clear())).ok).toBe(true);
    await accept(store.ledger, changeset(insert('connections', reader)));
    expect(await guarded(clear())).toEqual({ ok: false, why: 'changed', table: 'connections', id: reader.id });
    expect((await guarded(clear(other.id))).ok).toBe(false);
    expect((await guarded(clear(other.id, reader.id))).ok).toBe(true);
    await accept(store.ledger, changeset(update('connections', reader.id, { secret_source: null })));
    expect((await guarded(clear())).ok).toBe(true);
  });

  test('“nothing_sealed_under” refuses while a box that may be opened is under the key', async () => {
    let kek = 100;
    const box = () => ({ ...make.secret({ id: '' }).sealed, kek });
    const clear = (): Guard => ({ guard: 'nothing_sealed_under', kek });
    const connection = make.connection();
    await accept(store.ledger, changeset(insert('connections', connection)));
    const places: (() => { write: Write; table: TableName; id: string })[] = [
      () => inserted('secrets', make.secret(connection, { sealed: box(), number: kek })),
      () => inserted('signing_keys', make.signingKey({ sealed: box() })),
      () => inserted('authorizations', make.authorization(connection, { sealed: box(), subject: String(kek) })),
      () => inserted('authorization_flows', make.authorizationFlow(connection, { sealed: box() })),
      () => inserted('grants', make.grant({ upstream: 'live', handle: withBox({ name: 'x' }, box()) })),
      () => inserted('webhooks', make.webhook({ sealed: box() })),
      () => inserted('signal_streams', make.signalStream({ sealed: box() })),
    ];
    expect(places).toHaveLength(sealedTables.length);
    for (const place of places) {
      kek += 1;
      expect((await guarded(clear())).ok).toBe(true);
      const { write, table, id } = place();
      await accept(store.ledger, changeset(write));
      expect(await guarded(clear())).toEqual({ ok: false, why: 'changed', table, id });
      await accept(store.ledger, changeset(remove(table, id)));
      expect((await guarded(clear())).ok).toBe(true);
    }
    // What is gone upstream is never opened again.
    await accept(
      store.ledger,
      changeset(insert('grants', make.grant({ upstream: 'gone', handle: withBox({}, box()) }))),
    );
    expect((await guarded(clear())).ok).toBe(true);
  });

  describe('“unfenced”', () => {
    /** The answer to facts that were decided on just before the fence. */
    const against = async (selector: Selector, facts: FenceFacts): Promise<boolean> => {
      const seq = await fenceOff(selector);
      const result = await guarded({ guard: 'unfenced', since: seq - 1, facts });
      if (!result.ok) expect(result).toEqual({ ok: false, why: 'fenced', fence: seq });
      return result.ok;
    };

    test('covers every field a selector may name', () => {
      expect(['everything', ...fields].sort()).toEqual([...selectorFields].sort());
    });

    test.each(fields)('refuses what a fence on %s matches, and nothing else', async (field) => {
      expect(await against({ [field]: selecting[field] }, known)).toBe(false);
      expect(await against({ [field]: 'another' }, known)).toBe(true);
      expect(await against({ [field]: selecting[field] }, make.facts())).toBe(true);
    });

    test('refuses everything for a fence on everything', async () => {
      expect(await against({ everything: true }, known)).toBe(false);
      expect(await against({ everything: true }, make.facts())).toBe(false);
    });

    test('counts the owner of then and the owner of now', async () => {
      expect(await against({ owner: 'own_then' }, known)).toBe(false);
      expect(await against({ owner: 'own_now' }, known)).toBe(false);
    });

    test('refuses nothing for a fence that names nothing', async () => {
      expect(await against({}, known)).toBe(true);
    });

    const pairs = fields.flatMap((one, i) => fields.slice(i + 1).map((two) => [one, two] as const));
    test.each(pairs)('takes a fence on %s and %s to match only what matches both', async (one, two) => {
      const both = { [one]: selecting[one], [two]: selecting[two] };
      expect(await against(both, known)).toBe(false);
      expect(await against({ ...both, [one]: 'another' }, known)).toBe(true);
      expect(await against({ ...both, [two]: 'another' }, known)).toBe(true);
    });

    test('takes a fence on all fields at once to match only what matches all', async () => {
      expect(await against(selecting, known)).toBe(false);
      for (const field of fields) expect(await against({ ...selecting, [field]: 'another' }, known)).toBe(true);
    });

    test('looks at fences newer than `since` only: not at that entry itself, and at all after it', async () => {
      const agent = make.id('agt');
      const facts = make.facts({ agent });
      const first = await fenceOff({ agent });
      const between = await accept(store.ledger, changeset());
      const second = await fenceOff({ agent });
      const since = async (since: number) => guarded({ guard: 'unfenced', since, facts });
      expect(await since(first - 1)).toEqual({ ok: false, why: 'fenced', fence: first });
      expect(await since(first)).toEqual({ ok: false, why: 'fenced', fence: second });
      expect(await since(between)).toEqual({ ok: false, why: 'fenced', fence: second });
      expect((await since(second)).ok).toBe(true);
      expect((await since(second + 1_000_000)).ok).toBe(true);
    });

    test('is checked against fences of the same batch that came before', async () => {
      const agent = make.id('agt');
      const since = (await store.reader.treeHead()).size;
      const fenced: Changeset = {
        ...changeset(),
        guards: [{ guard: 'unfenced', since, facts: make.facts({ agent }) }],
      };
      const results = await make.commitTogether(store.ledger, [
        { ...fenced },
        changeset(insert('fences', make.fence({ agent }))),
        { ...fenced },
      ]);
      expect(results.map((result) => result.ok)).toEqual([true, true, false]);
    });

    test('is not refused by the fence of its own changeset', async () => {
      const agent = make.id('agt');
      const { size } = await store.reader.treeHead();
      const result = await store.ledger.commit({
        guards: [{ guard: 'unfenced', since: size - 1, facts: make.facts({ agent }) }],
        ...changeset(insert('fences', make.fence({ agent }))),
      });
      expect(result.ok).toBe(true);
    });

    test('still refuses after the store was opened anew', async () => {
      const agent = make.id('agt');
      const seq = await fenceOff({ agent });
      store = await opened.reopen();
      expect(await guarded({ guard: 'unfenced', since: seq - 1, facts: make.facts({ agent }) })).toEqual({
        ok: false,
        why: 'fenced',
        fence: seq,
      });
    });
  });

  describe('“unfenced” with “unfrozen”', () => {
    const freezeAll = async (selector: Selector): Promise<() => Promise<unknown>> => {
      const row = make.freeze({ selector });
      await accept(store.ledger, changeset(insert('freezes', row)));
      return () =>
        accept(store.ledger, changeset(update('freezes', row.id, { lifted_at: make.now }, { lifted_at: null })));
    };
    const issue = (facts: FenceFacts, issuing = true): Promise<Committed> =>
      guarded({ guard: 'unfenced', since: Number.MAX_SAFE_INTEGER, facts, ...(issuing ? { unfrozen: true } : {}) });
    /** Whether it is issued under a freeze of this selector. */
    const against = async (selector: Selector, facts: FenceFacts): Promise<boolean> => {
      const lift = await freezeAll(selector);
      const { ok } = await issue(facts);
      await lift();
      return ok;
    };

    test.each(fields)('refuses what a freeze on %s matches, and nothing else, until it is lifted', async (field) => {
      expect(await against({ [field]: selecting[field] }, known)).toBe(false);
      expect(await against({ [field]: 'another' }, known)).toBe(true);
      expect(await against({ [field]: selecting[field] }, make.facts())).toBe(true);
      expect((await issue(known)).ok).toBe(true);
    });

    test('refuses everything for a freeze on everything, and only where it is asked for', async () => {
      const lift = await freezeAll({ everything: true });
      expect(await issue(make.facts())).toMatchObject({ ok: false, why: 'frozen' });
      expect((await issue(make.facts(), false)).ok).toBe(true);
      await lift();
      expect((await issue(make.facts())).ok).toBe(true);
    });

    test('one lifted of two leaves the other standing; one that is deleted stands no more', async () => {
      const agent = make.id('agt');
      const other = make.freeze({ selector: { agent } });
      const lift = await freezeAll({ agent });
      await accept(store.ledger, changeset(insert('freezes', other)));
      await lift();
      expect(await issue(make.facts({ agent }))).toEqual({ ok: false, why: 'frozen', freeze: other.id });
      await accept(store.ledger, changeset(remove('freezes', other.id)));
      expect((await issue(make.facts({ agent }))).ok).toBe(true);
    });

    test('is checked against freezes of the same batch that came before, and a refused one never stood', async () => {
      const agent = make.id('agt');
      const facts = make.facts({ agent });
      const asking: Changeset = {
        ...changeset(),
        guards: [{ guard: 'unfenced', since: Number.MAX_SAFE_INTEGER, facts, unfrozen: true }],
      };
      const row = make.freeze({ selector: { agent } });
      const never = make.freeze({ selector: { everything: true } });
      const results = await make.commitTogether(store.ledger, [
        { ...changeset(insert('freezes', never), update('freezes', 'frz_none', { version: 2 })) },
        { ...asking },
        changeset(insert('freezes', row)),
        { ...asking },
        changeset(remove('freezes', row.id)),
        { ...asking },
      ]);
      expect(results.map((result) => result.ok)).toEqual([false, true, true, false, true, true]);
    });

    test('says “fenced” where both would refuse, and still refuses after the store was opened anew', async () => {
      const agent = make.id('agt');
      const facts = make.facts({ agent });
      const lift = await freezeAll({ agent });
      const seq = await fenceOff({ agent });
      expect(await guarded({ guard: 'unfenced', since: seq - 1, facts, unfrozen: true })).toMatchObject({
        why: 'fenced',
      });
      store = await opened.reopen();
      expect(await issue(facts)).toMatchObject({ ok: false, why: 'frozen' });
      await lift();
      expect((await issue(facts)).ok).toBe(true);
    });
  });

  describe('compare-and-swap', () => {
    test('of one hundred swaps at once exactly one wins', async () => {
      const grant = make.grant({ status: 'intended' });
      await accept(store.ledger, changeset(insert('grants', grant)));
      const results = await Promise.all(
        Array.from({ length: 100 }, (_, i) =>
          store.ledger.commit(
            changeset(update('grants', grant.id, { status: 'active', reason: `${i}` }, { status: 'intended' })),
          ),
        ),
      );
      expect(accepted(results)).toBe(1);
      const winner = results.findIndex((result) => result.ok);
      expect(await store.reader.grant(grant.id)).toMatchObject({ status: 'active', reason: `${winner}` });
      const lost = results.filter((result) => !result.ok);
      expect(lost).toEqual(lost.map(() => ({ ok: false, why: 'changed', table: 'grants', id: grant.id })));
    });

    test('of one hundred deletions at once exactly one wins', async () => {
      const used = make.usedOnce();
      await accept(store.ledger, changeset(insert('used_once', used)));
      const results = await Promise.all(
        Array.from({ length: 100 }, () => store.ledger.commit(changeset(remove('used_once', used.id)))),
      );
      expect(accepted(results)).toBe(1);
    });

    test('compares null, text, numbers, booleans and documents, all of those named', async () => {
      const row = make.revocation({ selector: { agent: 'a', connection: 'c' }, suspend: true, reason: 'r' });
      await accept(store.ledger, changeset(insert('revocations', row)));
      const swap = async (from: Partial<typeof row>): Promise<boolean> =>
        (await store.ledger.commit(changeset(update('revocations', row.id, { upstream_pending: 1 }, from)))).ok;
      expect(await swap({ grants: null })).toBe(true);
      expect(await swap({ grants: 0 })).toBe(false);
      expect(await swap({ suspend: true })).toBe(true);
      expect(await swap({ suspend: false })).toBe(false);
      expect(await swap({ reason: 'r', version: 1, completed_at: null })).toBe(true);
      expect(await swap({ reason: 'r', version: 2, completed_at: null })).toBe(false);
      expect(await swap({ reason: 'R' })).toBe(false);
      expect(await swap({ selector: { agent: 'a', connection: 'c' } })).toBe(true);
      expect(await swap({ selector: { agent: 'a' } })).toBe(false);
      expect(await swap({})).toBe(true);
    });

    test('a swap may set the very field it compares', async () => {
      const row = make.revocation();
      await accept(store.ledger, changeset(insert('revocations', row)));
      const complete = (): Promise<Committed> =>
        store.ledger.commit(changeset(update('revocations', row.id, { completed_at: 5 }, { completed_at: null })));
      expect((await complete()).ok).toBe(true);
      expect(await complete()).toEqual({ ok: false, why: 'changed', table: 'revocations', id: row.id });
    });

    test('a row that is not there can be neither changed nor deleted', async () => {
      const gone = { ok: false, why: 'changed', table: 'agents', id: 'agt_none' };
      expect(await store.ledger.commit(changeset(update('agents', 'agt_none', { version: 2 })))).toEqual(gone);
      expect(await store.ledger.commit(changeset(remove('agents', 'agt_none')))).toEqual(gone);
    });

    test('a deletion compares too', async () => {
      const agent = make.agent();
      await accept(store.ledger, changeset(insert('agents', agent)));
      expect((await store.ledger.commit(changeset(remove('agents', agent.id, { version: 2 })))).ok).toBe(false);
      expect((await store.ledger.commit(changeset(remove('agents', agent.id, { version: 1 })))).ok).toBe(true);
    });
  });

  describe('rows that are unique', () => {
    test('of one hundred inserts of one id at once exactly one wins', async () => {
      const used = make.usedOnce();
      const results = await Promise.all(
        Array.from({ length: 100 }, () => store.ledger.commit(changeset(insert('used_once', { ...used })))),
      );
      expect(accepted(results)).toBe(1);
      const lost = results.filter((result) => !result.ok);
      expect(lost).toEqual(lost.map(() => ({ ok: false, why: 'exists', table: 'used_once' })));
    });

    test('of one hundred inserts of one name at once exactly one wins', async () => {
      const name = `taken-${make.unique()}`;
      const results = await Promise.all(
        Array.from({ length: 100 }, () => store.ledger.commit(changeset(insert('agents', make.agent({ name }))))),
      );
      expect(accepted(results)).toBe(1);
      const { agents } = await store.reader.snapshot();
      expect(agents.filter((agent) => agent.name === name)).toHaveLength(1);
    });

    test('a name may not be taken by renaming either, and is free again after a deletion', async () => {
      const [one, two] = [make.agent(), make.agent()];
      await accept(store.ledger, changeset(insert('agents', one), insert('agents', two)));
      const rename = changeset(update('agents', two.id, { name: one.name }));
      expect(await store.ledger.commit(rename)).toEqual({ ok: false, why: 'exists', table: 'agents' });
      await accept(store.ledger, changeset(remove('agents', one.id), update('agents', two.id, { name: one.name })));
    });

    test('a connection has one secret of a number', async () => {
      const connection = make.connection();
      await accept(
        store.ledger,
        changeset(insert('connections', connection), insert('secrets', make.secret(connection, { number: 1 }))),
      );
      expect(await store.ledger.commit(changeset(insert('secrets', make.secret(connection, { number: 1 }))))).toEqual({
        ok: false,
        why: 'exists',
        table: 'secrets',
      });
      await accept(store.ledger, changeset(insert('secrets', make.secret(connection, { number: 2 }))));
    });
  });

  describe('rows that hang on others', () => {
    test('a parent that went away refuses its child as changed', async () => {
      const [agent, connection] = [make.agent(), make.connection()];
      await accept(store.ledger, changeset(insert('agents', agent), insert('connections', connection)));
      const orphan = make.entitlement({ id: 'agt_none' }, connection);
      const result = await store.ledger.commit(changeset(insert('entitlements', orphan)));
      expect(result).toMatchObject({ ok: false, why: 'changed', table: 'entitlements' });
      const secret = make.secret({ id: 'con_none' });
      expect(await store.ledger.commit(changeset(insert('secrets', secret)))).toMatchObject({
        ok: false,
        why: 'changed',
        table: 'secrets',
      });
    });

    test('an agent or connection takes its entitlements and secrets with it, and leaves its grants', async () => {
      const agents = [make.agent(), make.agent()] as const;
      const connections = [make.connection(), make.connection()] as const;
      const [byAgent, byConnection, other] = [
        make.entitlement(agents[0], connections[1]),
        make.entitlement(agents[1], connections[0]),
        make.entitlement(agents[1], connections[1]),
      ];
      const secret = make.secret(connections[0]);
      const grant = make.grant({ agent_id: agents[0].id, connection_id: connections[0].id });
      await accept(
        store.ledger,
        changeset(
          ...agents.map((row) => insert('agents', row)),
          ...connections.map((row) => insert('connections', row)),
          ...[byAgent, byConnection, other].map((row) => insert('entitlements', row)),
          insert('secrets', secret),
          insert('grants', grant),
        ),
      );
      await accept(store.ledger, changeset(remove('agents', agents[0].id), remove('connections', connections[0].id)));
      const left = (await store.reader.snapshot()).entitlements.map((row) => row.id);
      expect([byAgent, byConnection, other].map((row) => left.includes(row.id))).toEqual([false, false, true]);
      expect(await store.reader.secret(connections[0].id, 1)).toBeUndefined();
      expect(await store.reader.grant(grant.id)).toEqual(grant);
    });
  });

  describe('budgets', () => {
    test('of two hundred that spend from a budget of ten at once exactly ten do', async () => {
      const use = make.budgetUse();
      const spendOnce = (): Promise<Committed> => store.ledger.commit(changeset(spend({ ...use }, 10)));
      const results = await Promise.all(Array.from({ length: 200 }, spendOnce));
      expect(accepted(results)).toBe(10);
      const refused = results.filter((result) => !result.ok);
      expect(refused).toEqual(refused.map(() => ({ ok: false, why: 'spent', table: 'budget_uses' })));
      store = await opened.reopen();
      expect((await spendOnce()).ok).toBe(false);
      expect(accepted([await store.ledger.commit(changeset(spend({ ...use }, 11)))])).toBe(1);
    });

    test('what a refused changeset spent is given back', async () => {
      const use = make.budgetUse();
      const refused = changeset(spend(use, 1), remove('agents', 'agt_none'));
      expect((await store.ledger.commit(refused)).ok).toBe(false);
      expect((await store.ledger.commit(changeset(spend(use, 1)))).ok).toBe(true);
      expect((await store.ledger.commit(changeset(spend(use, 1)))).ok).toBe(false);
    });

    test('a changeset may spend twice, and each counts', async () => {
      const use = make.budgetUse();
      expect((await store.ledger.commit(changeset(spend(use, 3), spend(use, 3)))).ok).toBe(true);
      expect((await store.ledger.commit(changeset(spend(use, 3), spend(use, 3)))).ok).toBe(false);
      expect((await store.ledger.commit(changeset(spend(use, 3)))).ok).toBe(true);
    });

    test('windows do not share, and a budget of nothing gives nothing', async () => {
      const [one, two] = [make.budgetUse(), make.budgetUse()];
      expect((await store.ledger.commit(changeset(spend(one, 1), spend(two, 1)))).ok).toBe(true);
      expect((await store.ledger.commit(changeset(spend(make.budgetUse(), 0)))).ok).toBe(false);
    });
  });
};
