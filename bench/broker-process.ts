/** The broker as it is shipped, in a process of its own: `node bench/broker-process.ts <data dir> <port>`. */
import { readFileSync } from 'node:fs';
import { readConfig } from '../src/config.ts';
import { startWarder } from '../src/warder.ts';

const [dataDir = '', port = '0'] = process.argv.slice(2);
const startedAt = performance.now();
const read = readConfig({
  env: {
    WARDER_DATA_DIR: dataDir,
    WARDER_LISTEN: `127.0.0.1:${port}`,
    WARDER_RATE_LIMIT_PER_SECOND: '1000000',
  },
  readFile: (path) => readFileSync(path, 'utf8'),
});
if (!read.ok) throw new Error(read.problems.join('\n'));
const running = await startWarder(read.config, read.secrets, {
  onFatal: (error) => {
    console.error(error);
    process.exit(1);
  },
  logDestination: { write: () => undefined },
});
const readyMs = performance.now() - startedAt;
process.send?.({ ready: true, readyMs, bootstrapToken: running.bootstrapToken });
process.on('message', (message) => {
  if (message === 'memory') process.send?.({ rssMb: process.memoryUsage().rss / 1024 / 1024 });
});
process.on('SIGTERM', () => {
  running.close().then(
    () => process.exit(0),
    () => process.exit(1),
  );
});
