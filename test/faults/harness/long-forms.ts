/** The long forms of tests that `npm test` has a short form of (test/support/length.ts). */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';

const repository = join(import.meta.dirname, '../../..');

/** The test files that have a long form. */
export const longForms = (): string[] =>
  readdirSync(join(repository, 'test'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => join(repository, 'test', name))
    .filter((path) => readFileSync(path, 'utf8').includes('support/length.ts'))
    .map((path) => relative(repository, path))
    .sort();

/** Runs them, their report on this terminal. @returns whether all of them passed */
export const runLongForms = async (signal: AbortSignal): Promise<boolean> => {
  const jest = ['--experimental-vm-modules', 'node_modules/jest/bin/jest.js', ...longForms()];
  const child = spawn(process.execPath, jest, {
    cwd: repository,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, WARDER_TEST_LONG: '1' },
  });
  const stop = (): void => void child.kill('SIGTERM');
  signal.addEventListener('abort', stop, { once: true });
  const code = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  signal.removeEventListener('abort', stop);
  return code === 0;
};
