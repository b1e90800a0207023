/**
 * The broker's administration API as the command line calls it: `WARDER_URL`, `WARDER_TOKEN`. Answers keep their bytes,
 * because `--json` prints them as they came.
 */
import { readFileSync } from 'node:fs';
import type { Context } from './context.ts';
import { errorCode, exitCodes, Failure, failed, unreachable, usage } from './failure.ts';
import { type Fields, fieldsOf } from './fields.ts';

export const defaultUrl = 'http://127.0.0.1:7300';

/** Longer than any call that only reads or writes a few rows; a broker that needs more is as good as away. */
const answerTimeoutMs = 30_000;
/** Node's fetch waits no longer for the head of an answer. */
const makingTimeoutMs = 300_000;

export type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

/** Values of a query; undefined ones are left out. */
export type Query = Readonly<Record<string, string | number | undefined>>;

export interface Answer {
  status: number;
  body: Uint8Array;
  fields: Fields;
  headers: Headers;
}

export interface Call {
  query?: Query;
  /** Sent as JSON. */
  body?: unknown;
}

export interface Api {
  readonly url: string;
  /**
   * Calls `/admin/v1/<path>`.
   * @throws Failure 1 when the broker refuses, 3 when it does not answer
   */
  call(method: Method, path: string, call?: Call): Promise<Answer>;
  /** As {@link Api.call} with GET, for answers of any length; throws Failure 3 when the connection breaks off. */
  stream(path: string, query: Query): Promise<AsyncIterable<Uint8Array>>;
  /** A POST without a body for something that is made first, which may take minutes, and is of any length. */
  download(path: string): Promise<{ headers: Headers; chunks: AsyncIterable<Uint8Array> }>;
}

/**
 * A name or id as one segment of a path. Dots alone would walk out of the collection; what else is wrong with a name
 * the broker says.
 */
export const segment = (name: string): string => {
  if (name === '' || name === '.' || name === '..') throw usage('a name or an id is missing');
  return encodeURIComponent(name);
};

/** @returns the base URL without a slash at its end */
export const brokerUrl = (env: Context['env']): string => {
  const url = URL.parse(env['WARDER_URL'] || defaultUrl);
  if (!url || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw usage(`WARDER_URL must be an http or https URL, e.g. ${defaultUrl}`);
  }
  if (url.username || url.password || url.search || url.hash) {
    throw usage('WARDER_URL must not carry a user, a query or a fragment; the token goes into WARDER_TOKEN');
  }
  return url.href.replace(/\/+$/, '');
};

/** Whether somebody on the way to this URL could read a token. */
export const isOpenToEavesdroppers = (url: string): boolean => {
  const { protocol, hostname } = new URL(url);
  const here = hostname === 'localhost' || hostname.endsWith('.localhost') || hostname === '[::1]';
  return protocol === 'http:' && !here && !/^127\./.test(hostname);
};

/** @throws Failure 2 when there is no token, or what there is cannot be one; never repeats it */
export const brokerToken = (env: Context['env']): string => {
  const { WARDER_TOKEN: direct, WARDER_TOKEN_FILE: path } = env;
  if (direct && path) throw usage('WARDER_TOKEN and WARDER_TOKEN_FILE are both set; keep one of the two');
  let token = direct ?? '';
  if (path) {
    try {
      token = readFileSync(path, 'utf8').trim();
    } catch (error) {
      throw usage(`the file WARDER_TOKEN_FILE names cannot be read (${errorCode(error)})`);
    }
  }
  if (token === '') {
    throw usage(
      'WARDER_TOKEN is not set: an operator token (wdr_op_…), or its file in WARDER_TOKEN_FILE.',
      'The first start of `warder serve` prints one; `warder operator add` makes more.',
    );
  }
  if (!/^[\x21-\x7e]+$/.test(token)) throw usage('WARDER_TOKEN is no token: it has spaces or unusual characters');
  return token;
};

const noAnswerIn = (ms: number): string => `no answer in ${ms / 1000} seconds`;

const causeCode = (error: unknown): string => {
  if (error instanceof Error && error.name === 'TimeoutError') {
    return error.message.startsWith('no answer') ? error.message : noAnswerIn(answerTimeoutMs);
  }
  return errorCode(error instanceof Error && error.cause !== undefined ? error.cause : error);
};

/** @returns the value, or undefined for what is not JSON */
export const parseJson = (body: Uint8Array | string): unknown => {
  try {
    return JSON.parse(typeof body === 'string' ? body : Buffer.from(body).toString('utf8'));
  } catch {
    return undefined;
  }
};

/** What a refusal says: the detail, problems one a line, then what to quote when asking for help. */
const refusal = (status: number, body: Uint8Array, url: string): Failure => {
  const problem = fieldsOf(parseJson(body));
  if (!problem.has('code')) {
    const why = status >= 300 && status < 400 ? 'a redirect' : 'no answer of a Warder broker';
    return failed(`${url} answered HTTP ${status}, which is ${why}; check WARDER_URL`);
  }
  const requestId = problem.maybe('request_id');
  const detail = problem.maybe('detail') ?? problem.maybe('title') ?? `HTTP ${status}`;
  const lines = [
    detail,
    // A single problem is the detail already.
    ...problem
      .texts('problems')
      .filter((line) => line !== detail)
      .map((line) => `  - ${line}`),
    `code: ${problem.text('code')}`,
    ...(requestId ? [`request_id: ${requestId}`] : []),
  ];
  return new Failure(exitCodes.failed, lines, body);
};

/** What both kinds of call need: sends, and turns every way of not getting an answer into a Failure. */
const send = async (
  url: string,
  target: string,
  init: { method: Method; headers: Record<string, string>; body?: string; signal: AbortSignal },
): Promise<Response> => {
  try {
    // A redirect would carry the token to wherever it points.
    return await fetch(target, { ...init, redirect: 'manual' });
  } catch (error) {
    throw unreachable(
      `cannot reach the broker at ${url} (${causeCode(error)})`,
      'Is it running (`warder serve`)? WARDER_URL says where it is.',
    );
  }
};

async function* chunksOf(response: Response, url: string): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of response.body ?? []) yield chunk;
  } catch (error) {
    throw unreachable(`the connection to ${url} broke off (${causeCode(error)})`);
  }
}

/** More than any answer that is not streamed; `audit witness` asks a broker that is in doubt. */
const longestAnswerBytes = 128 * 1024 * 1024;

const readAll = async (response: Response, url: string): Promise<Uint8Array> => {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of chunksOf(response, url)) {
    bytes += chunk.length;
    if (bytes > longestAnswerBytes) throw failed(`the answer of ${url} has no end; it was not read`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
};

/** An endpoint anybody may ask (`/healthz`, `/readyz`). @returns the answer whatever its status */
export const askOpenly = async (url: string, path: string): Promise<Answer> => {
  const signal = AbortSignal.timeout(answerTimeoutMs);
  const response = await send(url, `${url}${path}`, { method: 'GET', headers: {}, signal });
  const body = await readAll(response, url);
  return { status: response.status, body, fields: fieldsOf(parseJson(body)), headers: response.headers };
};

/** @throws Failure 2 when `WARDER_URL` or the token is missing or malformed */
export const connectApi = ({ env, version }: Pick<Context, 'env' | 'version'>): Api => {
  const url = brokerUrl(env);
  const headers = { authorization: `Bearer ${brokerToken(env)}`, 'user-agent': `warder-cli/${version}` };
  const target = (path: string, query: Query = {}): string => {
    const given = Object.entries(query).flatMap(([name, value]) =>
      value === undefined ? [] : [[name, String(value)] as const],
    );
    return `${url}/admin/v1/${path}${given.length > 0 ? `?${new URLSearchParams(Object.fromEntries(given))}` : ''}`;
  };
  /** Only the head of the answer must come in time; how long the rest takes depends on how much there is. */
  const begun = async (method: Method, address: string, patienceMs: number): Promise<Response> => {
    const slow = new AbortController();
    const timer = setTimeout(() => slow.abort(new DOMException(noAnswerIn(patienceMs), 'TimeoutError')), patienceMs);
    try {
      const response = await send(url, address, { method, headers, signal: slow.signal });
      if (!response.ok) throw refusal(response.status, await readAll(response, url), url);
      return response;
    } finally {
      clearTimeout(timer);
    }
  };
  return {
    url,

    async call(method, path, { query, body } = {}) {
      const response = await send(url, target(path, query), {
        method,
        headers: {
          ...headers,
          accept: 'application/json',
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(answerTimeoutMs),
      });
      const bytes = await readAll(response, url);
      if (!response.ok) throw refusal(response.status, bytes, url);
      const value = parseJson(bytes);
      if (value === undefined && bytes.length > 0) throw refusal(response.status, bytes, url);
      return { status: response.status, body: bytes, fields: fieldsOf(value), headers: response.headers };
    },

    stream: async (path, query) => chunksOf(await begun('GET', target(path, query), answerTimeoutMs), url),

    async download(path) {
      const response = await begun('POST', target(path), makingTimeoutMs);
      return { headers: response.headers, chunks: chunksOf(response, url) };
    },
  };
};
