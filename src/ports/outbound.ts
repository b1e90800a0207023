/**
 * Warder's own messages to endpoints that somebody registered.
 *
 * Contract: one call sends at most one request, never retries, never follows a redirect. The address judged is the one
 * really connected to, and nothing is sent to one that is not allowed. No more of the answer is read than
 * {@link maxAnswerBytes}; what is longer counts as read. It always resolves, within `timeoutMs`.
 */
export interface OutboundMessage {
  url: string;
  headers: Record<string, string>;
  body: string;
  allowPrivateNetwork: boolean;
  /** For all of it, name look-up and connecting included. */
  timeoutMs: number;
  /** Ends it early; it then resolves as `unavailable`. */
  signal: AbortSignal;
}

export type OutboundAnswer =
  | { answered: true; status: number; retryAfter: string | undefined; body: string }
  | { answered: false; failure: 'timeout' | 'unavailable' | 'address_refused' };

/** An endpoint has nothing to say but whether it took the message. */
export const maxAnswerBytes = 8 * 1024;

export interface Outbound {
  post(message: OutboundMessage): Promise<OutboundAnswer>;
  close(): Promise<void>;
}
