/**
 * What `mysql` makes and ends: in the server at WARDER_TEST_MYSQL_URL, a MariaDB where the machine has one, or else the
 * small server of the protocol, which knows no tables: what needs those is skipped there, and says so.
 */
import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { Connection } from 'mysql2/promise';
import { type Network, openNetwork } from '../../../adapters/network.ts';
import { nativeHash, quoted } from '../../../adapters/providers/mysql/statements.ts';
import { openMysqlProvider } from '../../../adapters/providers/mysql.ts';
import type { Provider } from '../../../src/ports/provider.ts';
import { pause } from '../../support/eventually.ts';
import { hasMariadb, startMariadb } from '../../support/mariadb.ts';
import { startMysqlServer } from '../../vendors/mysql/server.ts';
import { type Account, type DirectGrants, directGrants, someGrantId } from './database-grants.ts';
import { admin, type MysqlRig, mysqlRig } from './mysql-rig.ts';

const given = process.env['WARDER_TEST_MYSQL_URL'];
const real = given !== undefined || hasMariadb;
const ifReal = real ? test : test.skip;
const needing = (what: string): string => (real ? what : `${what} (needs a MySQL or MariaDB)`);

let rig: MysqlRig;
let network: Network;
let provider: Provider;
beforeAll(async () => {
  if (given !== undefined) rig = await mysqlRig(given);
  else {
    const started = hasMariadb ? await startMariadb() : await startMysqlServer();
    rig = await mysqlRig(started.url, started);
  }
  network = openNetwork();
  provider = openMysqlProvider(network);
}, 60_000);
afterAll(async () => {
  await network.close();
  await rig.stop();
});

const settings = (more: object = {}): object => ({
  ...rig.server,
  database: 'shop_eu',
  tls: { mode: 'disable' },
  allow_private_network: true,
  ...more,
});
const connect = (more: object = {}): DirectGrants => directGrants(provider, settings(more), admin);

const sessions: Connection[] = [];
const login = async (account: Account): Promise<Connection> => {
  const client = await rig.login(account);
  sessions.push(client);
  return client;
};
afterEach(() => {
  for (const client of sessions.splice(0)) client.destroy();
});
const trying = async (client: Connection, text: string): Promise<string> => {
  try {
    await client.query(text);
    return 'done';
  } catch (error) {
    return String((error as { code?: unknown }).code);
  }
};
const canLogin = async (account: Account): Promise<boolean> => {
  try {
    (await rig.login(account)).destroy();
    return true;
  } catch {
    return false;
  }
};
const denied = 'ER_TABLEACCESS_DENIED_ERROR';

describe('rights', () => {
  test('without a word about scopes there are read and read-write on the connection’s database', async () => {
    const grants = connect();
    const reader = await login(await grants.mint(['read']));
    const writer = await login(await grants.mint(['read-write']));
    expect(await trying(reader, 'SELECT * FROM shop_eu.orders')).toBe('done');
    expect(await trying(reader, "INSERT INTO shop_eu.orders (what) VALUES ('x')")).toBe(denied);
    expect(await trying(writer, "INSERT INTO shop_eu.orders (what) VALUES ('x')")).toBe('done');
  });

  ifReal(needing('a name with a wildcard in it means one database'), async () => {
    const reader = await login(await connect().mint(['read']));
    expect(await trying(reader, 'SELECT * FROM shop_eu.orders')).toBe('done');
    expect(await trying(reader, 'SELECT * FROM shopXeu.secrets')).toBe(denied);
  });

  ifReal(needing('single tables can be granted, and scopes that are granted together add up'), async () => {
    const table = (name: string) => ({ preset: 'read', tables: [{ database: 'shop_eu', table: name }] });
    const grants = connect({ scopes: { orders: table('orders'), staff: table('staff') } });
    const one = await login(await grants.mint(['orders']));
    expect(await trying(one, 'SELECT * FROM shop_eu.orders')).toBe('done');
    expect(await trying(one, 'SELECT * FROM shop_eu.staff')).toBe(denied);
    const both = await login(await grants.mint(['orders', 'staff']));
    expect(await trying(both, 'SELECT * FROM shop_eu.orders, shop_eu.staff')).toBe('done');
  });

  ifReal(needing('operators’ statements run as they are, the one that makes the user included'), async () => {
    const creation_statements = [
      "CREATE USER '{{name}}'@'{{host}}' IDENTIFIED BY '{{password}}' WITH MAX_USER_CONNECTIONS 3",
      "GRANT SELECT ON shop_eu.orders TO '{{name}}'@'{{host}}'; -- the end",
    ];
    const revocation_statements = ["REVOKE ALL PRIVILEGES, GRANT OPTION FROM '{{name}}'@'{{host}}'"];
    const only = { creation_statements: ["GRANT SELECT ON shop_eu.orders TO '{{name}}'@'{{host}}'"] };
    const grants = connect({ scopes: { custom: { creation_statements, revocation_statements }, only } });
    for (const scopes of [['custom'], ['only'], ['custom', 'only']]) {
      const grant = await grants.mint(scopes);
      expect(await trying(await login(grant), 'SELECT * FROM shop_eu.orders')).toBe('done');
      await grants.revoke(grant);
      expect(await rig.users()).not.toContain(grant.username);
    }
  });
});

describe('the end', () => {
  test('an open session dies at the revocation, and cannot come back', async () => {
    const grants = connect();
    const grant = await grants.mint(['read']);
    const client = await login(grant);
    const working = trying(client, real ? 'SELECT SLEEP(20)' : 'SELECT * FROM shop_eu.orders');
    await pause(50);
    await grants.revoke(grant);
    if (real) expect(await working).not.toBe('done');
    expect(await trying(client, 'SELECT * FROM shop_eu.orders')).not.toBe('done');
    expect(await canLogin(grant)).toBe(false);
    expect(await rig.users()).not.toContain(grant.username);
  });

  test('a user that was made at another server is ended where it is found, and never taken for gone', async () => {
    const grants = connect();
    const grant = await grants.mint(['read']);
    const elsewhere = { ...grant, handle: { ...grant.handle, at: 'db.example.com:1' } };
    await grants.revoke(elsewhere);
    expect(await canLogin(grant)).toBe(false);
    await expect(grants.revoke(elsewhere)).rejects.toMatchObject({ kind: 'refused' });
    await grants.revoke(grant);
  });

  test('twenty revocations of the same user at once all succeed', async () => {
    const grants = connect();
    const grant = await grants.mint(['read']);
    await Promise.all(Array.from({ length: 20 }, () => grants.revoke(grant)));
    expect(await rig.users()).not.toContain(grant.username);
  });

  test('what fails half-way is undone', async () => {
    const grants = connect({ scopes: { broken: { preset: 'read', databases: ['of_somebody_else'] } } });
    const id = someGrantId();
    await expect(grants.mint(['broken'], { id })).rejects.toMatchObject({ kind: 'refused' });
    const user = `wdr_${id.slice(4)}`;
    expect(await rig.users()).toContain(user);
    await grants.revoke({ id, handle: { user, host: '%' } });
    expect(await rig.users()).not.toContain(user);
  });
});

test('a user of somebody else with the name Warder wants is not touched, by minting and by undoing', async () => {
  const id = someGrantId();
  const user = `wdr_${id.slice(4)}`;
  await rig.root(`CREATE USER '${user}'@'%' IDENTIFIED BY 'by hand'`);
  const grants = connect();
  await expect(grants.mint(['read'], { id })).rejects.toMatchObject({ kind: 'refused' });
  const handle = grants.journalled() ?? null;
  expect(handle).toMatchObject({ user, theirs: true });
  await grants.revoke({ id, handle });
  expect(await canLogin({ username: user, password: 'by hand' })).toBe(true);
  await rig.root(`DROP USER IF EXISTS '${user}'@'%'`);
});

describe('names', () => {
  const hostile = [
    'a`; DROP DATABASE shop_eu; --',
    "it's \\' over",
    '100%_sure',
    'back\\slash\\_',
    'SELECT',
    'ümlaut ﬀ',
    'x'.repeat(64),
  ];

  ifReal.each(hostile)(needing('a database and a table of the name %j'), async (name) => {
    const backticked = `\`${name.replaceAll('`', '``')}\``;
    const pattern = backticked.replace(/[\\_%]/g, '\\$&');
    await rig.root(`CREATE DATABASE ${backticked}`);
    await rig.root(`CREATE TABLE ${backticked}.${backticked} (id int)`);
    await rig.root(`CREATE TABLE ${backticked}.other (id int)`);
    await rig.root(`GRANT SELECT, SHOW VIEW ON ${pattern}.* TO ${admin.username}@'%' WITH GRANT OPTION`);
    const grants = connect({
      scopes: {
        all: { preset: 'read', databases: [name] },
        one: { preset: 'read', tables: [{ database: name, table: name }] },
      },
    });
    const [all, one] = [await grants.mint(['all']), await grants.mint(['one'])];
    expect(await trying(await login(all), `SELECT * FROM ${backticked}.other`)).toBe('done');
    expect(await trying(await login(one), `SELECT * FROM ${backticked}.${backticked}`)).toBe('done');
    expect(await trying(await login(one), `SELECT * FROM ${backticked}.other`)).toBe(denied);
    await Promise.all([all, one].map((grant) => grants.revoke(grant)));
    await rig.root(`DROP DATABASE ${backticked}`);
    expect(await rig.root("SHOW DATABASES LIKE 'shop\\_eu'")).toHaveLength(1);
  });

  ifReal(needing('whatever is quoted means itself'), async () => {
    const texts = fc.sample(
      fc.string({ maxLength: 40 }).filter((text) => !text.includes('\0')),
      200,
    );
    const [row = {}] = await rig.root(`SELECT ${texts.map((text, at) => `${quoted(text)} AS c${at}`).join(', ')}`);
    expect(Object.values(row)).toEqual(texts);
  });

  test('settings refuse what cannot be meant', () => {
    const problemsOf = (more: object): string[] => {
      const checkedSettings = provider.checkSettings(settings(more));
      return checkedSettings.ok ? [] : checkedSettings.problems;
    };
    const scope = (more: object): object => ({ scopes: { s: more } });
    const refused: [object, RegExp][] = [
      [scope({ preset: 'read' }), /settings\.scopes\.s/],
      [scope({ preset: 'read', databases: ['x'.repeat(65)] }), /settings\.scopes\.s/],
      [scope({ preset: 'read', databases: ['a '] }), /settings\.scopes\.s/],
      [scope({ preset: 'read', databases: ['👩'] }), /settings\.scopes\.s/],
      [scope({ creation_statements: ['GRANT x TO {{nme}}'] }), /settings\.scopes\.s/],
      [scope({ creation_statements: ['GRANT x TO y'] }), /settings\.scopes\.s/],
      [{ user_prefix: 'toolong_' }, /settings\.user_prefix/],
      [{ user_host: "%'; --" }, /settings\.user_host/],
      [{ database: 'a\0b' }, /settings\.database/],
      [{ allow_private_network: false }, /settings\.host/],
    ];
    for (const [more, why] of refused)
      expect([more, problemsOf(more).join('\n')]).toEqual([more, expect.stringMatching(why)]);
    expect(problemsOf({})).toEqual([]);
  });
});

describe('secrets', () => {
  ifReal(needing('the log of a MariaDB has seen no password'), async () => {
    if (!rig.mariadb) return;
    await rig.root("SET GLOBAL log_output = 'TABLE'");
    await rig.root('SET GLOBAL general_log = ON');
    const grants = connect();
    const grant = await grants.mint(['read']);
    await rig.root('SET GLOBAL general_log = OFF');
    const logged = (await rig.root('SELECT CONVERT(argument USING utf8mb4) AS said FROM mysql.general_log')).map(
      ({ said }) => String(said),
    );
    expect(logged.join('\n')).toContain(`CREATE USER '${grant.username}'`);
    expect(logged.join('\n')).not.toContain(grant.password);
  });

  test('a failure says nothing of what the server said, and nothing secret', async () => {
    const grants = directGrants(provider, settings(), { username: admin.username, password: 'canary-of-a-password' });
    const failure = await grants.mint(['read']).catch((error: unknown) => error);
    expect(failure).toMatchObject({ name: 'ProviderFailure', kind: 'refused' });
    expect(inspect(failure, { depth: 10, showHidden: true })).not.toMatch(/canary|Access denied|CREATE USER/);
  });

  test('the hash of a password is the server’s own', () => {
    // https://dev.mysql.com/doc/refman/5.7/en/password-hashing.html: PASSWORD('mypass')
    expect(nativeHash('mypass')).toBe('*6C8989366EAF75BB670AD8EA7A7FC1176A95CEF4');
  });
});
