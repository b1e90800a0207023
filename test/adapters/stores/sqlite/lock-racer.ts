/**
 * A process that takes locks on command, so that two of them can be made to try in the same instant. Each line of input
 * is `MOMENT PATH` (milliseconds since the epoch): it tries then, says `y` or `n` and holds what it got until the next.
 */
import { createInterface } from 'node:readline';
import { DataDirectoryInUse, lockDataDirectory } from '../../../../adapters/stores/sqlite/lock.ts';
import { say } from '../../../faults/say.ts';

let release: (() => void) | undefined;

const tryAt = (moment: number, path: string): 'y' | 'n' => {
  // Spins: a timer would wake the two of them at different times.
  while (Date.now() < moment);
  try {
    release = lockDataDirectory(path);
    return 'y';
  } catch (error) {
    if (error instanceof DataDirectoryInUse) return 'n';
    throw error;
  }
};

say('ready');
createInterface({ input: process.stdin }).on('line', (line) => {
  release?.();
  release = undefined;
  const [moment = '', path = ''] = line.split(' ');
  say(`${path} ${tryAt(Number(moment), path)}`);
});
