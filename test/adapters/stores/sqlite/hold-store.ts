/** A process that opens a store and keeps it open until its input ends. Arguments: database path, migrations folder. */
import { writeSync } from 'node:fs';
import { openSqliteStore } from '../../../../adapters/stores/sqlite/store.ts';

const [databasePath = '', migrationsFolder = ''] = process.argv.slice(2);
try {
  const store = await openSqliteStore({ databasePath, migrationsFolder, onFatal: () => process.exit(3) });
  writeSync(1, 'open\n');
  process.stdin.on('end', () => void store.close());
  process.stdin.resume();
} catch (error) {
  writeSync(1, `refused ${error instanceof Error ? `${error.name}: ${error.message}` : String(error)}\n`);
  process.exitCode = 1;
}
