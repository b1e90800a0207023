/**
 * A broker in a process of its own, as `warder serve` runs it, but with the providers of the tests and a drain that
 * hurries. Configured by the environment; prints one line of JSON when it listens.
 */
import { readFileSync, writeSync } from 'node:fs';
import { readConfig } from '../../src/config.ts';
import { startWarder } from '../../src/warder.ts';
import { hurriedDrain, hurriedRotation } from './broker.ts';
import { keyedProvider } from './keyed-provider.ts';
import { upstreamProviders } from './upstream-provider.ts';

const read = readConfig({ env: process.env, readFile: (path) => readFileSync(path, 'utf8') });
if (!read.ok) throw new Error(read.problems.join('\n'));
const running = await startWarder(read.config, read.secrets, {
  extraProviders: [...upstreamProviders, keyedProvider],
  drainPatience: hurriedDrain,
  rotationPace: hurriedRotation,
  onFatal: (error) => {
    writeSync(2, `fatal: ${error.message}\n`);
    process.exit(1);
  },
});
writeSync(
  1,
  `${JSON.stringify({ url: running.url, bootstrap_token: running.bootstrapToken ?? null, pid: process.pid })}\n`,
);
process.once('SIGTERM', () => void running.close());
