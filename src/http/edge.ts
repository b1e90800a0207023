/** What the edge's rooms share: the core, and the few things that live at the edge only. */
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import type { Request } from 'express';
import type { Upstream } from '../ports/upstream.ts';
import type { Deliveries } from '../services/alerts/deliveries.ts';
import type { BackupMaker } from '../services/backup/make-backup.ts';
import type { Caller } from '../services/core.ts';
import type { GatewayCalls } from '../services/gateway/gateway-calls.ts';
import type { ClientAuthenticator } from '../services/identity/authenticate-client.ts';
import type { ForeignTokens } from '../services/identity/foreign-tokens.ts';
import type { CoreWithSecrets } from '../services/issuing/provider-context.ts';
import type { EventStreams } from './event-streams.ts';
import type { Limits } from './limits.ts';
import type { EdgeMetrics } from './metrics.ts';

export interface Edge {
  core: CoreWithSecrets;
  clients: ClientAuthenticator;
  foreign: ForeignTokens;
  calls: GatewayCalls;
  upstream: Upstream;
  limits: Limits;
  streams: EventStreams;
  metrics: EdgeMetrics;
  backups: BackupMaker;
  deliveries: Deliveries;
}

/** Set by the first middleware on every request. */
export interface RequestFacts {
  id: string;
  startedAt: number;
}

/** A property, not a map beside it: this is read on every request, several times. */
const factsKey = Symbol('facts');
type WithFacts = IncomingMessage & { [factsKey]?: RequestFacts };

export const setFacts = (req: WithFacts, value: RequestFacts): void => {
  req[factsKey] = value;
};

export const requestId = (req: WithFacts): string => req[factsKey]?.id ?? 'req_unknown';
export const startedAt = (req: WithFacts): number => req[factsKey]?.startedAt ?? 0;

/**
 * The address of the peer, or of the client where a trusted proxy names it (WARDER_TRUST_PROXY). What a proxy passes on
 * that is no address is a client's own text: it counts and records nobody.
 */
export const addressOf = (req: Request): string => {
  const { ip } = req;
  return ip !== undefined && isIP(ip) !== 0 ? ip : (req.socket.remoteAddress ?? 'unknown');
};

export const anonymous = (req: Request): Caller => ({
  actor: { kind: 'anonymous', address: addressOf(req) },
  requestId: requestId(req),
});
