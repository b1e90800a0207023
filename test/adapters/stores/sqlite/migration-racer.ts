/** A process that waits for a line, then migrates a database. Arguments: database path, migrations folder. */
import { writeSync } from 'node:fs';
import { openForWriting } from '../../../../adapters/stores/sqlite/connection.ts';
import { migrate, readMigrations } from '../../../../adapters/stores/sqlite/migrate.ts';

const [path = '', folder = ''] = process.argv.slice(2);
const migrations = readMigrations(folder);
writeSync(1, 'ready\n');
process.stdin.once('data', () => {
  try {
    const db = openForWriting(path);
    migrate(db, migrations, Date.now());
    db.close();
    writeSync(1, 'done\n');
  } catch (error) {
    writeSync(1, `failed ${String(error)}\n`);
  }
  process.exit(0);
});
