/** The database of the tour: a real PostgreSQL with a table in it, and a role for Warder that can make roles. */
import pg from 'pg';
import { startPostgres } from '../test/support/embedded-postgres.ts';

export interface DemoDatabase {
  /** What an operator writes down about it. */
  settings: object;
  /** Warder's own login there. */
  admin: { username: string; password: string };
  /** How to log in as Warder itself, with a password. */
  urlOfAdmin(password: string): string;
  /** Runs SQL with a credential, in a session of its own that ends with the query. */
  query(credential: { url: string }, text: string): Promise<Record<string, unknown>[]>;
  /** A session that stays open; `cut` resolves when the server ends it. */
  session(credential: { url: string }): Promise<{ cut: Promise<void>; end(): void }>;
  /** The login roles there are, as the server itself says. */
  logins(): Promise<string[]>;
  stop(): Promise<void>;
}

const admin = { username: 'warder', password: 'warder-demo-admin' };

const setUp = `
  CREATE TABLE invoices (id serial PRIMARY KEY, customer text NOT NULL, cents integer NOT NULL);
  INSERT INTO invoices (customer, cents) VALUES ('Ravens Ltd', 1200), ('Moat & Sons', 8400);
  CREATE ROLE ${admin.username} LOGIN CREATEROLE PASSWORD '${admin.password}';
  GRANT pg_signal_backend TO ${admin.username};
  GRANT USAGE ON SCHEMA public TO ${admin.username} WITH GRANT OPTION;
  GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO ${admin.username} WITH GRANT OPTION;
`;

const connected = async (url: string): Promise<pg.Client> => {
  const client = new pg.Client({ connectionString: url });
  // A session that is cut reports it as an event; whoever uses it sees the query fail.
  client.on('error', () => undefined);
  await client.connect();
  return client;
};

const oneQuery = async (url: string, text: string): Promise<Record<string, unknown>[]> => {
  const client = await connected(url);
  try {
    const { rows } = await client.query<Record<string, unknown>>(text);
    return rows ?? [];
  } finally {
    await client.end();
  }
};

export const startDemoDatabase = async (): Promise<DemoDatabase> => {
  const server = await startPostgres();
  await oneQuery(server.url, setUp);
  return {
    settings: {
      host: server.host,
      port: server.port,
      database: 'postgres',
      tls: { mode: 'disable' },
      allow_private_network: true,
      scopes: { read: { preset: 'read', schemas: ['public'] } },
    },
    admin,
    urlOfAdmin: (password) => `postgres://${admin.username}:${password}@${server.host}:${server.port}/postgres`,
    query: ({ url }, text) => oneQuery(url, text),
    session: async ({ url }) => {
      const client = await connected(url);
      return {
        cut: new Promise((resolve) => client.once('end', resolve)),
        end: () => void client.end().catch(() => undefined),
      };
    },
    logins: async () => {
      const rows = await oneQuery(server.url, 'SELECT rolname FROM pg_roles WHERE rolcanlogin ORDER BY 1');
      return rows.map(({ rolname }) => String(rolname));
    },
    stop: server.stop,
  };
};
