/** Real processes for tests that need more than one, or one that dies. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

export interface Child {
  process: ChildProcessByStdio<Writable, Readable, Readable>;
  /** The lines it wrote so far. */
  lines: string[];
  /** @returns the first line that begins so, as soon as it is written; throws when the process ends without it */
  line(start: string): Promise<string>;
  /** How it ended. All that it wrote is in `lines` by then. */
  ended: Promise<{ code: number | null; signal: NodeJS.Signals | null; errors: string }>;
}

/** Compiled code is kept between processes, where Node itself would keep it: each starts in half the time. */
const env = { NODE_COMPILE_CACHE: join(tmpdir(), 'node-compile-cache'), ...process.env };

/** Runs a command; its standard output is read line by line. */
export const run = (command: string, args: string[]): Child => {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], env });
  // A process that ended does not read any more: how it ended is what tests look at.
  child.stdin.on('error', () => undefined);
  const lines: string[] = [];
  const waiting = new Set<() => void>();
  const tell = (): void => {
    for (const one of waiting) one();
  };
  let errors = '';
  child.stderr.on('data', (chunk: Buffer) => {
    errors += chunk.toString();
  });
  createInterface({ input: child.stdout }).on('line', (text) => {
    lines.push(text);
    tell();
  });
  let over = false;
  const ended = new Promise<Awaited<Child['ended']>>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      over = true;
      tell();
      resolve({ code, signal, errors });
    });
  });
  // Whoever does not wait for its end is not told of a failure to start through this promise.
  ended.catch(() => undefined);
  return {
    process: child,
    lines,
    ended,
    line: (start) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const found = lines.find((text) => text.startsWith(start));
          if (found === undefined && !over) return;
          waiting.delete(look);
          if (found === undefined) reject(new Error(`it ended without “${start}”: ${lines.join(' | ')} ${errors}`));
          else resolve(found);
        };
        waiting.add(look);
        look();
      }),
  };
};

/** Runs a TypeScript file on this very Node. */
export const runScript = (path: string, ...args: string[]): Child => run(process.execPath, [path, ...args]);
