/**
 * A process that tries to take a lock at given moments, so that two of them try in the same instant, and says in which
 * rounds it got it. Arguments: where the locks are, the first moment (milliseconds since the epoch), how many rounds.
 */
import { writeSync } from 'node:fs';
import { DataDirectoryInUse, lockDataDirectory } from '../../../../adapters/stores/sqlite/lock.ts';

const roundMs = 320;
const heldMs = 300;
const [path = '', begin = '', rounds = ''] = process.argv.slice(2);

/** Spins: a timer would wake the two of them at different times. */
const until = (moment: number): void => {
  while (Date.now() < moment);
};

const tryAt = (moment: number, lock: string): 'y' | 'n' => {
  until(moment);
  try {
    const release = lockDataDirectory(lock);
    until(moment + heldMs);
    release();
    return 'y';
  } catch (error) {
    if (error instanceof DataDirectoryInUse) return 'n';
    throw error;
  }
};

const answers = Array.from({ length: Number(rounds) }, (_, i) =>
  tryAt(Number(begin) + i * roundMs, `${path}-${i}.lock`),
);
writeSync(1, `got ${answers.join('')}\n`);
