import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { DataDirectoryInUse, lockDataDirectory } from '../../../../adapters/stores/sqlite/lock.ts';
import { openSqliteStore } from '../../../../adapters/stores/sqlite/store.ts';
import { accept, changeset } from '../../../conformance/ledger-rows.ts';
import { type Child, runScript } from '../../../faults/child-process.ts';
import { migrationsFolder, openTemporary, repository, temporaryFolder } from './temporary-store.ts';

const script = (name: string): string => join(repository, 'test/adapters/stores/sqlite', name);
const children: Child[] = [];
const start = (name: string, ...args: string[]): Child => {
  const child = runScript(script(name), ...args);
  children.push(child);
  return child;
};

let folder: ReturnType<typeof temporaryFolder>;
beforeAll(() => {
  folder = temporaryFolder();
});
afterEach(() => {
  for (const child of children.splice(0)) child.process.kill('SIGKILL');
});
afterAll(() => folder.remove());

const openHere = (databasePath: string) =>
  openSqliteStore({ databasePath, migrationsFolder, onFatal: () => undefined });

test('a second process on a data directory is refused at once, and told which process holds it', async () => {
  const databasePath = join(folder.path, 'second', 'warder.db');
  const holder = start('hold-store.ts', databasePath, migrationsFolder);
  await holder.line('open');
  const began = performance.now();
  const refusal = await openHere(databasePath).catch((error: unknown) => error);
  expect(performance.now() - began).toBeLessThan(3000);
  expect(refusal).toBeInstanceOf(DataDirectoryInUse);
  expect(String(refusal)).toContain(`another Warder (process ${holder.process.pid}) is running on this data directory`);

  const third = start('hold-store.ts', databasePath, migrationsFolder);
  expect(await third.line('refused')).toContain(`(process ${holder.process.pid})`);
  expect((await third.ended).code).toBe(1);
});

test('the lock is free after kill -9, and after a clean end', async () => {
  const databasePath = join(folder.path, 'killed', 'warder.db');
  const holder = start('hold-store.ts', databasePath, migrationsFolder);
  await holder.line('open');
  holder.process.kill('SIGKILL');
  expect((await holder.ended).signal).toBe('SIGKILL');
  const heir = start('hold-store.ts', databasePath, migrationsFolder);
  await heir.line('open');
  heir.process.stdin.end();
  expect((await heir.ended).code).toBe(0);
  await (await openHere(databasePath)).close();
});

test('a second store in the same process is refused too, and the first goes on', async () => {
  const first = await openTemporary();
  await expect(openHere(first.databasePath)).rejects.toThrow(`(process ${process.pid})`);
  await accept(first.store.ledger, changeset());
  await expect(openHere(join(dirname(first.databasePath), 'other.db'))).rejects.toBeInstanceOf(DataDirectoryInUse);
  await accept(first.store.ledger, changeset());
  await first.close();
});

test('of two processes that start in the same instant exactly one gets the directory, ten times of ten', async () => {
  const racers = [0, 1].map(() => start('lock-racer.ts'));
  await Promise.all(racers.map((racer) => racer.line('ready')));
  for (let round = 0; round < 10; round += 1) {
    const path = join(folder.path, `race-${round}.lock`);
    const moment = Date.now() + 50;
    for (const racer of racers) racer.process.stdin.write(`${moment} ${path}\n`);
    const answers = await Promise.all(racers.map((racer) => racer.line(path)));
    expect(answers.sort()).toEqual([`${path} n`, `${path} y`]);
  }
});

test('a lock file that cannot be read is said to be that, not another process', () => {
  const path = join(folder.path, 'broken.lock');
  writeFileSync(path, 'not a lock file of ours, and longer than the header that SQLite looks for'.repeat(10));
  expect(() => lockDataDirectory(path)).toThrow(/not a database/);
  const nowhere = (): unknown => lockDataDirectory(join(folder.path, 'no', 'such', 'folder.lock'));
  expect(nowhere).toThrow();
  expect(nowhere).not.toThrow(DataDirectoryInUse);
});

test('a lock that was let go of can be taken again', () => {
  const path = join(folder.path, 'again.lock');
  const release = lockDataDirectory(path);
  expect(() => lockDataDirectory(path)).toThrow(DataDirectoryInUse);
  release();
  lockDataDirectory(path)();
});
