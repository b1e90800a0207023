/** `api-key` through the conformance suite: the agent never gets the key, and the gateway is where it works or not. */
import { createServer } from 'node:http';
import { apiKeyProvider } from '../../../adapters/providers/api-key.ts';
import { providerConformance } from '../../conformance/provider.ts';

providerConformance(
  'api-key',
  async () => {
    const key = 'sk_live_conformance_0123456789';
    const upstream = createServer((req, res) => {
      res.writeHead(req.headers.authorization === `Bearer ${key}` ? 200 : 401).end('{}');
    });
    await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
    const address = upstream.address();
    const port = address && typeof address === 'object' ? address.port : 0;
    return {
      provider: apiKeyProvider,
      settings: {
        base_url: `http://127.0.0.1:${port}`,
        allow_private_network: true,
        scopes: {
          read: [{ methods: ['GET'], path: '/things/**' }],
          write: [{ methods: ['POST'], path: '/things/**' }],
        },
      },
      secret: { value: key },
      use: async (credential, scope) => {
        const response = await fetch(`${credential['base_url']}/things/1`, {
          method: scope === 'read' ? 'GET' : 'POST',
          headers: { authorization: `Bearer ${credential['token']}` },
        });
        await response.arrayBuffer();
        return response.status === 200;
      },
      close: async () => {
        upstream.closeAllConnections();
        await new Promise((resolve) => upstream.close(resolve));
      },
    };
  },
  { creates: false },
);
