/** The one writer: applies batches of changesets, each in its own savepoint, all in one durable transaction. */
import type Database from 'better-sqlite3';
import { selectorMatches } from '../../../src/domain/fences.ts';
import { FreezeIndex } from '../../../src/domain/freezes.ts';
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
import { codeOf } from './connection.ts';
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

/**
 * A changeset that no table can hold (a fraction where an integer belongs, a column that does not exist, text that is
 * not Unicode): a fault of the code that made it, never of the disk. It is undone alone and said to its caller alone.
 */
export interface Malformed {
  ok: false;
  why: 'malformed';
  message: string;
}
export type Outcome = Committed | Malformed;

const malformedCodes = new Set([
  'SQLITE_CONSTRAINT_CHECK',
  'SQLITE_CONSTRAINT_NOTNULL',
  'SQLITE_CONSTRAINT_DATATYPE',
  'SQLITE_MISMATCH',
  'SQLITE_RANGE',
  'SQLITE_TOOBIG',
  // Preparing a statement for a column or table that is not there.
  'SQLITE_ERROR',
]);
const isMalformed = (error: unknown): error is Error =>
  error instanceof TypeError || error instanceof RangeError || malformedCodes.has(codeOf(error));

export class Writer {
  readonly #db: Database.Database;
  readonly #statements: Statements;
  readonly #insertEntry: Database.Statement;
  readonly #insertNode: Database.Statement;
  readonly #saveHead: Database.Statement;
  readonly #fencesSince: Database.Statement;
  readonly #begin: Database.Statement;
  readonly #commit: Database.Statement;
  readonly #save: Database.Statement;
  readonly #release: Database.Statement;
  readonly #undo: Database.Statement;
  #frontier: Frontier;
  #newestFence: number;
  /** What stands; undefined when it may have changed and is to be read anew. */
  #freezes: FreezeIndex | undefined;

  constructor(db: Database.Database) {
    this.#db = db;
    this.#statements = new Statements(db);
    this.#insertEntry = db.prepare(
      'INSERT INTO audit (seq, at, type, agent_id, connection_id, grant_id, leaf, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
    );
    this.#insertNode = db.prepare('INSERT INTO tree_nodes (level, position, hash) VALUES (?, ?, ?)');
    this.#saveHead = db.prepare('UPDATE tree_head SET size = ?, frontier = ? WHERE only = 1');
    this.#fencesSince = db.prepare('SELECT * FROM fences WHERE seq > ? ORDER BY seq');
    this.#begin = db.prepare('BEGIN IMMEDIATE');
    this.#commit = db.prepare('COMMIT');
    this.#save = db.prepare('SAVEPOINT changeset');
    this.#release = db.prepare('RELEASE changeset');
    this.#undo = db.prepare('ROLLBACK TO changeset');
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
  apply(batch: readonly Changeset[]): Outcome[] {
    const frontier = this.#copyOfFrontier();
    const newestFence = this.#newestFence;
    try {
      this.#begin.run();
      const results = batch.map((changeset) => this.#applyOne(changeset));
      this.#saveHead.run(this.#frontier.size, encodeFrontier(this.#frontier));
      this.#commit.run();
      return results;
    } catch (error) {
      this.#frontier = frontier;
      this.#newestFence = newestFence;
      this.#freezes = undefined;
      try {
        if (this.#db.inTransaction) this.#db.exec('ROLLBACK');
      } catch {
        // The first error is the one to tell; the connection is closed because of it (writer-thread.ts).
      }
      throw error;
    }
  }

  #applyOne(changeset: Changeset): Outcome {
    const before = this.#copyOfFrontier();
    const seq = before.size;
    this.#save.run();
    try {
      if (changeset.audit.length === 0) throw new RangeError('a changeset has at least one audit entry');
      for (const guard of changeset.guards ?? []) this.#check(guard);
      for (const write of changeset.writes) this.#write(write, seq);
      this.#append(changeset.audit);
    } catch (error) {
      const refused = error instanceof Refusal;
      // Anything else is the store's own trouble and ends the batch; SQLite may have rolled all of it back already.
      if (!refused && !isMalformed(error)) throw error;
      this.#undo.run();
      this.#release.run();
      this.#frontier = before;
      return refused ? { ok: false, ...error.refusal } : { ok: false, why: 'malformed', message: error.message };
    }
    this.#release.run();
    for (const write of changeset.writes) {
      if (write.table === 'fences') this.#newestFence = seq;
      else if (write.table === 'freezes') this.#freezes = undefined;
    }
    return { ok: true, seq };
  }

  /** Adds the entries to the log and their leaves to the tree; last, when all else of the changeset stands. */
  #append(entries: Changeset['audit']): void {
    for (const entry of entries) {
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
  }

  #copyOfFrontier(): Frontier {
    return { size: this.#frontier.size, hashes: [...this.#frontier.hashes] };
  }

  #check(guard: Guard): void {
    if (guard.guard === 'unchanged') {
      if (this.#statements.version(guard.table, guard.id) !== guard.version) {
        throw new Refusal({ why: 'changed', table: guard.table, id: guard.id });
      }
      return;
    }
    if (guard.guard === 'nothing_upstream') {
      const found = this.#statements.upstreamGrant(guard.connection_id);
      if (found !== undefined) throw new Refusal({ why: 'changed', table: 'grants', id: String(found) });
      const connected = this.#statements.authorizationOf(guard.connection_id);
      if (connected !== undefined) {
        throw new Refusal({ why: 'changed', table: 'authorizations', id: String(connected) });
      }
      const rotating = this.#statements.rotationUnderWay(guard.connection_id);
      if (rotating !== undefined) throw new Refusal({ why: 'changed', table: 'rotations', id: String(rotating) });
      return;
    }
    if (guard.guard === 'unreferenced') {
      const found = this.#statements.readThrough(guard.connection_id, guard.besides);
      if (found !== undefined) throw new Refusal({ why: 'changed', table: 'connections', id: String(found) });
      return;
    }
    if (guard.guard === 'nothing_sealed_under') {
      const found = this.#statements.sealedUnder(guard.kek);
      if (found !== undefined) throw new Refusal({ why: 'changed', ...found });
      return;
    }
    if (this.#newestFence > guard.since) {
      for (const row of this.#fencesSince.all(guard.since)) {
        const fence: Fence = fromSql('fences', row as Record<string, unknown>);
        if (selectorMatches(fence.selector, guard.facts)) throw new Refusal({ why: 'fenced', fence: fence.seq });
      }
    }
    if (!guard.unfrozen) return;
    this.#freezes ??= this.#readFreezes();
    const freeze = this.#freezes.frozenBy(guard.facts);
    if (freeze) throw new Refusal({ why: 'frozen', freeze: freeze.id });
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
      const code = codeOf(error);
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

  #readFreezes(): FreezeIndex {
    const rows = this.#db.prepare('SELECT * FROM freezes WHERE lifted_at IS NULL').all() as Record<string, unknown>[];
    return new FreezeIndex(rows.map((row) => fromSql('freezes', row)));
  }

  #readNewestFence(): number {
    return Number(this.#db.prepare('SELECT coalesce(max(seq), -1) FROM fences').pluck().get());
  }
}
