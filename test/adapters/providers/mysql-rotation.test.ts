/**
 * Rotating the login that Warder itself has at a MySQL or MariaDB: at the server at WARDER_TEST_MYSQL_URL, a MariaDB
 * where the machine has one, and in any case a small server that speaks the protocol of MySQL 8.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type mysql from 'mysql2/promise';
import { type Network, openNetwork } from '../../../adapters/network.ts';
import { account as named, quoted } from '../../../adapters/providers/mysql/statements.ts';
import { openMysqlProvider } from '../../../adapters/providers/mysql.ts';
import type { Provider } from '../../../src/ports/provider.ts';
import { rotationConformance } from '../../conformance/rotation.ts';
import { beginAttempt, type Fields, type RotatedAccount } from '../../conformance/rotation-attempt.ts';
import { hasMariadb, startMariadb } from '../../support/mariadb.ts';
import { startTroubledProxy, type TroubledProxy } from '../../support/troubled-tcp.ts';
import { startMysqlServer } from '../../vendors/mysql/server.ts';
import { directGrants } from './database-grants.ts';
import { type MysqlRig, mysqlRig } from './mysql-rig.ts';

const hostileName = ` ro'le" \\ @; ü`;
const hostilePassword = `p'a"ss\\; -- %s \` ü`;

const suite = (what: string, start: () => Promise<MysqlRig>): void => {
  describe(what, () => {
    let rig: MysqlRig;
    let proxy: TroubledProxy;
    let network: Network;
    let provider: Provider;
    const users: string[] = [];
    let made = 0;

    beforeAll(async () => {
      rig = await start();
      proxy = await startTroubledProxy(rig.server, (message) => /ALTER USER/.test(message.toString('latin1')));
      network = openNetwork();
      provider = openMysqlProvider(network);
    }, 60_000);
    afterAll(async () => {
      for (const user of users) await rig.root(`DROP USER IF EXISTS ${named({ user, host: '%' })}`);
      await network.close();
      await proxy.close();
      await rig.stop();
    });

    /** With the rights that docs/providers/mysql.md says. @param password none for a user that is locked */
    const makeUser = async (kind: 'plain' | 'hostile', password: string | undefined): Promise<string> => {
      made += 1;
      const user = `rot_${process.pid % 10_000}_${made}${kind === 'hostile' ? hostileName : ''}`;
      users.push(user);
      const name = named({ user, host: '%' });
      await rig.root(`CREATE USER ${name} IDENTIFIED BY ${quoted(password ?? `nobody’s ${made}`)}`);
      if (password === undefined) await rig.root(`ALTER USER ${name} ACCOUNT LOCK`);
      const kills = rig.mariadb ? 'CONNECTION ADMIN' : 'CONNECTION_ADMIN';
      await rig.root(`GRANT CREATE USER, PROCESS, ${kills} ON *.* TO ${name}`);
      await rig.root(`GRANT SELECT, SHOW VIEW, INSERT, UPDATE, DELETE ON \`shop\\_eu\`.* TO ${name} WITH GRANT OPTION`);
      return user;
    };
    const accepts = async ({ username = '', password = '' }: Fields): Promise<boolean> => {
      try {
        (await rig.login({ username, password })).destroy();
        return true;
      } catch (error) {
        const { errno } = error as { errno?: unknown };
        if ([1045, 3118, 4151].includes(Number(errno))) return false;
        throw error;
      }
    };
    const accountOf = async (kind: 'plain' | 'hostile', pair: boolean): Promise<RotatedAccount> => {
      const password = `the first one ${made}${kind === 'hostile' ? hostilePassword : ''}`;
      const username = await makeUser(kind, password);
      return {
        settings: {
          host: proxy.host,
          port: proxy.port,
          database: 'shop_eu',
          tls: { mode: 'disable' },
          allow_private_network: true,
        },
        method: pair ? { alternate: [username, await makeUser(kind, undefined)] } : { password: true },
        secret: { username, password },
        wrong: { username, password: `${password}!` },
        accepts,
      };
    };
    const begin = (account: RotatedAccount, current: Fields) =>
      beginAttempt({ provider, account, current, spoken: () => undefined });
    const failsOn = async (client: mysql.Connection): Promise<boolean> =>
      client.query('SELECT * FROM shop_eu.orders').then(
        () => false,
        () => true,
      );

    const publicFields = ['username'];
    for (const pair of [true, false]) {
      rotationConformance(
        pair ? 'two logins that alternate' : 'one login that changes its password',
        async () => ({
          provider,
          account: (kind) => accountOf(kind, pair),
          trouble: proxy.trouble,
          close: async () => undefined,
        }),
        { overlaps: pair, late: true, publicFields },
      );
    }

    test('what was issued before a rotation works on, and is revoked after it', async () => {
      const account = await accountOf('plain', true);
      const grants = directGrants(provider, account.settings, account.secret as { username: string; password: string });
      const before = [await grants.mint(['read']), await grants.mint(['read-write'])];
      let current = account.secret;
      for (let round = 0; round < 2; round += 1) {
        const attempt = begin(account, current);
        await attempt.run();
        const next = attempt.finish();
        await attempt.retire(current);
        grants.replaceSecret(next as { username: string; password: string });
        current = next;
        const [grant] = before.splice(0, 1);
        if (!grant) throw new Error('no grant is left');
        const agent = await rig.login(grant);
        expect(await failsOn(agent)).toBe(false);
        before.push(await grants.mint(['read']));
        await grants.revoke(grant);
        expect(await failsOn(agent)).toBe(true);
        expect(await accepts({ username: grant.username, password: grant.password })).toBe(false);
      }
      for (const grant of before) await grants.revoke(grant);
      expect(await rig.users()).toEqual([]);
    });

    test('sessions of the login before are ended when it is retired, and not sooner', async () => {
      const account = await accountOf('plain', true);
      const thief = await rig.login(account.secret as { username: string; password: string });
      const attempt = begin(account, account.secret);
      await attempt.run();
      attempt.finish();
      expect(await failsOn(thief)).toBe(false);
      await attempt.retire(account.secret);
      expect(await failsOn(thief)).toBe(true);
    });

    test('a password that is changed ends the sessions that were opened with the one before', async () => {
      const account = await accountOf('plain', false);
      const thief = await rig.login(account.secret as { username: string; password: string });
      const attempt = begin(account, account.secret);
      await attempt.create();
      await attempt.set();
      expect(await failsOn(thief)).toBe(true);
    });
  });
};

const given = process.env['WARDER_TEST_MYSQL_URL'];
if (given !== undefined) suite('mysql, at WARDER_TEST_MYSQL_URL', () => mysqlRig(given));
else if (hasMariadb) {
  suite('mysql, with a MariaDB', async () => {
    const started = await startMariadb();
    return mysqlRig(started.url, started);
  });
}
suite('mysql, by the protocol', async () => {
  const started = await startMysqlServer();
  return mysqlRig(started.url, started);
});
