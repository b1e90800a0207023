/** Brokers as processes, for tests in which one dies, is starved, or meets another. */
import { fileURLToPath } from 'node:url';
import { systemEntropy } from '../../adapters/system.ts';
import { makeId } from '../../src/domain/ids.ts';
import { makeToken } from '../../src/domain/tokens.ts';
import { type Child, run } from '../faults/child-process.ts';
import { type BrokerClient, brokerClient } from './broker.ts';

export interface ChildOptions {
  dataDir: string;
  port: number;
  /** Made with {@link newAdminToken}; the first start takes it, later ones know it. */
  adminToken?: string;
  env?: Record<string, string>;
  /** What runs Node, e.g. `['strace', '-f', …]`. */
  under?: readonly string[];
  /** The product's own command line instead of a broker with the providers of the tests. */
  commandLine?: boolean;
}

export interface ChildBroker extends BrokerClient {
  /** What it printed when it listened. */
  greeting: { url: string; bootstrap_token: string | null; pid?: number };
  child: Child;
  /** kill -9, and waits for its end. */
  kill(): Promise<void>;
  /** SIGTERM, and waits for its end. */
  stop(): Promise<{ code: number | null; signal: NodeJS.Signals | null; errors: string }>;
}

const script = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** An operator token picked in advance (`WARDER_BOOTSTRAP_TOKEN`). */
export const newAdminToken = (): string =>
  makeToken('operator', makeId('op', Date.now(), systemEntropy(10)), systemEntropy(32));

/** Starts the process; {@link childBroker} waits until it listens. */
export const spawnBroker = (options: ChildOptions): Child => {
  const env = {
    WARDER_DATA_DIR: options.dataDir,
    WARDER_LISTEN: `127.0.0.1:${options.port}`,
    WARDER_RATE_LIMIT_PER_SECOND: '100000',
    ...(options.adminToken === undefined ? {} : { WARDER_BOOTSTRAP_TOKEN: options.adminToken }),
    ...options.env,
  };
  const command = [
    ...(options.under ?? []),
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    ...(options.commandLine ? [script('../../src/main.ts'), 'serve', '--json'] : [script('./child-broker-process.ts')]),
  ];
  return run('env', [...Object.entries(env).map(([name, value]) => `${name}=${value}`), ...command]);
};

/** @throws Error with what it wrote when it ends instead of listening */
export const startChildBroker = async (options: ChildOptions): Promise<ChildBroker> => {
  const child = spawnBroker(options);
  const greeting = JSON.parse(await child.line('{')) as ChildBroker['greeting'];
  const stopped = (signal: NodeJS.Signals) => {
    child.process.kill(signal);
    return child.ended;
  };
  return {
    ...brokerClient(greeting.url, options.adminToken ?? greeting.bootstrap_token ?? ''),
    greeting,
    child,
    kill: async () => {
      // What runs it (strace) would leave it behind; the process itself says its number while it is ours to end.
      const over = child.process.exitCode !== null || child.process.signalCode !== null;
      if (greeting.pid !== undefined && !over) process.kill(greeting.pid, 'SIGKILL');
      await stopped('SIGKILL');
    },
    stop: () => stopped('SIGTERM'),
  };
};
