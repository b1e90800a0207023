/** What `postgres` makes and ends, in a real server and with an admin of the least rights. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type pg from 'pg';
import { type Network, openNetwork } from '../../../adapters/network.ts';
import { openPostgresProvider } from '../../../adapters/providers/postgres.ts';
import type { Provider } from '../../../src/ports/provider.ts';
import { eventually, pause } from '../../support/eventually.ts';
import { type Account, type DirectGrant, type DirectGrants, directGrants, someGrantId } from './database-grants.ts';
import { admin, owner, type PostgresRig, startPostgresRig } from './postgres-rig.ts';

let rig: PostgresRig;
let network: Network;
let provider: Provider;
beforeAll(async () => {
  rig = await startPostgresRig(['-c', 'log_statement=all']);
  network = openNetwork();
  provider = openPostgresProvider(network);
});
afterAll(async () => {
  await network.close();
  await rig.stop();
});

const settings = (more: object = {}): object => ({
  ...rig.server,
  database: 'postgres',
  tls: { mode: 'disable' },
  allow_private_network: true,
  ...more,
});
const connect = (more: object = {}): DirectGrants => directGrants(provider, settings(more), admin);

const sessions: pg.Client[] = [];
const login = async (account: Account, database?: string): Promise<pg.Client> => {
  const client = await rig.login(account, database);
  sessions.push(client);
  return client;
};
afterEach(async () => {
  await Promise.all(sessions.splice(0).map((client) => client.end().catch(() => undefined)));
});

/** @returns the SQLSTATE it was refused with, or `done` */
const trying = async (client: pg.Client, text: string): Promise<string> => {
  try {
    await client.query(text);
    return 'done';
  } catch (error) {
    return String((error as { code?: unknown }).code);
  }
};
const canLogin = async (account: Account): Promise<boolean> => {
  try {
    await (await rig.login(account)).end();
    return true;
  } catch {
    return false;
  }
};
const exists = async (role: string): Promise<boolean> =>
  (await rig.root(`SELECT 1 FROM pg_roles WHERE rolname = '${role}'`)).length === 1;

const denied = '42501';

describe('rights', () => {
  test('without a word about scopes there are read and read-write on the schema public', async () => {
    const grants = connect();
    const reader = await login(await grants.mint(['read']));
    const writer = await login(await grants.mint(['read-write']));
    expect(await trying(reader, 'SELECT * FROM orders')).toBe('done');
    expect(await trying(reader, "INSERT INTO orders (what) VALUES ('x')")).toBe(denied);
    expect(await trying(writer, "INSERT INTO orders (what) VALUES ('x')")).toBe('done');
    expect(await trying(writer, 'DELETE FROM orders')).toBe('done');
    expect(await trying(writer, 'TRUNCATE orders')).toBe(denied);
    expect(await trying(writer, 'CREATE TABLE mine ()')).toBe(denied);
  });

  test('a table made after the first grant is in the next one', async () => {
    const grants = connect();
    await grants.mint(['read']);
    await rig.root(`SET ROLE ${owner}; CREATE TABLE public.later (); RESET ROLE`);
    const reader = await eventually(
      'the table can be read',
      async () => trying(await login(await grants.mint(['read'])), 'SELECT * FROM later'),
      (answer) => answer === 'done',
    );
    expect(reader).toBe('done');
  });

  test('a table that Warder may not grant is left out, and ends nothing', async () => {
    await rig.root('CREATE TABLE public.vault (); REVOKE ALL ON public.vault FROM PUBLIC');
    await pause(1_100);
    const reader = await login(await connect().mint(['read']));
    expect(await trying(reader, 'SELECT * FROM orders')).toBe('done');
    expect(await trying(reader, 'SELECT * FROM vault')).toBe(denied);
    await rig.root('DROP TABLE public.vault');
  });

  test('a schema that is not there is refused', async () => {
    const grants = connect({ scopes: { read: { preset: 'read', schemas: ['nowhere'] } } });
    await expect(grants.mint(['read'])).rejects.toMatchObject({ kind: 'refused' });
  });

  test('scopes that are granted together add up', async () => {
    await rig.root(`CREATE ROLE auditors; GRANT auditors TO ${admin.username} WITH ADMIN OPTION`);
    await rig.root('CREATE TABLE public.log (); GRANT SELECT ON public.log TO auditors');
    const grants = connect({ scopes: { read: { preset: 'read' }, audit: { member_of: ['auditors'] } } });
    const both = await login(await grants.mint(['read', 'audit']));
    expect(await trying(both, 'SELECT * FROM orders')).toBe('done');
    expect(await trying(both, 'SELECT * FROM log')).toBe('done');
    const one = await login(await grants.mint(['audit']));
    expect(await trying(one, 'SELECT * FROM orders')).toBe(denied);
  });

  test('a role cannot act as the group that gives it its rights, nor lend them, nor change what it is', async () => {
    const grant = await connect().mint(['read-write']);
    const client = await login(grant);
    const { rows } = await client.query(
      'SELECT roleid::regrole::text AS name FROM pg_auth_members WHERE member = $1::regrole',
      [grant.username],
    );
    const group = String(rows[0].name);
    for (const text of [
      `SET ROLE ${group}`,
      `GRANT ${group} TO PUBLIC`,
      `ALTER ROLE ${grant.username} VALID UNTIL 'infinity'`,
      `ALTER ROLE ${grant.username} CONNECTION LIMIT -1`,
      `ALTER ROLE ${grant.username} RENAME TO other`,
      `COMMENT ON ROLE ${grant.username} IS 'mine'`,
      'CREATE ROLE other',
    ]) {
      expect([text, await trying(client, text)]).not.toEqual([text, 'done']);
    }
    // Only a warning says that nothing was granted.
    await trying(client, 'GRANT SELECT ON orders TO PUBLIC');
    expect(await rig.root("SELECT has_table_privilege('pg_monitor', 'orders', 'SELECT') AS lent")).toEqual([
      { lent: false },
    ]);
    expect(await rig.root(`SELECT rolcanlogin FROM pg_roles WHERE rolname = '${group}'`)).toEqual([
      { rolcanlogin: false },
    ]);
  });

  test('a role has no more sessions at once than the settings say', async () => {
    const grant = await connect({ connection_limit: 2 }).mint(['read']);
    await login(grant);
    await login(grant);
    await expect(rig.login(grant)).rejects.toMatchObject({ code: '53300' });
  });
});

describe('operators’ statements', () => {
  const vaultStyle = {
    creation_statements: [
      `CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';`,
      `GRANT SELECT ON orders TO "{{name}}"; -- the end`,
    ],
    renew_statements: [`ALTER ROLE "{{name}}" CONNECTION LIMIT 7`],
    revocation_statements: [`REVOKE ALL ON orders FROM "{{name}}"`],
  };

  test('those that Vault users have run as they are', async () => {
    await rig.root(`GRANT SELECT ON public.orders TO ${admin.username} WITH GRANT OPTION`);
    const grants = connect({ scopes: { custom: vaultStyle } });
    const grant = await grants.mint(['custom']);
    expect(await trying(await login(grant), 'SELECT * FROM orders')).toBe('done');
    await grants.renew(grant, ['custom'], Date.now() + 90_000);
    expect(await rig.root(`SELECT rolconnlimit FROM pg_roles WHERE rolname = '${grant.username}'`)).toEqual([
      { rolconnlimit: 7 },
    ]);
    await grants.revoke(grant);
    expect(await exists(grant.username)).toBe(false);
  });

  test('without one that makes the role, Warder makes it; with several of the same, once', async () => {
    const only = { creation_statements: ['GRANT SELECT ON orders TO {{name}}'] };
    const grants = connect({ scopes: { only, custom: vaultStyle, again: vaultStyle, read: { preset: 'read' } } });
    for (const scopes of [['only'], ['custom', 'again'], ['custom', 'only', 'read']]) {
      const grant = await grants.mint(scopes);
      expect(await trying(await login(grant), 'SELECT * FROM orders')).toBe('done');
      await grants.revoke(grant);
    }
  });

  test('all of them take place or none', async () => {
    const grants = connect({
      scopes: {
        broken: { creation_statements: ['GRANT SELECT ON orders TO {{name}}', 'GRANT nobody_at_all TO {{name}}'] },
      },
    });
    const id = someGrantId();
    await expect(grants.mint(['broken'], { id })).rejects.toMatchObject({ kind: 'refused' });
    expect(await exists(`wdr_${id.slice(4)}`)).toBe(false);
  });

  test('what they change in their session does not reach the next', async () => {
    const grants = connect({
      scopes: {
        odd: { creation_statements: ["SET statement_timeout = 1; SET search_path = '{{name}}'"] },
        read: { preset: 'read' },
      },
    });
    await grants.mint(['odd']);
    const grant = await grants.mint(['read']);
    expect(await canLogin(grant)).toBe(true);
  });
});

describe('the end', () => {
  test('an open session dies at the revocation, and cannot come back', async () => {
    const grants = connect();
    const grant = await grants.mint(['read']);
    const client = await login(grant);
    const ended = new Promise((resolve) => client.once('end', resolve));
    const sleeping = trying(client, 'SELECT pg_sleep(30)');
    await pause(50);
    await grants.revoke(grant);
    await ended;
    expect(await sleeping).not.toBe('done');
    expect(await canLogin(grant)).toBe(false);
    expect(await exists(grant.username)).toBe(false);
  });

  test('a role lets nobody in after its end, whether it is revoked or not', async () => {
    const grants = connect();
    const grant = await grants.mint(['read'], { lifeMs: 700 });
    expect(await canLogin(grant)).toBe(true);
    await pause(750);
    expect(await canLogin(grant)).toBe(false);
    await grants.renew(grant, ['read'], Date.now() + 5_000);
    expect(await canLogin(grant)).toBe(true);
  });

  const making = {
    scopes: {
      make: {
        creation_statements: ['GRANT CREATE, USAGE ON SCHEMA public TO {{name}}'],
      },
    },
  };
  const withCreate = async (): Promise<void> =>
    void (await rig.root(`GRANT CREATE ON SCHEMA public TO ${admin.username} WITH GRANT OPTION`));

  test('what a role made is dropped with it', async () => {
    await withCreate();
    const grants = connect(making);
    const grant = await grants.mint(['make']);
    const client = await login(grant);
    await client.query('CREATE TABLE mine (id int); CREATE VIEW seen AS SELECT * FROM mine; SELECT lo_create(4711)');
    await grants.revoke(grant);
    expect(await exists(grant.username)).toBe(false);
    expect(await rig.root("SELECT 1 FROM pg_class WHERE relname IN ('mine', 'seen')")).toEqual([]);
  });

  test('or given to whom the settings say, with nothing lost', async () => {
    await withCreate();
    await rig.root(`CREATE ROLE "heirs; DROP ROLE app; --"; GRANT "heirs; DROP ROLE app; --" TO ${admin.username}`);
    await rig.root(`GRANT CREATE ON SCHEMA public TO "heirs; DROP ROLE app; --"`);
    const grants = connect({ ...making, reassign_owned_to: 'heirs; DROP ROLE app; --' });
    const grant = await grants.mint(['make']);
    await (await login(grant)).query('CREATE TABLE kept AS SELECT 42 AS answer');
    await grants.revoke(grant);
    expect(await exists(grant.username)).toBe(false);
    expect(await rig.root("SELECT answer, tableowner FROM kept, pg_tables WHERE tablename = 'kept'")).toEqual([
      { answer: 42, tableowner: 'heirs; DROP ROLE app; --' },
    ]);
  });

  test('things in another database are found too', async () => {
    await withCreate();
    const other = `other "one"; it's`;
    await rig.root(`CREATE DATABASE "other ""one""; it's"`);
    await rig.root('GRANT CREATE ON SCHEMA public TO PUBLIC', other);
    const grants = connect(making);
    const grant = await grants.mint(['make']);
    await (await login(grant, other)).query('CREATE TABLE far_away (id int)');
    await grants.revoke(grant);
    expect(await exists(grant.username)).toBe(false);
    expect(await rig.root("SELECT 1 FROM pg_class WHERE relname = 'far_away'", other)).toEqual([]);
  });

  test('Warder’s own role does not inherit what agents leave', async () => {
    const grants = connect({ ...making, reassign_owned_to: admin.username });
    await expect(grants.mint(['make'])).rejects.toMatchObject({ kind: 'refused' });
  });

  test('a role that was made at another server is ended where it is found, and never taken for gone', async () => {
    const grants = connect();
    const grant = await grants.mint(['read']);
    const elsewhere = { ...grant, handle: { ...grant.handle, at: 'db.example.com:1' } };
    await grants.revoke(elsewhere);
    expect(await exists(grant.username)).toBe(false);
    await expect(grants.revoke(elsewhere)).rejects.toMatchObject({ kind: 'refused' });
    await grants.revoke(grant);
  });

  test('a hundred revocations of the same role at once all succeed', async () => {
    const grants = connect();
    const grant = await grants.mint(['read']);
    await Promise.all(Array.from({ length: 100 }, () => grants.revoke(grant)));
    expect(await exists(grant.username)).toBe(false);
  });

  test('a role cannot put off its end with locks that it holds', async () => {
    const grants = connect();
    const grant = await grants.mint(['read']);
    const client = await login(grant);
    const { rows } = await client.query("SELECT objid, classid FROM pg_locks WHERE locktype = 'advisory'");
    expect(rows).toEqual([]);
    const { createHash } = await import('node:crypto');
    const key = createHash('sha256').update(`warder role ${grant.username}`).digest().readBigInt64BE();
    await client.query(`SELECT pg_advisory_lock(${key})`);
    await client.query('BEGIN; LOCK TABLE orders IN ACCESS SHARE MODE');
    await grants.revoke(grant);
    expect(await exists(grant.username)).toBe(false);
  });

  test('nor with a transaction in which it is making something', async () => {
    const grants = connect();
    const grant = await grants.mint(['read']);
    const client = await login(grant);
    await client.query('BEGIN; CREATE TEMPORARY TABLE scratch (id int)');
    const began = performance.now();
    await grants.revoke(grant);
    expect(performance.now() - began).toBeLessThan(3_000);
    expect(await exists(grant.username)).toBe(false);
    expect(await trying(client, 'SELECT 1')).not.toBe('done');
  });

  test('a revocation waits for a query that was sent by a process that is gone and still runs', async () => {
    const grants = connect({
      scopes: { slow: { creation_statements: ['GRANT SELECT ON orders TO {{name}}', 'SELECT pg_sleep(0.5)'] } },
    });
    const id = someGrantId();
    const gone = new AbortController();
    const minting = grants.mint(['slow'], { id, signal: gone.signal }).catch((error: unknown) => error);
    await pause(250);
    gone.abort();
    expect(await minting).toMatchObject({ kind: 'timeout' });
    const role = `wdr_${id.slice(4)}`;
    await grants.revoke({ id, handle: { role } });
    await pause(500);
    expect(await exists(role)).toBe(false);
  });
});

describe('roles of others', () => {
  test('one with the name Warder wants is not touched, by minting and by undoing', async () => {
    const id = someGrantId();
    const role = `wdr_${id.slice(4)}`;
    await rig.root(`CREATE ROLE ${role} LOGIN PASSWORD 'by hand'`);
    const grants = connect();
    await expect(grants.mint(['read'], { id })).rejects.toMatchObject({ kind: 'refused' });
    await grants.revoke({ id, handle: { role } });
    await grants.revoke({ id, handle: { role: 'postgres' } });
    await grants.revoke({ id, handle: { role: owner } });
    expect(await canLogin({ username: role, password: 'by hand' })).toBe(true);
    await rig.root(`DROP ROLE ${role}`);
  });

  test('a role made for one grant is not ended for another', async () => {
    const grants = connect();
    const grant = await grants.mint(['read']);
    await grants.revoke({ id: someGrantId(), handle: grant.handle });
    expect(await canLogin(grant)).toBe(true);
  });
});

describe('secrets', () => {
  test('the server’s log has seen no password', async () => {
    const grants = connect();
    const made: DirectGrant[] = await Promise.all([grants.mint(['read']), grants.mint(['read-write'])]);
    for (const grant of made) {
      expect(await canLogin(grant)).toBe(true);
      expect(rig.log()).toContain(`CREATE ROLE "${grant.username}"`);
      expect(rig.log()).not.toContain(grant.password);
      await grants.revoke(grant);
    }
  });

  test('a verifier is as the server would make it for Warder’s login', async () => {
    await rig.root(`ALTER ROLE ${admin.username} SET scram_iterations = 7`);
    // Sessions that are open have what they began with.
    const grants = connect({ connection_limit: 11 });
    const grant = await grants.mint(['read']);
    const verifier = `SELECT left(rolpassword, 16) AS head FROM pg_authid WHERE rolname = '${grant.username}'`;
    expect(await rig.root(verifier)).toEqual([{ head: 'SCRAM-SHA-256$7:' }]);
    expect(await canLogin(grant)).toBe(true);
    await grants.revoke(grant);
    await rig.root(`ALTER ROLE ${admin.username} RESET scram_iterations`);
  });

  test('a failure says nothing of what the server said, and nothing secret', async () => {
    const wrong = { username: admin.username, password: 'canary-of-a-password' };
    const grants = directGrants(provider, settings(), wrong);
    const failure = await grants.mint(['read']).catch((error: unknown) => error);
    expect(failure).toMatchObject({ name: 'ProviderFailure', kind: 'refused' });
    const { inspect } = await import('node:util');
    const shown = inspect(failure, { depth: 10, showHidden: true });
    expect(shown).not.toContain('canary');
    expect(shown).not.toMatch(/authentication failed|CREATE ROLE|SCRAM/i);
  });

  test('a new secret is what the next call logs in with, and the old sessions end', async () => {
    const backends = async (username: string) =>
      Number((await rig.root(`SELECT count(*) AS n FROM pg_stat_activity WHERE usename = '${username}'`))[0]?.['n']);
    await rig.root("CREATE ROLE second LOGIN CREATEROLE PASSWORD 'second'; GRANT pg_signal_backend TO second");
    await rig.root(`CREATE ROLE helpers; GRANT helpers TO second, ${admin.username} WITH ADMIN OPTION`);
    const first = { username: 'second', password: 'second' };
    const scopes = { none: { member_of: ['helpers'] } };
    const grants = directGrants(provider, settings({ scopes }), first);
    await grants.mint(['none']);
    expect(await backends('second')).toBe(1);
    grants.replaceSecret(admin);
    await grants.mint(['none']);
    await eventually(
      'the old session is over',
      () => backends('second'),
      (count) => count === 0,
    );
  });
});

test('so many at once use no more than sixteen sessions', async () => {
  const grants = connect();
  let most = 0;
  let over = false;
  const looking = (async () => {
    while (!over) {
      const [row] = await rig.root("SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'warder'");
      most = Math.max(most, Number(row?.['n']));
      await pause(5);
    }
  })();
  const made = await Promise.all(Array.from({ length: 60 }, () => grants.mint(['read', 'read-write'])));
  await Promise.all(made.map((grant) => grants.revoke(grant)));
  over = true;
  await looking;
  expect(most).toBeGreaterThan(2);
  expect(most).toBeLessThanOrEqual(16);
});
