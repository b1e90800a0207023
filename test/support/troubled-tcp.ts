/**
 * A proxy before a real server, for tests of providers that do not speak HTTP, with the switch for the trouble that
 * test/conformance/provider.ts puts an upstream into. It reads no protocol: the test says which messages make something.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import type { Upstream } from '../conformance/provider.ts';

export interface TroubledProxy {
  host: string;
  port: number;
  trouble: Upstream['trouble'];
  /** Does what it was asked, and keeps the answer to itself. */
  unanswered(): void;
  /** Ends every connection that is open now. */
  cut(): void;
  close(): Promise<void>;
}

type Mode =
  | { is: 'well' | 'down' | 'nonsense' | 'halfDone' | 'unanswered' | 'late' | 'hangs' }
  | { is: 'slow'; ms: number };

/** Far below any time-out of a client, far above what a request takes. */
const latenessMs = 300;

/**
 * @param target the real server
 * @param acts whether a message from the client makes something (or ends it): only those are half done or done late, so that
 * what comes before them gets them there
 */
export const startTroubledProxy = async (
  target: { host: string; port: number },
  acts: (message: Buffer) => boolean,
): Promise<TroubledProxy> => {
  let mode: Mode = { is: 'well' };
  const open = new Set<Socket>();
  const kept = (socket: Socket): Socket => {
    open.add(socket);
    socket.on('error', () => undefined).on('close', () => open.delete(socket));
    return socket;
  };

  const join = (client: Socket): void => {
    const server = kept(connect({ ...target, noDelay: true }));
    /** Set, the client hears nothing more; what it asked for is done all the same. */
    let unheard = false;
    const hangUp = (): void => {
      unheard = true;
      client.destroy();
    };
    client.on('data', (message) => {
      const now = mode;
      switch (now.is) {
        case 'hangs':
          return;
        case 'down':
          hangUp();
          server.destroy();
          return;
        case 'slow':
          setTimeout(() => server.write(message), now.ms);
          return;
        case 'nonsense':
          unheard = true;
          client.end('<<<\r\n\r\nnonsense');
          server.destroy();
          return;
        case 'halfDone':
          server.write(message);
          if (acts(message)) server.prependOnceListener('data', hangUp);
          return;
        case 'unanswered':
          server.write(message);
          if (acts(message)) unheard = true;
          return;
        case 'late':
          if (!acts(message)) return void server.write(message);
          hangUp();
          setTimeout(() => {
            server.write(message);
            setTimeout(() => server.destroy(), latenessMs);
          }, latenessMs);
          return;
        default:
          server.write(message);
      }
    });
    server.on('data', (answer) => {
      if (!unheard) client.write(answer);
    });
    client.on('close', () => {
      if (!unheard) server.destroy();
    });
    server.on('close', () => client.destroy());
  };

  const proxy = createServer({ noDelay: true }, (client) => {
    kept(client);
    if (mode.is === 'down') client.destroy();
    else join(client);
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const { port } = proxy.address() as AddressInfo;
  const into = (next: Mode) => async (): Promise<void> => {
    mode = next;
  };
  const cut = (): void => {
    for (const socket of open) socket.destroy();
  };
  return {
    host: '127.0.0.1',
    port,
    trouble: {
      down: into({ is: 'down' }),
      nonsense: into({ is: 'nonsense' }),
      halfDone: into({ is: 'halfDone' }),
      late: into({ is: 'late' }),
      hangs: into({ is: 'hangs' }),
      well: into({ is: 'well' }),
      slow: async (ms) => {
        mode = { is: 'slow', ms };
      },
    },
    unanswered: () => {
      mode = { is: 'unanswered' };
    },
    cut,
    close: async () => {
      cut();
      proxy.close();
      await once(proxy, 'close');
    },
  };
};
