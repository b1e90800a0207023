/** The gateway: any method of `/gateway/<connection>/<path>`, the secret put in, the answer streamed back. */
import { PassThrough, type Readable } from 'node:stream';
import type { Request, RequestHandler, Response } from 'express';
import { requestHeaders, responseHeaders } from '../../domain/gateway-headers.ts';
import { parseGatewayTarget } from '../../domain/gateway-path.ts';
import { Refused } from '../../domain/refusals.ts';
import { BodyMask } from '../../domain/secret-mask.ts';
import type { UpstreamCall, UpstreamFailure } from '../../ports/upstream.ts';
import type { CallRequest, CallResult, OpenCall } from '../../services/gateway-calls.ts';
import { bearerToken, challenge } from '../bearer.ts';
import { addressOf, type Edge, requestId } from '../edge.ts';
import { sendProblem } from '../problem.ts';
import { type Decoder, decoderFor } from './decoding.ts';

const failures: Record<UpstreamFailure, () => Refused> = {
  unavailable: () => new Refused('upstream_unavailable', 'the upstream could not be reached or broke off'),
  timeout: () => new Refused('upstream_timeout', 'the upstream did not answer in time'),
  address_refused: () =>
    new Refused('upstream_refused', 'the upstream’s address is private, and this connection does not allow that'),
};

const hasBody = (req: Request): boolean =>
  req.headers['transfer-encoding'] !== undefined || Number(req.headers['content-length'] ?? 0) > 0;

/** Where the request goes: the very path that was judged, behind the base path of the connection. */
const addressed = (
  call: OpenCall,
  request: CallRequest,
  query: string,
): { origin: string; path: string; host: string } => {
  const base = new URL(call.target.baseUrl);
  const { inject } = call.target;
  let search = query;
  if (inject.in === 'query') {
    search = `${query === '' ? '?' : `${query}&`}${inject.name}=${encodeURIComponent(inject.value)}`;
  }
  return { origin: base.origin, host: base.host, path: `${base.pathname.replace(/\/$/, '')}${request.path}${search}` };
};

/** An agent must not bring its own value of the parameter that carries the secret. */
const shadows = (call: OpenCall, query: string): boolean =>
  call.target.inject.in === 'query' && new URLSearchParams(query).has(call.target.inject.name);

export const gatewayHandler = (edge: Edge): RequestHandler => {
  return async (req, res) => {
    const target = parseGatewayTarget(req.originalUrl);
    const caller = { requestId: requestId(req), address: addressOf(req) };
    try {
      if (!target.ok) {
        throw new Refused(
          'invalid_request',
          `this path could be read in more than one way (${target.why}); it is not sent`,
        );
      }
      const request: CallRequest = {
        token: bearerToken(req),
        connection: target.connection,
        method: req.method,
        path: target.path,
      };
      const call = await edge.calls.open(request, caller);
      if (shadows(call, target.query)) {
        await edge.calls.close(
          call,
          request,
          { outcome: 'failed', status: null, bytesIn: 0, bytesOut: 0, why: 'invalid_request' },
          caller,
        );
        throw new Refused('invalid_request', 'this query parameter carries the secret; leave it out');
      }
      new Forwarding(edge, req, res, call, request, target.query).start();
    } catch (error) {
      if (error instanceof Refused) {
        if (error.refusal.code === 'unauthenticated') await edge.limits.failed(req);
        challenge(req, res, edge.core.issuer, '/gateway', error);
      }
      throw error;
    }
  };
};

/** One call under way. It ends once: done, failed upstream, cut by a revocation, or left by the agent. */
class Forwarding {
  readonly #edge: Edge;
  readonly #req: Request;
  readonly #res: Response;
  readonly #call: OpenCall;
  readonly #request: CallRequest;
  readonly #query: string;
  readonly #mask: BodyMask;
  #upstream: UpstreamCall | undefined;
  #decoder: Decoder | undefined;
  #status: number | null = null;
  #bytesIn = 0;
  #bytesOut = 0;
  #over = false;

  constructor(edge: Edge, req: Request, res: Response, call: OpenCall, request: CallRequest, query: string) {
    this.#edge = edge;
    this.#req = req;
    this.#res = res;
    this.#call = call;
    this.#request = request;
    this.#query = query;
    this.#mask = new BodyMask(call.needles);
  }

  start(): void {
    const { target } = this.#call;
    const { origin, host, path } = addressed(this.#call, this.#request, this.#query);
    const headers = requestHeaders(
      this.#req.rawHeaders,
      target.inject.in === 'header' ? { name: target.inject.name, value: target.inject.value } : undefined,
    );
    headers.push('Host', host);
    const length = this.#req.headers['content-length'];
    if (length !== undefined && hasBody(this.#req)) headers.push('Content-Length', length);

    this.#res.on('close', () => this.#end({ outcome: 'cut', why: 'agent_left' }));
    this.#edge.calls.run(this.#call, (why) => this.#cut(why));
    if (this.#over) return;
    this.#upstream = this.#edge.upstream.forward(
      {
        origin,
        path,
        method: this.#req.method,
        headers,
        body: this.#body(),
        allowPrivateNetwork: target.allowPrivateNetwork,
        timeouts: target.timeouts,
      },
      {
        onHead: (status, raw) => this.#head(status, raw),
        onData: (chunk) => this.#data(chunk),
        onEnd: () => this.#finish(),
        onFailure: (failure, why) => this.#failed(failure, why),
      },
    );
  }

  /** The agent's body, counted on its way; a stream of its own, so that a failing upstream leaves the socket usable. */
  #body(): Readable | null {
    if (!hasBody(this.#req)) return null;
    const body = new PassThrough();
    this.#req.on('data', (chunk: Buffer) => {
      this.#bytesIn += chunk.length;
    });
    this.#req.on('error', (error) => body.destroy(error));
    this.#req.on('aborted', () => body.destroy(new Error('the agent left')));
    body.on('error', () => this.#req.resume());
    this.#req.pipe(body);
    return body;
  }

  #head(status: number, raw: string[]): void {
    this.#status = status;
    const decoder = decoderFor(raw, this.#req.method, status);
    if (decoder === 'unknown') {
      this.#upstream?.abort();
      this.#problem(
        new Refused('upstream_refused', 'the upstream answered in an encoding the gateway cannot look into'),
      );
      return;
    }
    const headers = responseHeaders(decoder ? decoder.withoutEncoding(raw) : raw, this.#call.needles);
    headers.push('Warder-Request-Id', requestId(this.#req));
    this.#res.writeHead(status, headers);
    if (decoder) {
      this.#decoder = decoder;
      decoder.start({
        onData: (chunk) => this.#write(chunk),
        onEnd: () => this.#complete(),
        onError: () => this.#broken('bad_encoding'),
        onDrain: () => this.#upstream?.resume(),
      });
    }
    // An answer that begins without a body yet (server-sent events) must be seen to begin.
    this.#res.flushHeaders();
  }

  #data(chunk: Buffer): boolean {
    if (!this.#edge.calls.alive(this.#call)) {
      this.#cut('expired');
      return false;
    }
    return this.#decoder ? this.#decoder.push(chunk) : this.#write(chunk);
  }

  #write(chunk: Buffer): boolean {
    const masked = this.#mask.push(chunk);
    if (masked.length === 0) return true;
    this.#bytesOut += masked.length;
    const more = this.#res.write(masked);
    if (!more) this.#res.once('drain', () => (this.#decoder ? this.#decoder.resume() : this.#upstream?.resume()));
    return more;
  }

  #finish(): void {
    if (this.#decoder) this.#decoder.end();
    else this.#complete();
  }

  #complete(): void {
    if (this.#over) return;
    const rest = this.#mask.end();
    this.#bytesOut += rest.length;
    this.#end({ outcome: 'done' });
    this.#res.end(rest.length === 0 ? undefined : rest);
  }

  #failed(failure: UpstreamFailure, why: string): void {
    const refused = failures[failure]();
    this.#edge.core.log.warn(
      { request_id: requestId(this.#req), connection: this.#call.connection.name, failure, why },
      'an upstream failed',
    );
    if (this.#res.headersSent) this.#broken(refused.refusal.code);
    else this.#problem(refused);
  }

  /** Before the answer began: the agent gets Warder's own error, which says that it is Warder's. */
  #problem(refused: Refused): void {
    if (this.#over) return;
    this.#end({ outcome: 'failed', why: refused.refusal.code });
    sendProblem(this.#req, this.#res, refused);
  }

  /** After it began: the only honest end is a broken one, so that nobody takes a part for the whole. */
  #broken(why: string): void {
    if (this.#over) return;
    this.#end({ outcome: 'failed', why });
    this.#res.destroy();
  }

  /** The grant died while the call was running. */
  #cut(why: string): void {
    if (this.#over) return;
    this.#end({ outcome: 'cut', why });
    if (this.#res.headersSent) this.#res.destroy();
    else
      sendProblem(
        this.#req,
        this.#res,
        new Refused(why === 'expired' ? 'expired' : 'revoked', 'the credential died during this call'),
      );
  }

  #end(result: Pick<CallResult, 'outcome' | 'why'>): void {
    if (this.#over) return;
    this.#over = true;
    this.#upstream?.abort();
    this.#decoder?.destroy();
    this.#edge.metrics.gatewayBytes(this.#call.connection.name, this.#bytesIn, this.#bytesOut);
    void this.#edge.calls.close(
      this.#call,
      this.#request,
      { ...result, status: this.#status, bytesIn: this.#bytesIn, bytesOut: this.#bytesOut },
      { requestId: requestId(this.#req) },
    );
  }
}
