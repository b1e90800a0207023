/**
 * Restores a backup as `warder restore --force` does, in a process that may be killed. Arguments: file, data directory,
 * URL, and, where it is to kill itself, before which of its own renamings and syncs (from 1; SQLite's are not counted).
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const [file = '', dataDir = '', url = '', dieBefore = ''] = process.argv.slice(2);
let calls = 0;
const dying =
  <A extends unknown[], R>(work: (...args: A) => R) =>
  (...args: A): R => {
    calls += 1;
    if (calls === Number(dieBefore)) process.kill(process.pid, 'SIGKILL');
    return work(...args);
  };
fs.renameSync = dying(fs.renameSync);
fs.fsyncSync = dying(fs.fsyncSync);
syncBuiltinESMExports();

const { restore } = await import('../support/backups.ts');
await restore({ file, dataDir, url, replace: true });
console.log(calls);
