/** Every question the ledger answers, over one read-only connection. */
import type Database from 'better-sqlite3';
import { type CompiledQuery, sql } from 'kysely';
import { longestGrantSeconds } from '../../../src/domain/decide.ts';
import {
  consistencyProof,
  type Hash,
  type HashReader,
  inclusionProof,
  rootFromReader,
} from '../../../src/domain/merkle.ts';
import { endsByField } from '../../../src/domain/stored-handle.ts';
import {
  type AuditFilter,
  type GrantFilter,
  type LedgerReader,
  type LedgerSnapshot,
  type PageRequest,
  type SealedRow,
  type StoredEntry,
  sealedTables,
  type TableName,
  type Tables,
} from '../../../src/ports/ledger.ts';
import { alertReader } from './readers/alerts.ts';
import { incidentReader } from './readers/incidents.ts';
import { liveGrantReader } from './readers/live-grants.ts';
import { revocationReader } from './readers/revocations.ts';
import { openRotations, rotationReader } from './readers/rotation.ts';
import { disorderMs, firstGrantId, isLeftUpstream } from './readers/spans.ts';
import { fromSql, kekOf, mayBeOpened, type SqlValue } from './rows.ts';
import { compiler } from './statements.ts';

/** A reader's methods as they are on its own thread: the same questions, answered at once. */
export type DirectReader = {
  [M in keyof LedgerReader]: (...args: Parameters<LedgerReader[M]>) => Awaited<ReturnType<LedgerReader[M]>>;
};

/** Types that are most of the log: what is not one of these has an index (migrations/sqlite, `audit_by_type`). */
const everydayTypes = ['grant.issued', 'gateway.call', 'gateway.completed'];
const isRareType = sql<boolean>`type not in (${sql.join(everydayTypes.map((type) => sql.lit(type)))})`;
/** The same for a statement that is written by hand. */
const rareTypeCondition = `type NOT IN (${everydayTypes.map((type) => `'${type}'`).join(', ')})`;

const endsByPath = `$."${endsByField}"`;

export const makeReader = (db: Database.Database): DirectReader => {
  const prepared = new Map<string, Database.Statement<SqlValue[]>>();
  const rows = (query: CompiledQuery): Record<string, unknown>[] => {
    let statement = prepared.get(query.sql);
    if (!statement) {
      statement = db.prepare<SqlValue[]>(query.sql);
      prepared.set(query.sql, statement);
    }
    return statement.all(...(query.parameters as SqlValue[])) as Record<string, unknown>[];
  };
  const all = <T extends TableName>(table: T, query: CompiledQuery): Tables[T][] =>
    rows(query).map((row) => fromSql(table, row));

  const grantById = compiler.selectFrom('grants').selectAll().where('id', '=', '').compile().sql;
  const tokenById = compiler.selectFrom('agent_tokens').selectAll().where('id', '=', '').compile().sql;
  const grantStatement = db.prepare<SqlValue[]>(grantById);
  const tokenStatement = db.prepare<SqlValue[]>(tokenById);

  const hashes: HashReader = (level, start, end) => {
    const found =
      level === 0
        ? db.prepare('SELECT leaf FROM audit WHERE seq >= ? AND seq < ? ORDER BY seq').pluck().all(start, end)
        : db
            .prepare('SELECT hash FROM tree_nodes WHERE level = ? AND position >= ? AND position < ? ORDER BY position')
            .pluck()
            .all(level, start, end);
    return found as Hash[];
  };
  const entries = (query: CompiledQuery): StoredEntry[] =>
    rows(query).map((row) => ({ seq: Number(row['seq']), body: String(row['body']) }));

  const filtered = (filter: AuditFilter) => {
    let query = compiler.selectFrom('audit').select(['seq', 'body']).where('body', 'is not', null);
    if (filter.agent_id !== undefined) query = query.where('agent_id', '=', filter.agent_id);
    if (filter.connection_id !== undefined) query = query.where('connection_id', '=', filter.connection_id);
    if (filter.grant_id !== undefined) query = query.where('grant_id', '=', filter.grant_id);
    if (filter.type !== undefined) {
      query = query.where('type', '=', filter.type);
      if (!everydayTypes.includes(filter.type)) query = query.where(isRareType);
    }
    // Times narrow the sequence numbers first, so that a day of a long history is not searched for from its end: what
    // is older than `from` by more than the disorder has all that match behind it, and the reverse for `to`.
    if (filter.from !== undefined) {
      const older = db.prepare('SELECT seq FROM audit WHERE at < ? ORDER BY at DESC LIMIT 1').pluck();
      const last = older.get(filter.from - disorderMs);
      if (last !== undefined) query = query.where('seq', '>', Number(last));
      query = query.where('at', '>=', filter.from);
    }
    if (filter.to !== undefined) {
      const younger = db.prepare('SELECT seq FROM audit WHERE at >= ? ORDER BY at LIMIT 1').pluck();
      const first = younger.get(filter.to + disorderMs);
      if (first !== undefined) query = query.where('seq', '<', Number(first));
      query = query.where('at', '<', filter.to);
    }
    return query;
  };
  const treeSize = (): number => Number(db.prepare('SELECT size FROM tree_head').pluck().get());

  return {
    ...alertReader(db, rareTypeCondition, (aliveAt) => firstGrantId(aliveAt - longestGrantSeconds * 1000 - disorderMs)),
    ...incidentReader(all, rows, isRareType),
    ...rotationReader(all, rows),
    ...liveGrantReader(db, all, rows),
    ...revocationReader(db, all),

    snapshot: db.transaction((): LedgerSnapshot => {
      const table = <T extends TableName>(name: T): Tables[T][] =>
        (db.prepare(`SELECT * FROM ${name} ORDER BY id`).all() as Record<string, unknown>[]).map((row) =>
          fromSql(name, row),
        );
      return {
        size: treeSize(),
        newestAt: Number(db.prepare('SELECT coalesce(max(at), 0) FROM audit').pluck().get()),
        agents: table('agents'),
        operators: table('operators'),
        connections: table('connections'),
        entitlements: table('entitlements'),
        trusted_issuers: table('trusted_issuers'),
        authorizations: table('authorizations'),
        fences: table('fences'),
        freezes: all('freezes', compiler.selectFrom('freezes').selectAll().where('lifted_at', 'is', null).compile()),
        key_encryption_keys: table('key_encryption_keys'),
        signing_keys: table('signing_keys'),
        rotation_policies: table('rotation_policies'),
        rotations: openRotations(all),
        webhooks: table('webhooks'),
        signal_streams: table('signal_streams'),
      };
    }),

    grant: (id) => {
      const row = grantStatement.get(id) as Record<string, unknown> | undefined;
      return row && fromSql('grants', row);
    },
    agentToken: (id) => {
      const row = tokenStatement.get(id) as Record<string, unknown> | undefined;
      return row && fromSql('agent_tokens', row);
    },
    secret: (connectionId, number) =>
      all(
        'secrets',
        compiler
          .selectFrom('secrets')
          .selectAll()
          .where('connection_id', '=', connectionId)
          .where('number', '=', number)
          .compile(),
      )[0],
    authorizationFlow: (id) =>
      all(
        'authorization_flows',
        compiler.selectFrom('authorization_flows').selectAll().where('id', '=', id).compile(),
      )[0],
    revocation: (id) =>
      all('revocations', compiler.selectFrom('revocations').selectAll().where('id', '=', id).compile())[0],

    revocations: (page) => {
      let query = compiler.selectFrom('revocations').selectAll().orderBy('id', 'desc').limit(page.limit);
      if (page.before !== undefined) query = query.where('id', '<', page.before);
      return all('revocations', query.compile());
    },

    grants: (filter: GrantFilter, page: PageRequest) => {
      let query = compiler.selectFrom('grants').selectAll().orderBy('id', 'desc').limit(page.limit);
      if (page.before !== undefined) query = query.where('id', '<', page.before);
      if (filter.agent_id !== undefined) query = query.where('agent_id', '=', filter.agent_id);
      if (filter.connection_id !== undefined) query = query.where('connection_id', '=', filter.connection_id);
      if (filter.statuses !== undefined) query = query.where('status', 'in', filter.statuses);
      if (filter.alive_at !== undefined) {
        query = query
          .where('expires_at', '>', filter.alive_at)
          .where('id', '>=', firstGrantId(filter.alive_at - longestGrantSeconds * 1000 - disorderMs));
      }
      if (filter.from !== undefined) {
        query = query.where('issued_at', '>=', filter.from).where('id', '>=', firstGrantId(filter.from - disorderMs));
      }
      if (filter.to !== undefined) {
        query = query.where('issued_at', '<', filter.to).where('id', '<', firstGrantId(filter.to + disorderMs));
      }
      return all('grants', query.compile());
    },

    intendedGrants: (upToSeq, limit, after = '') =>
      all(
        'grants',
        compiler
          .selectFrom('grants')
          .selectAll()
          .where('status', '=', sql.lit('intended'))
          .where('seq', '<=', upToSeq)
          .where('id', '>', after)
          .orderBy('id')
          .limit(limit)
          .compile(),
      ),

    upstreamGrants: (after, limit, endedBy, without = []) => {
      let query = compiler
        .selectFrom('grants')
        .selectAll()
        .where('upstream', '=', sql.lit('live'))
        .where(isLeftUpstream)
        .where(sql<boolean>`connection_id not in (select value from json_each(${JSON.stringify(without)}))`)
        .where('status', '!=', 'intended')
        .where('id', '>', after)
        .orderBy('id')
        .limit(limit);
      if (endedBy !== undefined) {
        query = query
          .where((is) => is.or([is('status', '!=', 'active'), is('expires_at', '<=', endedBy)]))
          .where(sql<boolean>`coalesce(handle ->> ${sql.lit(endsByPath)}, 0) <= ${endedBy}`);
      }
      return all('grants', query.compile());
    },

    upstreamProgress: (revocationId) => {
      const count = db.prepare('SELECT count(*) FROM grants WHERE revocation_id = ? AND upstream = ?').pluck();
      const lives = db
        .prepare<SqlValue[], { count: number; until: number | null }>(
          `SELECT count(handle ->> '${endsByPath}') AS count, max(handle ->> '${endsByPath}') AS until FROM grants
            WHERE revocation_id = ? AND upstream = 'live'`,
        )
        .get(revocationId);
      return {
        revoked: Number(count.get(revocationId, 'gone')),
        unrevocable: Number(count.get(revocationId, 'unrevocable')),
        livesOn: lives?.count ?? 0,
        endsBy: lives?.until ?? null,
      };
    },

    sealedBoxes: db.transaction(() => {
      const counted = new Map<number, number>();
      for (const table of sealedTables) {
        const counts = db
          .prepare<[], { kek: number; boxes: number }>(
            `SELECT ${kekOf[table]} AS kek, count(*) AS boxes FROM ${table} WHERE ${mayBeOpened(table)} GROUP BY 1`,
          )
          .all();
        for (const { kek, boxes } of counts) if (kek !== null) counted.set(kek, (counted.get(kek) ?? 0) + boxes);
      }
      return [...counted].map(([kek, boxes]) => ({ kek, boxes }));
    }),

    rowsSealedUnderOthers: (table, kek, after, limit) =>
      db
        .prepare<SqlValue[]>(
          `SELECT * FROM ${table} WHERE ${mayBeOpened(table)} AND id > ? AND ${kekOf[table]} <> ? ORDER BY id LIMIT ?`,
        )
        .all(after, kek, limit)
        // The table's name and its row belong together; the compiler cannot follow a name that is a variable.
        .map((row) => ({ table, row: fromSql(table, row as Record<string, unknown>) }) as SealedRow),

    openRevocations: () =>
      all('revocations', compiler.selectFrom('revocations').selectAll().where('completed_at', 'is', null).compile()),

    expiredRows: (now, limit) =>
      (['agent_tokens', 'used_once', 'budget_uses', 'authorization_flows'] as const).flatMap((table) =>
        rows(compiler.selectFrom(table).select('id').where('expires_at', '<=', now).limit(limit).compile()).map(
          (row) => ({
            table,
            id: String(row['id']),
          }),
        ),
      ),

    audit: (filter: AuditFilter, page: PageRequest<number>): StoredEntry[] => {
      let query = filtered(filter).orderBy('seq', 'desc').limit(page.limit);
      if (page.before !== undefined) query = query.where('seq', '<', page.before);
      return entries(query.compile());
    },

    auditRange: (filter, from, to, limit) =>
      entries(filtered(filter).where('seq', '>=', from).where('seq', '<', to).orderBy('seq').limit(limit).compile()),

    treeHead: db.transaction(() => {
      const size = treeSize();
      return { size, root: rootFromReader(hashes, size) };
    }),
    inclusionProof: db.transaction((seq: number, size: number) => inclusionProof(hashes, seq, size)),
    consistencyProof: db.transaction((from: number, to: number) => consistencyProof(hashes, from, to)),
  };
};
