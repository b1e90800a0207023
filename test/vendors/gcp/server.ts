/** The addresses under which test/vendors/gcp answers: what Google spreads over four hosts, on one. */
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { Problem, statusProblem } from './answers.ts';
import { exchange, generateAccessToken, tokenRequest } from './identity.ts';
import { aboutKeys } from './keys.ts';
import { type GcpState, liveToken, nowOf, type Token } from './state.ts';
import { getObject, insertObject } from './storage.ts';

const readBody = async (req: IncomingMessage): Promise<Buffer> => {
  const chunks: Buffer[] = [];
  for await (const chunk of req) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
};

const readForm = async (req: IncomingMessage): Promise<URLSearchParams> => {
  if (!req.headers['content-type']?.startsWith('application/x-www-form-urlencoded')) {
    throw statusProblem(400, 'The request body is not a form.');
  }
  return new URLSearchParams((await readBody(req)).toString('utf8'));
};

const readJson = async (req: IncomingMessage): Promise<Record<string, unknown>> => {
  try {
    const body: unknown = JSON.parse((await readBody(req)).toString('utf8'));
    if (typeof body === 'object' && body !== null) return body as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw statusProblem(400, 'Invalid JSON payload received.');
};

const callerOf = (state: GcpState, req: IncomingMessage): Token | undefined => {
  const [, text] = /^Bearer (\S+)$/.exec(req.headers.authorization ?? '') ?? [];
  return text === undefined ? undefined : liveToken(state, text);
};

const routed = async (state: GcpState, req: IncomingMessage): Promise<unknown> => {
  const url = new URL(req.url ?? '/', 'http://gcp.test');
  const route = `${req.method} ${url.pathname}`;
  const match = (pattern: RegExp): string[] | undefined => pattern.exec(route)?.slice(1).map(decodeURIComponent);

  if (route === 'POST /token') return tokenRequest(state, await readForm(req));
  if (route === 'POST /v1/token') return exchange(state, await readForm(req));
  const account = match(/^POST \/v1\/projects\/-\/serviceAccounts\/([^/:]+):generateAccessToken$/)?.[0];
  if (account !== undefined) return generateAccessToken(state, callerOf(state, req), account, await readJson(req));
  const keys = match(/^(\w+ \/v1\/projects\/-\/serviceAccounts\/([^/:]+)\/keys.*)$/);
  if (keys?.[1] !== undefined) {
    const body = req.method === 'POST' ? await readJson(req) : {};
    return aboutKeys(state, callerOf(state, req), { email: keys[1], method: String(req.method), url, body });
  }
  const object = match(/^GET \/storage\/v1\/b\/([^/]+)\/o\/([^/]+)$/);
  if (object) return getObject(state, callerOf(state, req), object[0] ?? '', object[1] ?? '');
  const bucket = match(/^POST \/upload\/storage\/v1\/b\/([^/]+)\/o$/)?.[0];
  if (bucket !== undefined) {
    const name = url.searchParams.get('name') ?? '';
    return insertObject(state, callerOf(state, req), bucket, name, await readBody(req));
  }
  throw statusProblem(404, 'Method not found.');
};

/** @param state is looked at anew with each request: tests change it */
export const gcpServer =
  (state: GcpState): RequestListener =>
  (req, res: ServerResponse) => {
    const send = (status: number, body: unknown, headers: Record<string, string> = {}): void => {
      res.writeHead(status, {
        'Content-Type': 'application/json; charset=UTF-8',
        Date: new Date(nowOf(state)).toUTCString(),
        ...headers,
      });
      res.end(JSON.stringify(body));
    };
    const intercepted = state.intercept?.(`${req.method} ${req.url}`);
    if (intercepted) return send(intercepted.status, intercepted.body, intercepted.headers);
    routed(state, req).then(
      (body) => send(200, body),
      (error: unknown) => {
        const problem = error instanceof Problem ? error : statusProblem(500, 'Internal error encountered.');
        send(problem.status, problem.body);
      },
    );
  };
