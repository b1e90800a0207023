/** Numbered SQL files, each applied once, in one transaction with its record. */
import { hash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type Database from 'better-sqlite3';

interface Migration {
  number: number;
  name: string;
  sql: string;
  digest: string;
}

/** The database was written by a newer Warder, or by one whose history differs: it must not be touched. */
export class IncompatibleDatabase extends Error {
  override readonly name = 'IncompatibleDatabase';
}

/** What all migrations together make, kept beside them for people and for the test that compares. */
const goldenName = 'schema.golden.sql';

/** @returns the migrations of a folder in their order; numbers start at 1 and have no gaps */
export const readMigrations = (folder: string): Migration[] => {
  const found = readdirSync(folder)
    .filter((name) => name.endsWith('.sql') && name !== goldenName)
    .sort()
    .map((name) => {
      const sql = readFileSync(join(folder, name), 'utf8');
      return { number: Number(name.slice(0, 3)), name, sql, digest: hash('sha256', sql, 'hex') };
    });
  found.forEach((migration, i) => {
    if (migration.number !== i + 1) throw new Error(`migrations: expected number ${i + 1}, found ${migration.name}`);
  });
  return found;
};

/**
 * Brings a database to the newest schema. Safe to run any number of times and at once: the first takes the write lock
 * and the others find the work done.
 * @throws IncompatibleDatabase when the database is newer than `migrations`, or an applied one was changed since
 */
export const migrate = (db: Database.Database, migrations: Migration[], nowMs: number): void => {
  const step = db.transaction(() => {
    db.exec(
      'CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT',
    );
    const applied = db
      .prepare<[], { number: number; name: string; digest: string }>(
        'SELECT number, name, digest FROM migrations ORDER BY number',
      )
      .all();
    const newest = applied.at(-1);
    if (newest && newest.number > migrations.length) {
      throw new IncompatibleDatabase(
        `this database was written by a newer Warder (schema ${newest.number}, this one knows ${migrations.length}); upgrade Warder`,
      );
    }
    for (const migration of migrations) {
      const done = applied[migration.number - 1];
      if (done) {
        if (done.digest !== migration.digest) {
          throw new IncompatibleDatabase(`migration ${done.name} was applied in another form than this Warder has`);
        }
        continue;
      }
      db.exec(migration.sql);
      db.prepare('INSERT INTO migrations (number, name, digest, applied_at) VALUES (?, ?, ?, ?)').run(
        migration.number,
        migration.name,
        migration.digest,
        nowMs,
      );
    }
  });
  step.immediate();
};
