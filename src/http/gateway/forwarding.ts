/** One call on its way: the request streamed up, the answer streamed back, each masked and counted, ended once. */
import { PassThrough } from 'node:stream';
import type { Request, Response } from 'express';
import { requestHeaders, responseHeaders } from '../../domain/gateway-headers.ts';
import { withParameter } from '../../domain/gateway-query.ts';
import type { Dead } from '../../domain/liveness.ts';
import { Refused } from '../../domain/refusals.ts';
import { BodyMask } from '../../domain/secret-mask.ts';
import type { UpstreamCall, UpstreamFailure } from '../../ports/upstream.ts';
import type { CallRequest, CallResult, OpenCall } from '../../services/gateway/gateway-calls.ts';
import { challenge } from '../bearer.ts';
import { type Edge, requestId } from '../edge.ts';
import { sendProblem } from '../problem.ts';
import { type Decoder, decoderFor } from './decoding.ts';
import { hasBody } from './framing.ts';

const failures: Record<UpstreamFailure, () => Refused> = {
  unavailable: () => new Refused('upstream_unavailable', 'the upstream could not be reached or broke off'),
  timeout: () => new Refused('upstream_timeout', 'the upstream did not answer in time'),
  address_refused: () =>
    new Refused('upstream_refused', 'the upstream’s address is private, and this connection does not allow that'),
};

/** Where the request goes: the very path that was judged, behind the base path of the connection. */
const addressed = (call: OpenCall, request: CallRequest): { origin: string; path: string; host: string } => {
  const { baseUrl, inject } = call.target;
  const base = new URL(baseUrl);
  const query = inject.in === 'query' ? withParameter(request.query, inject.name, inject.value) : request.query;
  return { origin: base.origin, host: base.host, path: `${base.pathname.replace(/\/$/, '')}${request.path}${query}` };
};

/** One call under way. It ends once: done, failed upstream, cut by what killed its grant, or left by the agent. */
export class Forwarding {
  readonly #edge: Edge;
  readonly #req: Request;
  readonly #res: Response;
  readonly #call: OpenCall;
  readonly #request: CallRequest;
  readonly #mask: BodyMask;
  #upstream: UpstreamCall | undefined;
  #body: PassThrough | undefined;
  #decoder: Decoder | undefined;
  #patience: NodeJS.Timeout | undefined;
  /** The agent has not read what it was sent. */
  #blocked = false;
  #status: number | null = null;
  #bytesIn = 0;
  #bytesOut = 0;
  #over = false;

  constructor(edge: Edge, req: Request, res: Response, call: OpenCall, request: CallRequest) {
    this.#edge = edge;
    this.#req = req;
    this.#res = res;
    this.#call = call;
    this.#request = request;
    this.#mask = new BodyMask(call.needles);
  }

  start(): void {
    const { target } = this.#call;
    const { origin, host, path } = addressed(this.#call, this.#request);
    const headers = requestHeaders(
      this.#req.rawHeaders,
      target.inject.in === 'header' ? { name: target.inject.name, value: target.inject.value } : undefined,
    );
    headers.push('Host', host);
    const length = this.#req.headers['content-length'];
    if (length !== undefined && hasBody(this.#req)) headers.push('Content-Length', length);

    // The socket's, not the response's: one that queues behind another is not told.
    this.#req.socket.once('close', this.#left);
    if (this.#req.socket.destroyed) this.#left();
    else this.#edge.calls.run(this.#call, (dead) => this.#cut(dead));
    if (this.#over) return;
    this.#patience = setTimeout(() => this.#lostPatience(), target.timeouts.idleMs);
    this.#upstream = this.#edge.upstream.forward(
      {
        origin,
        path,
        method: this.#req.method,
        headers,
        body: this.#upload(),
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
    // It may have failed while it was begun.
    if (this.#over) this.#upstream.abort();
  }

  /** The agent's body, counted on its way; a stream of its own, so that a failing upstream leaves the socket usable. */
  #upload(): PassThrough | null {
    if (!hasBody(this.#req)) return null;
    const body = new PassThrough();
    this.#body = body;
    this.#req.on('data', (chunk: Buffer) => {
      this.#bytesIn += chunk.length;
      this.#patience?.refresh();
    });
    // Broken off: the upstream must not take the part for the whole.
    this.#req.on('error', (error) => {
      this.#left();
      body.destroy(error);
    });
    // Told to undici, which listens too; the call ends by what undici makes of it.
    body.on('error', () => undefined);
    this.#req.pipe(body);
    return body;
  }

  #head(status: number, raw: string[]): void {
    this.#status = status;
    if (status === 401) this.#edge.calls.secretRefused(this.#call);
    const decoder = decoderFor(raw, this.#req.method, status);
    if (decoder === 'unknown') {
      const detail = 'the upstream answered in an encoding the gateway cannot look into';
      this.#problem(new Refused('upstream_refused', detail));
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
    // A short answer is here as a whole already: its head, body and end go out in one packet. The socket is corked, not
    // the response: Node 24 sends what a corked response holds behind the end of its chunks.
    const { socket } = this.#req;
    socket.cork();
    process.nextTick(() => socket.uncork());
    // One that begins without a body yet (server-sent events) must be seen to begin.
    this.#res.flushHeaders();
  }

  #data(chunk: Buffer): boolean {
    const dead = this.#edge.calls.death(this.#call);
    if (dead) {
      this.#cut(dead);
      return false;
    }
    return this.#decoder ? this.#decoder.push(chunk) : this.#write(chunk);
  }

  #write(chunk: Buffer): boolean {
    const masked = this.#mask.push(chunk);
    if (masked.length === 0) return true;
    this.#bytesOut += masked.length;
    this.#patience?.refresh();
    if (this.#res.write(masked)) return true;
    if (!this.#blocked) {
      this.#blocked = true;
      this.#res.once('drain', () => this.#drained());
    }
    return false;
  }

  #drained(): void {
    this.#blocked = false;
    this.#patience?.refresh();
    if (this.#decoder) this.#decoder.resume();
    else this.#upstream?.resume();
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
    if (this.#over) return;
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
    this.#breakOff();
  }

  /** The grant died while the call was running. */
  #cut(dead: Dead): void {
    if (this.#over) return;
    this.#end({ outcome: 'cut', why: dead.code });
    if (this.#res.headersSent) {
      this.#breakOff();
      return;
    }
    const refused = new Refused(dead.code, `${dead.detail}, during this call`);
    challenge(this.#req, this.#res, this.#edge.core.issuer, '/gateway', refused);
    sendProblem(this.#req, this.#res, refused);
  }

  /** Where nothing marks the end of a body but the end of the connection (HTTP/1.0), only a reset tells the two apart. */
  #breakOff(): void {
    if (this.#req.httpVersionMinor === 0) this.#req.socket.resetAndDestroy();
    else this.#res.destroy();
  }

  readonly #left = (): void => this.#end({ outcome: 'cut', why: 'agent_left' });

  /** An agent that neither reads nor sends holds two sockets and whatever the upstream keeps for it. */
  #lostPatience(): void {
    const waitsForBody = this.#body !== undefined && !this.#req.complete && !this.#body.writableNeedDrain;
    if (!this.#blocked && !waitsForBody) {
      this.#patience?.refresh();
      return;
    }
    this.#end({ outcome: 'cut', why: 'agent_stalled' });
    this.#breakOff();
  }

  #end(result: Pick<CallResult, 'outcome' | 'why'>): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#patience);
    // Refreshing it would start it again.
    this.#patience = undefined;
    this.#req.socket.removeListener('close', this.#left);
    this.#upstream?.abort();
    this.#decoder?.destroy();
    if (this.#body) {
      // What is still to come is read and dropped, so that the next request over this connection can be read.
      this.#req.unpipe(this.#body);
      this.#req.resume();
      this.#body.destroy();
    }
    this.#edge.metrics.gatewayBytes(this.#call.connection.name, this.#bytesIn, this.#bytesOut);
    void this.#edge.calls.close(
      this.#call,
      this.#request,
      { ...result, status: this.#status, bytesIn: this.#bytesIn, bytesOut: this.#bytesOut },
      { requestId: requestId(this.#req) },
    );
  }
}
