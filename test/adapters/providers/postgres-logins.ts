/**
 * A PostgreSQL whose administrators' logins are rotated: a server of our own, or that at WARDER_TEST_POSTGRES_URL (a
 * superuser's URL), behind a proxy that can be put into trouble.
 */
import { readFileSync } from 'node:fs';
import pg from 'pg';
import type { RotatedAccount } from '../../conformance/rotation-attempt.ts';
import { startPostgres } from '../../support/embedded-postgres.ts';
import { startTroubledProxy, type TroubledProxy } from '../../support/troubled-tcp.ts';

const { escapeIdentifier: named, escapeLiteral: quoted } = pg;

export interface PostgresLogins {
  proxy: TroubledProxy;
  /** Runs SQL as the superuser. */
  root(text: string): Promise<Record<string, unknown>[]>;
  login(secret: Record<string, string>): Promise<pg.Client>;
  /** Settings of a connection through the proxy. */
  settings(more?: object): Record<string, unknown>;
  /** Two logins that alternate, of which the first is in force, and who they act as. */
  pair(kind: 'plain' | 'hostile'): Promise<RotatedAccount>;
  /** One login that changes its own password. */
  single(kind: 'plain' | 'hostile'): Promise<RotatedAccount>;
  /** What the server logged. */
  log(): string;
  close(): Promise<void>;
}

/** The blocks of SQL of docs/providers/postgres.md: the role and its rights, and two logins for it. */
export const sqlOfTheDocs = (): { rights: string; logins: string } => {
  const page = readFileSync(new URL('../../../docs/providers/postgres.md', import.meta.url), 'utf8');
  const blocks = [...page.matchAll(/```sql\n([\s\S]*?)```/g)].map(([, sql = '']) => sql);
  const [rights, logins] = [
    blocks.find((sql) => sql.includes('WITH GRANT OPTION')),
    blocks.find((sql) => sql.includes('warder_b')),
  ];
  if (rights === undefined || logins === undefined) throw new Error('docs/providers/postgres.md has changed');
  return { rights, logins };
};

const hostileName = ` ro'le" \\ ; -- %I $$ ü`;
const hostilePassword = `p'a"ss\\; -- $1 %s $$ ü`;
let made = 0;
/** At most 63 bytes. */
const someName = (kind: 'plain' | 'hostile', what: string): string => {
  made += 1;
  return `rot_${what}_${made}${kind === 'hostile' ? hostileName : ''}`;
};

const setUpPair = (owner: string, [a, b]: readonly [string, string], keeper: string, password: string): string[] => [
  `CREATE ROLE ${named(owner)} NOLOGIN CREATEROLE`,
  `GRANT pg_signal_backend TO ${named(owner)}`,
  `CREATE ROLE ${named(a)} LOGIN PASSWORD ${quoted(password)}`,
  `CREATE ROLE ${named(b)} NOLOGIN`,
  `GRANT ${named(owner)} TO ${named(a)}, ${named(b)}`,
  `CREATE ROLE ${keeper} NOLOGIN CREATEROLE`,
  `GRANT ${named(a)}, ${named(b)} TO ${keeper} WITH ADMIN OPTION`,
  `CREATE SCHEMA ${keeper}`,
  `GRANT USAGE ON SCHEMA ${keeper} TO ${named(owner)}`,
  `CREATE FUNCTION ${keeper}.set_login(login text, verifier text) RETURNS void
   LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS ${quoted(`
   BEGIN
     IF login NOT IN (${quoted(a)}, ${quoted(b)}) OR login = session_user THEN RAISE insufficient_privilege; END IF;
     IF verifier IS NULL THEN EXECUTE format('ALTER ROLE %I NOLOGIN PASSWORD NULL', login);
     ELSE EXECUTE format('ALTER ROLE %I LOGIN PASSWORD %L', login, verifier); END IF;
   END`)}`,
  `ALTER FUNCTION ${keeper}.set_login(text, text) OWNER TO ${keeper}`,
  `REVOKE ALL ON FUNCTION ${keeper}.set_login(text, text) FROM PUBLIC`,
  `GRANT EXECUTE ON FUNCTION ${keeper}.set_login(text, text) TO ${named(owner)}`,
];

export const startPostgresLogins = async (): Promise<PostgresLogins> => {
  const lines: string[] = [];
  const given = process.env['WARDER_TEST_POSTGRES_URL'];
  const own =
    given === undefined
      ? await startPostgres({ flags: ['-c', 'log_statement=all'], onLog: (text) => lines.push(text) })
      : undefined;
  const url = new URL(own?.url ?? given ?? '');
  const at = { host: url.hostname, port: Number(url.port || 5432) };
  const superuser = new pg.Client(url.href);
  await superuser.connect();
  /** One after another, whoever asks. */
  let before: Promise<unknown> = Promise.resolve();
  const root: PostgresLogins['root'] = async (text) => {
    const asked = before.then(() => superuser.query(text));
    before = asked.catch(() => undefined);
    const answered: unknown = await asked;
    const last = Array.isArray(answered) ? answered.at(-1) : answered;
    return (last as { rows: Record<string, unknown>[] }).rows;
  };
  if (!own) await clean(root);
  const proxy = await startTroubledProxy(at, (message) => /ALTER ROLE|set_login/.test(message.toString('latin1')));

  const login: PostgresLogins['login'] = async ({ username, password }) => {
    const client = new pg.Client({ ...at, database: 'postgres', user: username, password });
    client.on('error', () => undefined);
    await client.connect();
    return client;
  };
  const accepts: RotatedAccount['accepts'] = async (secret) => {
    try {
      await (await login(secret)).end();
      return true;
    } catch (error) {
      if (['28P01', '28000'].includes(String((error as { code?: unknown }).code))) return false;
      throw error;
    }
  };
  const settings: PostgresLogins['settings'] = (more = {}) => ({
    host: proxy.host,
    port: proxy.port,
    database: 'postgres',
    tls: { mode: 'disable' },
    allow_private_network: true,
    ...more,
  });
  const passwordOf = (kind: 'plain' | 'hostile'): string => {
    made += 1;
    return `the first password ${made}${kind === 'hostile' ? hostilePassword : ''}`;
  };

  return {
    proxy,
    root,
    login,
    settings,
    pair: async (kind) => {
      const [a, b, owner] = [someName(kind, 'a'), someName(kind, 'b'), someName(kind, 'o')];
      const [keeper, password] = [someName('plain', 'keeper'), passwordOf(kind)];
      await root(setUpPair(owner, [a, b], keeper, password).join(';\n'));
      const names = `${quoted(a)}, ${quoted(b)}`;
      return {
        settings: settings({ act_as: owner }),
        method: { alternate: [a, b], function: `${keeper}.set_login` },
        secret: { username: a, password },
        wrong: { username: a, password: `${password}!` },
        accepts,
        count: async () =>
          (
            await root(
              `SELECT 1 FROM pg_authid WHERE rolname IN (${names}) AND (rolcanlogin OR rolpassword IS NOT NULL)`,
            )
          ).length,
      };
    },
    single: async (kind) => {
      const [username, password] = [someName(kind, 's'), passwordOf(kind)];
      await root(`CREATE ROLE ${named(username)} LOGIN PASSWORD ${quoted(password)}`);
      return {
        settings: settings(),
        method: { password: true },
        secret: { username, password },
        wrong: { username, password: `${password}!` },
        accepts,
      };
    },
    log: () => lines.join(''),
    close: async () => {
      await proxy.close();
      if (!own) await clean(root);
      await superuser.end();
      await own?.stop();
    },
  };
};

/** What a run made on a server that is not ours. */
const clean = async (root: PostgresLogins['root']): Promise<void> => {
  const found = await root(
    `SELECT rolname FROM pg_roles WHERE rolname ~ '^(rot|wdr|warder)_' OR rolname IN ('warder', 'app', 'reporting')`,
  );
  const schemas = await root(`SELECT nspname FROM pg_namespace WHERE nspname ~ '^(rot|warder)_keeper'`);
  for (const { nspname } of schemas) await root(`DROP SCHEMA ${named(String(nspname))} CASCADE`);
  for (const { rolname } of found) await root(`DROP OWNED BY ${named(String(rolname))}`);
  for (const { rolname } of found) await root(`DROP ROLE ${named(String(rolname))}`);
};
