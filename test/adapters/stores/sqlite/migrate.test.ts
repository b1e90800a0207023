import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type Database from 'better-sqlite3';
import { openForWriting } from '../../../../adapters/stores/sqlite/connection.ts';
import { IncompatibleDatabase, migrate, readMigrations } from '../../../../adapters/stores/sqlite/migrate.ts';
import { openSqliteStore } from '../../../../adapters/stores/sqlite/store.ts';
import { runScript } from '../../../faults/child-process.ts';
import { migrationsFolder, repository, temporaryFolder } from './temporary-store.ts';

let folder: ReturnType<typeof temporaryFolder>;
beforeAll(() => {
  folder = temporaryFolder();
});
afterAll(() => folder.remove());

/** A folder of migrations: `001_x.sql` and so on. */
const migrationsOf = (name: string, files: Record<string, string>): string => {
  const path = join(folder.path, name);
  mkdirSync(path, { recursive: true });
  for (const [file, sql] of Object.entries(files)) writeFileSync(join(path, file), sql);
  return path;
};
const one = 'CREATE TABLE one (x INTEGER) STRICT;';
const two = 'CREATE TABLE two (x INTEGER) STRICT; INSERT INTO one VALUES (2);';

const applied = (db: Database.Database): unknown[] =>
  db.prepare('SELECT number, name, applied_at FROM migrations ORDER BY number').all();
const tables = (db: Database.Database): unknown[] =>
  db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").pluck().all();

test('twenty processes that migrate a fresh file at once all succeed, and each migration is applied once', async () => {
  const path = join(folder.path, 'twenty.db');
  const steps = migrationsOf('twenty', {
    '001_one.sql': one,
    '002_two.sql': two,
    '003_more.sql': 'INSERT INTO one VALUES (3); CREATE TABLE three (x INTEGER) STRICT;',
  });
  const script = join(repository, 'test/adapters/stores/sqlite/migration-racer.ts');
  const racers = Array.from({ length: 20 }, () => runScript(script, path, steps));
  await Promise.all(racers.map((racer) => racer.line('ready')));
  for (const racer of racers) racer.process.stdin.write('go\n');
  const ends = await Promise.all(racers.map((racer) => racer.ended));
  expect(racers.map((racer, i) => `${racer.lines.at(-1)} ${ends[i]?.errors}`)).toEqual(racers.map(() => 'done '));

  const db = openForWriting(path);
  expect(applied(db)).toMatchObject([{ number: 1 }, { number: 2 }, { number: 3 }]);
  expect(db.prepare('SELECT x FROM one ORDER BY x').pluck().all()).toEqual([2, 3]);
  db.close();
});

test('key-encryption keys survive the migration that makes their table anew', () => {
  const db = openForWriting(join(folder.path, 'keys.db'));
  const steps = readMigrations(migrationsFolder);
  const before = steps.findIndex(({ name }) => name === '005_key_rotation.sql');
  migrate(db, steps.slice(0, before), 1);
  const add = db.prepare("INSERT INTO key_encryption_keys VALUES (?, ?, 'local:/x', ?, ?, 1, 7)");
  add.run('kek_1', 1, 'AAAA', 'previous');
  add.run('kek_2', 2, 'BBBB', 'current');
  migrate(db, steps, 2);
  expect(db.prepare('SELECT * FROM key_encryption_keys ORDER BY number').all()).toEqual([
    { id: 'kek_1', number: 1, kms: 'local:/x', wrapped: 'AAAA', state: 'previous', version: 1, created_at: 7 },
    { id: 'kek_2', number: 2, kms: 'local:/x', wrapped: 'BBBB', state: 'current', version: 1, created_at: 7 },
  ]);
  // A key is dropped when it is retired, and then only.
  const set = (state: string, wrapped: string) => () =>
    db.prepare('UPDATE key_encryption_keys SET state = ?, wrapped = ? WHERE number = 1').run(state, wrapped);
  expect(set('previous', '')).toThrow('CHECK');
  expect(set('retired', 'AAAA')).toThrow('CHECK');
  expect(set('retired', '')).not.toThrow();
  db.close();
});

test('migrating again changes nothing', () => {
  const db = openForWriting(join(folder.path, 'again.db'));
  const steps = readMigrations(migrationsOf('again', { '001_one.sql': one, '002_two.sql': two }));
  migrate(db, steps.slice(0, 1), 1);
  migrate(db, steps, 2);
  migrate(db, steps, 3);
  expect(applied(db)).toEqual([
    { number: 1, name: '001_one.sql', applied_at: 1 },
    { number: 2, name: '002_two.sql', applied_at: 2 },
  ]);
  db.close();
});

test('a database newer than this Warder is refused and not touched', () => {
  const db = openForWriting(join(folder.path, 'newer.db'));
  const steps = readMigrations(migrationsOf('newer', { '001_one.sql': one, '002_two.sql': two }));
  migrate(db, steps, 1);
  expect(() => migrate(db, steps.slice(0, 1), 2)).toThrow(IncompatibleDatabase);
  expect(() => migrate(db, steps.slice(0, 1), 2)).toThrow(/newer Warder \(schema 2, this one knows 1\)/);
  expect(applied(db)).toHaveLength(2);
  db.close();
});

test('a database whose migrations were others is refused, and none of the new ones is applied', () => {
  const db = openForWriting(join(folder.path, 'changed.db'));
  migrate(db, readMigrations(migrationsOf('changed', { '001_one.sql': one })), 1);
  const changed = readMigrations(migrationsOf('changed', { '001_one.sql': `${one} -- later`, '002_two.sql': two }));
  expect(() => migrate(db, changed, 2)).toThrow(IncompatibleDatabase);
  expect(applied(db)).toHaveLength(1);
  expect(tables(db)).toEqual(['migrations', 'one']);
  db.close();
});

test('a migration that fails leaves nothing of itself or of those before it in the same start', () => {
  const db = openForWriting(join(folder.path, 'fails.db'));
  const broken = readMigrations(migrationsOf('fails', { '001_one.sql': one, '002_two.sql': `${two} NONSENSE;` }));
  expect(() => migrate(db, broken, 1)).toThrow(/NONSENSE/);
  expect(tables(db)).toEqual([]);
  migrate(db, readMigrations(migrationsOf('fails', { '002_two.sql': two })), 2);
  expect(tables(db)).toEqual(['migrations', 'one', 'two']);
  db.close();
});

test('a folder with a gap, a double number or a stray file is refused', () => {
  expect(() => readMigrations(migrationsOf('gap', { '001_a.sql': one, '003_b.sql': two }))).toThrow('003_b.sql');
  expect(() => readMigrations(migrationsOf('double', { '001_a.sql': one, '001_b.sql': two }))).toThrow('001_b.sql');
  expect(() => readMigrations(migrationsOf('stray', { '001_a.sql': one, 'notes.sql': two }))).toThrow('notes.sql');
});

test('a store on a newer database is refused as incompatible, and lets go of the directory', async () => {
  const databasePath = join(folder.path, 'store', 'warder.db');
  const newer = migrationsOf('store-newer', { '002_more.sql': 'CREATE TABLE more (x INTEGER) STRICT;' });
  copyFileSync(join(migrationsFolder, '001_foundation.sql'), join(newer, '001_foundation.sql'));
  const open = (folderOfMigrations: string) =>
    openSqliteStore({ databasePath, migrationsFolder: folderOfMigrations, onFatal: () => undefined });
  await (await open(newer)).close();
  const older = migrationsOf('store-older', {});
  copyFileSync(join(migrationsFolder, '001_foundation.sql'), join(older, '001_foundation.sql'));
  await expect(open(older)).rejects.toBeInstanceOf(IncompatibleDatabase);
  await expect(open(older)).rejects.toBeInstanceOf(IncompatibleDatabase);
  await (await open(newer)).close();
});

/** Every table and index as the migrations make them, in an order that does not depend on history. */
const schemaOf = (folderOfMigrations: string, path: string): string => {
  const db = openForWriting(path);
  migrate(db, readMigrations(folderOfMigrations), 0);
  const statements = db
    .prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY tbl_name, type = 'index', name")
    .pluck()
    .all();
  db.close();
  return `-- What the migrations of this folder make together. Regenerate: WARDER_UPDATE_GOLDEN=1 npm test -- migrate\n\n${statements.join(';\n\n')};\n`;
};

test('the migrations make the schema in migrations/sqlite/schema.golden.sql (WARDER_UPDATE_GOLDEN=1 rewrites it)', () => {
  const golden = join(migrationsFolder, 'schema.golden.sql');
  const schema = schemaOf(migrationsFolder, join(folder.path, 'golden.db'));
  if (process.env['WARDER_UPDATE_GOLDEN'] === '1') writeFileSync(golden, schema);
  expect(existsSync(golden) ? readFileSync(golden, 'utf8') : '').toBe(schema);
});
