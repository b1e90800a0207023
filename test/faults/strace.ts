/** Faults from below: strace makes system calls of a process fail, stall, or kill it, at the N-th time. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Child, run } from './child-process.ts';

const works = (command: string, ...args: string[]): boolean =>
  spawnSync(command, args, { stdio: 'ignore' }).status === 0;

/** Absent, or not allowed to trace (a container without CAP_SYS_PTRACE). */
export const canTrace = works('strace', '-f', '-o', '/dev/null', '-e', 'trace=none', 'true');
/** A mount of one's own, for a disk that is really full. */
export const canMount = works('unshare', '-rm', 'sh', '-c', 'mount -t tmpfs -o size=64k none /mnt');

/** The name of a test that needs something: says why when it is skipped. */
export const needing = (fine: boolean, what: string, name: string): string =>
  fine ? name : `${name} (skipped: ${what} does not work here)`;

/** SQLite syncs with either, as its build says. */
export const syncs = 'fsync,fdatasync';

/**
 * Runs a script of ours under strace.
 * @param inject e.g. `fsync,fdatasync:error=EIO:when=3`; counted for each thread by itself
 */
export const runInjected = (inject: string, script: string, ...args: string[]): Child => {
  const calls = inject.split(':')[0] ?? '';
  // Stops at these calls only, instead of at every one; strace 6 does not send signals that way.
  const quick = inject.includes(':signal=') ? [] : ['--seccomp-bpf'];
  return run('strace', [
    '-f',
    '-qq',
    ...quick,
    '-o',
    '/dev/null',
    '-e',
    `trace=${calls}`,
    '-e',
    `inject=${inject}`,
    process.execPath,
    script,
    ...args,
  ]);
};

/**
 * Counts calls of a script of ours until it has written a line (say.ts) that begins so.
 * @param calls e.g. `pwrite64`
 * @returns the most that one thread made, as `when` of an injection counts
 */
export const countCalls = async (calls: string, until: string, script: string, ...args: string[]): Promise<number> => {
  const folder = mkdtempSync(join(tmpdir(), 'warder-test-'));
  const trace = join(folder, 'trace');
  try {
    const options = ['-f', '-qq', '--seccomp-bpf', '-o', trace, '-e', `trace=${calls},write`];
    await run('strace', [...options, process.execPath, script, ...args]).ended;
    const byThread = new Map<string, number>();
    for (const line of readFileSync(trace, 'utf8').split('\n')) {
      // One that is interrupted by another thread's is resumed in a line of its own, which names no arguments.
      const [, thread = '', call = ''] = /^(\d+) +(\w+)\(/.exec(line) ?? [];
      if (call === 'write' && line.includes(`write(1, "${until}`)) return Math.max(0, ...byThread.values());
      if (call !== '' && call !== 'write') byThread.set(thread, (byThread.get(thread) ?? 0) + 1);
    }
    throw new Error(`it never wrote “${until}”`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
};
