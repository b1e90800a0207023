/** Requests to the outside, over undici: keep-alive pools an origin, addresses judged when they are connected to. */
import { lookup as systemLookup } from 'node:dns';
import { type Dispatcher, errors, Pool, request } from 'undici';
import type { Egress } from '../src/ports/egress.ts';
import type { Upstream, UpstreamCall, UpstreamFailure, UpstreamRequest, UpstreamSink } from '../src/ports/upstream.ts';
import { AddressRefused, guardedConnector, type Lookup } from './network.ts';

/** Sockets an origin: enough for a busy agent fleet, few enough to leave the upstream standing. */
const socketsPerOrigin = 128;
/** Shorter than what common servers keep (5 s Node, 60 s nginx), so that a reused socket is rarely a dead one. */
const keepAliveMs = 4_000;
const maxResponseHeaderBytes = 64 * 1024;

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
      try {
        return JSON.parse(Buffer.concat(chunks).toString());
      } catch {
        // What the parser says quotes from the answer, and who wrote the address need not be who may read it.
        throw new Error(`${origin} answered with what is no JSON`);
      }
    },

    async close() {
      await Promise.all([...pools.values()].map((pool) => pool.destroy()));
    },
  };
};
