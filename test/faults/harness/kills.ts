/** Ways to kill a broker, and a plan of them by seed. */
import { spawn } from 'node:child_process';
import { type Child, run } from '../child-process.ts';
import { canTrace, syncs } from '../strace.ts';
import type { KillKind } from './findings.ts';
import type { Chance } from './random.ts';

/** When, in milliseconds or in syncs. */
export interface Kill {
  kind: KillKind;
  at: number;
}

/** The longest life of a broker at work. */
export interface LifeLimits {
  syncs: number;
  ms: number;
}

/** What ends the work of a life. */
export const endOfWork = (chance: Chance, traced: boolean, longest: LifeLimits): Kill =>
  traced && chance.next() < 0.55
    ? { kind: 'sync', at: chance.between(1, longest.syncs) }
    : { kind: 'time', at: chance.between(20, longest.ms) };

/**
 * What may come after it, before the next start that is let live: a start that is cut off, or one that is let listen and
 * dies while it recovers.
 */
export const afterThat = (chance: Chance, traced: boolean): Kill | undefined => {
  const what = chance.next();
  if (what < 0.1) return { kind: 'start', at: chance.between(30, 700) };
  // A start over a ledger that is there syncs a few times: its lock, what recovery records.
  if (what < 0.17) return traced ? { kind: 'start-sync', at: chance.between(1, 4) } : undefined;
  return what < 0.3 ? { kind: 'recovery', at: chance.between(0, 250) } : undefined;
};

const traceOptions = (at: number): string[] => {
  const inject = `inject=${syncs}:signal=SIGKILL:when=${at}`;
  return ['-f', '-o', '/dev/null', '-e', `trace=${syncs}`, '-e', inject];
};

/** What runs a broker so that it dies at this sync, counted from its start. It starts four times as slow. */
export const underTrace = (at: number): string[] => ['strace', '-qq', ...traceOptions(at)];

/**
 * Has a running process die at its N-th sync from now on. Its start is not traced, so it is as quick as ever.
 * @returns the tracer, which ends with the process; undefined when it could not be attached
 */
export const killAtSync = async (pid: number, at: number): Promise<Child | undefined> => {
  // It says on standard error that it has the process.
  const tracer = run('sh', ['-c', 'exec "$0" "$@" 2>&1', 'strace', ...traceOptions(at), '-p', String(pid)]);
  try {
    const line = await tracer.line('strace: ');
    if (line.includes('attached')) return tracer;
  } catch {
    // It ended without a word: the process is gone, or it may not be traced.
  }
  await tracer.ended;
  return undefined;
};

/** Whether this user may attach to a process that is running (Yama's ptrace_scope is 0, or he is root). */
export const canAttach = async (): Promise<boolean> => {
  if (!canTrace) return false;
  const sleeper = spawn('sleep', ['10'], { stdio: 'ignore' });
  await new Promise((resolve) => sleeper.once('spawn', resolve));
  const tracer = sleeper.pid === undefined ? undefined : await killAtSync(sleeper.pid, 1);
  sleeper.kill('SIGKILL');
  await tracer?.ended;
  return tracer !== undefined;
};

/** @returns when the time is over, or earlier with what comes earlier */
export const within = async (ms: number, earlier: Promise<unknown>): Promise<void> => {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([over, earlier]);
  clearTimeout(timer);
};
