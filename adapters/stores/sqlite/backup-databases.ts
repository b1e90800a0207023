/** Reads databases of backups, which nobody else has open. */
import Database from 'better-sqlite3';
import type { DatabaseReading } from '../../../src/ports/backup.ts';
import { checkDatabase } from './backup-check.ts';
import { readMigrations } from './migrate.ts';
import { openSqliteStore } from './store.ts';

export const openDatabaseReading = (migrationsFolder: string): DatabaseReading => ({
  schema: readMigrations(migrationsFolder).length,
  check: (path, sizes) => {
    const db = new Database(path, { readonly: true, fileMustExist: true });
    try {
      return checkDatabase(db, { thorough: true, sizes });
    } finally {
      db.close();
    }
  },
  // A store that cannot go on refuses every commit after, which ends the restore.
  open: (databasePath) => openSqliteStore({ databasePath, migrationsFolder, onFatal: () => undefined }),
});
