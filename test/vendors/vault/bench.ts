/**
 * A Vault to test with: the one of this folder, or a real one where WARDER_TEST_VAULT_ADDR and WARDER_TEST_VAULT_TOKEN (of
 * one that may do everything) say so. The real one makes accounts in a PostgreSQL of the test's own, which it must be able
 * to reach on this machine.
 */
import { randomBytes } from 'node:crypto';
import { type IncomingMessage, type RequestListener, request, type ServerResponse } from 'node:http';
import { Client } from 'pg';
import { type RunningPostgres, startPostgres } from '../../support/embedded-postgres.ts';
import { startTroubledServer, type TroubledServer } from '../../support/troubled-http.ts';
import { makeTestVault, type TestVault } from './server.ts';

export interface VaultBench {
  url: string;
  rootToken: string;
  /** What only the test's own Vault can show; undefined for a real one. */
  inside: TestVault | undefined;
  trouble: TroubledServer['trouble'];
  /** Each path that has the first text is taken for one with the second: a proxy that leads to the wrong place. */
  misled(from: string, to: string): Promise<void>;
  /** So many requests are answered with "too many" (a rate limit quota). */
  throttled(times: number): Promise<void>;
  /** A call as the token that may do everything (or another), which trouble does not touch. */
  admin(method: string, path: string, body?: object, token?: string): Promise<{ status: number; body: VaultBody }>;
  /** Mounts a database engine with the roles `reader` and `writer`, and what else is given as lives. */
  database(mount: string): Promise<TestDatabase>;
  /** Accessors of the tokens that Warder has made for grants. */
  grantTokens(): Promise<string[]>;
  /** A name that no earlier run used. */
  fresh(name: string): string;
  close(): Promise<void>;
}

export interface VaultBody {
  data?: Record<string, unknown>;
  auth?: Record<string, unknown>;
  errors?: string[];
  [field: string]: unknown;
}

export interface TestDatabase {
  /** @param how `revocation` replaces what takes an account back; making one takes `slowSeconds` */
  role(
    name: string,
    how: { default_ttl: string; max_ttl: string; revocation?: string; slowSeconds?: number },
  ): Promise<void>;
  /** @returns whether these may do this there */
  works(data: Record<string, unknown>, scope: 'read' | 'write'): Promise<boolean>;
  accounts(): Promise<string[]>;
}

const real = { address: process.env['WARDER_TEST_VAULT_ADDR'], token: process.env['WARDER_TEST_VAULT_TOKEN'] };
export const isRealVault = real.address !== undefined;
/** For the names of tests that need to look into, or to break, the Vault. */
export const skippedOnReal = isRealVault ? ' (skipped: it needs the inside of the Vault)' : '';

const sparing = 'x-spare-from-trouble';

/** What the test's switch for trouble stands in front of. */
const forwardTo =
  (address: string): RequestListener =>
  (req: IncomingMessage, res: ServerResponse) => {
    const url = new URL(req.url ?? '/', address);
    const sent = request(
      url,
      { method: req.method ?? 'GET', headers: { ...req.headers, host: url.host } },
      (answer) => {
        res.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(res);
      },
    );
    sent.on('error', () => res.destroy());
    req.pipe(sent);
  };

const readOnly = `CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'; GRANT SELECT ON things TO "{{name}}";`;
const readWrite = readOnly.replace('GRANT SELECT', 'GRANT SELECT, INSERT');
const takeBack = `REVOKE ALL ON things FROM "{{name}}"; DROP ROLE IF EXISTS "{{name}}";`;

export const startVaultBench = async (): Promise<VaultBench> => {
  const inside = real.address === undefined ? makeTestVault() : undefined;
  const rootToken = inside?.rootToken ?? real.token ?? '';
  const handler = inside?.handler ?? forwardTo(real.address ?? '');
  const spared = (req: IncomingMessage): boolean => req.headers[sparing] !== undefined;
  let throttles = 0;
  let misled: [from: string, to: string] = ['', ''];
  const limited: RequestListener = (req, res) => {
    if (!spared(req)) req.url = req.url?.replace(...misled) ?? '/';
    if (throttles === 0 || spared(req)) return handler(req, res);
    throttles -= 1;
    res.writeHead(429, { 'Content-Type': 'application/json', 'Retry-After': '1' });
    res.end('{"errors":["request path \\"transit\\": rate limit quota exceeded"]}');
  };
  const server = await startTroubledServer(limited, spared);
  const run = randomBytes(4).toString('hex');
  let postgres: Promise<RunningPostgres> | undefined;

  const admin: VaultBench['admin'] = async (method, path, body, token = rootToken) => {
    const answer = await fetch(`${server.url}/v1/${path}`, {
      method,
      headers: { 'X-Vault-Token': token, [sparing]: '1' },
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
    const text = await answer.text();
    return { status: answer.status, body: text === '' ? {} : (JSON.parse(text) as VaultBody) };
  };
  const must: VaultBench['admin'] = async (...call) => {
    const answer = await admin(...call);
    if (answer.status >= 300) throw new Error(`${call[0]} ${call[1]}: ${answer.status} ${answer.body.errors?.join()}`);
    return answer;
  };

  return {
    url: server.url,
    rootToken,
    inside,
    trouble: server.trouble,
    misled: async (...to) => {
      misled = to;
    },
    throttled: async (times) => {
      throttles = times;
    },
    admin,
    fresh: (name) => `${name}-${run}`,
    async database(mount) {
      await must('POST', `sys/mounts/${mount}`, { type: 'database' });
      if (!inside) postgres ??= startPostgres({ flags: ['-c', 'max_connections=300'] });
      const config = postgres ? await configOf(await postgres) : {};
      await must('POST', `${mount}/config/main`, {
        plugin_name: 'postgresql-database-plugin',
        allowed_roles: '*',
        ...config,
      });
      const database: TestDatabase = {
        role: async (name, { revocation = takeBack, slowSeconds = 0, ...life }) => {
          const creating = [`SELECT pg_sleep(${slowSeconds})`, name.includes('writer') ? readWrite : readOnly];
          const statements = { creation_statements: creating, revocation_statements: [revocation] };
          await must('POST', `${mount}/roles/${name}`, { db_name: 'main', ...statements, ...life });
        },
        works: async (data, scope) => {
          if (inside) return inside.database().use(data, scope === 'read' ? 'SELECT' : 'INSERT');
          return tryPostgres((await postgres)?.url ?? '', data, scope);
        },
        accounts: async () => {
          if (inside) return [...inside.database().accounts.keys()];
          const { rows } = await asSuperuser(
            (await postgres)?.url ?? '',
            `SELECT rolname FROM pg_roles WHERE rolname LIKE 'v-%'`,
          );
          return rows.map(({ rolname }) => String(rolname));
        },
      };
      await database.role('reader', { default_ttl: '1h', max_ttl: '24h' });
      await database.role('writer', { default_ttl: '1h', max_ttl: '24h' });
      return database;
    },
    async grantTokens() {
      const { body } = await admin('GET', 'auth/token/accessors?list=true');
      const all = await Promise.all(
        ((body.data?.['keys'] as string[] | undefined) ?? []).map(async (accessor) => {
          const found = await admin('POST', 'auth/token/lookup-accessor', { accessor });
          const meta = found.body.data?.['meta'] as Record<string, string> | null | undefined;
          return meta?.['warder_grant'] === undefined ? [] : [accessor];
        }),
      );
      return all.flat();
    },
    async close() {
      await server.close();
      inside?.close();
      await (await postgres)?.stop();
    },
  };
};

const asSuperuser = async (url: string, text: string): Promise<{ rows: Record<string, unknown>[] }> => {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return await client.query(text);
  } finally {
    await client.end();
  }
};

const configOf = async ({ url }: RunningPostgres) => {
  await asSuperuser(url, 'CREATE TABLE IF NOT EXISTS things (name text)');
  const { username, password, host, pathname } = new URL(url);
  return {
    connection_url: `postgresql://{{username}}:{{password}}@${host}${pathname}?sslmode=disable`,
    username,
    password,
    max_open_connections: 20,
  };
};

const tryPostgres = async (url: string, data: Record<string, unknown>, scope: 'read' | 'write'): Promise<boolean> => {
  const to = new URL(url);
  to.username = String(data['username']);
  to.password = String(data['password']);
  const client = new Client({ connectionString: to.href });
  try {
    await client.connect();
    await client.query(scope === 'read' ? 'SELECT * FROM things' : `INSERT INTO things VALUES ('x')`);
    return true;
  } catch {
    return false;
  } finally {
    await client.end();
  }
};
