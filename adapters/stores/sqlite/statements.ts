/**
 * SQL for the writes of a changeset, compiled by Kysely once for each shape (table and columns) and prepared once:
 * a write then costs the binding of its values.
 */
import type Database from 'better-sqlite3';
import {
  type CompiledQuery,
  DummyDriver,
  Kysely,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
  sql,
} from 'kysely';
import { sealedTables, type TableName, type Write } from '../../../src/ports/ledger.ts';
import { kekOf, mayBeOpened, type SqlValue, type StoredTables, toSql } from './rows.ts';

/** Compiles and never executes: the thread that owns the connection does that. */
export const compiler = new Kysely<StoredTables>({
  dialect: {
    createAdapter: () => new SqliteAdapter(),
    createDriver: () => new DummyDriver(),
    createIntrospector: (db) => new SqliteIntrospector(db),
    createQueryCompiler: () => new SqliteQueryCompiler(),
  },
});

/** Kysely types one table at a time; a shape is found at run time, for any of them. */
const anyTable = compiler as unknown as Kysely<Record<string, Record<string, unknown>>>;

const holes = (columns: readonly string[]): Record<string, null> =>
  Object.fromEntries(columns.map((column) => [column, null]));

const compileInsert = (table: string, columns: readonly string[]): CompiledQuery =>
  anyTable.insertInto(table).values(holes(columns)).compile();

const compileUpdate = (table: string, set: readonly string[], where: readonly string[]): CompiledQuery => {
  let query = anyTable.updateTable(table).set(holes(set)).where('id', '=', '');
  for (const column of where) query = query.where(sql.ref(column), 'is', sql.val(''));
  return query.compile();
};

const compileDelete = (table: string, where: readonly string[]): CompiledQuery => {
  let query = anyTable.deleteFrom(table).where('id', '=', '');
  for (const column of where) query = query.where(sql.ref(column), 'is', sql.val(''));
  return query.compile();
};

export class Statements {
  readonly #db: Database.Database;
  readonly #prepared = new Map<string, Database.Statement<SqlValue[]>>();

  constructor(db: Database.Database) {
    this.#db = db;
  }

  /** @returns how many rows it changed */
  run(write: Exclude<Write, { write: 'spend' }>): number {
    if (write.write === 'insert') {
      const columns = Object.keys(write.row);
      const statement = this.#statement(`i ${write.table} ${columns}`, () => compileInsert(write.table, columns));
      return statement.run(...Object.values(write.row).map(toSql)).changes;
    }
    const from = Object.keys(write.from ?? {});
    const fromValues = Object.values(write.from ?? {}).map(toSql);
    if (write.write === 'delete') {
      const statement = this.#statement(`d ${write.table} ${from}`, () => compileDelete(write.table, from));
      return statement.run(write.id, ...fromValues).changes;
    }
    const set = Object.keys(write.set);
    const statement = this.#statement(`u ${write.table} ${set} ${from}`, () => compileUpdate(write.table, set, from));
    return statement.run(...Object.values(write.set).map(toSql), write.id, ...fromValues).changes;
  }

  /** @returns how many rows it changed: 0 when the limit is reached */
  spend(row: Extract<Write, { write: 'spend' }>['row'], limit: number): number {
    // The statement compares with what was spent before; the first of a window meets no row to compare with.
    if (limit < 1) return 0;
    const statement = this.#statement('spend', () =>
      compiler
        .insertInto('budget_uses')
        .values({ id: '', entitlement_id: '', window_start: 0, used: 1, expires_at: 0 })
        .onConflict((conflict) =>
          conflict
            .column('id')
            .doUpdateSet({ used: sql`budget_uses.used + 1` })
            .where(sql`budget_uses.used`, '<', sql.val(0)),
        )
        .compile(),
    );
    return statement.run(row.id, row.entitlement_id, row.window_start, 1, row.expires_at, limit).changes;
  }

  /** @returns the version of a row, or undefined when there is none */
  version(table: TableName, id: string): unknown {
    const statement = this.#statement(`v ${table}`, () =>
      anyTable.selectFrom(table).select('version').where('id', '=', '').compile(),
    );
    return statement.pluck().get(id);
  }

  /** @returns the id of a grant of this connection that has something upstream, or undefined when there is none */
  upstreamGrant(connectionId: string): unknown {
    // An intent counts: `upstream` is set with it. The literal is what lets the partial index answer.
    const statement = this.#statement('upstream', () =>
      compiler
        .selectFrom('grants')
        .select('id')
        .where('upstream', '=', sql.lit('live'))
        .where('upstream', '!=', sql.lit('gone'))
        .where('connection_id', '=', '')
        .limit(sql.lit(1))
        .compile(),
    );
    return statement.pluck().get(connectionId);
  }

  /** @returns the id of an authorization of this connection, or undefined when there is none */
  authorizationOf(connectionId: string): unknown {
    const statement = this.#statement('authorization', () =>
      compiler.selectFrom('authorizations').select('id').where('connection_id', '=', '').limit(sql.lit(1)).compile(),
    );
    return statement.pluck().get(connectionId);
  }

  /** @returns the id of a rotation of this connection that has made something upstream, or may have; undefined: none */
  rotationUnderWay(connectionId: string): unknown {
    // One that is stuck waits for a person, who may well be the one who deletes the connection.
    const statement = this.#statement('rotation', () =>
      compiler
        .selectFrom('rotations')
        .select('id')
        .where('policy_id', '=', '')
        .where(sql<boolean>`status in ('running', 'grace')`)
        .limit(sql.lit(1))
        .compile(),
    );
    return statement.pluck().get(connectionId);
  }

  /** @returns the id of a connection, none of `besides`, whose secret is read through this one; undefined: none */
  readThrough(connectionId: string, besides: readonly string[]): unknown {
    const statement = this.#statement('read through', () =>
      compiler
        .selectFrom('connections')
        .select('id')
        .where(sql`json_extract(secret_source, '$.connection_id')`, '=', sql.val(''))
        // One parameter, however many.
        .where('id', 'not in', sql<string>`(select value from json_each(${sql.val('')}))`)
        .limit(sql.lit(1))
        .compile(),
    );
    return statement.pluck().get(connectionId, JSON.stringify(besides));
  }

  /** @returns where a box is that is under this key-encryption key, or undefined when there is none */
  sealedUnder(kek: number): { table: TableName; id: string } | undefined {
    for (const table of sealedTables) {
      const found = this.#db
        .prepare(`SELECT id FROM ${table} WHERE ${mayBeOpened(table)} AND ${kekOf[table]} = ? LIMIT 1`)
        .pluck()
        .get(kek);
      if (found !== undefined) return { table, id: String(found) };
    }
    return undefined;
  }

  #statement(shape: string, compile: () => CompiledQuery): Database.Statement<SqlValue[]> {
    const known = this.#prepared.get(shape);
    if (known) return known;
    const statement = this.#db.prepare<SqlValue[]>(compile().sql);
    this.#prepared.set(shape, statement);
    return statement;
  }
}
