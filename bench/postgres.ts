/**
 * Roles of a PostgreSQL, made and dropped: through Warder (POST and DELETE of a grant, until the drain has dropped the
 * role) against the same statements sent by hand, on the same server, sixteen at once. A role counts when it is gone.
 *
 * By hand too the client derives the SCRAM verifier: somebody derives it once for each role.
 */
import pg from 'pg';
import { Pool } from 'undici';
import { scramVerifier } from '../adapters/providers/postgres/scram.ts';
import { startPostgres } from '../test/support/embedded-postgres.ts';
import { type Fixture, grantShot, makeFixture } from './fixture.ts';
import { stop } from './processes.ts';
import { median, type Row } from './table.ts';

const atOnce = 16;
const admin = { username: 'warder', password: 'bench-bench-bench' };

/** What docs/providers/postgres.md tells people to do first. */
const setUp = [
  `CREATE ROLE ${admin.username} LOGIN CREATEROLE PASSWORD '${admin.password}'`,
  `GRANT pg_signal_backend TO ${admin.username}`,
  `GRANT USAGE ON SCHEMA public TO ${admin.username} WITH GRANT OPTION`,
  'CREATE TABLE public.orders (id int)',
  `GRANT SELECT ON public.orders TO ${admin.username} WITH GRANT OPTION`,
  `CREATE ROLE readers; GRANT SELECT ON public.orders TO readers; GRANT readers TO ${admin.username} WITH ADMIN OPTION`,
];

/** As many loops at once as told, for a time; then waits for what they left. @returns how many a second */
const rate = async (forMs: number, cycle: (loop: number) => Promise<void>, settled: () => Promise<void>) => {
  const began = performance.now();
  let done = 0;
  await Promise.all(
    Array.from({ length: atOnce }, async (_, loop) => {
      while (performance.now() - began < forMs) {
        await cycle(loop);
        done += 1;
      }
    }),
  );
  await settled();
  return (done / (performance.now() - began)) * 1000;
};

/** By hand: one session for each loop, one query that makes the role and one that drops it. */
const plain = async (url: URL, forMs: number): Promise<number> => {
  const clients = await Promise.all(
    Array.from({ length: atOnce }, async () => {
      const client = new pg.Client({
        host: url.hostname,
        port: Number(url.port),
        database: 'postgres',
        user: admin.username,
        password: admin.password,
      });
      await client.connect();
      return client;
    }),
  );
  let made = 0;
  const cycle = async (loop: number): Promise<void> => {
    made += 1;
    const role = `plain_${made}`;
    const verifier = await scramVerifier(`a password of this role ${made}`);
    const until = new Date(Date.now() + 900_000).toISOString();
    await clients[loop]?.query(
      `CREATE ROLE ${role} LOGIN CONNECTION LIMIT 10 PASSWORD '${verifier}' VALID UNTIL '${until}'; ` +
        `COMMENT ON ROLE ${role} IS 'made by hand'; GRANT readers TO ${role} WITH INHERIT TRUE, SET FALSE`,
    );
    await clients[loop]?.query(`DROP ROLE ${role}`);
  };
  const perSecond = await rate(forMs, cycle, async () => undefined);
  for (const client of clients) await client.end();
  return perSecond;
};

const throughWarder = async (fixture: Fixture, url: URL, forMs: number): Promise<number> => {
  const pool = new Pool(fixture.broker.url, { connections: atOnce, pipelining: 1 });
  const token = await fixture.agentToken();
  const watcher = new pg.Client(url.href);
  await watcher.connect();
  const cycle = async (): Promise<void> => {
    const issued = await pool.request(grantShot(token, 'database', 'read'));
    const body = (await issued.body.json()) as { grant: { id: string } };
    if (issued.statusCode !== 201) throw new Error(`issuing a role: ${issued.statusCode}`);
    const returned = await pool.request({
      method: 'DELETE',
      path: `/v1/grants/${body.grant.id}`,
      headers: { authorization: `Bearer ${token}` },
    });
    await returned.body.dump();
    if (returned.statusCode !== 204) throw new Error(`returning a role: ${returned.statusCode}`);
  };
  const noRoleLeft = async (): Promise<void> => {
    for (;;) {
      const { rows } = await watcher.query("SELECT 1 FROM pg_roles WHERE rolcanlogin AND rolname ~ '^wdr_' LIMIT 1");
      if (rows.length === 0) return;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  const perSecond = await rate(forMs, cycle, noRoleLeft);
  await watcher.end();
  await pool.close();
  return perSecond;
};

export const measurePostgres = async (quick: boolean): Promise<Row[]> => {
  const rounds = quick ? 1 : 5;
  const forMs = quick ? 1_500 : 3_000;
  const server = await startPostgres({ durable: true });
  try {
    const url = new URL(server.url);
    const root = new pg.Client(server.url);
    await root.connect();
    for (const statement of setUp) await root.query(statement);
    await root.end();
    const fixture = await makeFixture('http://127.0.0.1:9');
    await fixture.admin('POST', '/connections', {
      name: 'database',
      provider: 'postgres',
      settings: {
        host: server.host,
        port: server.port,
        database: 'postgres',
        tls: { mode: 'disable' },
        allow_private_network: true,
        scopes: { read: { member_of: ['readers'] } },
      },
      secret: admin,
    });
    await fixture.admin('POST', '/entitlements', { agent: 'bench', connection: 'database', scopes: ['read'] });
    const measured = { plain: [] as number[], warder: [] as number[] };
    await throughWarder(fixture, url, 500);
    await plain(url, 500);
    for (let round = 0; round < rounds; round += 1) {
      measured.plain.push(await plain(url, forMs));
      measured.warder.push(await throughWarder(fixture, url, forMs));
      console.error(`  roles: ${measured.plain.at(-1)?.toFixed(0)}/s by hand, ${measured.warder.at(-1)?.toFixed(0)}/s`);
    }
    await stop(fixture.broker);
    const [byHand, warder] = [median(measured.plain), median(measured.warder)];
    const ratio = warder / byHand;
    return [
      {
        what: 'PostgreSQL role, made and dropped, 16 at once',
        value: `${warder.toFixed(0)}/s`,
        against: `${ratio.toFixed(2)} x CREATE ROLE and DROP ROLE by hand (${byHand.toFixed(0)}/s)`,
        bar: '>= 0.7 x',
        met: ratio >= 0.7,
        numbers: { perSecond: warder, against: byHand, ratio },
      },
    ];
  } finally {
    await server.stop();
  }
};
