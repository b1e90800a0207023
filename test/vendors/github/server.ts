/**
 * GitHub's REST API as far as `github-app` and what an agent does with its token need it: app assertions are verified
 * (RS256, issuer, times), installation tokens are narrowed and expire, and refusals look like GitHub's own.
 * docs.github.com/en/rest: apps/apps, apps/installations, repos/contents, issues/issues.
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { decodeProtectedHeader, errors, jwtVerify } from 'jose';
import {
  type GitHubState,
  type Level,
  liveToken,
  makeToken,
  nowOf,
  type Repository,
  reaches,
  type Token,
} from './state.ts';

class Problem extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const badCredentials = (): Problem => new Problem(401, 'Bad credentials');
const notFound = (): Problem => new Problem(404, 'Not Found');
const forbidden = (): Problem => new Problem(403, 'Resource not accessible by integration');

const bearerOf = (req: IncomingMessage): string => {
  const [, bearer] = /^(?:bearer|token) (\S+)$/i.exec(req.headers.authorization ?? '') ?? [];
  if (bearer === undefined) throw new Problem(401, 'Requires authentication');
  return bearer;
};

/** "Generating a JSON Web Token (JWT) for a GitHub App": RS256, `iat` not in the future, `exp` at most ten minutes ahead. */
const requireApp = async (state: GitHubState, req: IncomingMessage): Promise<void> => {
  const assertion = bearerOf(req);
  const undecodable = new Problem(401, 'A JSON web token could not be decoded');
  try {
    if (decodeProtectedHeader(assertion).alg !== 'RS256') throw undecodable;
    const now = Math.floor(nowOf(state) / 1000);
    const { payload } = await jwtVerify(assertion, state.app.publicKey, {
      algorithms: ['RS256'],
      currentDate: new Date(now * 1000),
    });
    if (!Number.isInteger(payload.iat) || (payload.iat ?? 0) > now) {
      throw new Problem(
        401,
        "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
      );
    }
    if (!Number.isInteger(payload.exp)) {
      throw new Problem(
        401,
        "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
      );
    }
    if ((payload.exp ?? 0) > now + 600)
      throw new Problem(401, "'Expiration time' claim ('exp') is too far in the future");
    if (String(payload.iss) !== String(state.app.id) && payload.iss !== state.app.clientId)
      throw new Problem(404, 'Integration not found');
  } catch (error) {
    if (error instanceof Problem) throw error;
    if (error instanceof errors.JWTExpired) {
      throw new Problem(
        401,
        "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
      );
    }
    throw undecodable;
  }
};

const requireToken = (state: GitHubState, req: IncomingMessage): Token => {
  const token = liveToken(state, bearerOf(req));
  if (!token) throw badCredentials();
  if (state.installation.suspended) throw new Problem(403, 'This installation has been suspended');
  return token;
};

/** A repository outside the token is as unknown as one that is not there; inside, the permission decides. */
const requireRepository = (
  state: GitHubState,
  token: Token,
  name: string,
  permission: string,
  level: Level,
): Repository => {
  const found = (token.repositories ?? state.installation.repositories).find(
    (one) => one.full_name.toLowerCase() === name.toLowerCase(),
  );
  if (!found) throw notFound();
  if (!reaches(token.permissions[permission], level)) throw forbidden();
  return found;
};

const readJson = async (req: IncomingMessage): Promise<Record<string, unknown>> => {
  const chunks: Buffer[] = [];
  for await (const chunk of req) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString('utf8');
  if (text === '') return {};
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === 'object' && body !== null && !Array.isArray(body)) return body as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw new Problem(400, 'Problems parsing JSON');
};

const shown = (one: Repository) => ({
  id: one.id,
  name: one.full_name.split('/')[1],
  full_name: one.full_name,
  private: true,
});

const inaccessible = (): Problem =>
  new Problem(
    422,
    'There is at least one repository that does not exist or is not accessible to the parent installation.',
  );

/** `repositories` are names without the owner, `repository_ids` numbers; neither = all of the installation. */
const chosen = (state: GitHubState, body: Record<string, unknown>): Repository[] | null => {
  const { repositories: names, repository_ids: ids } = body;
  const all = state.installation.repositories;
  const find = (asked: unknown, same: (one: Repository, value: unknown) => boolean): Repository[] => {
    if (!Array.isArray(asked) || asked.length === 0 || asked.length > 500) throw new Problem(422, 'Invalid request.');
    return asked.map((value) => {
      const found = all.find((one) => same(one, value));
      if (!found) throw inaccessible();
      return found;
    });
  };
  if (names !== undefined) {
    return find(names, (one, value) => one.full_name.toLowerCase() === `acme/${String(value).toLowerCase()}`);
  }
  return ids === undefined ? null : find(ids, (one, value) => one.id === value);
};

const createToken = async (state: GitHubState, req: IncomingMessage, id: number) => {
  await requireApp(state, req);
  const { installation } = state;
  if (id !== installation.id) throw notFound();
  if (installation.suspended) throw new Problem(403, 'This installation has been suspended');
  const body = await readJson(req);
  const permissions: Record<string, string> = { ...installation.permissions };
  if (body['permissions'] !== undefined) {
    for (const name of Object.keys(permissions)) delete permissions[name];
    for (const [name, level] of Object.entries(body['permissions'] as Record<string, Level>)) {
      if (!reaches(installation.permissions[name], level) || !['read', 'write', 'admin'].includes(level)) {
        throw new Problem(422, 'The permissions requested are not granted to this installation.');
      }
      permissions[name] = level;
    }
    permissions['metadata'] = 'read';
  }
  const repositories = chosen(state, body);
  const token = makeToken(state, permissions, repositories);
  const answer: Record<string, unknown> = {
    token: token.value,
    expires_at: new Date(token.expiresAt).toISOString().replace('.000Z', 'Z'),
    permissions,
    repository_selection: repositories ? 'selected' : 'all',
    ...(repositories ? { repositories: repositories.map(shown) } : {}),
  };
  return { status: 201, body: state.tamper?.(answer) ?? answer };
};

const contents = async (state: GitHubState, req: IncomingMessage, name: string, path: string) => {
  const token = requireToken(state, req);
  if (req.method === 'GET') {
    const file = requireRepository(state, token, name, 'contents', 'read').files.get(path);
    if (!file) throw notFound();
    return { status: 200, body: { type: 'file', path, encoding: 'base64', content: file.toString('base64') } };
  }
  const repository = requireRepository(state, token, name, 'contents', 'write');
  const { message, content, sha } = await readJson(req);
  if (typeof message !== 'string' || typeof content !== 'string') throw new Problem(422, 'Invalid request.');
  if (repository.files.has(path) && sha === undefined) {
    throw new Problem(422, 'Invalid request.\n\n"sha" wasn\'t supplied.');
  }
  repository.files.set(path, Buffer.from(content, 'base64'));
  return { status: 201, body: { content: { path }, commit: { message } } };
};

interface Reply {
  status: number;
  body?: unknown;
}

const routed = async (state: GitHubState, req: IncomingMessage): Promise<Reply> => {
  const { pathname } = new URL(req.url ?? '/', 'http://github.test');
  const route = `${req.method} ${pathname}`;
  const match = (pattern: RegExp): string[] | undefined => pattern.exec(route)?.slice(1).map(decodeURIComponent);

  const creating = match(/^POST \/app\/installations\/(\d+)\/access_tokens$/);
  if (creating) return createToken(state, req, Number(creating[0]));
  if (route === 'GET /app') {
    await requireApp(state, req);
    return { status: 200, body: { id: state.app.id, client_id: state.app.clientId } };
  }
  if (route === 'DELETE /installation/token') {
    state.tokens.delete(requireToken(state, req).value);
    return { status: 204 };
  }
  if (route === 'GET /installation/repositories') {
    const { repositories } = requireToken(state, req);
    const all = (repositories ?? state.installation.repositories).map(shown);
    return { status: 200, body: { total_count: all.length, repositories: all } };
  }
  const file = match(/^(?:GET|PUT) \/repos\/([^/]+\/[^/]+)\/contents\/(.+)$/);
  if (file) return contents(state, req, file[0] ?? '', file[1] ?? '');
  const issues = match(/^GET \/repos\/([^/]+\/[^/]+)\/issues$/);
  if (issues) {
    requireRepository(state, requireToken(state, req), issues[0] ?? '', 'issues', 'read');
    return { status: 200, body: [] };
  }
  throw notFound();
};

const send = (res: ServerResponse, status: number, body: unknown, headers: Record<string, string>): void => {
  res.writeHead(status, {
    ...(body === undefined ? {} : { 'Content-Type': 'application/json; charset=utf-8' }),
    'X-GitHub-Request-Id': randomUUID(),
    'X-RateLimit-Remaining': '4999',
    ...headers,
  });
  res.end(body === undefined ? undefined : JSON.stringify(body));
};

/** @param state is looked at anew with each request: tests change it */
export const githubServer =
  (state: GitHubState): RequestListener =>
  (req, res) => {
    const date = { Date: new Date(nowOf(state)).toUTCString() };
    const answer = async (): Promise<void> => {
      const intercepted = state.intercept?.(`${req.method} ${req.url}`);
      if (intercepted) return send(res, intercepted.status, intercepted.body, { ...date, ...intercepted.headers });
      if (!req.headers['user-agent']) {
        throw new Problem(
          403,
          'Request forbidden by administrative rules. Please make sure your request has a User-Agent header',
        );
      }
      const version = req.headers['x-github-api-version'];
      if (version !== undefined && version !== '2022-11-28') throw new Problem(400, 'The API version is not supported');
      const { status, body } = await routed(state, req);
      send(res, status, body, date);
    };
    answer().catch((error: unknown) => {
      const problem = error instanceof Problem ? error : new Problem(500, 'Server Error');
      const { status, message } = problem;
      const documentation = 'https://docs.github.com/rest';
      send(res, status, { message, documentation_url: documentation, status: String(status) }, date);
    });
  };
