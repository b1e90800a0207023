/** Every question of the reader: pages, filters and cursors against a walk over the same rows in memory. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { AuditRecord } from '../../src/domain/audit-entry.ts';
import type { Grant } from '../../src/domain/model.ts';
import { withBox, withEnd } from '../../src/domain/stored-handle.ts';
import type { AuditFilter, GrantFilter, LedgerStore } from '../../src/ports/ledger.ts';
import * as make from './ledger-rows.ts';

const { accept, changeset, entry, insert, update } = make;

/** A fixed stream of numbers below `limit`, so that a failure is the same next time. */
const numbers = (seed: number): ((limit: number) => number) => {
  let state = seed;
  return (limit) => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return Math.floor((state / 2 ** 31) * limit);
  };
};

const newestFirst = <T extends { id: string }>(rows: readonly T[]): T[] =>
  [...rows].sort((a, b) => (a.id < b.id ? 1 : -1));

/** Walks all pages; each page but the last is full. */
const walk = async <T, C>(
  page: (before: C | undefined) => Promise<T[]>,
  limit: number,
  cursor: (row: T) => C,
): Promise<T[]> => {
  const rows: T[] = [];
  for (;;) {
    const last = rows.at(-1);
    const found = await page(last === undefined ? undefined : cursor(last));
    expect(found.length).toBeLessThanOrEqual(limit);
    rows.push(...found);
    if (found.length < limit) return rows;
  }
};

const statuses = ['intended', 'active', 'expired', 'revoked', 'returned', 'aborted', 'unrevocable'] as const;

const makeGrants = (): Grant[] => {
  const pick = numbers(1);
  return Array.from({ length: 200 }, () => {
    const issued = make.now - pick(40) * make.hour - pick(3);
    return make.grant({
      issued_at: issued,
      expires_at: issued + (1 + pick(24)) * make.hour,
      max_expires_at: issued + 24 * make.hour,
      agent_id: `agt_${pick(4)}`,
      connection_id: `con_${pick(3)}`,
      status: statuses[pick(statuses.length)] ?? 'active',
      upstream: ([null, 'live', 'gone', 'unrevocable'] as const)[pick(4)] ?? null,
      revocation_id: [null, 'rev_1', 'rev_2'][pick(3)] ?? null,
    });
  });
};

/** Clusters of neighbours whose times are swapped by up to a minute, with gaps of any length between the clusters. */
const makeEntries = (): AuditRecord[] => {
  const pick = numbers(2);
  const entries: AuditRecord[] = [];
  let time = make.now;
  for (let cluster = 0; cluster < 80; cluster += 1) {
    time += pick(3) === 0 ? pick(1000) : pick(5 * make.minute);
    for (let i = pick(6); i >= 0; i -= 1) {
      const agent = pick(4);
      const connection = pick(3);
      const grant = pick(20);
      entries.push(
        entry({
          type: ['grant.issued', 'gateway.call', 'agent.created', 'revocation.created'][pick(4)] ?? '',
          at: time - pick(make.minute),
          agent: agent === 0 ? undefined : { id: `agt_${agent}`, name: 'a' },
          connection: connection === 0 ? undefined : { id: `con_${connection}`, name: 'c' },
          grant: grant > 8 ? undefined : `grt_${grant}`,
        }),
      );
    }
  }
  return entries;
};

export const readTests = (open: make.OpenLedger): void => {
  let opened: make.OpenedLedger;
  let store: LedgerStore;
  const grants = makeGrants();
  const entries = makeEntries();
  /** Where `entries` begin. */
  let first: number;
  beforeAll(async () => {
    opened = await open();
    store = opened.store;
    await accept(store.ledger, changeset(...grants.map((row) => insert('grants', row))));
    const seqs = await Promise.all(entries.map((one) => accept(store.ledger, { writes: [], audit: [one] })));
    first = seqs[0] ?? 0;
  });
  afterAll(() => opened.close());

  describe('pages of grants', () => {
    const times = fc.constantFrom(
      ...[0, 1, 2, 12, 24, 39, 40, 41, 64].flatMap((hours) => [
        make.now - hours * make.hour,
        make.now - hours * make.hour + 1,
      ]),
      0,
      Number.MAX_SAFE_INTEGER,
    );
    const filters: fc.Arbitrary<GrantFilter> = fc.record(
      {
        agent_id: fc.constantFrom('agt_0', 'agt_1', 'agt_none'),
        connection_id: fc.constantFrom('con_0', 'con_1'),
        statuses: fc.subarray([...statuses]),
        alive_at: times,
        from: times,
        to: times,
      },
      { requiredKeys: [] },
    );
    const pass = (filter: GrantFilter, row: Grant): boolean =>
      (filter.agent_id === undefined || row.agent_id === filter.agent_id) &&
      (filter.connection_id === undefined || row.connection_id === filter.connection_id) &&
      (filter.statuses === undefined || filter.statuses.includes(row.status)) &&
      (filter.alive_at === undefined || row.expires_at > filter.alive_at) &&
      (filter.from === undefined || row.issued_at >= filter.from) &&
      (filter.to === undefined || row.issued_at < filter.to);

    test('put together they are all that pass the filter, newest first, each once', async () => {
      await fc.assert(
        fc.asyncProperty(filters, fc.integer({ min: 1, max: 90 }), async (filter, limit) => {
          const found = await walk(
            (before) => store.reader.grants(filter, { before, limit }),
            limit,
            (row: Grant) => row.id,
          );
          expect(found).toEqual(newestFirst(grants.filter((row) => pass(filter, row))));
        }),
        { numRuns: 150 },
      );
    });
  });

  describe('pages of the audit log', () => {
    const times = fc.oneof(
      fc.nat(entries.length - 1).map((n) => entries[n]?.at ?? 0),
      fc.nat(entries.length - 1).map((n) => (entries[n]?.at ?? 0) + 1),
      fc.integer({ min: make.now - make.hour, max: make.now + 6 * make.hour }),
      fc.constantFrom(0, Number.MAX_SAFE_INTEGER),
    );
    const filters: fc.Arbitrary<AuditFilter> = fc.record(
      {
        agent_id: fc.constantFrom('agt_1', 'agt_2', 'agt_none'),
        connection_id: fc.constantFrom('con_1', 'con_2'),
        grant_id: fc.constantFrom('grt_1', 'grt_2', 'grt_none'),
        type: fc.constantFrom('grant.issued', 'gateway.call', 'agent.created', 'no.such'),
        from: times,
        to: times,
      },
      { requiredKeys: [] },
    );
    const pass = (filter: AuditFilter, one: AuditRecord): boolean =>
      (filter.agent_id === undefined || one.agent_id === filter.agent_id) &&
      (filter.connection_id === undefined || one.connection_id === filter.connection_id) &&
      (filter.grant_id === undefined || one.grant_id === filter.grant_id) &&
      (filter.type === undefined || one.type === filter.type) &&
      (filter.from === undefined || one.at >= filter.from) &&
      (filter.to === undefined || one.at < filter.to);

    test('put together they are all that pass the filter, newest first, though times are out of order', async () => {
      await fc.assert(
        fc.asyncProperty(filters, fc.integer({ min: 1, max: 90 }), async (asked, limit) => {
          // What the tests before wrote has other types and a time before these.
          const filter: AuditFilter = { ...asked, from: Math.max(asked.from ?? 0, make.now - make.minute) };
          const found = await walk(
            (before: number | undefined) => store.reader.audit(filter, { before, limit }),
            limit,
            (row) => row.seq,
          );
          const expected = entries
            .map((one, i) => ({ seq: first + i, body: one.body, one }))
            .filter(({ one, seq }) => seq >= first && pass(filter, one))
            .reverse();
          const stored = expected.map(({ seq, body }) => ({ seq, body }));
          expect(found.filter((row) => row.seq >= first)).toEqual(stored);
          const part = stored.filter((row) => row.seq >= first + limit && row.seq < first + 3 * limit).reverse();
          expect(await store.reader.auditRange(filter, first + limit, first + 3 * limit, limit)).toEqual(
            part.slice(0, limit),
          );
        }),
        { numRuns: 250 },
      );
    });

    test('a range is in order, at most as long as asked, and empty past the end', async () => {
      const { size } = await store.reader.treeHead();
      const bodies = entries.map((one, i) => ({ seq: first + i, body: one.body }));
      const { reader } = store;
      expect(await reader.auditRange({}, first, first + entries.length, 10_000)).toEqual(bodies);
      expect(await reader.auditRange({}, first + 3, first + 8, 100)).toEqual(bodies.slice(3, 8));
      expect(await reader.auditRange({}, first + 3, size, 5)).toEqual(bodies.slice(3, 8));
      expect(await reader.auditRange({}, size - 1, size + 100, 100)).toHaveLength(1);
      expect(await reader.auditRange({}, size, size + 100, 100)).toEqual([]);
    });

    test('the snapshot knows the newest time there is, wherever it stands', async () => {
      const { newestAt, size } = await store.reader.snapshot();
      expect(newestAt).toBe(Math.max(...entries.map((one) => one.at)));
      expect(size).toBe(first + entries.length);
    });
  });

  test('a snapshot taken under load is of one moment', async () => {
    const before = await store.reader.snapshot();
    const commits = Array.from({ length: 400 }, () => accept(store.ledger, changeset(insert('agents', make.agent()))));
    const snapshots = await Promise.all(
      Array.from({ length: 40 }, async (_, i) => {
        await commits[i * 10];
        return store.reader.snapshot();
      }),
    );
    await Promise.all(commits);
    for (const one of snapshots) expect(one.agents.length - before.agents.length).toBe(one.size - before.size);
  });

  test('intents are listed oldest first, up to the entry asked for and no more than asked for', async () => {
    const fresh = await open();
    const { ledger, reader } = fresh.store;
    const intents = Array.from({ length: 6 }, (_, i) =>
      make.grant({ status: 'intended', issued_at: make.now + i, upstream: 'live' }),
    );
    for (const row of intents) await accept(ledger, changeset(insert('grants', row), insert('grants', make.grant())));
    const ids = intents.map((row) => row.id);
    const found = async (upTo: number, limit: number) =>
      (await reader.intendedGrants(upTo, limit)).map((row) => row.id);
    expect(await found(intents[5]?.seq ?? 0, 100)).toEqual(ids);
    expect(await found(intents[3]?.seq ?? 0, 100)).toEqual(ids.slice(0, 4));
    expect(await found((intents[3]?.seq ?? 0) - 1, 100)).toEqual(ids.slice(0, 3));
    expect(await found(1000, 2)).toEqual(ids.slice(0, 2));
    expect((await reader.intendedGrants(1000, 2, ids[2])).map((row) => row.id)).toEqual(ids.slice(3, 5));
    await accept(ledger, changeset(update('grants', ids[0] ?? '', { status: 'aborted' })));
    expect(await found(1000, 2)).toEqual(ids.slice(1, 3));
    await fresh.close();
  });

  test('a drain walks what was issued and is live upstream, by id, or only what has ended by a moment', async () => {
    const live = newestFirst(grants.filter((row) => row.upstream === 'live' && row.status !== 'intended')).reverse();
    const drained = async (endedBy?: number): Promise<Grant[]> => {
      const found: Grant[] = [];
      for (;;) {
        const page = await store.reader.upstreamGrants(found.at(-1)?.id ?? '', 7, endedBy);
        found.push(...page);
        if (page.length < 7) return found;
      }
    };
    expect(await drained()).toEqual(live);
    for (const moment of [0, ...live.map((row) => row.expires_at)]) {
      const ended = live.filter((row) => row.status !== 'active' || row.expires_at <= moment);
      expect(await drained(moment)).toEqual(ended);
    }
  });

  test('progress counts what a revocation’s clean-up has ended, and how', async () => {
    for (const revocation of ['rev_1', 'rev_2', 'rev_none']) {
      const ended = grants.filter((row) => row.revocation_id === revocation);
      expect(await store.reader.upstreamProgress(revocation)).toEqual({
        revoked: ended.filter((row) => row.upstream === 'gone').length,
        unrevocable: ended.filter((row) => row.upstream === 'unrevocable').length,
        livesOn: 0,
        endsBy: null,
      });
    }
  });

  test('what cannot be taken back is counted with its end, and spares the drain its walk until then', async () => {
    const fresh = await open();
    const { ledger, reader } = fresh.store;
    const ended = (endsBy: number | undefined, more: Partial<Grant> = {}): Grant =>
      make.grant({
        status: 'aborted',
        upstream: 'live',
        revocation_id: 'rev_1',
        handle: endsBy === undefined ? { a: 1 } : withEnd({ a: 1 }, endsBy),
        ...more,
      });
    const rows = [ended(undefined), ended(make.now), ended(make.now + 2_000), ended(make.now + 900)];
    await accept(ledger, changeset(...rows.map((row) => insert('grants', row))));
    expect(await reader.upstreamProgress('rev_1')).toEqual({
      revoked: 0,
      unrevocable: 0,
      livesOn: 3,
      endsBy: make.now + 2_000,
    });
    const ids = async (endedBy?: number) => (await reader.upstreamGrants('', 100, endedBy)).map(({ id }) => id);
    expect(await ids()).toHaveLength(4);
    expect(await ids(make.now - 1)).toEqual([rows[0]?.id]);
    expect(await ids(make.now)).toEqual([rows[0], rows[1]].map((row) => row?.id).sort());
    expect(await ids(make.now + 2_000)).toHaveLength(4);
    await fresh.close();
  });

  test('rows whose time is over are listed from that very millisecond on, at most so many a table', async () => {
    const fresh = await open();
    const { ledger, reader } = fresh.store;
    const at = (offset: number) => ({ expires_at: make.now + offset });
    const tokens = [-2, -1, 0, 1].map((offset) => make.agentToken(at(offset)));
    const used = [-1, 0, 1].map((offset) => make.usedOnce(at(offset)));
    const uses = [0, 1].map((offset) => make.budgetUse(at(offset)));
    await accept(
      ledger,
      changeset(
        ...tokens.map((row) => insert('agent_tokens', row)),
        ...used.map((row) => insert('used_once', row)),
        ...uses.map((row) => insert('budget_uses', row)),
      ),
    );
    const expired = async (limit: number) =>
      (await reader.expiredRows(make.now, limit)).map((row) => `${row.table} ${row.id}`).sort();
    expect(await expired(100)).toEqual(
      [
        ...tokens.slice(0, 3).map((row) => `agent_tokens ${row.id}`),
        ...used.slice(0, 2).map((row) => `used_once ${row.id}`),
        ...uses.slice(0, 1).map((row) => `budget_uses ${row.id}`),
      ].sort(),
    );
    expect((await expired(1)).map((line) => line.split(' ')[0])).toEqual(['agent_tokens', 'budget_uses', 'used_once']);
    await fresh.close();
  });

  test('boxes are counted by the key they are under, and those under others are walked by id', async () => {
    const fresh = await open();
    const { ledger, reader } = fresh.store;
    const box = (kek: number) => ({ ...make.secret({ id: '' }).sealed, kek });
    const connection = make.connection();
    const secrets = [1, 2, 1, 3, 1].map((kek, i) => make.secret(connection, { number: i + 1, sealed: box(kek) }));
    const kept = make.grant({ upstream: 'live', handle: withBox({ name: 'x' }, box(1)) });
    const gone = make.grant({ upstream: 'gone', handle: withBox({ name: 'x' }, box(1)) });
    const plain = make.grant({ upstream: 'live', handle: { name: 'x' } });
    await accept(
      ledger,
      changeset(
        insert('connections', connection),
        ...secrets.map((row) => insert('secrets', row)),
        ...[kept, gone, plain].map((row) => insert('grants', row)),
      ),
    );
    const counted = (await reader.sealedBoxes()).sort((a, b) => a.kek - b.kek);
    expect(counted).toEqual([
      { kek: 1, boxes: 4 },
      { kek: 2, boxes: 1 },
      { kek: 3, boxes: 1 },
    ]);
    const others = newestFirst(secrets.filter((row) => row.sealed.kek !== 3)).reverse();
    const first = await reader.rowsSealedUnderOthers('secrets', 3, '', 3);
    const rest = await reader.rowsSealedUnderOthers('secrets', 3, first.at(-1)?.row.id ?? '', 3);
    expect([...first, ...rest]).toEqual(others.map((row) => ({ table: 'secrets', row })));
    expect(await reader.rowsSealedUnderOthers('grants', 3, '', 9)).toEqual([
      { table: 'grants', row: expect.objectContaining({ id: kept.id, handle: kept.handle }) },
    ]);
    expect(await reader.rowsSealedUnderOthers('authorization_flows', 3, '', 9)).toEqual([]);
    await fresh.close();
  });

  test('entries that have to be told come in order, of several types, with and without their bodies', async () => {
    const from = (await store.reader.treeHead()).size;
    const types = ['told.one', 'told.other', 'untold.one', 'told.one', 'told.one', 'told.other'];
    const records = types.map((type, i) => make.entry({ type, at: make.now + i }));
    for (const entry of records) await accept(store.ledger, { writes: [], audit: [entry] });
    const told = (limit: number, since = from) => store.reader.entriesToTell(['told.one', 'told.other'], since, limit);
    expect(await told(10)).toEqual(
      [0, 1, 3, 4, 5].map((i) => ({ seq: from + i, type: types[i], at: make.now + i, body: records[i]?.body })),
    );
    expect((await told(2, from + 1)).map(({ seq }) => seq)).toEqual([from + 1, from + 3]);
    expect(await told(10, from + 6)).toEqual([]);
    expect(await store.reader.entriesToTell([], from, 10)).toEqual([]);
  });

  test('agents that hold something of a connection are each named once, in order', async () => {
    const [connection, other] = ['con_held', 'con_other'];
    const grants = ['agt_b', 'agt_a', 'agt_b', 'agt_c', 'agt_d'].map((agent_id, i) =>
      make.grant({ agent_id, connection_id: i === 4 ? other : connection, expires_at: make.now + (i === 3 ? -1 : 1) }),
    );
    await accept(store.ledger, changeset(...grants.map((row) => insert('grants', row))));
    const held = (after: string, limit: number) => store.reader.agentsWithGrants(connection, make.now, after, limit);
    expect(await held('', 10)).toEqual(['agt_a', 'agt_b']);
    expect(await held('', 1)).toEqual(['agt_a']);
    expect(await held('agt_a', 10)).toEqual(['agt_b']);
  });

  test('revocations are paged newest first, and those still open are known', async () => {
    const rows = Array.from({ length: 9 }, (_, i) =>
      make.revocation({ id: make.id('rev', make.now + i), completed_at: i % 3 === 0 ? make.now : null }),
    );
    await accept(store.ledger, changeset(...rows.map((row) => insert('revocations', row))));
    const found = await walk(
      (before: string | undefined) => store.reader.revocations({ before, limit: 4 }),
      4,
      (row) => row.id,
    );
    expect(found).toEqual(newestFirst(rows));
    expect(newestFirst(await store.reader.openRevocations())).toEqual(
      newestFirst(rows.filter((row) => row.completed_at === null)),
    );
  });
};
