/** Atomic, ordered, durable, honest: the promises of `commit`. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { Changeset, Committed, LedgerStore } from '../../src/ports/ledger.ts';
import { LedgerUnavailable, unassigned } from '../../src/ports/ledger.ts';
import * as make from './ledger-rows.ts';

const { accept, changeset, entry, insert, remove, spend, update } = make;

export const commitTests = (open: make.OpenLedger): void => {
  let opened: make.OpenedLedger;
  let store: LedgerStore;
  beforeAll(async () => {
    opened = await open();
    store = opened.store;
  });
  afterAll(() => opened.close());

  test('an empty ledger has no entries, no rows and no trouble', async () => {
    const fresh = await open();
    const snapshot = await fresh.store.reader.snapshot();
    expect(snapshot).toMatchObject({ size: 0, newestAt: 0, agents: [], operators: [], connections: [], fences: [] });
    expect(await fresh.store.reader.auditRange({}, 0, 10, 10)).toEqual([]);
    expect(fresh.store.ledger.trouble()).toBeUndefined();
    expect(await accept(fresh.store.ledger, changeset())).toBe(0);
    await fresh.close();
  });

  test('a changeset takes as many numbers as it has entries, and answers with the first', async () => {
    const first = await accept(store.ledger, { writes: [], audit: [entry(), entry(), entry()] });
    expect(await accept(store.ledger, changeset())).toBe(first + 3);
  });

  test('all writes and entries of a changeset are there when it is acknowledged', async () => {
    const agent = make.agent();
    const connection = make.connection();
    const audit: Changeset['audit'] = [entry(), entry()];
    const seq = await accept(store.ledger, {
      writes: [insert('agents', agent), insert('connections', connection)],
      audit,
    });
    const snapshot = await store.reader.snapshot();
    expect(snapshot.agents).toContainEqual(agent);
    expect(snapshot.connections).toContainEqual(connection);
    expect(await store.reader.auditRange({}, seq, seq + 2, 2)).toEqual(
      audit.map((one, i) => ({ seq: seq + i, body: one.body })),
    );
  });

  test('a refused changeset leaves no row, no entry and no number', async () => {
    const agent = make.agent();
    const taken = make.connection();
    await accept(store.ledger, changeset(insert('agents', agent), insert('connections', taken)));
    const before = await store.reader.snapshot();
    const used = make.usedOnce();
    const use = make.budgetUse();
    const result = await store.ledger.commit({
      writes: [
        insert('operators', make.operator()),
        insert('used_once', used),
        spend(use, 1),
        insert('fences', make.fence({ everything: true })),
        update('agents', agent.id, { status: 'suspended' }),
        remove('agents', agent.id),
        insert('connections', make.connection({ name: taken.name })),
      ],
      audit: [entry(), entry()],
    });
    expect(result.ok).toBe(false);
    expect(await store.reader.snapshot()).toEqual(before);
    expect(await accept(store.ledger, changeset(insert('used_once', used), spend(use, 1)))).toBe(before.size);
  });

  test('the fence of a refused changeset refuses nobody', async () => {
    const agent = make.id('agt');
    const twice = make.usedOnce();
    await accept(store.ledger, changeset(insert('used_once', twice)));
    const [refused, after] = await make.commitTogether(store.ledger, [
      changeset(insert('fences', make.fence({ agent })), insert('used_once', twice)),
      { ...changeset(), guards: [{ guard: 'unfenced', since: 0, facts: make.facts({ agent }) }] },
    ]);
    expect(refused).toEqual({ ok: false, why: 'exists', table: 'used_once' });
    expect(after?.ok).toBe(true);
  });

  test('refused changesets do not disturb their neighbours, and numbers have no gaps', async () => {
    const taken = make.usedOnce();
    const agent = make.agent();
    const fenced = make.id('agt');
    const start = await accept(store.ledger, {
      writes: [insert('used_once', taken), insert('agents', agent), insert('fences', make.fence({ agent: fenced }))],
      audit: [entry()],
    });
    const refusals: ((used: Changeset['writes'][number]) => Changeset)[] = [
      (write) => changeset(write, insert('used_once', taken)),
      (write) => changeset(write, update('agents', agent.id, { version: 9 }, { version: 7 })),
      (write) => changeset(write, spend(make.budgetUse(), 0)),
      (write) => ({
        ...changeset(write),
        guards: [{ guard: 'unfenced', since: start - 1, facts: make.facts({ agent: fenced }) }],
      }),
      (write) => ({ ...changeset(write), guards: [{ guard: 'unchanged', table: 'agents', id: agent.id, version: 2 }] }),
    ];
    const rows = Array.from({ length: 60 }, () => make.usedOnce());
    const changesets = rows.map((row, i): Changeset => {
      const refusal = refusals[(i / 2) % refusals.length];
      if (i % 2 === 0 && refusal) return refusal(insert('used_once', row));
      return { writes: [insert('used_once', row)], audit: [entry(), entry()] };
    });
    const results = await make.commitTogether(store.ledger, changesets);

    expect(results.map((result) => result.ok)).toEqual(rows.map((_, i) => i % 2 === 1));
    const accepted = changesets.filter((_, i) => i % 2 === 1);
    const seqs = results.flatMap((result) => (result.ok ? [result.seq] : []));
    expect(seqs).toEqual(accepted.map((_, i) => start + 2 + 2 * i));
    const stored = await store.reader.auditRange({}, start + 2, start + 1000, 1000);
    expect(stored.map((one) => one.body)).toEqual(accepted.flatMap((one) => one.audit.map((record) => record.body)));
    const kept = new Set((await store.reader.expiredRows(make.now + make.hour, 10_000)).map((row) => row.id));
    expect(rows.map((row) => kept.has(row.id))).toEqual(rows.map((_, i) => i % 2 === 1));
  });

  test('a changeset sees what those before it in its batch wrote', async () => {
    const agent = make.agent();
    const guarded = (version: number): Changeset => ({
      guards: [{ guard: 'unchanged', table: 'agents', id: agent.id, version }],
      ...changeset(),
    });
    const results = await make.commitTogether(store.ledger, [
      guarded(1),
      changeset(insert('agents', agent)),
      guarded(1),
      changeset(update('agents', agent.id, { version: 2 }, { version: 1 })),
      guarded(1),
      guarded(2),
      changeset(remove('agents', agent.id)),
      guarded(2),
    ]);
    expect(results.map((result) => result.ok)).toEqual([false, true, true, true, false, true, true, false]);
  });

  test('the store numbers the rows of a changeset, in the table and in the caller’s hands', async () => {
    const grant = make.grant();
    const fence = make.fence({ grant: grant.id });
    const revocation = make.revocation();
    const token = make.agentToken({ seq: 123_456 });
    const seq = await accept(store.ledger, {
      writes: [
        insert('grants', grant),
        insert('fences', fence),
        insert('revocations', revocation),
        insert('agent_tokens', token),
      ],
      audit: [entry(), entry()],
    });
    expect([grant.seq, fence.seq, revocation.seq, token.seq]).toEqual([seq, seq, seq, seq]);
    expect(await store.reader.grant(grant.id)).toEqual(grant);
    expect(await store.reader.agentToken(token.id)).toEqual(token);
    const again = await accept(
      store.ledger,
      changeset(update('grants', grant.id, { seq: unassigned, version: 2 }, { version: 1 })),
    );
    expect(await store.reader.grant(grant.id)).toEqual({ ...grant, seq: again, version: 2 });
    await accept(store.ledger, changeset(update('grants', grant.id, { version: 3 })));
    expect(await store.reader.grant(grant.id)).toEqual({ ...grant, seq: again, version: 3 });
  });

  test('listeners hear of every changeset in the ledger’s order, and before its committer does', async () => {
    const heard: { seq: number; of: Changeset }[] = [];
    const stopListening = store.ledger.onCommitted((of, seq) => heard.push({ seq, of }));
    const changesets = Array.from({ length: 300 }, (_, i) =>
      i % 7 === 3
        ? { ...changeset(), guards: [{ guard: 'unchanged' as const, table: 'agents' as const, id: 'no', version: 1 }] }
        : changeset(insert('grants', make.grant())),
    );
    const late: Committed[] = [];
    const results = await Promise.all(
      changesets.map(async (one) => {
        const result = await store.ledger.commit(one);
        if (result.ok && !heard.some((event) => event.seq === result.seq && event.of === one)) late.push(result);
        return result;
      }),
    );
    stopListening();
    await accept(store.ledger, changeset());

    expect(late).toEqual([]);
    expect(heard.map((event) => event.seq)).toEqual(results.flatMap((result) => (result.ok ? [result.seq] : [])));
    expect(heard.map((event) => event.seq)).toEqual(heard.map((_, i) => (heard[0]?.seq ?? 0) + i));
    expect(heard.map((event) => event.of)).toEqual(changesets.filter((_, i) => results[i]?.ok));
    expect(heard.every(({ of, seq }) => of.writes.every((w) => w.table !== 'grants' || seqOf(w) === seq))).toBe(true);
  });

  test('every read that starts after an acknowledgement sees what was acknowledged', async () => {
    const stale: string[] = [];
    await Promise.all(
      Array.from({ length: 20 }, async () => {
        for (let i = 0; i < 10; i += 1) {
          const grant = make.grant({ agent_id: make.id('agt') });
          const seq = await accept(store.ledger, changeset(insert('grants', grant)));
          const [byId, listed, head] = await Promise.all([
            store.reader.grant(grant.id),
            store.reader.grants({ agent_id: grant.agent_id }, { limit: 5 }),
            store.reader.treeHead(),
          ]);
          if (!byId || listed.length !== 1 || head.size <= seq) stale.push(grant.id);
        }
      }),
    );
    expect(stale).toEqual([]);
  });

  const endless: Record<string, unknown> = {};
  endless['self'] = endless;
  const malformed: [string, () => Changeset][] = [
    ['a fraction where an integer belongs', () => changeset(insert('used_once', make.usedOnce({ expires_at: 0.5 })))],
    [
      'no number where a number belongs',
      () => changeset(insert('operators', make.operator({ expires_at: Number.NaN }))),
    ],
    ['an infinite time', () => changeset(insert('used_once', make.usedOnce({ expires_at: Number.POSITIVE_INFINITY })))],
    ['a grant that outlives its longest life', () => changeset(insert('grants', make.grant({ max_expires_at: 1 })))],
    ['a column that does not exist', () => changeset(insert('agents', { ...make.agent(), extra: 1 } as never))],
    ['a column that is missing', () => changeset(insert('agents', { id: make.id('agt'), name: 'x' } as never))],
    ['an undefined value', () => changeset(insert('agents', make.agent({ purpose: undefined as never })))],
    ['nothing to set', () => changeset(update('agents', 'agt_x', {}))],
    [
      'a version guard on a table without versions',
      () => ({
        ...changeset(),
        guards: [{ guard: 'unchanged', table: 'fences', id: 'x', version: 1 }],
      }),
    ],
    ['an entry that is not Unicode', () => ({ writes: [], audit: [{ ...entry(), body: '"\ud800"' }] })],
    ['a second entry that is not Unicode', () => ({ writes: [], audit: [entry(), { ...entry(), body: '"\ud800"' }] })],
    ['an entry at no time', () => ({ writes: [], audit: [{ ...entry(), at: Number.NaN }] })],
    ['an entry without a body', () => ({ writes: [], audit: [{ ...entry(), body: undefined as never }] })],
    ['an entry whose body is no text', () => ({ writes: [], audit: [{ ...entry(), body: (() => 1) as never }] })],
    ['no entry', () => ({ writes: [insert('used_once', make.usedOnce())], audit: [] as never })],
    ['a document without an end', () => changeset(insert('connections', make.connection({ settings: endless })))],
    [
      'a swap from nothing in particular',
      () => changeset(update('agents', 'x', { version: 2 }, { version: undefined as never })),
    ],
    [
      'a fence guard since no entry',
      () => ({ ...changeset(), guards: [{ guard: 'unfenced', since: Number.NaN, facts: make.facts() }] }),
    ],
  ];
  test.each(malformed)('a changeset with %s is rejected alone, and the ledger goes on', async (_, build) => {
    const before = await store.reader.snapshot();
    const used = make.usedOnce();
    const bad = build();
    bad.writes.unshift(insert('used_once', used));
    const first = store.ledger.commit(changeset());
    const outcomes = await Promise.allSettled([
      store.ledger.commit(changeset()),
      store.ledger.commit(bad),
      store.ledger.commit(changeset(insert('used_once', { ...used }))),
    ]);
    await first;
    expect(outcomes.map((outcome) => outcome.status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    const reason: unknown = outcomes[1]?.status === 'rejected' ? outcomes[1].reason : undefined;
    expect(reason).toBeInstanceOf(Error);
    // Trying again would not help: only trouble of the store is called that.
    expect(reason).not.toBeInstanceOf(LedgerUnavailable);
    expect(outcomes[2]).toMatchObject({ value: { ok: true, seq: before.size + 2 } });
    expect(store.ledger.trouble()).toBeUndefined();
    const { agents, operators, connections } = await store.reader.snapshot();
    expect({ agents, operators, connections }).toEqual({
      agents: before.agents,
      operators: before.operators,
      connections: before.connections,
    });
  });

  test('close waits for what was accepted, and nothing of it is lost', async () => {
    const closing = await open();
    const rows = Array.from({ length: 2000 }, () => make.usedOnce());
    const results = rows.map((row) => closing.store.ledger.commit(changeset(insert('used_once', row))));
    const reading = closing.store.reader.treeHead();
    const closed = closing.store.close();
    const late = closing.store.ledger.commit(changeset()).catch((error: unknown) => error);
    expect((await Promise.all(results)).every((result) => result.ok)).toBe(true);
    await reading;
    await closed;
    expect(await late).toBeInstanceOf(LedgerUnavailable);

    const again = await closing.reopen();
    const kept = new Set((await again.reader.expiredRows(make.now + make.hour, 5000)).map((row) => row.id));
    expect(rows.filter((row) => !kept.has(row.id))).toEqual([]);
    expect((await again.reader.treeHead()).size).toBe(2000);
    await closing.close();
  });

  test('after close every commit and every read is refused at once', async () => {
    const closing = await open();
    await closing.store.close();
    await expect(closing.store.ledger.commit(changeset())).rejects.toBeInstanceOf(LedgerUnavailable);
    await expect(closing.store.reader.treeHead()).rejects.toThrow('cannot be read');
    await expect(closing.store.reader.grant('grt_x')).rejects.toThrow('cannot be read');
    await closing.store.close();
    await closing.close();
  });
};

const seqOf = (write: Changeset['writes'][number]): number | undefined =>
  write.write === 'insert' && 'seq' in write.row ? write.row.seq : undefined;
