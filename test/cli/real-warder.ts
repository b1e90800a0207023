/** Runs the real command line as its users do: `bin/warder.cjs`, as a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';

const bin = new URL('../../bin/warder.cjs', import.meta.url).pathname;

/** The environment of a command: nothing of whoever runs the tests but what a process needs. */
const environment = (more: Record<string, string>): Record<string, string> => ({
  PATH: process.env['PATH'] ?? '',
  ...more,
});

export interface Ended {
  code: number | null;
  out: string;
  err: string;
}

export interface RunOptions {
  cwd: string;
  env: Record<string, string>;
  stdin?: string;
  /** Nobody reads its standard output: the pipe is closed at once, as by `| head -0`. */
  deaf?: boolean;
}

export const warder = async (args: readonly string[], options: RunOptions): Promise<Ended> => {
  const child = spawn(process.execPath, [bin, ...args], { cwd: options.cwd, env: environment(options.env) });
  child.stdin.end(options.stdin ?? '');
  if (options.deaf) child.stdout.destroy();
  const heard = options.deaf ? '' : text(child.stdout);
  const [out, err] = await Promise.all([heard, text(child.stderr), once(child, 'close')]);
  return { code: child.exitCode, out, err };
};

export interface Served {
  url: string;
  /** The first admin token; undefined at a later start. */
  token: string | undefined;
  /** Everything on standard output so far. */
  out(): string;
  /** @returns the exit code */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

const greeting = (child: ChildProcess, printed: () => string): Promise<void> =>
  new Promise((resolve, reject) => {
    child.stdout?.on('data', () => {
      if (/Warder is listening on \S+\n/.test(printed())) resolve();
    });
    child.once('close', (code) => reject(new Error(`warder serve ended with ${code}: ${printed()}`)));
  });

/** `warder serve` on a free port, with its data under `cwd`. */
export const serve = async (cwd: string): Promise<Served> => {
  const child = spawn(process.execPath, [bin, 'serve'], {
    cwd,
    env: environment({
      WARDER_LISTEN: '127.0.0.1:0',
      WARDER_PUBLIC_URL: 'http://127.0.0.1:7300',
      WARDER_LOG_LEVEL: 'warn',
    }),
  });
  let out = '';
  child.stdout.on('data', (chunk) => {
    out += String(chunk);
  });
  child.stderr.on('data', (chunk) => {
    out += String(chunk);
  });
  await greeting(child, () => out);
  // The token comes in the same write or the next one.
  await new Promise((soon) => setTimeout(soon, 50));
  return {
    url: /listening on (\S+)/.exec(out)?.[1] ?? '',
    token: /export WARDER_TOKEN=(\S+)/.exec(out)?.[1],
    out: () => out,
    stop: async (signal = 'SIGTERM') => {
      const closed = once(child, 'close');
      child.kill(signal);
      await closed;
      return child.exitCode;
    },
  };
};
