/** A process that opens a store and keeps it open until its input ends. Arguments: database path, migrations folder. */
import { openSqliteStore } from '../../../../adapters/stores/sqlite/store.ts';
import { say } from '../../../faults/say.ts';

const [databasePath = '', migrationsFolder = ''] = process.argv.slice(2);
try {
  const store = await openSqliteStore({ databasePath, migrationsFolder, onFatal: () => process.exit(3) });
  say('open');
  process.stdin.on('end', () => void store.close());
  process.stdin.resume();
} catch (error) {
  say(`refused ${error instanceof Error ? `${error.name}: ${error.message}` : String(error)}`);
  process.exitCode = 1;
}
