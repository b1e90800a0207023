/**
 * An HTTP server for tests of providers, with a switch for the trouble that test/conformance/provider.ts puts an upstream
 * into. The handler is the vendor's side; what it does, it really does.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PassThrough } from 'node:stream';
import type { Upstream } from '../conformance/provider.ts';

export interface TroubledServer {
  /** E.g. `http://127.0.0.1:41234`. */
  url: string;
  trouble: Upstream['trouble'];
  close(): Promise<void>;
}

type Mode =
  | { is: 'well' | 'down' | 'nonsense' | 'halfDone' | 'late' | 'hangs' }
  /** Answers after so many milliseconds. */
  | { is: 'slow'; ms: number };

/** Far below any time-out of a client, far above what a request takes. */
const latenessMs = 300;

const readBody = async (req: IncomingMessage): Promise<Buffer> => {
  const chunks: Buffer[] = [];
  for await (const chunk of req) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
};

/** The handler's answer goes nowhere: what it does is all that is wanted. */
const runUnheard = async (handler: RequestListener, req: IncomingMessage, body: Buffer): Promise<void> => {
  const inner = createServer(handler).listen(0, '127.0.0.1');
  await once(inner, 'listening');
  try {
    const { port } = inner.address() as AddressInfo;
    const headers = Object.entries(req.headers).flatMap(([name, value]) =>
      value === undefined || ['connection', 'transfer-encoding', 'content-length'].includes(name)
        ? []
        : [[name, String(value)] as const],
    );
    const sent = request({
      host: '127.0.0.1',
      port,
      method: req.method ?? 'GET',
      path: req.url ?? '/',
      headers: { ...Object.fromEntries(headers), 'content-length': String(body.length) },
    });
    sent.end(body);
    const [answer] = (await once(sent, 'response')) as [IncomingMessage];
    answer.pipe(new PassThrough().resume());
    await once(answer, 'end');
  } finally {
    inner.closeAllConnections();
    inner.close();
  }
};

/**
 * @param handler the vendor's side
 * @param spared requests that trouble does not touch, e.g. what the test itself asks to see what is there
 */
export const startTroubledServer = async (
  handler: RequestListener,
  spared: (req: IncomingMessage) => boolean = () => false,
): Promise<TroubledServer> => {
  let mode: Mode = { is: 'well' };
  const troubled = async (req: IncomingMessage, res: ServerResponse, is: Mode): Promise<void> => {
    switch (is.is) {
      case 'well':
        return handler(req, res);
      case 'slow':
        setTimeout(() => handler(req, res), is.ms);
        return;
      case 'hangs':
        return;
      case 'down':
        res.writeHead(503).end();
        return;
      case 'nonsense':
        res.writeHead(200, { 'Content-Type': 'application/json' }).end('<<<');
        return;
      case 'halfDone':
        await runUnheard(handler, req, await readBody(req));
        res.writeHead(500).end();
        return;
      case 'late': {
        const body = await readBody(req);
        req.socket.destroy();
        setTimeout(() => void runUnheard(handler, req, body), latenessMs);
      }
    }
  };
  const server = createServer((req, res) => {
    void troubled(req, res, spared(req) ? { is: 'well' } : mode).catch(() => res.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const into = (next: Mode) => async (): Promise<void> => {
    mode = next;
  };
  return {
    url: `http://127.0.0.1:${port}`,
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
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
};
