/** Questions about what a fence reaches, against a walk over the same rows in memory. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { FenceIndex, selectorMatches } from '../../src/domain/fences.ts';
import { grantFacts } from '../../src/domain/liveness.ts';
import type { Fence, Grant, Selector } from '../../src/domain/model.ts';
import { countListed, listed, listedLine, noCounts } from '../../src/domain/receipt.ts';
import { endsByIn, whenGone, whenUnrevocable, withEnd } from '../../src/domain/stored-handle.ts';
import type { LedgerStore } from '../../src/ports/ledger.ts';
import type { StandingFence } from '../../src/ports/readers/revocations.ts';
import * as make from './ledger-rows.ts';

const { accept, changeset, insert } = make;

/** A fixed stream of numbers below `limit`, so that a failure is the same next time. */
const numbers = (seed: number): ((limit: number) => number) => {
  let state = seed;
  return (limit) => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return Math.floor((state / 2 ** 31) * limit);
  };
};

const statuses = ['intended', 'active', 'active', 'active', 'expired', 'revoked', 'returned', 'aborted'] as const;
const at = make.now;

const makeGrants = (): Grant[] => {
  const pick = numbers(7);
  return Array.from({ length: 240 }, () => {
    const issued = at - pick(30) * make.hour - pick(1_000);
    const failed = pick(8) === 0;
    const status = statuses[pick(statuses.length)] ?? 'active';
    const upstream = failed ? 'unrevocable' : (([null, 'live', 'live', 'gone'] as const)[pick(4)] ?? null);
    const end = at + (pick(5) - 2) * make.hour;
    const plain = upstream === null ? null : { a: 1 };
    const ending = pick(3) === 0 ? withEnd(plain, end) : plain;
    const before = status === 'intended' ? 'aborted' : status;
    const given = { at: end, failure: 'no', byHand: 'drop it', before };
    return make.grant({
      issued_at: issued,
      expires_at: issued + (1 + pick(24)) * make.hour,
      max_expires_at: issued + 24 * make.hour,
      agent_id: `agt_${pick(3)}`,
      connection_id: `con_${pick(3)}`,
      provider: `p${pick(2)}`,
      owner: `o${pick(2)}`,
      subject: [null, 's1', 's2'][pick(3)] ?? null,
      issuers: pick(2) ? ['iss_1'] : [],
      credential_type: pick(3) ? 'bearer' : 'jwt',
      status: failed ? 'unrevocable' : status,
      upstream,
      handle:
        upstream === 'gone'
          ? whenGone(ending, end)
          : upstream === 'unrevocable'
            ? whenUnrevocable(plain, given)
            : ending,
      revocation_id: pick(4) ? null : 'rev_1',
    });
  });
};

export const revocationTests = (open: make.OpenLedger): void => {
  let opened: make.OpenedLedger;
  let store: LedgerStore;
  let grants: Grant[];
  let older: Fence[];
  let seq: number;
  beforeAll(async () => {
    opened = await open();
    store = opened.store;
    const made = makeGrants();
    const issued = async (rows: Grant[]): Promise<Grant[]> => {
      const from = await Promise.all(rows.map((row) => accept(store.ledger, changeset(insert('grants', row)))));
      return rows.map((row, i) => ({ ...row, seq: from[i] ?? 0 }));
    };
    const first = await issued(made.slice(0, 120));
    const fence = make.fence({ agent: 'agt_1' }, { created_at: at - 1 });
    older = [{ ...fence, seq: await accept(store.ledger, changeset(insert('fences', fence))) }];
    const second = await issued(made.slice(120, 200));
    seq = await accept(store.ledger, changeset(insert('fences', make.fence({ everything: true }, { created_at: at }))));
    grants = [...first, ...second, ...(await issued(made.slice(200)))].sort((a, b) => (a.id < b.id ? -1 : 1));
  });
  afterAll(() => opened.close());

  const selectors: Selector[] = [
    { everything: true },
    { agent: 'agt_1' },
    { connection: 'con_2' },
    { provider: 'p1', subject: 's1' },
    { owner: 'o1' },
    { issuer: 'iss_1', agent: 'agt_0' },
    { grant: 'grt_none' },
    {},
  ];
  const fenceOf = (selector: Selector): StandingFence => ({ selector, ownedAgents: ['agt_2'], seq, at });
  /** Whoever owned them when they were issued, the agents that the owner owned at the fence match. */
  const matches = (grant: Grant, selector: Selector): boolean => {
    const facts = grantFacts(grant, undefined);
    const owners = grant.agent_id === 'agt_2' && selector.owner ? [...facts.owners, selector.owner] : facts.owners;
    return grant.seq < seq && selectorMatches(selector, { ...facts, owners });
  };

  test('what a fence matches and is live upstream comes by id, without what ends later and without some connections', async () => {
    for (const selector of selectors) {
      for (const without of [[], ['con_1'], ['con_0', 'con_1', 'con_2']]) {
        const found: Grant[] = [];
        for (;;) {
          const after = found.at(-1)?.id ?? '';
          const page = await store.reader.upstreamGrantsOf(fenceOf(selector), at, after, 7, without);
          found.push(...page);
          if (page.length < 7) break;
        }
        const expected = grants.filter(
          (row) =>
            row.upstream === 'live' &&
            matches(row, selector) &&
            (endsByIn(row.handle) ?? 0) <= at &&
            !without.includes(row.connection_id),
        );
        expect(found.map(({ id }) => id)).toEqual(expected.map(({ id }) => id));
      }
    }
  });

  test('a receipt lists what was killed and what was left, the same in pages of any length', async () => {
    const index = new FenceIndex(older);
    const windowStart = at - 24 * make.hour - make.minute;
    for (const selector of selectors) {
      const expected = grants.flatMap((row) => {
        if (!matches(row, selector) || (row.issued_at < windowStart && (row.upstream ?? 'gone') === 'gone')) return [];
        return listed(row, { at }, index) ?? [];
      });
      const counts = noCounts();
      for (const one of expected) countListed(counts, one, at);
      for (const limit of [1_000, 13]) {
        const lines: string[] = [];
        const summed = noCounts();
        const named = new Set<string>();
        for (let after: string | null = ''; after !== null; ) {
          const page = await store.reader.listedGrants(fenceOf(selector), at, after, limit);
          lines.push(...page.lines);
          for (const part of ['killed', 'left_over'] as const) {
            for (const [state, count] of Object.entries(page.counts[part])) {
              summed[part][state as keyof typeof summed.killed] += count;
            }
          }
          for (const id of page.named) named.add(id);
          after = page.after;
        }
        expect(lines).toEqual(expected.map(listedLine));
        expect(summed).toEqual(counts);
        expect(named).toEqual(new Set(expected.flatMap((one) => [one.agent, one.connection])));
      }
    }
  });

  test('what a fence killed is counted in one look, as counting what lives and what ended is', async () => {
    const { reader } = store;
    const { revoked, unrevocable } = await reader.upstreamProgress('rev_1');
    for (const selector of selectors) {
      const fence = fenceOf(selector);
      const live = await reader.countLiveGrants(selector, fence.at, [...fence.ownedAgents], fence.seq);
      expect(await reader.countKilled('rev_1', fence)).toEqual({ live, revoked, unrevocable });
    }
  });

  test('the blast radius counts what counting live grants counts, by what it touches', async () => {
    for (const selector of selectors) {
      const radius = await store.reader.blastRadius(selector, at, ['agt_2']);
      const counted = await store.reader.countLiveGrants(selector, at, ['agt_2'], null);
      expect([radius.total, radius.upstream]).toEqual([counted.total, counted.upstream]);
      for (const touched of [radius.connections, radius.agents]) {
        expect(touched.reduce((sum, one) => sum + one.grants, 0)).toBe(counted.total);
        expect(touched.reduce((sum, one) => sum + one.upstream, 0)).toBe(counted.upstream);
      }
      expect(radius.subjects.more).toBe(false);
    }
  });

  test('of one revocation are found: its connections, what is unrevocable, the next end, and that it is to rotate', async () => {
    const { reader, ledger } = store;
    const own = grants.filter((row) => row.revocation_id === 'rev_1');
    expect((await reader.connectionsOf('rev_1', fenceOf({ grant: 'grt_none' }))).sort()).toEqual(
      [...new Set(own.map((row) => row.connection_id))].sort(),
    );
    const failed = own.filter((row) => row.upstream === 'unrevocable').map(({ id }) => id);
    expect((await reader.unrevocableGrants('rev_1', 100)).map(({ id }) => id)).toEqual(failed);
    expect((await reader.unrevocableGrants('rev_1', 2)).map(({ id }) => id)).toEqual(failed.slice(0, 2));
    const ends = own.filter((row) => row.upstream === 'live').flatMap((row) => endsByIn(row.handle) ?? []);
    const next = Math.min(...ends.filter((end) => end > at));
    expect(await reader.nextEndOf('rev_1', at)).toBe(next);
    expect(await reader.nextEndOf('rev_1', Math.max(...ends))).toBeNull();
    const rows = [
      make.revocation({ rotate: true }),
      make.revocation({ rotate: true, rotations: [] }),
      make.revocation(),
    ];
    await accept(ledger, changeset(...rows.map((row) => insert('revocations', row))));
    expect((await reader.revocationsToRotate()).map(({ id }) => id)).toEqual([rows[0]?.id]);
  });
};
