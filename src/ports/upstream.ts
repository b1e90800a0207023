/**
 * Sends one request upstream and streams the answer back.
 *
 * Contract: one call sends at most one request, never retries, never follows a redirect. The bytes of `path` and the
 * header fields go out as given. The address judged is the one really connected to: nothing of the request is sent
 * to an address that is not allowed. Memory is constant in both directions: `onData` says false to be given a rest.
 */
import type { Readable } from 'node:stream';

export interface UpstreamRequest {
  /** Scheme, host and port, e.g. `https://api.example.com`. */
  origin: string;
  method: string;
  /** Path and query, exactly as they go on the wire. */
  path: string;
  /** Name, value, name, value …, with Host and, where it is known, Content-Length. */
  headers: string[];
  body: Readable | null;
  allowPrivateNetwork: boolean;
  timeouts: { connectMs: number; headersMs: number; idleMs: number };
}

export type UpstreamFailure = 'unavailable' | 'timeout' | 'address_refused';

export interface UpstreamSink {
  /** `headers` flat, in wire order. Informational (1xx) answers are not passed on. */
  onHead(status: number, headers: string[]): void;
  /** @returns false to pause until {@link UpstreamCall.resume} */
  onData(chunk: Buffer): boolean;
  onEnd(): void;
  /** Instead of `onEnd`, once; `why` is for the log. Not called after {@link UpstreamCall.abort}. */
  onFailure(failure: UpstreamFailure, why: string): void;
}

export interface UpstreamCall {
  resume(): void;
  abort(): void;
}

export interface Upstream {
  forward(request: UpstreamRequest, sink: UpstreamSink): UpstreamCall;
  close(): Promise<void>;
}
