/**
 * A process that fills the disk it is on, over and over, with less room each time, commits until it is refused, makes
 * room and goes on. Run it on a small disk of its own. Argument: a folder on that disk. Prints one line of JSON.
 */
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { openSqliteStore } from '../../adapters/stores/sqlite/store.ts';
import { type LedgerStore, LedgerUnavailable } from '../../src/ports/ledger.ts';
import { migrationsFolder } from '../adapters/stores/sqlite/temporary-store.ts';
import { changesetNamed, checkLedger, told } from './ledger-check.ts';

const [folder = ''] = process.argv.slice(2);
const databasePath = join(folder, 'data', 'warder.db');
const ballast = join(folder, 'ballast');

const report = {
  rounds: 0,
  refused: 0,
  wentOn: 0,
  slowestRefusalMs: 0,
  fatal: [] as string[],
  problems: [] as string[],
};
const said = told([]);
const problem = (what: string): void => {
  report.problems.push(what);
};

const open = (): Promise<LedgerStore> =>
  openSqliteStore({ databasePath, migrationsFolder, onFatal: (error) => report.fatal.push(error.message) });

/** Takes all the room there is, then gives back so much. */
const leaveRoom = (bytes: number): void => {
  const piece = Buffer.alloc(1024);
  const file = openSync(ballast, 'w');
  let taken = 0;
  try {
    for (;;) taken += writeSync(file, piece);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
  }
  closeSync(file);
  rmSync(ballast);
  const again = openSync(ballast, 'w');
  for (let left = taken - bytes; left > 0; left -= 1024) writeSync(again, piece);
  closeSync(again);
};

let next = 0;
const tryOne = async (store: LedgerStore, payload: number): Promise<boolean> => {
  const name = `n${next}`;
  next += 1;
  said.tried.add(name);
  const began = performance.now();
  try {
    const result = await store.ledger.commit(changesetNamed(name, payload));
    if (result.ok) said.acknowledged.set(name, result.seq);
    else problem(`${name} was refused as ${result.why}`);
    return result.ok;
  } catch (error) {
    report.refused += 1;
    report.slowestRefusalMs = Math.max(report.slowestRefusalMs, performance.now() - began);
    if (!(error instanceof LedgerUnavailable)) problem(`${name}: ${String(error)}`);
    return false;
  }
};

let store = await open();
for (let room = 0; room <= 120; room += 8) {
  report.rounds += 1;
  const fatalBefore = report.fatal.length;
  leaveRoom(room * 1024);
  const payload = room % 16 === 0 ? 100 : 9000;
  let refused = false;
  for (let i = 0; i < 200 && !refused; i += 1) {
    const results = await Promise.all(Array.from({ length: 1 + (room % 3) * 4 }, () => tryOne(store, payload)));
    refused = results.includes(false);
  }
  if (!refused) problem(`a disk with ${room} KiB of room took everything`);
  if (refused && store.ledger.trouble() === undefined) problem('a refused commit, and no trouble is known');
  // What was acknowledged is read as before while nothing can be written.
  const { size } = await store.reader.treeHead();
  if (size < said.acknowledged.size * 2) problem(`${said.acknowledged.size} acknowledged, ${size} entries seen`);
  rmSync(ballast);
  if (report.fatal.length === fatalBefore) {
    if (await tryOne(store, payload)) report.wentOn += 1;
    else problem('there is room again, and it was refused');
    if (store.ledger.trouble() !== undefined) problem(`there is room again, and still: ${store.ledger.trouble()}`);
  } else {
    if (await tryOne(store, payload)) problem('it went on after it had said that it could not');
    await store.close();
    store = await open();
  }
}
await store.close();
const check = checkLedger(databasePath, said);
report.problems.push(...check.problems);
console.log(JSON.stringify({ ...report, acknowledged: said.acknowledged.size, kept: check.kept }));
process.exit(0);
