/** Faults from below: strace makes system calls of a process fail, stall, or kill it, at the N-th time. */
import { spawnSync } from 'node:child_process';
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
