/**
 * Shared Signals: what is remembered of a receiver and its stream, and what its events are made of. Names are those of
 * the OpenID Shared Signals Framework 1.0 and of CAEP 1.0.
 */
import type { DeliveryPlace } from './delivery.ts';
import type { SealedBox } from './model.ts';

/** CAEP 1.0 section 3; the last two are sections 8.1.4 and 8.1.5 of the framework. */
export const eventUris = {
  sessionRevoked: 'https://schemas.openid.net/secevent/caep/event-type/session-revoked',
  credentialChange: 'https://schemas.openid.net/secevent/caep/event-type/credential-change',
  verification: 'https://schemas.openid.net/secevent/ssf/event-type/verification',
  streamUpdated: 'https://schemas.openid.net/secevent/ssf/event-type/stream-updated',
} as const;

/** What a stream may carry. What is about the stream itself comes whether or not it is asked for. */
export const signalEvents = [eventUris.sessionRevoked, eventUris.credentialChange] as const;
export type SignalEvent = (typeof signalEvents)[number];

/** RFC 8935 and RFC 8936. */
export const deliveryMethods = { push: 'urn:ietf:rfc:8935', poll: 'urn:ietf:rfc:8936' } as const;
export type DeliveryMethod = keyof typeof deliveryMethods;

export interface SignalStream extends DeliveryPlace {
  /** Also its `stream_id`: a receiver has at most one stream. */
  id: string;
  name: string;
  /** Who the events are for, as their `aud`; at least one. */
  aud: string[];
  token_digest: string;
  /** What an operator lets this receiver hear of. */
  events_supported: SignalEvent[];
  /** What the receiver asked for; null = all it may have. */
  events_requested: string[] | null;
  allow_private_network: boolean;
  /** Whether an operator's own words go along as `reason_admin`. */
  share_reasons: boolean;
  method: DeliveryMethod;
  /** Where events are pushed to; null when they are polled. */
  endpoint_url: string | null;
  /** The Authorization header of a push, where the receiver wants one. */
  sealed: SealedBox | null;
  /** `absent`: the receiver has made no stream yet, or deleted it. */
  status: 'absent' | 'enabled' | 'paused' | 'disabled';
  status_reason: string | null;
  description: string | null;
  /** Polled: messages behind the place that are acknowledged already, at most {@link pollWindow}. */
  acked: string[];
  version: number;
  created_at: number;
  updated_at: number;
}

/** So many messages of a stream may be out and not acknowledged. What is behind them waits in the log. */
export const pollWindow = 200;

export const eventsDelivered = (stream: Pick<SignalStream, 'events_supported' | 'events_requested'>): SignalEvent[] =>
  stream.events_supported.filter((event) => stream.events_requested?.includes(event) ?? true);

/** RFC 9493, those that are used here. */
export type SubjectId =
  | { format: 'iss_sub'; iss: string; sub: string }
  | { format: 'jwt_id'; iss: string; jti: string }
  | { format: 'opaque'; id: string }
  | { format: 'uri'; uri: string }
  /** Framework section 3.2. */
  | { format: 'complex'; user: SubjectId; session: SubjectId };

/** One event, before it is signed for a receiver. */
export interface Signal {
  event: (typeof eventUris)[keyof typeof eventUris];
  subject: SubjectId;
  claims: Record<string, unknown>;
}

/** Types of audit entries that may make a signal (services/alerts/signals-of.ts). */
export const signalTypes: readonly string[] = [
  'revocation.created',
  'agent.suspended',
  'agent.updated',
  'agent.deleted',
  'connection.updated',
  'connection.deleted',
  'entitlement.updated',
  'entitlement.deleted',
  'issuer.updated',
  'issuer.deleted',
  'secret.set',
  'secret.replaced',
  'rotation.finished',
  'rotation.retired',
  'stream.verification_requested',
  'stream.resumed',
];

export const setType = 'secevent+jwt';

/**
 * The claims of a security event token (RFC 8417): neither `exp` nor `sub`, so that nobody takes it for an access token
 * (framework section 10.1).
 * @param iat seconds since the epoch
 */
export const setClaims = (
  issuer: string,
  aud: readonly string[],
  jti: string,
  txn: string,
  iat: number,
  { event, subject, claims }: Signal,
): Record<string, unknown> => ({
  iss: issuer,
  jti,
  iat,
  aud: aud.length === 1 ? aud[0] : aud,
  txn,
  sub_id: subject,
  events: { [event]: claims },
});
