/** A PostgreSQL with an admin role that has no more rights than docs/providers/postgres.md tells people to give it. */
import pg from 'pg';
import { type RunningPostgres, startPostgres } from '../../support/embedded-postgres.ts';

export const admin = { username: 'warder', password: 'the admin’s own password: ümlaut' };
/** Owns the tables, as an application's migrations would. */
export const owner = 'app';

/** The SQL of docs/providers/postgres.md, and an application with a table. */
const setUp = [
  `CREATE ROLE ${owner} NOLOGIN`,
  `CREATE ROLE ${admin.username} LOGIN CREATEROLE PASSWORD '${admin.password}'`,
  `GRANT pg_signal_backend TO ${admin.username}`,
  `GRANT USAGE ON SCHEMA public TO ${admin.username} WITH GRANT OPTION`,
  `ALTER DEFAULT PRIVILEGES FOR ROLE ${owner} IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO ${admin.username} WITH GRANT OPTION`,
  `ALTER DEFAULT PRIVILEGES FOR ROLE ${owner} IN SCHEMA public GRANT SELECT, USAGE ON SEQUENCES TO ${admin.username} WITH GRANT OPTION`,
  `GRANT CREATE ON SCHEMA public TO ${owner}`,
  `SET ROLE ${owner}`,
  'CREATE TABLE public.orders (id serial PRIMARY KEY, what text)',
  'RESET ROLE',
];

export interface PostgresRig {
  server: { host: string; port: number };
  /** Runs SQL as the superuser. */
  root(text: string, database?: string): Promise<Record<string, unknown>[]>;
  /** Logs in as somebody. @throws what pg throws */
  login(credential: { username: unknown; password: unknown }, database?: string): Promise<pg.Client>;
  /** The roles Warder made that can log in or could before they were shut out. */
  roles(prefix?: string): Promise<string[]>;
  log(): string;
  stop(): Promise<void>;
}

/**
 * @param given a superuser's URL of a server to try it on, instead of one of our own; what it makes there it takes away
 */
export const startPostgresRig = async (flags: readonly string[] = [], given?: string): Promise<PostgresRig> => {
  const lines: string[] = [];
  const own: RunningPostgres | undefined =
    given === undefined
      ? await startPostgres({ flags: ['-c', 'max_connections=250', ...flags], onLog: (text) => lines.push(text) })
      : undefined;
  const url = new URL(own?.url ?? given ?? '');
  const at = { host: url.hostname, port: Number(url.port || 5432) };
  const superuser = { username: decodeURIComponent(url.username), password: decodeURIComponent(url.password) };
  const home = url.pathname.slice(1) || 'postgres';

  const login: PostgresRig['login'] = async (credential, database = home) => {
    const client = new pg.Client({
      ...at,
      database,
      user: String(credential.username),
      password: String(credential.password),
    });
    client.on('error', () => undefined);
    await client.connect();
    return client;
  };
  const clients = new Map<string, Promise<pg.Client>>();
  const root: PostgresRig['root'] = async (text, database = home) => {
    const client = clients.get(database) ?? login(superuser, database);
    clients.set(database, client);
    const answered: unknown = await (await client).query(text);
    const last = Array.isArray(answered) ? answered.at(-1) : answered;
    return (last as { rows: Record<string, unknown>[] }).rows;
  };
  if (given !== undefined) await clean(root);
  for (const statement of setUp) await root(statement);
  return {
    server: at,
    root,
    login,
    roles: async (prefix = 'wdr_') => {
      const text = `SELECT rolname FROM pg_roles WHERE rolname ~ '^${prefix}[0-9a-z]{26}$'`;
      return (await root(text)).map(({ rolname }) => String(rolname));
    },
    log: () => lines.join(''),
    stop: async () => {
      if (given !== undefined) await clean(root);
      for (const client of clients.values()) await (await client).end();
      await own?.stop();
    },
  };
};

/** What an earlier run left on a server that is not ours. */
const clean = async (root: PostgresRig['root']): Promise<void> => {
  const found = await root(
    `SELECT rolname FROM pg_roles WHERE rolname IN ('${owner}', '${admin.username}') OR rolname ~ '^wdr_'`,
  );
  for (const { rolname } of found) await root(`DROP OWNED BY "${String(rolname)}"`);
  for (const { rolname } of found) await root(`DROP ROLE "${String(rolname)}"`);
};
