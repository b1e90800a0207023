/** Rotating the login that Warder itself has at a PostgreSQL. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Network, openNetwork } from '../../../adapters/network.ts';
import { openPostgresProvider } from '../../../adapters/providers/postgres.ts';
import type { Provider } from '../../../src/ports/provider.ts';
import { rotationConformance } from '../../conformance/rotation.ts';
import { beginAttempt, type Fields, type RotatedAccount } from '../../conformance/rotation-attempt.ts';
import { eventually, pause } from '../../support/eventually.ts';
import { type Account, directGrants } from './database-grants.ts';
import { type PostgresLogins, sqlOfTheDocs, startPostgresLogins } from './postgres-logins.ts';

let logins: PostgresLogins;
let network: Network;
let provider: Provider;
beforeAll(async () => {
  logins = await startPostgresLogins();
  network = openNetwork();
  provider = openPostgresProvider(network);
});
afterAll(async () => {
  await network.close();
  await logins.close();
});

const publicFields = ['username'];
rotationConformance(
  'postgres, two logins that alternate',
  async () => ({
    provider,
    account: logins.pair,
    trouble: logins.proxy.trouble,
    close: async () => undefined,
  }),
  { overlaps: true, late: true, publicFields },
);
rotationConformance(
  'postgres, one login that changes its password',
  async () => ({
    provider,
    account: logins.single,
    trouble: logins.proxy.trouble,
    close: async () => undefined,
  }),
  { overlaps: false, late: true, publicFields },
);

const begin = (account: RotatedAccount, current: Fields) =>
  beginAttempt({ provider, account, current, spoken: () => undefined });
const accountOf = ({ username = '', password = '' }: Fields): Account => ({ username, password });
const rotate = async (account: RotatedAccount, current: Fields): Promise<Account> => {
  const attempt = begin(account, current);
  await attempt.run();
  const next = attempt.finish();
  await attempt.retire(current);
  return accountOf(next);
};
const sessionsOf = (username: string) =>
  logins.root(`SELECT pid FROM pg_stat_activity WHERE usename = '${username}' AND state IS NOT NULL`);
const codeOf = async (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'done',
    (error: unknown) => String((error as { code?: unknown }).code),
  );

describe('the logins that docs/providers/postgres.md sets up', () => {
  let pair: RotatedAccount;
  beforeAll(async () => {
    const { rights, logins: sql } = sqlOfTheDocs();
    await logins.root('CREATE ROLE app NOLOGIN; GRANT CREATE ON SCHEMA public TO app');
    await logins.root(sql);
    // The rights of the section before it, without the role that it makes.
    await logins.root(rights.replace(/^CREATE ROLE .*$/m, ''));
    await logins.root('SET ROLE app; CREATE TABLE public.orders (id serial PRIMARY KEY, what text); RESET ROLE');
    await logins.root('CREATE ROLE reporting NOLOGIN; GRANT reporting TO warder WITH ADMIN OPTION');
    pair = {
      settings: logins.settings({
        act_as: 'warder',
        scopes: {
          read: { preset: 'read' },
          write: { preset: 'read-write' },
          reports: { member_of: ['reporting'] },
          makers: {
            creation_statements: [
              'CREATE ROLE "{{name}}" LOGIN PASSWORD \'{{password}}\'',
              'GRANT CREATE ON SCHEMA public TO "{{name}}"',
            ],
          },
        },
      }),
      method: { alternate: ['warder_a', 'warder_b'], function: 'warder_keeper.set_login' },
      secret: { username: 'warder_a', password: 'a long random one' },
      wrong: { username: 'warder_a', password: 'another one' },
      accepts: async () => true,
    };
    await logins.root('GRANT CREATE ON SCHEMA public TO warder WITH GRANT OPTION');
  });
  afterAll(async () => {
    await logins.root('DROP TABLE IF EXISTS public.orders; REVOKE CREATE ON SCHEMA public FROM warder CASCADE');
  });

  test('what was issued before a rotation works on, and is revoked after it', async () => {
    const grants = directGrants(provider, pair.settings, accountOf(pair.secret));
    const before = [
      await grants.mint(['read']),
      await grants.mint(['write']),
      await grants.mint(['reports']),
      await grants.mint(['makers']),
    ];
    const { username, password } = before[3] as Account;
    const maker = await logins.login({ username, password });
    await maker.query('CREATE TABLE public.made_by_an_agent ()');

    const second = await rotate(pair, pair.secret);
    grants.replaceSecret(second);
    expect(second.username).toBe('warder_b');
    expect(await sessionsOf('warder_a')).toEqual([]);
    expect(await codeOf(maker.query('SELECT 1'))).toBe('done');
    const after = await grants.mint(['read']);
    const reader = await logins.login({ username: after.username, password: after.password });
    expect(await codeOf(reader.query('SELECT * FROM public.orders'))).toBe('done');
    for (const grant of before) await grants.revoke(grant);
    const { rows } = await reader.query("SELECT rolname FROM pg_roles WHERE rolname LIKE 'wdr\\_01%'");
    expect(rows).toEqual([{ rolname: after.username }]);
    expect(await codeOf(maker.query('SELECT 1'))).not.toBe('done');

    const third = await rotate(pair, { ...second });
    grants.replaceSecret(third);
    expect(third.username).toBe('warder_a');
    await grants.revoke(after);
    expect(await logins.root("SELECT 1 FROM pg_roles WHERE rolname LIKE 'wdr\\_01%'")).toEqual([]);
    expect(await codeOf(reader.query('SELECT 1'))).not.toBe('done');
    await reader.end().catch(() => undefined);
    await maker.end().catch(() => undefined);
    pair.secret = { ...third };
  });

  test('the function changes nothing but the login that does not call it', async () => {
    const client = await logins.login(pair.secret);
    await logins.root('CREATE ROLE bystander LOGIN');
    const call = (login: string): Promise<string> =>
      codeOf(client.query('SELECT warder_keeper.set_login($1, NULL)', [login]));
    for (const login of ['bystander', 'postgres', 'warder', 'warder_keeper', 'warder_a']) {
      expect([login, await call(login)]).toEqual([login, '42501']);
    }
    await client.query('SET ROLE warder');
    expect(await call('warder_a')).toBe('42501');
    expect(await call('warder_b')).toBe('done');
    await client.end();
    const grants = directGrants(provider, pair.settings, accountOf(pair.secret));
    const grant = await grants.mint(['read']);
    const agent = await logins.login({ username: grant.username, password: grant.password });
    expect(await codeOf(agent.query("SELECT warder_keeper.set_login('warder_b', NULL)"))).toBe('42501');
    await agent.end();
    await grants.revoke(grant);
    await logins.root('DROP ROLE bystander');
  });

  test('neither the login nor who it acts as inherits what agents leave', async () => {
    for (const heir of ['warder', pair.secret['username']]) {
      const settings = { ...pair.settings, reassign_owned_to: heir };
      const grants = directGrants(provider, settings, accountOf(pair.secret));
      await expect(grants.mint(['read'])).rejects.toMatchObject({ kind: 'refused' });
    }
  });

  test('sessions of the login before are ended when it is retired, and not sooner', async () => {
    const thief = await logins.login(pair.secret);
    const attempt = begin(pair, pair.secret);
    await attempt.run();
    attempt.finish();
    expect(await codeOf(thief.query('SELECT 1'))).toBe('done');
    await attempt.retire(pair.secret);
    expect(await codeOf(thief.query('SELECT 1'))).not.toBe('done');
    pair.secret = attempt.next();
  });

  test('a new login that may not do the work is refused by the test, and undone', async () => {
    const attempt = begin(pair, pair.secret);
    const { username = '' } = await attempt.create();
    await logins.root(`REVOKE warder FROM ${username}`);
    await attempt.set();
    await expect(attempt.test()).rejects.toMatchObject({ kind: 'refused' });
    await attempt.undo();
    expect(await logins.root(`SELECT rolcanlogin FROM pg_roles WHERE rolname = '${username}'`)).toEqual([
      { rolcanlogin: false },
    ]);
    await logins.root(`GRANT warder TO ${username}`);
  });

  test('without the function the login before stays in force, from PostgreSQL 16 on', async () => {
    const alone = { ...pair, method: { alternate: ['warder_a', 'warder_b'] } };
    const version = "SELECT current_setting('server_version_num')::int < 160000 AS old";
    if ((await logins.root(version))[0]?.['old'] === true) {
      // The right to make roles is enough there.
      pair.secret = { ...(await rotate(alone, pair.secret)) };
      return;
    }
    const attempt = begin(alone, pair.secret);
    await attempt.create();
    await expect(attempt.set()).rejects.toMatchObject({ kind: 'refused' });
    await attempt.undo();
    await attempt.test(pair.secret);
  });
});

describe('one login that changes its password', () => {
  test('ends the sessions that were opened with the one before', async () => {
    const account = await logins.single('plain');
    const thief = await logins.login(account.secret);
    const attempt = begin(account, account.secret);
    await attempt.run();
    expect(await codeOf(thief.query('SELECT 1'))).not.toBe('done');
  });

  test('keeps a grant that is asked for at this moment waiting for the new one, and not for ever', async () => {
    const { settings, secret } = await logins.single('plain');
    const { username = '' } = secret;
    await logins.root(
      `ALTER ROLE ${username} CREATEROLE; CREATE ROLE rot_readers; GRANT rot_readers TO ${username} WITH ADMIN OPTION`,
    );
    const grants = directGrants(
      provider,
      { ...settings, scopes: { read: { member_of: ['rot_readers'] } } },
      accountOf(secret),
    );
    await logins.root(`ALTER ROLE ${username} PASSWORD 'the next one'`);
    const waiting = grants.mint(['read']);
    const replaced = pause(200).then(() => grants.replaceSecret({ username, password: 'the next one' }));
    const [grant] = await Promise.all([waiting, replaced]);
    await grants.revoke(grant);
    grants.replaceSecret({ username, password: 'a wrong one' });
    await expect(grants.mint(['read'])).rejects.toMatchObject({ kind: 'refused' });
  });

  test('is refused, and changes nothing, when somebody else has changed it', async () => {
    const account = await logins.single('plain');
    const attempt = begin(account, account.secret);
    await attempt.create();
    await logins.root(`ALTER ROLE ${account.secret['username']} PASSWORD 'somebody else’s'`);
    await expect(attempt.set()).rejects.toMatchObject({ kind: 'refused' });
    await expect(attempt.undo()).rejects.toMatchObject({ kind: 'refused' });
    expect(await account.accepts({ ...account.secret, password: 'somebody else’s' })).toBe(true);
  });

  test('does not end a login of another name: that is said', async () => {
    const [account, before] = [await logins.single('plain'), await logins.single('plain')];
    const attempt = begin(account, account.secret);
    await expect(attempt.retire(before.secret)).rejects.toMatchObject({ kind: 'refused' });
    expect(await before.accepts(before.secret)).toBe(true);
    await attempt.retire({ ...before.secret, password: 'not this one' });
  });
});

test('no password that Warder made is in the server’s log', async () => {
  const made: Fields[] = [];
  for (const account of [await logins.pair('plain'), await logins.single('plain')]) {
    const attempt = begin(account, account.secret);
    await attempt.run();
    made.push(attempt.next());
  }
  // The log of a server that is not ours is not to be seen.
  if (process.env['WARDER_TEST_POSTGRES_URL'] !== undefined) return;
  await eventually(
    'both changes are in the log',
    () => logins.log(),
    (log) => made.every(({ username = '' }) => log.includes(username)),
  );
  for (const { password = '' } of made) expect(logins.log()).not.toContain(password);
});

test('two logins need a role that both act as', () => {
  const check = (settings: object) => {
    const checked = provider.checkSettings(logins.settings(settings));
    if (!checked.ok) throw new Error('settings');
    return provider.rotation?.checkMethod({ alternate: ['one', 'other'] }, checked.value).ok;
  };
  expect([check({}), check({ act_as: 'one' }), check({ act_as: 'third' })]).toEqual([false, false, true]);
  expect(provider.rotation?.checkMethod({ alternate: ['one', 'one'] }, {})).toMatchObject({ ok: false });
});
