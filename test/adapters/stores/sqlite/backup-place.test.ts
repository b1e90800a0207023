/** The files beside a database while it is backed up and restored: whose they are, and that none is written over. */
import { existsSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import { clearLeftovers, settleRestored } from '../../../../adapters/stores/sqlite/backup-place.ts';
import { removeTemporaryDirs, temporaryDir } from '../../../support/broker.ts';

afterAll(removeTemporaryDirs);

test('what a backup left is cleared away, and nothing that somebody put beside it', () => {
  const folder = temporaryDir();
  const left = ['copy', 'copy-journal', 'sealed'].map(
    (part) => `warder.db.backup-bkp_01m839ade1xt8qgdva6y568hnp.${part}`,
  );
  const own = [
    'warder.db.backup-monday',
    'warder.db.backup-bkp_01m839ade1xt8qgdva6y568hnp',
    'warder.db.backup-bkp_01m839ade1xt8qgdva6y568hnp.sealed.old',
  ];
  for (const name of [...left, ...own]) writeFileSync(join(folder, name), '');
  clearLeftovers(join(folder, 'warder.db'));
  expect(readdirSync(folder).sort()).toEqual(own.sort());
});

test('a database that is moved aside is never written over: not by another restore of the same second', () => {
  const folder = temporaryDir();
  const database = join(folder, 'warder.db');
  const restored = (content: string): void => {
    writeFileSync(`${database}.restored`, content);
    utimesSync(`${database}.restored`, 1_800_000_000, 1_800_000_000);
    settleRestored(database);
    expect(readFileSync(database, 'utf8')).toBe(content);
  };
  writeFileSync(database, 'the first');
  writeFileSync(`${database}-wal`, 'and its log');
  for (const content of ['the second', 'the third', 'the fourth']) restored(content);
  const aside = (number: string, log = ''): string =>
    readFileSync(`${database}.replaced-20270115T080000Z${number}${log}`, 'utf8');
  expect([aside(''), aside('', '-wal'), aside('-2'), aside('-3')]).toEqual([
    'the first',
    'and its log',
    'the second',
    'the third',
  ]);
  expect(existsSync(`${database}.replaced-20270115T080000Z-2-wal`)).toBe(false);
});
