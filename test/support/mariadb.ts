/** A real MariaDB of its own, where the machine has one: on a free port, over a new directory. */
import { execFile, spawn } from 'node:child_process';
import { chownSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import mysql from 'mysql2/promise';
import { freePort } from './broker.ts';
import { eventually } from './eventually.ts';

export interface RunningMariadb {
  /** `mysql://…` of a user that may do everything. */
  url: string;
  stop(): Promise<void>;
}

const inPath = (name: string): string | undefined =>
  [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin']
    .map((folder) => join(folder, name))
    .find((path) => existsSync(path));

const server = inPath('mariadbd');
const install = inPath('mariadb-install-db');

export const hasMariadb = server !== undefined && install !== undefined;

export const startMariadb = async (): Promise<RunningMariadb> => {
  if (!server || !install) throw new Error('this machine has no MariaDB');
  const directory = mkdtempSync(join(tmpdir(), 'warder-mariadb-'));
  const root = process.getuid?.() === 0;
  // It does not run as root.
  const user = root ? ['--user=mysql'] : [];
  if (root) {
    const { uid, gid } = statSync('/var/lib/mysql');
    chownSync(directory, uid, gid);
  }
  const data = join(directory, 'data');
  const port = await freePort();
  const password = 'superuser';
  const first = join(directory, 'first.sql');
  // It reads one statement a line.
  const statements = [
    `CREATE USER super@'%' IDENTIFIED BY '${password}'`,
    "GRANT ALL ON *.* TO super@'%' WITH GRANT OPTION",
  ];
  writeFileSync(first, statements.map((statement) => `${statement};\n`).join(''));
  mkdirSync(data);
  if (root) chownSync(data, statSync(directory).uid, statSync(directory).gid);
  await promisify(execFile)(install, ['--no-defaults', `--datadir=${data}`, '--skip-test-db', ...user]);
  const child = spawn(
    server,
    [
      '--no-defaults',
      `--datadir=${data}`,
      `--socket=${join(directory, 'socket')}`,
      `--pid-file=${join(directory, 'pid')}`,
      `--port=${port}`,
      '--bind-address=127.0.0.1',
      '--skip-name-resolve',
      '--max-connections=300',
      '--innodb-flush-log-at-trx-commit=0',
      '--innodb-buffer-pool-size=16M',
      '--performance-schema=off',
      `--init-file=${first}`,
      ...user,
    ],
    { stdio: 'ignore' },
  );
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const url = `mysql://super:${password}@127.0.0.1:${port}`;
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL');
    await ended;
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    await eventually(
      'MariaDB takes logins',
      async () => {
        const connection = await mysql.createConnection(url).catch(() => undefined);
        await connection?.end();
        return connection !== undefined;
      },
      (is) => is,
      20_000,
    );
  } catch (error) {
    await stop();
    throw error;
  }
  return { url, stop };
};
