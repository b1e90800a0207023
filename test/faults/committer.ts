/**
 * A process that commits in a loop and says what became of each changeset, line by line, written before it goes on:
 *
 *     open | try NAME | ack NAME SEQ | refused NAME WHY | fatal WHY | done
 *
 * Arguments: database path, a name for this run, how many commit at once, how many changesets in all, bytes of payload
 * in each, and `close` or `exit` for how to end.
 */
import { openSqliteStore } from '../../adapters/stores/sqlite/store.ts';
import { migrationsFolder } from '../adapters/stores/sqlite/temporary-store.ts';
import { changesetNamed } from './ledger-check.ts';
import { say } from './say.ts';

const [databasePath = '', run = '', atOnce = '', count = '', payload = '', ending = ''] = process.argv.slice(2);
/** After this many refusals in a row nothing is expected to change any more. */
const patience = 150;

let stopped = false;
const store = await openSqliteStore({
  databasePath,
  migrationsFolder,
  onFatal: (error) => {
    stopped = true;
    say(`fatal ${error.message}`);
  },
});
say('open');

let next = 0;
let refusals = 0;
const commitNext = async (): Promise<void> => {
  const name = `${run}-${next}`;
  next += 1;
  say(`try ${name}`);
  try {
    const result = await store.ledger.commit(changesetNamed(name, Number(payload)));
    refusals = 0;
    say(result.ok ? `ack ${name} ${result.seq}` : `refused ${name} ${result.why}`);
  } catch (error) {
    refusals += 1;
    say(`refused ${name} ${error instanceof Error ? `${error.name} (${String(error.cause)})` : String(error)}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
};
const lane = async (): Promise<void> => {
  while (next < Number(count) && refusals < (stopped ? 3 : patience)) await commitNext();
};
await Promise.all(Array.from({ length: Number(atOnce) }, lane));
say('done');
if (ending === 'close') await store.close();
process.exit(0);
