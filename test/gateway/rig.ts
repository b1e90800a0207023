/** What the gateway's tests share: a broker, upstreams of every temper, and requests as raw as the details need them. */
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import { connect, createServer as createNetServer, type Server as NetServer, type Socket } from 'node:net';
import { type Broker, type BrokerOptions, startBroker } from '../support/broker.ts';

export const SECRET = 'sk_live_51HqLyjWDarjtT1zdp7dcGGkZ9aQ4mXw';

export interface Upstream {
  url: string;
  port: number;
  /** Connections accepted so far. */
  connections(): number;
  /** Connections open now. */
  open(): number;
  close(): Promise<void>;
}

const asUpstream = async (server: Server | NetServer): Promise<Upstream> => {
  const sockets = new Set<Socket>();
  let accepted = 0;
  server.on('connection', (socket: Socket) => {
    accepted += 1;
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    connections: () => accepted,
    open: () => sockets.size,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
};

/** A real HTTP server. */
export const httpUpstream = (
  handle: (req: IncomingMessage, res: ServerResponse) => void,
  options: { keepAliveTimeoutMs?: number } = {},
): Promise<Upstream> => {
  const server = createServer({ keepAliveTimeout: options.keepAliveTimeoutMs ?? 5_000 }, handle);
  server.on('checkContinue', handle);
  return asUpstream(server);
};

/** A server that says whatever bytes the test wants. `handle` runs once for each connection. */
export const rawUpstream = (handle: (socket: Socket) => void): Promise<Upstream> =>
  asUpstream(
    createNetServer((socket) => {
      socket.on('error', () => undefined);
      handle(socket);
    }),
  );

/** A raw server that waits for a whole head, then answers with these bytes; the function gets the head. */
export const answering = (answer: (head: string, socket: Socket) => void): Promise<Upstream> =>
  rawUpstream((socket) => {
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      for (let end = text.indexOf('\r\n\r\n'); end >= 0; end = text.indexOf('\r\n\r\n')) {
        const head = text.slice(0, end + 2);
        text = text.slice(end + 4);
        answer(head, socket);
      }
    });
  });

export interface Reply {
  status: number;
  reason: string;
  headers: IncomingMessage['headers'];
  rawHeaders: string[];
  body: Buffer;
  text: string;
  trailers: NodeJS.Dict<string>;
  /** Whether the end of the message was marked as its framing demands. */
  complete: boolean;
}

export interface CallOptions {
  method?: string;
  headers?: Record<string, string | string[]>;
  body?: string | Buffer;
  token?: string | undefined;
}

/** One request over a connection of its own. Rejects when no answer came; an answer that broke off is not `complete`. */
export const call = (url: string, options: CallOptions = {}): Promise<Reply> =>
  new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url);
    const path = url.slice(url.indexOf('/', url.indexOf('//') + 2));
    const req = request({
      host: hostname,
      port,
      path,
      method: options.method ?? 'GET',
      headers: {
        ...(options.token === undefined ? {} : { authorization: `Bearer ${options.token}` }),
        ...options.headers,
      },
      agent: false,
    });
    req.on('error', reject);
    req.on('response', (res) => {
      const chunks: Buffer[] = [];
      res.on('data', (chunk: Buffer) => chunks.push(chunk));
      res.on('error', () => undefined);
      res.on('close', () => {
        const body = Buffer.concat(chunks);
        resolve({
          status: res.statusCode ?? 0,
          reason: res.statusMessage ?? '',
          headers: res.headers,
          rawHeaders: res.rawHeaders,
          body,
          text: body.toString(),
          trailers: res.trailers,
          complete: res.complete,
        });
      });
    });
    req.end(options.body);
  });

/** Writes bytes, and collects what comes back until the other side closes or has been silent for `quietMs`. */
export const raw = (
  port: number,
  bytes: string | Buffer,
  options: { quietMs?: number; halfClose?: boolean } = {},
): Promise<{ text: string; closed: boolean }> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    let text = '';
    const finish = (closed: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ text, closed });
    };
    const timer = setTimeout(() => finish(false), options.quietMs ?? 400);
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      timer.refresh();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => finish(true));
    const sent = typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes;
    if (options.halfClose === true) socket.end(sent);
    else socket.write(sent);
  });

export interface Access {
  /** The gateway token. */
  token: string;
  /** `http://127.0.0.1:…/gateway/<connection>`. */
  baseUrl: string;
  connection: string;
  grantId: string;
  agent: { id: string; name: string; clientId: string; clientSecret: string };
  agentToken: string;
  entitlementId: string;
  use(path: string, options?: CallOptions): Promise<Reply>;
}

export interface AccessOptions {
  scopes?: Record<string, { methods: string[]; path: string }[]>;
  granted?: string[];
  secret?: string;
  settings?: object;
  ttlSeconds?: number;
  limits?: object;
  owner?: string;
}

export interface AuditItem {
  type: string;
  outcome: string;
  actor: Record<string, string>;
  agent?: { id: string; name: string };
  connection?: { id: string; name: string };
  grant?: string;
  request_id?: string;
  data: Record<string, unknown>;
}

export interface Rig {
  broker: Broker;
  port: number;
  /** A new agent with a grant on a new connection to this upstream. */
  access(baseUrl: string, options?: AccessOptions): Promise<Access>;
  /** Another agent's grant on a connection that is there. */
  share(access: Access, options?: AccessOptions): Promise<Access>;
  /** What the audit log says of one connection, or of everything, oldest first. */
  audit(connection?: string): Promise<AuditItem[]>;
  /** What the last entries of this many calls say; the agent does not wait for them, so this does. */
  completed(access: Access, count: number): Promise<Record<string, unknown>[]>;
  close(): Promise<void>;
}

export const startRig = async (options: BrokerOptions = {}): Promise<Rig> => {
  const broker = await startBroker(options);
  let count = 0;

  const grantFor = async (connection: string, options: AccessOptions): Promise<Access> => {
    count += 1;
    const scopes = options.granted ?? (options.scopes ? Object.keys(options.scopes) : ['all']);
    const agent = await broker.agent(`agent-${count}`, options.owner);
    const entitled = await broker.entitle(agent.name, connection, scopes, options.limits);
    if (entitled.status !== 201) throw new Error(`entitlement: ${entitled.text}`);
    const agentToken = await broker.agentToken(agent);
    const issued = await broker.grant(agentToken, { connection, scopes, ttl_seconds: options.ttlSeconds ?? 600 });
    if (issued.status !== 201) throw new Error(`grant: ${issued.text}`);
    const credential = issued.body['credential'] as { token: string; base_url: string };
    return {
      token: credential.token,
      baseUrl: credential.base_url,
      connection,
      grantId: String((issued.body['grant'] as { id: string }).id),
      agent,
      agentToken,
      entitlementId: String(entitled.body['id']),
      use: (path, more = {}) => call(`${credential.base_url}${path}`, { token: credential.token, ...more }),
    };
  };

  const rig: Rig = {
    broker,
    port: Number(new URL(broker.url).port),
    access: async (baseUrl, options = {}) => {
      const name = `con-${count + 1}`;
      const made = await broker.connection(name, baseUrl, {
        ...(options.scopes === undefined ? {} : { scopes: options.scopes }),
        secret: options.secret ?? SECRET,
        ...(options.settings === undefined ? {} : { settings: options.settings }),
      });
      if (made.status !== 201) throw new Error(`connection: ${made.text}`);
      return grantFor(name, options);
    },
    share: (access, options = {}) => grantFor(access.connection, options),
    audit: async (connection) => {
      const items: AuditItem[] = [];
      const query = connection === undefined ? '' : `&connection=${connection}`;
      let cursor = '';
      for (;;) {
        const page = await broker.admin('GET', `/audit?limit=500${query}${cursor}`);
        items.push(...(page.body['items'] as AuditItem[]));
        const next = page.body['next_cursor'];
        if (typeof next !== 'string') return items.reverse();
        cursor = `&cursor=${next}`;
      }
    },
    completed: async (access, count) => {
      let entries: AuditItem[] = [];
      await eventually(async () => {
        entries = (await rig.audit(access.connection)).filter(({ type }) => type === 'gateway.completed');
        return entries.length >= count;
      });
      return entries.map(({ data }) => data);
    },
    close: () => broker.close(),
  };
  return rig;
};

/** Waits until something is so. @throws Error after `withinMs` */
export const eventually = async (holds: () => boolean | Promise<boolean>, withinMs = 5_000): Promise<void> => {
  const end = performance.now() + withinMs;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`still not so after ${withinMs} ms`);
    await sleep(10);
  }
};

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** The values of a field in wire order, whatever its spelling. */
export const valuesOf = (rawHeaders: readonly string[], name: string): string[] =>
  rawHeaders.filter((_, index) => index % 2 === 1 && rawHeaders[index - 1]?.toLowerCase() === name.toLowerCase());
