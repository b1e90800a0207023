import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { openForReading, openForWriting } from '../../../../adapters/stores/sqlite/connection.ts';
import { temporaryFolder } from './temporary-store.ts';

let folder: ReturnType<typeof temporaryFolder>;
beforeAll(() => {
  folder = temporaryFolder();
});
afterAll(() => folder.remove());

test('a connection for writing keeps a write-ahead log and syncs it on every commit', () => {
  const db = openForWriting(join(folder.path, 'a.db'));
  expect(db.pragma('journal_mode', { simple: true })).toBe('wal');
  // 2 is FULL. Left alone, this build of SQLite would use 1 (NORMAL) with a write-ahead log.
  expect(db.pragma('synchronous', { simple: true })).toBe(2);
  expect(db.pragma('foreign_keys', { simple: true })).toBe(1);
  db.close();
});

test('it does so for a file that was made with other settings', () => {
  const path = join(folder.path, 'b.db');
  const other = new Database(path);
  other.pragma('journal_mode = DELETE');
  other.exec('CREATE TABLE t (x)');
  other.close();
  const db = openForWriting(path);
  expect(db.pragma('journal_mode', { simple: true })).toBe('wal');
  expect(db.pragma('synchronous', { simple: true })).toBe(2);
  db.close();
});

test('a place that gives no write-ahead log is refused, saying what it gave', () => {
  expect(() => openForWriting(':memory:')).toThrow(/does not give a durable database.*"journal_mode":"memory"/);
});

test('a file that somebody holds in another journal mode is refused rather than used without a log', () => {
  const path = join(folder.path, 'c.db');
  const holder = new Database(path);
  holder.pragma('journal_mode = DELETE');
  holder.exec('CREATE TABLE t (x); BEGIN; INSERT INTO t VALUES (1)');
  expect(() => openForWriting(path, 50)).toThrow();
  holder.exec('ROLLBACK');
  holder.close();
});

test('a connection for reading cannot write, and does not make a database', () => {
  const path = join(folder.path, 'a.db');
  const db = openForReading(path);
  expect(() => db.exec('CREATE TABLE t (x)')).toThrow(/readonly/);
  db.close();
  expect(() => openForReading(join(folder.path, 'none.db'))).toThrow();
  expect(existsSync(join(folder.path, 'none.db'))).toBe(false);
});
