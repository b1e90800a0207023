/** `warder serve` and `warder init`: the commands that act on this machine's data. */
import type { Command } from 'commander';
import { defaultUrl } from '../api.ts';
import { type JsonOption, leaf } from '../command.ts';
import type { ConfiguredWarder, Context, RunningWarder } from '../context.ts';
import { errorCode, exitCodes, type Failure, failed, usage } from '../failure.ts';
import { printable } from '../sanitise.ts';
import { type Screen, screenOf } from '../screen.ts';

interface LocalOptions extends JsonOption {
  config?: string;
}

/** Errors of the parts below whose messages say what is wrong and what to do, and carry no secret. */
const readyForUsers = new Set(['DataDirectoryInUse', 'IncompatibleDatabase', 'RootKeyExposed']);

/** What commonly keeps a server from starting, in words. */
const systemTrouble: Record<string, string> = {
  EADDRINUSE: 'the address is in use: is another Warder running? WARDER_LISTEN chooses another one',
  EADDRNOTAVAIL: 'the address does not belong to this machine; see WARDER_LISTEN',
  EACCES: 'permission denied: the data directory must belong to this user; ports below 1024 need privileges',
  EROFS: 'the file system is read-only; see WARDER_DATA_DIR',
  ENOSPC: 'the disk is full',
};

export const startTrouble = (error: unknown): Failure => {
  // Its message has a line for each problem, and a folder that is configured wrong is a configuration that is wrong.
  if (error instanceof Error && error.name === 'CatalogRefused') {
    return usage('the presets are wrong:', ...error.message.split('\n').map((line) => `  - ${line}`));
  }
  if (error instanceof Error && readyForUsers.has(error.name)) return failed(error.message);
  const code = errorCode(error);
  const words = Object.hasOwn(systemTrouble, code) ? systemTrouble[code] : undefined;
  if (words !== undefined) return failed(`Warder does not start: ${words} (${code})`);
  return failed(`Warder does not start: ${error instanceof Error ? `${error.name}: ${error.message}` : code}`);
};

/** @throws Failure 2 with every problem of the configuration */
export const requireConfigured = (context: Context, path: string | undefined): ConfiguredWarder => {
  const configured = context.configure(path);
  if (!configured.ok) throw usage('the configuration is wrong:', ...configured.problems.map((line) => `  - ${line}`));
  return configured;
};

const showBootstrapToken = (screen: Screen, token: string, url: string): void => {
  const base = url === defaultUrl ? '' : `export WARDER_URL=${url}\n  `;
  screen.line();
  screen.line('This is the first admin token, shown this once. Keep it safe, then go on in another terminal:');
  screen.line();
  screen.line(`  ${base}export WARDER_TOKEN=${token}`);
  screen.line('  npx warder agent add reporter --owner you@example.com');
  screen.line(`  # all commands: npx warder --help; all calls: ${url}/docs`);
  screen.line();
};

const greet = (screen: Screen, { json }: JsonOption, running: RunningWarder): void => {
  if (json) {
    screen.line(JSON.stringify({ url: running.url, bootstrap_token: running.bootstrapToken ?? null }));
    return;
  }
  screen.line(`Warder is listening on ${running.url}`);
  if (running.bootstrapToken !== undefined) showBootstrapToken(screen, running.bootstrapToken, running.url);
};

/** Runs until a signal or a fatal error: the first signal lets work in flight end, the second does not. */
const runUntilStopped = async (context: Context, configured: ConfiguredWarder, options: JsonOption): Promise<void> => {
  const screen = screenOf(context);
  const { promise: stopped, resolve: stop } = Promise.withResolvers<void>();
  const die = (): void => context.exit(exitCodes.failed);
  let signals = 0;
  const unsubscribe = context.onSignal(() => {
    signals += 1;
    if (signals > 1) die();
    else stop();
  });
  try {
    const running = await configured.start((error) => {
      screen.note(`Warder cannot go on: ${printable(error.message)}`);
      die();
    });
    greet(screen, options, running);
    await stopped;
    if (!options.json) screen.note('stopping; again to stop at once');
    await running.close();
  } catch (error) {
    throw startTrouble(error);
  } finally {
    unsubscribe();
  }
};

/** Adds `init` and `serve`. */
export const serveCommands = (program: Command, context: Context): void => {
  leaf(program, 'init', 'make the data directory, the root key and the first admin token')
    .option('--config <file>', 'configuration (default: WARDER_CONFIG, or warder.yaml if there is one)')
    .option('--recover-admin', 'every admin token is lost: make a new admin (stop the broker first)')
    .action(async (options: LocalOptions & { recoverAdmin?: boolean }) => {
      const configured = requireConfigured(context, options.config);
      const result = await configured.init({ recoverAdmin: options.recoverAdmin === true }).catch((error: unknown) => {
        throw startTrouble(error);
      });
      const screen = screenOf(context);
      const { dataDir } = configured.settings;
      if (options.json) {
        screen.line(JSON.stringify({ created: result.created, bootstrap_token: result.bootstrapToken ?? null }));
        return;
      }
      const recovered = !result.created && result.bootstrapToken !== undefined;
      const there = `${dataDir} is there already; ${recovered ? 'a new admin was made in it' : 'nothing was changed'}.`;
      screen.line(result.created ? `Made ${dataDir}.` : there);
      if (result.bootstrapToken !== undefined) {
        const which = recovered ? 'token of the new admin' : 'first admin token';
        screen.line(`This is the ${which}, shown this once. Keep it safe, then start the broker:`);
        screen.line();
        screen.line(`  export WARDER_TOKEN=${result.bootstrapToken}`);
        screen.line('  npx warder serve');
      }
    });

  leaf(program, 'serve', 'run the broker; initialises what is not there yet')
    .option('--config <file>', 'configuration (default: WARDER_CONFIG, or warder.yaml if there is one)')
    .action(async (options: LocalOptions) => {
      await runUntilStopped(context, requireConfigured(context, options.config), options);
    });
};
