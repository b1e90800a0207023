/** Runs one script: text in, text out, within the time there is, and leaves nothing of it running. */
import { spawn } from 'node:child_process';
import { dirname } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

export interface Ran {
  /** null when it was killed. */
  code: number | null;
  stdout: string;
  stderr: string;
  how: 'ended' | 'late' | 'too much output' | 'not started';
}

/** Nothing of Warder's own environment: there may be tokens in it. */
const environment = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8' };
/** What a script may answer, and what is kept of its complaints. */
const maxStdoutBytes = 64 * 1024;
const maxStderrBytes = 8 * 1024;
/** Pipes that somebody outside the group still holds are not waited for. */
const drainMs = 250;

/** @param signal ends the script and all it started */
export const runScript = async (file: string, input: string, signal: AbortSignal): Promise<Ran> => {
  if (signal.aborted) return { code: null, stdout: '', stderr: '', how: 'late' };
  // In a group of its own, so that what it started can be ended with it.
  const child = spawn(file, [], {
    cwd: dirname(file),
    env: environment,
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let how: Ran['how'] = 'ended';
  // Before anything else is asked of it: one that could not be started has no pipes, and an error that nobody hears of
  // would end Warder.
  const exited = new Promise<number | null>((resolve) => {
    child.once('exit', (code) => resolve(code));
    child.once('error', () => {
      how = 'not started';
      resolve(null);
    });
  });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  const endGroup = (): void => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    } catch {
      // Nobody of the group is left.
    }
  };
  const end = (why: Ran['how']) => (): void => {
    how = why;
    endGroup();
  };
  const late = end('late');
  signal.addEventListener('abort', late, { once: true });
  let [outBytes, errBytes] = [0, 0];
  child.stdout.on('data', (chunk: Buffer) => {
    outBytes += chunk.length;
    if (outBytes > maxStdoutBytes) end('too much output')();
    else out.push(chunk);
  });
  child.stderr.on('data', (chunk: Buffer) => {
    // Read on, or the script would wait for room; kept is the beginning.
    if (errBytes < maxStderrBytes) err.push(chunk.subarray(0, maxStderrBytes - errBytes));
    errBytes += chunk.length;
  });
  // A script need not read what it is told; its pipes may break when it is killed.
  for (const stream of [child.stdin, child.stdout, child.stderr]) stream.on('error', () => undefined);
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
  child.stdin.end(input);
  const code = await exited;
  signal.removeEventListener('abort', late);
  endGroup();
  await Promise.race([closed, pause(drainMs, undefined, { ref: false })]);
  for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy();
  return { code, stdout: Buffer.concat(out).toString('utf8'), stderr: Buffer.concat(err).toString('utf8'), how };
};
