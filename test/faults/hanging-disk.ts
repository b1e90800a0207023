/**
 * A process whose disk hangs once, under strace. It commits one by one until a commit is refused, and looks how long
 * that took, what came next, and how it went on. Argument: database path. Prints one line of JSON.
 */
import { openSqliteStore } from '../../adapters/stores/sqlite/store.ts';
import { migrationsFolder } from '../adapters/stores/sqlite/temporary-store.ts';
import { changesetNamed } from './ledger-check.ts';

const [databasePath = ''] = process.argv.slice(2);
let fatal = 0;
const store = await openSqliteStore({
  databasePath,
  migrationsFolder,
  onFatal: () => {
    fatal += 1;
  },
});
const heard: number[] = [];
store.ledger.onCommitted((_, seq) => heard.push(seq));

const timed = async (name: string): Promise<{ outcome: string; ms: number }> => {
  const began = performance.now();
  const outcome = await store.ledger.commit(changesetNamed(name, 10)).then(
    (result) => (result.ok ? `ok ${result.seq}` : result.why),
    (error: unknown) => (error instanceof Error ? error.name : String(error)),
  );
  return { outcome, ms: performance.now() - began };
};

let hanging = await timed('n0');
let count = 1;
/** Some come while the disk hangs already: they wait behind the one that does. */
let behind: Promise<{ outcome: string; ms: number }>[] = [];
while (hanging.outcome.startsWith('ok')) {
  const one = timed(`n${count}`);
  behind = [1, 2, 3].map((n) => timed(`n${count}-behind-${n}`));
  hanging = await one;
  await Promise.all(behind);
  count += 1;
}
const waited = await Promise.all(behind);
const next = await timed('next');
const trouble = store.ledger.trouble();
const { size } = await store.reader.treeHead();
while (store.ledger.trouble() !== undefined) await new Promise((resolve) => setTimeout(resolve, 50));
const after = await timed('after');
const { size: sizeAfter } = await store.reader.treeHead();
console.log(JSON.stringify({ hanging, waited, next, trouble, size, after, sizeAfter, heard, fatal }));
await store.close();
