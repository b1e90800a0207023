/** Requests to the outside, over undici: keep-alive pools an origin, addresses judged when they are connected to. */
import type { LookupAddress, LookupOptions } from 'node:dns';
import { lookup as systemLookup } from 'node:dns';
import { isIP, type Socket } from 'node:net';
import { buildConnector, type Dispatcher, errors, Pool, request } from 'undici';
import { judgeAddress, judgeHost } from '../src/domain/network-address.ts';
import type { Egress } from '../src/ports/egress.ts';
import type { Upstream, UpstreamCall, UpstreamFailure, UpstreamRequest, UpstreamSink } from '../src/ports/upstream.ts';

/** The address a connection would go to is not one it may go to. */
class AddressRefused extends Error {
  override readonly name = 'AddressRefused';
}

/** Sockets an origin: enough for a busy agent fleet, few enough to leave the upstream standing. */
const socketsPerOrigin = 128;
/** Shorter than what common servers keep (5 s Node, 60 s nginx), so that a reused socket is rarely a dead one. */
const keepAliveMs = 4_000;
const maxResponseHeaderBytes = 64 * 1024;

/** Cloud metadata hands out credentials to whoever asks: refused even where private networks are allowed. */
const permitted = (address: string, allowPrivate: boolean): boolean => {
  const judged = judgeAddress(address);
  if (judged.kind === 'public') return true;
  return judged.kind === 'private' && allowPrivate && judged.range !== 'metadata';
};

/** As `dns.lookup` with `all`: how a test brings its own answers. */
export type Lookup = (
  hostname: string,
  options: LookupOptions & { all: true },
  done: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

type LookupDone = (error: Error | null, address: string | LookupAddress[], family?: number) => void;

/** Resolves a name and keeps only addresses that may be connected to, so that not even a SYN goes elsewhere. */
const guardedLookup =
  (allowPrivate: boolean, lookup: Lookup) =>
  (hostname: string, options: LookupOptions, done: LookupDone): void => {
    lookup(hostname, { ...options, all: true }, (error, addresses) => {
      if (error) return done(error, []);
      const good = addresses.filter(({ address }) => permitted(address, allowPrivate));
      const [first] = good;
      if (!first) return done(new AddressRefused(`${hostname} resolves to an address that is not allowed`), []);
      if (options.all) return done(null, good);
      done(null, first.address, first.family);
    });
  };

/**
 * undici takes a reset for the end of an answer that ends with its connection (it tells the two apart by this code), and
 * a part would pass for the whole. Must be called before undici listens.
 */
const resetIsNoEnd = (socket: Socket): void => {
  socket.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'ECONNRESET') error.code = 'EPROTO';
  });
};

/** Connects and, before a byte is sent, judges the address at the other end of the socket. */
const guardedConnector = (allowPrivate: boolean, timeoutMs: number, lookup: Lookup): buildConnector.connector => {
  const connect = buildConnector({
    timeout: timeoutMs,
    lookup: guardedLookup(allowPrivate, lookup),
    // Both families at once, first answer wins (RFC 8305).
    autoSelectFamily: true,
    allowH2: false,
  });
  return (options, callback) => {
    const host = judgeHost(options.hostname);
    const literal = isIP(options.hostname.replace(/^\[|\]$/g, '')) !== 0;
    if (host.kind === 'invalid' || (literal && !permitted(options.hostname.replace(/^\[|\]$/g, ''), allowPrivate))) {
      callback(new AddressRefused(`${options.hostname} is not an address that is allowed`), null);
      return;
    }
    connect(options, (error, socket) => {
      if (error) return callback(error, null);
      if (!socket) return callback(new Error('no socket'), null);
      if (!permitted(socket.remoteAddress ?? '', allowPrivate)) {
        socket.destroy();
        return callback(new AddressRefused(`${options.hostname} led to an address that is not allowed`), null);
      }
      socket.setNoDelay(true);
      resetIsNoEnd(socket);
      callback(null, socket);
    });
  };
};

const failureOf = (error: Error): UpstreamFailure => {
  if (error instanceof AddressRefused) return 'address_refused';
  const slow =
    error instanceof errors.ConnectTimeoutError ||
    error instanceof errors.HeadersTimeoutError ||
    error instanceof errors.BodyTimeoutError;
  return slow ? 'timeout' : 'unavailable';
};

/** undici gives raw fields as buffers; Latin-1 is what an HTTP field is. */
const flatHeaders = (raw: Dispatcher.DispatchController['rawHeaders']): string[] =>
  Array.isArray(raw) ? raw.map((part) => (typeof part === 'string' ? part : part.toString('latin1'))) : [];

class Call implements Dispatcher.DispatchHandler, UpstreamCall {
  readonly #sink: UpstreamSink;
  readonly #waiting: NodeJS.Timeout;
  #controller: Dispatcher.DispatchController | undefined;
  #ended = false;

  /** @param waitMs for a connection, new or become free: undici's own limit does not count the queue */
  constructor(sink: UpstreamSink, waitMs: number) {
    this.#sink = sink;
    this.#waiting = setTimeout(() => this.#fail('timeout', 'no connection in time'), waitMs);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    clearTimeout(this.#waiting);
    this.#controller = controller;
    if (this.#ended) controller.abort(new Error('the call was ended'));
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number): void {
    if (status < 200 || this.#ended) return;
    this.#sink.onHead(status, flatHeaders(controller.rawHeaders));
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (!this.#ended && !this.#sink.onData(chunk)) controller.pause();
  }

  onResponseEnd(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#sink.onEnd();
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#fail(failureOf(error), error.message);
  }

  #fail(failure: UpstreamFailure, why: string): void {
    clearTimeout(this.#waiting);
    if (this.#ended) return;
    this.#ended = true;
    this.#sink.onFailure(failure, why);
  }

  resume(): void {
    this.#controller?.resume();
  }

  abort(): void {
    clearTimeout(this.#waiting);
    if (this.#ended) return;
    this.#ended = true;
    this.#controller?.abort(new Error('the call was ended'));
  }
}

export const openUpstream = (lookup: Lookup = systemLookup): Upstream & Egress => {
  const pools = new Map<string, Pool>();
  const poolOf = (origin: string, allowPrivate: boolean, connectMs: number): Pool => {
    const key = `${origin} ${allowPrivate} ${connectMs}`;
    const known = pools.get(key);
    if (known) return known;
    const pool = new Pool(origin, {
      connect: guardedConnector(allowPrivate, connectMs, lookup),
      // Told once more: a pool that thinks of HTTP/2 makes all calls wait for its first connection.
      allowH2: false,
      connections: socketsPerOrigin,
      pipelining: 1,
      keepAliveTimeout: keepAliveMs,
      maxHeaderSize: maxResponseHeaderBytes,
    });
    pools.set(key, pool);
    return pool;
  };

  return {
    forward(asked: UpstreamRequest, sink: UpstreamSink): UpstreamCall {
      const call = new Call(sink, asked.timeouts.connectMs);
      const pool = poolOf(asked.origin, asked.allowPrivateNetwork, asked.timeouts.connectMs);
      pool.dispatch(
        {
          method: asked.method,
          path: asked.path,
          headers: asked.headers,
          body: asked.body,
          headersTimeout: asked.timeouts.headersMs,
          bodyTimeout: asked.timeouts.idleMs,
        },
        call,
      );
      return call;
    },

    async getJson(url, { allowPrivateNetwork }) {
      const { origin } = new URL(url);
      const timeoutMs = 5_000;
      const maxBytes = 256 * 1024;
      const response = await request(url, {
        dispatcher: poolOf(origin, allowPrivateNetwork, timeoutMs),
        headers: { accept: 'application/json' },
        signal: AbortSignal.timeout(timeoutMs),
      });
      if (response.statusCode !== 200) {
        await response.body.dump();
        throw new Error(`${origin} answered ${response.statusCode}`);
      }
      const chunks: Buffer[] = [];
      let size = 0;
      for await (const chunk of response.body) {
        size += chunk.length;
        if (size > maxBytes) throw new Error(`${origin} answered more than ${maxBytes} bytes`);
        chunks.push(chunk);
      }
      return JSON.parse(Buffer.concat(chunks).toString());
    },

    async close() {
      await Promise.all([...pools.values()].map((pool) => pool.destroy()));
    },
  };
};
