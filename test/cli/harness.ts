/** Runs the command line inside the test, against a throw-away server that speaks the API's shapes. */
import { createServer, type IncomingMessage } from 'node:http';
import { PassThrough, Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import type { Context, Input, Output } from '../../src/cli/context.ts';
import { runCli } from '../../src/cli/program.ts';

/** What a command sent. */
export interface Sent {
  method: string;
  /** Below `/admin/v1/`; with a leading slash for other paths. */
  path: string;
  query: Record<string, string>;
  body: unknown;
  authorization: string | undefined;
}

export interface Reply {
  status?: number;
  /** Text is sent as it is, anything else as JSON. */
  body?: unknown;
  headers?: Record<string, string>;
  /** Breaks the connection off after the body. */
  breakOff?: boolean;
}

export type Routes = Record<string, Reply | ((sent: Sent) => Reply)>;

export interface Wire {
  url: string;
  sent: Sent[];
  close(): Promise<void>;
}

const readSent = async (req: IncomingMessage): Promise<Sent> => {
  const url = new URL(req.url ?? '/', 'http://wire');
  const body = await text(req);
  return {
    method: req.method ?? '',
    path: url.pathname.replace(/^\/admin\/v1\//, ''),
    query: Object.fromEntries(url.searchParams),
    body: body === '' ? undefined : JSON.parse(body),
    authorization: req.headers.authorization,
  };
};

/** @param routes by `METHOD path`; what is not there is 404 */
export const startWire = async (routes: Routes): Promise<Wire> => {
  const sent: Sent[] = [];
  const server = createServer(async (req, res) => {
    const one = await readSent(req);
    sent.push(one);
    const route = routes[`${one.method} ${one.path}`];
    const reply =
      (typeof route === 'function' ? route(one) : route) ?? problem(404, 'not_found', 'there is no such route');
    const body =
      typeof reply.body === 'string' ? reply.body : reply.body === undefined ? '' : JSON.stringify(reply.body);
    res.writeHead(reply.status ?? 200, { 'content-type': 'application/json', ...reply.headers });
    if (!reply.breakOff) {
      res.end(body);
      return;
    }
    res.write(body, () => setTimeout(() => res.destroy(), 20));
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const address = server.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  return {
    url: `http://127.0.0.1:${port}`,
    sent,
    close: () =>
      new Promise((closed) => {
        server.close(() => closed());
        server.closeAllConnections();
      }),
  };
};

export const problem = (status: number, code: string, detail: string, more: object = {}): Reply => ({
  status,
  body: { type: `urn:warder:error:${code}`, title: code, status, code, detail, request_id: 'req_1', ...more },
  headers: { 'content-type': 'application/problem+json' },
});

class Capture extends Writable {
  readonly isTTY: boolean;
  #chunks: Buffer[] = [];

  constructor(isTTY: boolean) {
    super();
    this.isTTY = isTTY;
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#chunks.push(chunk);
    done();
  }

  text(): string {
    return Buffer.concat(this.#chunks).toString('utf8');
  }
}

export interface Options {
  env?: Record<string, string | undefined>;
  /** What standard input gives; a terminal gives it when it is read. */
  stdin?: string;
  /** All three streams are a terminal. */
  terminal?: boolean;
  context?: Partial<Context>;
}

export interface Ended {
  code: number;
  out: string;
  err: string;
}

const unconfigured: Context['configure'] = () => ({ ok: false, problems: ['not configured in this test'] });

/** Runs a command to its end. */
export const run = async (args: readonly string[], options: Options = {}): Promise<Ended> => {
  const terminal = options.terminal === true;
  const stdin: Input = Object.assign(new PassThrough(), { isTTY: terminal });
  if (options.stdin !== undefined) stdin.unshift(options.stdin);
  if (stdin instanceof PassThrough) stdin.end();
  const out = new Capture(terminal);
  const err = new Capture(terminal);
  const streams: { stdout: Output; stderr: Output } = { stdout: out, stderr: err };
  const code = await runCli(args, {
    env: options.env ?? {},
    stdin,
    ...streams,
    now: Date.now,
    version: '1.2.3',
    configure: unconfigured,
    onSignal: () => () => undefined,
    exit: () => undefined,
    ...options.context,
  });
  return { code, out: out.text(), err: err.text() };
};

/** Runs a command against a wire of its own. */
export const runOn = async (
  routes: Routes,
  args: readonly string[],
  options: Options = {},
): Promise<Ended & { sent: Sent[] }> => {
  const wire = await startWire(routes);
  try {
    const env = { WARDER_URL: wire.url, WARDER_TOKEN: 'wdr_op_test', ...options.env };
    return { ...(await run(args, { ...options, env })), sent: wire.sent };
  } finally {
    await wire.close();
  }
};
