/** A process that waits for a line, then migrates a database. Arguments: database path, migrations folder. */
import { openForWriting } from '../../../../adapters/stores/sqlite/connection.ts';
import { migrate, readMigrations } from '../../../../adapters/stores/sqlite/migrate.ts';
import { say } from '../../../faults/say.ts';

const [path = '', folder = ''] = process.argv.slice(2);
const migrations = readMigrations(folder);
say('ready');
process.stdin.once('data', () => {
  try {
    const db = openForWriting(path);
    migrate(db, migrations, Date.now());
    db.close();
    say('done');
  } catch (error) {
    say(`failed ${String(error)}`);
  }
  process.exit(0);
});
