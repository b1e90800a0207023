/** What is behind the gateway: it remembers each request that reached it, and the secret that came with it. */
import { createServer } from 'node:http';

export interface Target {
  url: string;
  /** Of each request by the word at the end of its path: what was in `Authorization`. */
  arrived: Map<string, string>;
  close(): Promise<void>;
}

export const startTarget = async (): Promise<Target> => {
  const arrived = new Map<string, string>();
  const server = createServer({ keepAliveTimeout: 600_000 }, (req, res) => {
    arrived.set((req.url ?? '').slice('/x/'.length), req.headers.authorization ?? '');
    res.end('{}');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  return {
    url: `http://127.0.0.1:${address && typeof address === 'object' ? address.port : 0}`,
    arrived,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
};
