/** A MySQL or MariaDB with an admin user that has no more rights than docs/providers/mysql.md tells people to give it. */
import mysql from 'mysql2/promise';
import type { Account } from './database-grants.ts';

export const admin = { username: 'warder', password: 'the admin’s own: ümlaut' };

export interface MysqlRig {
  server: { host: string; port: number };
  mariadb: boolean;
  /** Runs one statement as a user that may do everything. */
  root(text: string): Promise<Record<string, unknown>[]>;
  /** Logs in as somebody. @throws what mysql2 throws */
  login(account: Pick<Account, 'username' | 'password'>): Promise<mysql.Connection>;
  /** The users Warder made. */
  users(): Promise<string[]>;
  stop(): Promise<void>;
}

const setUp = (mariadb: boolean): string[] => [
  'CREATE DATABASE shop_eu',
  'CREATE TABLE shop_eu.orders (id int AUTO_INCREMENT PRIMARY KEY, what varchar(100))',
  'CREATE TABLE shop_eu.staff (id int)',
  // What `_` of a pattern would match too.
  'CREATE DATABASE shopXeu',
  'CREATE TABLE shopXeu.secrets (id int)',
  `CREATE USER ${admin.username}@'%' IDENTIFIED BY '${admin.password}'`,
  `GRANT CREATE USER, PROCESS, ${mariadb ? 'CONNECTION ADMIN' : 'CONNECTION_ADMIN'} ON *.* TO ${admin.username}@'%'`,
  `GRANT SELECT, SHOW VIEW, INSERT, UPDATE, DELETE ON \`shop\\_eu\`.* TO ${admin.username}@'%' WITH GRANT OPTION`,
];

/** @param url of a user that may do everything; `started` ends the server */
export const mysqlRig = async (url: string, started?: { stop(): Promise<void> }): Promise<MysqlRig> => {
  const { hostname, port } = new URL(url);
  const root = await mysql.createConnection({ uri: url, charset: 'utf8mb4' });
  const run: MysqlRig['root'] = async (text) => {
    const [rows] = await root.query(text);
    return Array.isArray(rows) ? (rows as Record<string, unknown>[]) : [];
  };
  const mariadb = /mariadb/i.test(String((await run('SELECT VERSION() AS version'))[0]?.['version']));
  const users = async (): Promise<string[]> =>
    (await run("SELECT User AS name FROM mysql.user WHERE User LIKE 'wdr\\_%'")).map(({ name }) => String(name));
  const clean = async (): Promise<void> => {
    for (const user of [...(await users()), admin.username]) await run(`DROP USER IF EXISTS '${user}'@'%'`);
    for (const name of ['shop_eu', 'shopXeu']) await run(`DROP DATABASE IF EXISTS ${name}`);
  };
  await clean();
  for (const statement of setUp(mariadb)) await run(statement);
  return {
    server: { host: hostname, port: Number(port || 3306) },
    mariadb,
    root: run,
    login: async ({ username, password }) => {
      const connection = await mysql.createConnection({
        host: hostname,
        port: Number(port || 3306),
        user: username,
        password,
        charset: 'utf8mb4',
      });
      connection.on('error', () => undefined);
      return connection;
    },
    users,
    stop: async () => {
      if (!started) await clean();
      await root.end();
      await started?.stop();
    },
  };
};
