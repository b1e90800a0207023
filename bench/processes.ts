/** Child processes of the bench, and their end. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

const children = new Set<ChildProcess>();

export interface Started {
  child: ChildProcess;
  url: string;
  first: Record<string, unknown>;
}

/** Starts a script of this folder and waits until it says that it is ready. */
export const start = async (script: string, args: string[], port: number): Promise<Started> => {
  const child = fork(join(import.meta.dirname, script), args, {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    // As bin/warder.cjs does.
    env: { ...process.env, NODE_COMPILE_CACHE: join(import.meta.dirname, '..', 'node_modules', '.cache', 'warder') },
  });
  children.add(child);
  const first = await Promise.race([
    once(child, 'message').then(([message]) => message as Record<string, unknown>),
    once(child, 'exit').then(() => undefined),
  ]);
  if (first === undefined) throw new Error(`${script} ${args.join(' ')} did not start`);
  return { child, url: `http://127.0.0.1:${port}`, first };
};

export const stop = async ({ child }: Started): Promise<void> => {
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  await ended;
  children.delete(child);
};

export const stopAll = (): void => {
  for (const child of children) child.kill('SIGKILL');
};
