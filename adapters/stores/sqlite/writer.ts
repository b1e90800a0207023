/** The one writer: applies batches of changesets, each in its own savepoint, all in one durable transaction. */
import type Database from 'better-sqlite3';
import { selectorMatches } from '../../../src/domain/fences.ts';
import {
  append,
  decodeFrontier,
  emptyFrontier,
  encodeFrontier,
  type Frontier,
  leafHash,
  storedLevels,
} from '../../../src/domain/merkle.ts';
import type { Fence } from '../../../src/domain/model.ts';
import type { Changeset, CommitRefusal, Committed, Guard, Write } from '../../../src/ports/ledger.ts';
import { fromSql } from './rows.ts';
import { Statements } from './statements.ts';

/** Thrown inside a savepoint to undo it; never leaves this file. */
class Refusal extends Error {
  readonly refusal: CommitRefusal;
  constructor(refusal: CommitRefusal) {
    super(refusal.why);
    this.refusal = refusal;
  }
}

const sqliteCode = (error: unknown): string =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';

export class Writer {
  readonly #db: Database.Database;
  readonly #statements: Statements;
  readonly #insertEntry: Database.Statement;
  readonly #insertNode: Database.Statement;
  readonly #saveHead: Database.Statement;
  readonly #fencesSince: Database.Statement;
  #frontier: Frontier;
  #newestFence: number;

  constructor(db: Database.Database) {
    this.#db = db;
    this.#statements = new Statements(db);
    this.#insertEntry = db.prepare(
      'INSERT INTO audit (seq, at, type, agent_id, connection_id, grant_id, leaf, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
    );
    this.#insertNode = db.prepare('INSERT INTO tree_nodes (level, position, hash) VALUES (?, ?, ?)');
    this.#saveHead = db.prepare('UPDATE tree_head SET size = ?, frontier = ? WHERE only = 1');
    this.#fencesSince = db.prepare('SELECT * FROM fences WHERE seq > ? ORDER BY seq');
    this.#frontier = this.#readFrontier();
    this.#newestFence = this.#readNewestFence();
  }

  /** How many entries are durable. */
  get size(): number {
    return this.#frontier.size;
  }

  /**
   * Applies a batch. When this returns, what it says is durable; when it throws, nothing of the batch was
   * acknowledged, and whether it took place is known only by reading the file anew.
   * @returns one result a changeset, in order
   */
  apply(batch: readonly Changeset[]): Committed[] {
    const frontier: Frontier = { size: this.#frontier.size, hashes: [...this.#frontier.hashes] };
    const newestFence = this.#newestFence;
    try {
      this.#db.exec('BEGIN IMMEDIATE');
      const results = batch.map((changeset) => this.#applyOne(changeset));
      this.#saveHead.run(this.#frontier.size, encodeFrontier(this.#frontier));
      this.#db.exec('COMMIT');
      return results;
    } catch (error) {
      this.#frontier = frontier;
      this.#newestFence = newestFence;
      if (this.#db.inTransaction) this.#db.exec('ROLLBACK');
      throw error;
    }
  }

  #applyOne(changeset: Changeset): Committed {
    const seq = this.#frontier.size;
    this.#db.exec('SAVEPOINT changeset');
    try {
      for (const guard of changeset.guards ?? []) this.#check(guard);
      for (const write of changeset.writes) this.#write(write, seq);
    } catch (error) {
      this.#db.exec('ROLLBACK TO changeset');
      this.#db.exec('RELEASE changeset');
      if (error instanceof Refusal) return { ok: false, ...error.refusal };
      throw error;
    }
    this.#db.exec('RELEASE changeset');
    // Nothing of a refused changeset reaches the tree: leaves are appended once it is known to stand.
    for (const entry of changeset.audit) {
      const leaf = leafHash(entry.body);
      this.#insertEntry.run(
        this.#frontier.size,
        entry.at,
        entry.type,
        entry.agent_id,
        entry.connection_id,
        entry.grant_id,
        leaf,
        entry.body,
      );
      append(this.#frontier, leaf, (level, position, hash) => {
        if (level % storedLevels === 0) this.#insertNode.run(level, position, hash);
      });
    }
    for (const write of changeset.writes) if (write.table === 'fences') this.#newestFence = seq;
    return { ok: true, seq };
  }

  #check(guard: Guard): void {
    if (guard.guard === 'unchanged') {
      if (this.#statements.version(guard.table, guard.id) !== guard.version) {
        throw new Refusal({ why: 'changed', table: guard.table, id: guard.id });
      }
      return;
    }
    if (this.#newestFence <= guard.since) return;
    for (const row of this.#fencesSince.all(guard.since)) {
      const fence: Fence = fromSql('fences', row as Record<string, unknown>);
      if (selectorMatches(fence.selector, guard.facts)) throw new Refusal({ why: 'fenced', fence: fence.seq });
    }
  }

  #write(write: Write, seq: number): void {
    if (write.write === 'spend') {
      if (this.#statements.spend(write.row, write.limit) === 0) throw new Refusal({ why: 'spent', table: write.table });
      return;
    }
    if (write.write === 'insert' && 'seq' in write.row) write.row.seq = seq;
    if (write.write === 'update' && 'seq' in write.set) write.set.seq = seq;
    try {
      if (this.#statements.run(write) === 0)
        throw new Refusal({
          why: 'changed',
          table: write.table,
          id: write.write === 'insert' ? write.row.id : write.id,
        });
    } catch (error) {
      const code = sqliteCode(error);
      if (code === 'SQLITE_CONSTRAINT_UNIQUE' || code === 'SQLITE_CONSTRAINT_PRIMARYKEY') {
        throw new Refusal({ why: 'exists', table: write.table });
      }
      // A parent that went away meanwhile is a decision overtaken, not a fault of the store.
      if (code === 'SQLITE_CONSTRAINT_FOREIGNKEY') throw new Refusal({ why: 'changed', table: write.table, id: '' });
      throw error;
    }
  }

  #readFrontier(): Frontier {
    const row = this.#db.prepare<[], { size: number; frontier: Buffer }>('SELECT size, frontier FROM tree_head').get();
    if (!row) throw new Error('the database has no tree head');
    const count = this.#db.prepare('SELECT coalesce(max(seq) + 1, 0) FROM audit').pluck().get();
    if (count !== row.size) throw new Error(`the audit log has ${count} entries, its tree head says ${row.size}`);
    return row.size === 0 ? emptyFrontier() : decodeFrontier(row.frontier);
  }

  #readNewestFence(): number {
    return Number(this.#db.prepare('SELECT coalesce(max(seq), -1) FROM fences').pluck().get());
  }
}
