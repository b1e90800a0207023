/** Questions about revocations: what is left of what they reach, and what their receipts list. */
import type Database from 'better-sqlite3';
import { type CompiledQuery, sql } from 'kysely';
import { longestGrantSeconds } from '../../../../src/domain/decide.ts';
import { FenceIndex } from '../../../../src/domain/fences.ts';
import { countListed, listed, listedLine, noCounts } from '../../../../src/domain/receipt.ts';
import { endsByField } from '../../../../src/domain/stored-handle.ts';
import type { TableName, Tables } from '../../../../src/ports/ledger.ts';
import type { ListedPage, RevocationReader, StandingFence } from '../../../../src/ports/readers/revocations.ts';
import { compiler } from '../statements.ts';
import { selected } from './live-grants.ts';
import { disorderMs, firstGrantId, isLeftUpstream } from './spans.ts';

type Direct = {
  [M in Exclude<keyof RevocationReader, 'blastRadius' | 'countKilled'>]: (
    ...args: Parameters<RevocationReader[M]>
  ) => Awaited<ReturnType<RevocationReader[M]>>;
};

const endsBy = sql<number>`coalesce(handle ->> ${sql.lit(`$."${endsByField}"`)}, 0)`;

export const revocationReader = (
  db: Database.Database,
  all: <T extends TableName>(table: T, query: CompiledQuery) => Tables[T][],
): Direct => {
  const matching = ({ selector, ownedAgents, seq }: StandingFence, aside?: 'aside') =>
    compiler
      .selectFrom('grants')
      .where('seq', '<', seq)
      .where(selected(selector, ownedAgents, aside));

  /** Grants that were alive at the fence were issued within the longest life before it. */
  const windowStart = (fence: StandingFence): string =>
    firstGrantId(fence.at - longestGrantSeconds * 1000 - disorderMs);
  const windowEnd = (fence: StandingFence): string => firstGrantId(fence.at + disorderMs);

  const fencesBefore = (fence: StandingFence): FenceIndex =>
    new FenceIndex(
      all(
        'fences',
        compiler
          .selectFrom('fences')
          .selectAll()
          .where('created_at', '>', fence.at - longestGrantSeconds * 1000 - disorderMs)
          .where('seq', '<', fence.seq)
          .orderBy('seq')
          .compile(),
      ),
    );

  /** Of a receipt that is read page after page, the fences are the same for each. */
  let kept: { seq: number; older: FenceIndex } | undefined;
  const olderThan = (fence: StandingFence): FenceIndex => {
    if (kept?.seq !== fence.seq) kept = { seq: fence.seq, older: fencesBefore(fence) };
    return kept.older;
  };

  return {
    upstreamGrantsOf: (fence, now, after, limit, without) =>
      all(
        'grants',
        matching(fence, 'aside')
          .selectAll()
          .where('upstream', '=', sql.lit('live'))
          .where(isLeftUpstream)
          .where(sql<boolean>`${endsBy} <= ${now}`)
          .where('id', '>', after)
          .where(sql<boolean>`connection_id not in (select value from json_each(${JSON.stringify(without)}))`)
          .orderBy('id')
          .limit(limit)
          .compile(),
      ),

    nextEndOf: (revocationId, now) => {
      const query = compiler
        .selectFrom('grants')
        .select(sql<number | null>`min(${endsBy})`.as('next'))
        .where('revocation_id', '=', revocationId)
        .where('upstream', '=', sql.lit('live'))
        .where(sql<boolean>`${endsBy} > ${now}`)
        .compile();
      const next = db
        .prepare(query.sql)
        .pluck()
        .get(...query.parameters);
      return next === null || next === undefined ? null : Number(next);
    },

    connectionsOf: (revocationId, fence) => {
      const live = matching(fence)
        .select('connection_id')
        .distinct()
        .where('status', '=', sql.lit('active'))
        .where('expires_at', '>', fence.at);
      const drained = compiler
        .selectFrom('grants')
        .select('connection_id')
        .distinct()
        .where('revocation_id', '=', revocationId);
      const query = live.union(drained).compile();
      return db
        .prepare(query.sql)
        .pluck()
        .all(...query.parameters)
        .map(String);
    },

    listedGrants: db.transaction((fence: StandingFence, now: number, after: string, limit: number): ListedPage => {
      const start = windowStart(fence);
      const early = after < start;
      const page = matching(fence, early ? 'aside' : undefined)
        .selectAll()
        .where('id', '>', after)
        .orderBy('id')
        .limit(limit);
      // Of what is older than the window only what is not gone can matter: few, and there is an index of them.
      const query = early
        ? page.where('id', '<', start).where(isLeftUpstream)
        : page.where('id', '<', windowEnd(fence));
      const grants = all('grants', query.compile());
      const result: ListedPage = { lines: [], counts: noCounts(), named: [], after: null };
      const named = new Set<string>();
      const older = olderThan(fence);
      for (const grant of grants) {
        const one = listed(grant, fence, older);
        if (!one) continue;
        result.lines.push(listedLine(one));
        countListed(result.counts, one, now);
        named.add(one.agent).add(one.connection);
      }
      result.named = [...named];
      if (grants.length === limit) result.after = grants.at(-1)?.id ?? null;
      else if (early) result.after = start;
      return result;
    }),

    unrevocableGrants: (revocationId, limit) =>
      all(
        'grants',
        compiler
          .selectFrom('grants')
          .selectAll()
          .where('revocation_id', '=', revocationId)
          .where('upstream', '=', sql.lit('unrevocable'))
          .orderBy('id')
          .limit(limit)
          .compile(),
      ),

    revocationsToRotate: () =>
      all(
        'revocations',
        compiler
          .selectFrom('revocations')
          .selectAll()
          .where('rotate', '=', sql.lit(1))
          .where('rotations', 'is', null)
          .orderBy('id')
          .compile(),
      ),
  };
};
