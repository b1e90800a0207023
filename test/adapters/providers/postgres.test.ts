/**
 * `postgres` through the conformance suite, against a real server through a proxy that can be put into trouble: one of
 * our own, or that at WARDER_TEST_POSTGRES_URL (a superuser's URL).
 */
import { openNetwork } from '../../../adapters/network.ts';
import { openPostgresProvider } from '../../../adapters/providers/postgres.ts';
import { providerConformance } from '../../conformance/provider.ts';
import { startTroubledProxy } from '../../support/troubled-tcp.ts';
import { admin, startPostgresRig } from './postgres-rig.ts';

providerConformance(
  'postgres',
  async () => {
    const rig = await startPostgresRig([], process.env['WARDER_TEST_POSTGRES_URL']);
    const proxy = await startTroubledProxy(rig.server, (message) =>
      /CREATE ROLE "wdr_[0-9a-z]{26}"/.test(message.toString('latin1')),
    );
    const network = openNetwork();
    return {
      provider: openPostgresProvider(network),
      settings: {
        host: proxy.host,
        port: proxy.port,
        database: 'postgres',
        tls: { mode: 'disable' },
        allow_private_network: true,
        scopes: { read: { preset: 'read' }, write: { preset: 'read-write' } },
      },
      secret: admin,
      use: async ({ username, password }, scope) => {
        try {
          const client = await rig.login({ username, password });
          try {
            await client.query(
              scope === 'read' ? 'SELECT * FROM public.orders' : "INSERT INTO public.orders (what) VALUES ('tea')",
            );
          } finally {
            await client.end();
          }
          return true;
        } catch {
          return false;
        }
      },
      upstream: { artefacts: () => rig.roles(), trouble: proxy.trouble },
      close: async () => {
        await network.close();
        await proxy.close();
        await rig.stop();
      },
    };
  },
  { creates: true },
);
