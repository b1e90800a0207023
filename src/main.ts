/** The command line on a real machine: hands src/cli the process, and the broker for the commands that run it. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import type { ConfiguredWarder, Context } from './cli/context.ts';
import { runCli } from './cli/program.ts';
import { type ConfigInput, readConfig } from './config.ts';

/** Read where there is one and nothing else was said. */
const usualConfigFile = 'warder.yaml';

const readVersion = (): string => {
  const found: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  return typeof found === 'object' && found !== null && 'version' in found ? String(found.version) : 'unknown';
};

/**
 * Before anything secret is in memory: new files are their owner's alone, and a core file holds no memory
 * (core(5): no bit of the filter set, so no mapping is dumped). Elsewhere than on Linux there is no such filter.
 */
const harden = (): void => {
  process.umask(0o077);
  if (!existsSync('/proc/self/coredump_filter')) return;
  try {
    writeFileSync('/proc/self/coredump_filter', '0');
  } catch {
    // Not permitted in some containers; `warder doctor` says whether it was.
  }
};

const readConfigFile = (path: string): ConfigInput['file'] | string => {
  try {
    return { path, text: readFileSync(path, 'utf8') };
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
    return `${path}: cannot be read (${code})`;
  }
};

const configure = (path: string | undefined): ConfiguredWarder | { ok: false; problems: readonly string[] } => {
  const given = path ?? (process.env['WARDER_CONFIG'] || undefined);
  const chosen = given ?? (existsSync(usualConfigFile) ? usualConfigFile : undefined);
  const file = chosen === undefined ? undefined : readConfigFile(chosen);
  if (typeof file === 'string') return { ok: false, problems: [file] };
  const read = readConfig({ env: process.env, file, readFile: (name) => readFileSync(name, 'utf8') });
  if (!read.ok) return read;
  const { config, secrets } = read;
  return {
    ok: true,
    settings: {
      dataDir: config.dataDir,
      storePath: config.store.path,
      rootKeyPath: config.kms.kind === 'local' ? config.kms.path : undefined,
    },
    // Loaded when needed: most commands only talk to a broker, and start five times quicker without one inside.
    start: async (onFatal) => {
      harden();
      const { startWarder } = await import('./warder.ts');
      return startWarder(config, secrets, { onFatal });
    },
    init: async (options) => {
      harden();
      const { initWarder } = await import('./warder.ts');
      return initWarder(config, secrets, options);
    },
    restore: async (request, onProgress) => {
      harden();
      const { restoreWarder } = await import('./restore.ts');
      return restoreWarder(config, secrets, request, onProgress);
    },
    checkBackup: async (request, onProgress) => {
      harden();
      const { checkBackupFile } = await import('./restore.ts');
      return checkBackupFile(config, secrets, request, onProgress);
    },
  };
};

const onSignal: Context['onSignal'] = (listener) => {
  process.on('SIGINT', listener).on('SIGTERM', listener);
  return () => void process.off('SIGINT', listener).off('SIGTERM', listener);
};

// `warder … | head`: a reader that has seen enough is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

process.exitCode = await runCli(process.argv.slice(2), {
  env: process.env,
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  now: Date.now,
  version: readVersion(),
  configure,
  onSignal,
  exit: (code) => process.exit(code),
});
