/** What the edge's rooms share: the core, and the few things that live at the edge only. */
import type { Request } from 'express';
import type { Upstream } from '../ports/upstream.ts';
import type { ClientAuthenticator } from '../services/authenticate-client.ts';
import type { Caller } from '../services/core.ts';
import type { GatewayCalls } from '../services/gateway-calls.ts';
import type { CoreWithSecrets } from '../services/provider-context.ts';
import type { Limits } from './limits.ts';
import type { EdgeMetrics } from './metrics.ts';

export interface Edge {
  core: CoreWithSecrets;
  clients: ClientAuthenticator;
  calls: GatewayCalls;
  upstream: Upstream;
  limits: Limits;
  metrics: EdgeMetrics;
}

/** Set by the first middleware on every request. */
export interface RequestFacts {
  id: string;
  startedAt: number;
}

const facts = new WeakMap<object, RequestFacts>();

export const setFacts = (req: object, value: RequestFacts): void => {
  facts.set(req, value);
};

export const requestId = (req: object): string => facts.get(req)?.id ?? 'req_unknown';
export const startedAt = (req: object): number => facts.get(req)?.startedAt ?? 0;

/** The address of the peer, or of the client where a trusted proxy names it (WARDER_TRUST_PROXY). */
export const addressOf = (req: Request): string => req.ip ?? req.socket.remoteAddress ?? 'unknown';

export const anonymous = (req: Request): Caller => ({
  actor: { kind: 'anonymous', address: addressOf(req) },
  requestId: requestId(req),
});
