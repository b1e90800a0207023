/** What a fence kills or would kill, counted: over one read-only connection. */
import type Database from 'better-sqlite3';
import { type CompiledQuery, type RawBuilder, sql } from 'kysely';
import { longestGrantSeconds } from '../../../../src/domain/decide.ts';
import { FenceIndex } from '../../../../src/domain/fences.ts';
import { grantFacts } from '../../../../src/domain/liveness.ts';
import type { Agent, Fence, Grant, Selector } from '../../../../src/domain/model.ts';
import type { GrantCount, LedgerReader, TableName, Tables } from '../../../../src/ports/ledger.ts';
import type { BlastCount, Touched } from '../../../../src/ports/readers/revocations.ts';
import { fromSql, type SqlValue } from '../rows.ts';
import { compiler } from '../statements.ts';
import { disorderMs } from './spans.ts';

type Direct = {
  [M in 'countLiveGrants' | 'countKilled' | 'blastRadius']: (
    ...args: Parameters<LedgerReader[M]>
  ) => Awaited<ReturnType<LedgerReader[M]>>;
};

/** @returns whether all that `narrow` matches is matched by `wide` too, as far as their fields tell */
const covers = (wide: Selector, narrow: Selector): boolean => {
  const named = Object.entries(wide);
  return (
    wide.everything === true ||
    (named.length > 0 && named.every(([field, value]) => narrow[field as keyof Selector] === value))
  );
};

/**
 * The grants a selector matches, as a condition; none for an empty one.
 * @param ownedAgents agents the selector's owner owns, whose grants match whoever owned them when they were issued
 * @param aside whether another condition names few: then nothing here is to lead to an index of everything an agent ever had
 */
export const selected = (
  selector: Selector,
  ownedAgents: readonly string[],
  aside: 'aside' | undefined = undefined,
): RawBuilder<boolean> => {
  const fields: RawBuilder<boolean>[] = [];
  const equals = (column: string, value: string | undefined): void => {
    // A unary plus keeps SQLite from using an index of the column.
    const name = aside && column !== 'id' ? sql`+${sql.ref(column)}` : sql.ref(column);
    if (value !== undefined) fields.push(sql<boolean>`${name} = ${value}`);
  };
  equals('agent_id', selector.agent);
  equals('connection_id', selector.connection);
  equals('provider', selector.provider);
  equals('subject', selector.subject);
  equals('entitlement_id', selector.entitlement);
  equals('id', selector.grant);
  if (selector.issuer !== undefined) {
    fields.push(sql<boolean>`${selector.issuer} in (select value from json_each(grants.issuers))`);
  }
  const { owner } = selector;
  if (owner !== undefined) {
    // One parameter however many agents: SQLite takes 32 766 and an owner may have more.
    const owned = sql<string>`(select value from json_each(${JSON.stringify(ownedAgents)}))`;
    fields.push(sql<boolean>`(owner = ${owner} or agent_id in ${owned})`);
  }
  if (fields.length > 0) return sql<boolean>`${sql.join(fields, sql` and `)}`;
  return selector.everything === true ? sql<boolean>`1` : sql<boolean>`0`;
};

/** A person, an agent, a connection is named; how many more there are is only counted from here on. */
const namedAtMost = 10_000;

class Tally {
  readonly #touched = new Map<string, Touched>();
  #more = false;

  add(id: string, upstream: boolean): void {
    let one = this.#touched.get(id);
    if (!one) {
      if (this.#touched.size >= namedAtMost) {
        this.#more = true;
        return;
      }
      one = { id, grants: 0, upstream: 0 };
      this.#touched.set(id, one);
    }
    one.grants += 1;
    if (upstream) one.upstream += 1;
  }

  result(): { items: Touched[]; more: boolean } {
    return { items: [...this.#touched.values()].sort((a, b) => b.grants - a.grants), more: this.#more };
  }
}

export const liveGrantReader = (
  db: Database.Database,
  all: <T extends TableName>(table: T, query: CompiledQuery) => Tables[T][],
  rows: (query: CompiledQuery) => Record<string, unknown>[],
): Direct => {
  /** Fences that may have killed something still unexpired: older ones outlived everything they met. */
  const olderFences = (now: number, beforeFence: number | null): Fence[] =>
    all(
      'fences',
      compiler
        .selectFrom('fences')
        .selectAll()
        .where('created_at', '>', now - longestGrantSeconds * 1000 - disorderMs)
        .where('seq', '<', beforeFence ?? Number.MAX_SAFE_INTEGER)
        .orderBy('seq')
        .compile(),
    );
  /** For fences on an owner: they reach the agents that owner has now, as every check point says (liveness.ts). */
  const agentsById = (): Map<string, Agent> =>
    new Map(all('agents', compiler.selectFrom('agents').selectAll().compile()).map((agent) => [agent.id, agent]));

  /** The query for what matches and is alive, and the fences that have killed part of it already. */
  const alive = (selector: Selector, now: number, ownedAgents: readonly string[], beforeFence: number | null) => {
    let query = compiler
      .selectFrom('grants')
      .where('status', '=', sql.lit('active'))
      .where('expires_at', '>', now)
      .where(selected(selector, ownedAgents));
    if (beforeFence !== null) query = query.where('seq', '<', beforeFence);
    const older = olderFences(now, beforeFence);
    // A fence that kills at least what this selector kills leaves only what came after it.
    const covering = older.filter((fence) => covers(fence.selector, selector)).at(-1);
    if (covering) query = query.where('seq', '>=', covering.seq);
    return { query, partial: older.filter((fence) => fence.seq > (covering?.seq ?? -1)) };
  };

  const each = (query: CompiledQuery, partial: readonly Fence[], take: (grant: Grant) => void): void => {
    const index = new FenceIndex(partial);
    const agents = partial.some((fence) => fence.selector.owner !== undefined) ? agentsById() : undefined;
    for (const row of db.prepare<SqlValue[]>(query.sql).iterate(...(query.parameters as SqlValue[]))) {
      const grant = fromSql('grants', row as Record<string, unknown>);
      if (index.fencedBy(grant.seq, grantFacts(grant, agents?.get(grant.agent_id))) === undefined) take(grant);
    }
  };

  const countLive = (
    selector: Selector,
    now: number,
    ownedAgents: readonly string[],
    beforeFence: number | null,
  ): GrantCount => {
    const { query, partial } = alive(selector, now, ownedAgents, beforeFence);
    if (partial.length === 0) {
      const count = sql<number>`count(*)`.as('count');
      const of = (counted: CompiledQuery): number => Number(rows(counted)[0]?.['count'] ?? 0);
      return {
        total: of(query.select(count).compile()),
        upstream: of(query.where('upstream', '=', sql.lit('live')).select(count).compile()),
      };
    }
    const counted = { total: 0, upstream: 0 };
    each(query.selectAll().compile(), partial, (grant) => {
      counted.total += 1;
      if (grant.upstream === 'live') counted.upstream += 1;
    });
    return counted;
  };

  return {
    countLiveGrants: db.transaction(countLive),

    countKilled: db.transaction((revocationId, { selector, ownedAgents, seq, at }) => {
      const count = db.prepare('SELECT count(*) FROM grants WHERE revocation_id = ? AND upstream = ?').pluck();
      return {
        live: countLive(selector, at, ownedAgents, seq),
        revoked: Number(count.get(revocationId, 'gone')),
        unrevocable: Number(count.get(revocationId, 'unrevocable')),
      };
    }),

    blastRadius: db.transaction((selector, now, ownedAgents): BlastCount => {
      const { query, partial } = alive(selector, now, ownedAgents, null);
      const [connections, agents, subjects] = [new Tally(), new Tally(), new Tally()];
      const counted = { total: 0, upstream: 0 };
      const accounts = new Map<string, { connection_id: string; subject: string | null }>();
      each(query.selectAll().compile(), partial, (grant) => {
        const upstream = grant.upstream === 'live';
        counted.total += 1;
        if (upstream) counted.upstream += 1;
        connections.add(grant.connection_id, upstream);
        agents.add(grant.agent_id, upstream);
        if (grant.subject !== null) subjects.add(grant.subject, upstream);
        const account = `${grant.connection_id} ${grant.subject ?? ''}`;
        if (accounts.size < namedAtMost && !accounts.has(account)) {
          accounts.set(account, { connection_id: grant.connection_id, subject: grant.subject });
        }
      });
      return {
        ...counted,
        connections: connections.result().items,
        agents: agents.result().items,
        subjects: subjects.result(),
        acted_for: [...accounts.values()],
      };
    }),
  };
};
