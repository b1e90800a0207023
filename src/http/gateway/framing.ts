/** Requests that Node reads in one way and some other server in another: refused before anything else is looked at. */
import type { IncomingMessage } from 'node:http';

/** A fixed word, safe to show and to record. */
export type FramingFault = 'http_version' | 'two_hosts' | 'transfer_coding' | 'chunked_in_http_1_0';

/** @returns whether a body follows the head, as its framing says */
export const hasBody = (req: IncomingMessage): boolean =>
  req.headers['transfer-encoding'] !== undefined || Number(req.headers['content-length'] ?? 0) > 0;

/**
 * Node has refused by now: both a length and chunks, two lengths, malformed chunks, too many fields.
 * @returns what is left to object to, or undefined
 */
export const framingFault = (req: IncomingMessage): FramingFault | undefined => {
  // Node reads HTTP/0.9 and HTTP/2.0 in the form of HTTP/1, too.
  if (req.httpVersion !== '1.1' && req.httpVersion !== '1.0') return 'http_version';
  // RFC 9112 section 3.2. Node gives the first and drops the others.
  if (count(req.rawHeaders, 'host') > 1) return 'two_hosts';
  const coding = req.headers['transfer-encoding'];
  if (coding === undefined) return undefined;
  // Sections 6.1 and 7: other codings are lost on the way, and HTTP/1.0 does not know any.
  if (coding.toLowerCase() !== 'chunked') return 'transfer_coding';
  return req.httpVersion === '1.0' ? 'chunked_in_http_1_0' : undefined;
};

const count = (raw: readonly string[], name: string): number => {
  let found = 0;
  for (let i = 0; i < raw.length; i += 2) if (raw[i]?.length === name.length && raw[i]?.toLowerCase() === name) found++;
  return found;
};
