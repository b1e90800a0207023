/**
 * Roles of a PostgreSQL, made and dropped: through Warder (POST and DELETE of a grant, until the drain has dropped the
 * role) against the same statements sent by hand, on the same server, sixteen at once. A role counts when it is gone.
 *
 * By hand too the client derives the SCRAM verifier: somebody derives it once for each role.
 *
 * And roles that are alive, drained: from the call that revokes them all until that revocation is complete.
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

const watching = async <T>(url: URL, work: (noRoleLeft: () => Promise<boolean>) => Promise<T>): Promise<T> => {
  const watcher = new pg.Client(url.href);
  await watcher.connect();
  try {
    return await work(async () => {
      const { rows } = await watcher.query("SELECT 1 FROM pg_roles WHERE rolcanlogin AND rolname ~ '^wdr_' LIMIT 1");
      return rows.length === 0;
    });
  } finally {
    await watcher.end();
  }
};

const soon = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** @returns the number of roles, and how long it took from the revocation until it was complete, in milliseconds */
const drained = async (fixture: Fixture, url: URL, roles: number): Promise<{ roles: number; ms: number }> => {
  const pool = new Pool(fixture.broker.url, { connections: atOnce, pipelining: 1 });
  const token = await fixture.agentToken();
  let left = roles;
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (left > 0) {
        left -= 1;
        const { statusCode, body } = await pool.request(grantShot(token, 'database', 'read'));
        await body.dump();
        if (statusCode !== 201) throw new Error(`issuing a role: ${statusCode}`);
      }
    }),
  );
  await pool.close();
  const began = performance.now();
  const selector = { connection: 'database' };
  const { id } = await fixture.admin('POST', '/revocations', { selector, reason: 'the bench drains' });
  for (;;) {
    const revocation = await fixture.admin('GET', `/revocations/${id}`);
    if (revocation['completed_at'] !== null) {
      const ms = performance.now() - began;
      const { upstream } = revocation as { upstream: { revoked: number } };
      const gone = await watching(url, (noRoleLeft) => noRoleLeft());
      if (upstream.revoked !== roles || !gone) throw new Error(`drained ${upstream.revoked} of ${roles}`);
      return { roles, ms };
    }
    await soon(20);
  }
};

const throughWarder = async (fixture: Fixture, url: URL, forMs: number): Promise<number> => {
  const pool = new Pool(fixture.broker.url, { connections: atOnce, pipelining: 1 });
  const token = await fixture.agentToken();
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
  const perSecond = await watching(url, (noRoleLeft) =>
    rate(forMs, cycle, async () => {
      while (!(await noRoleLeft())) await soon(5);
    }),
  );
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
    const drains: { roles: number; ms: number }[] = [];
    for (let round = 0; round < (quick ? 1 : 3); round += 1) {
      const done = await drained(fixture, url, quick ? 200 : 1_000);
      drains.push(done);
      console.error(`  drained: ${done.roles} roles in ${done.ms.toFixed(0)} ms`);
    }
    await stop(fixture.broker);
    const drainedPerSecond = median(drains.map(({ roles, ms }) => (roles / ms) * 1000));
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
      {
        what: `PostgreSQL roles drained by revoke-all, ${drains[0]?.roles ?? 0} alive`,
        value: `${drainedPerSecond.toFixed(0)} roles/s`,
        against: `complete after ${median(drains.map(({ ms }) => ms)).toFixed(0)} ms`,
        bar: '>= 100/s',
        met: drainedPerSecond >= 100,
        numbers: { perSecond: drainedPerSecond },
      },
    ];
  } finally {
    await server.stop();
  }
};
