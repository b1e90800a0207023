/** Answers in JSON, written in one piece. */
import type { IncomingMessage, ServerResponse } from 'node:http';

/** How long the rest of a body nobody wants is read and thrown away. */
const lingerMs = 2_000;

/**
 * Answered before the body was read. Closing a socket with unread bytes resets it, and the peer may lose the answer
 * with it (RFC 9112 section 9.6): so what it still sends is thrown away for a while, and then the socket is closed.
 */
const lingerFor = (req: IncomingMessage): void => {
  const timer = setTimeout(() => req.socket.destroy(), lingerMs);
  timer.unref();
  req.once('close', () => clearTimeout(timer));
  req.resume();
};

/** Sends `body` as JSON; headers set before stay. */
export const sendJson = (res: ServerResponse, status: number, body: unknown, type = 'application/json'): void => {
  const text = JSON.stringify(body);
  res.statusCode = status;
  res.setHeader('Content-Type', type);
  res.setHeader('Content-Length', Buffer.byteLength(text));
  res.end(text);
  if (!res.req.complete) lingerFor(res.req);
};
