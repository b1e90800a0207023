/** SQLite stores in directories that go away. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openSqliteStore } from '../../../../adapters/stores/sqlite/store.ts';
import type { LedgerStore } from '../../../../src/ports/ledger.ts';
import type { OpenedLedger } from '../../../conformance/ledger-rows.ts';

export const repository = fileURLToPath(new URL('../../../../', import.meta.url));
export const migrationsFolder = join(repository, 'migrations/sqlite');

export const temporaryFolder = (): { path: string; remove(): void } => {
  const path = mkdtempSync(join(tmpdir(), 'warder-test-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
};

export interface OpenedSqlite extends OpenedLedger {
  folder: string;
  databasePath: string;
  /** What the store said it could not go on for. */
  fatal: Error[];
}

/** Opens a store in a new directory; `close` removes it. */
export const openTemporary = async (): Promise<OpenedSqlite> => {
  const folder = temporaryFolder();
  const databasePath = join(folder.path, 'data', 'warder.db');
  const fatal: Error[] = [];
  const open = (): Promise<LedgerStore> =>
    openSqliteStore({ databasePath, migrationsFolder, onFatal: (error) => fatal.push(error) });
  let current = await open();
  return {
    store: current,
    folder: folder.path,
    databasePath,
    fatal,
    reopen: async () => {
      await current.close();
      current = await open();
      return current;
    },
    close: async () => {
      await current.close();
      folder.remove();
    },
  };
};
