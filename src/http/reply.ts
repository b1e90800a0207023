/** Answers in JSON, written in one piece. */
import type { ServerResponse } from 'node:http';

/** Sends `body` as JSON; headers set before stay. */
export const sendJson = (res: ServerResponse, status: number, body: unknown, type = 'application/json'): void => {
  const text = JSON.stringify(body);
  res.statusCode = status;
  res.setHeader('Content-Type', type);
  res.setHeader('Content-Length', Buffer.byteLength(text));
  res.end(text);
};
