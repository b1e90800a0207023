/**
 * `mysql` through the conformance suite: against the server at WARDER_TEST_MYSQL_URL, a MariaDB where the machine has
 * one, and in any case a small server that speaks the protocol of MySQL 8.
 */
import { openNetwork } from '../../../adapters/network.ts';
import { openMysqlProvider } from '../../../adapters/providers/mysql.ts';
import { providerConformance } from '../../conformance/provider.ts';
import { hasMariadb, startMariadb } from '../../support/mariadb.ts';
import { startTroubledProxy } from '../../support/troubled-tcp.ts';
import { startMysqlServer } from '../../vendors/mysql/server.ts';
import { admin, type MysqlRig, mysqlRig } from './mysql-rig.ts';

const conformance = (name: string, start: () => Promise<MysqlRig>): void =>
  providerConformance(
    name,
    async () => {
      const rig = await start();
      // Undoing waits for what is late (the lock): were its own DROP not late too, nobody would see what was made.
      const proxy = await startTroubledProxy(rig.server, (message) =>
        /CREATE USER|DROP USER/.test(message.toString('latin1')),
      );
      const network = openNetwork();
      return {
        provider: openMysqlProvider(network),
        settings: {
          host: proxy.host,
          port: proxy.port,
          database: 'shop_eu',
          tls: { mode: 'disable' },
          allow_private_network: true,
          scopes: {
            read: { preset: 'read', databases: ['shop_eu'] },
            write: { preset: 'read-write', databases: ['shop_eu'] },
          },
        },
        secret: admin,
        use: async ({ username, password }, scope) => {
          try {
            const client = await rig.login({ username: String(username), password: String(password) });
            try {
              await client.query(
                scope === 'read' ? 'SELECT * FROM shop_eu.orders' : "INSERT INTO shop_eu.orders (what) VALUES ('tea')",
              );
            } finally {
              client.destroy();
            }
            return true;
          } catch {
            return false;
          }
        },
        upstream: { artefacts: rig.users, trouble: proxy.trouble },
        close: async () => {
          await network.close();
          await proxy.close();
          await rig.stop();
        },
      };
    },
    { creates: true },
  );

const given = process.env['WARDER_TEST_MYSQL_URL'];
if (given !== undefined) conformance('mysql, at WARDER_TEST_MYSQL_URL', () => mysqlRig(given));
if (hasMariadb) {
  conformance('mysql, with a MariaDB', async () => {
    const started = await startMariadb();
    return mysqlRig(started.url, started);
  });
}
conformance('mysql, by the protocol', async () => {
  const started = await startMysqlServer();
  return mysqlRig(started.url, started);
});
