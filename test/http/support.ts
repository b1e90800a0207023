/** What the tests of the HTTP edge share: requests byte for byte, and a broker with something of everything in it. */
import { Agent, request } from 'node:http';
import { type Broker, type BrokerOptions, startBroker } from '../support/broker.ts';

/**
 * Failures to authenticate are limited by address, and these tests fail thousands of times: the broker believes
 * `X-Forwarded-For`, and each request comes from an address of its own.
 */
export const startEdgeBroker = (options: BrokerOptions = {}): Promise<Broker> =>
  startBroker({ ...options, env: { WARDER_TRUST_PROXY: '127.0.0.1', ...options.env } });

let lastAddress = 0;
export const newAddress = (): string => {
  lastAddress += 1;
  return `10.${(lastAddress >> 16) & 255}.${(lastAddress >> 8) & 255}.${lastAddress & 255}`;
};

export type Body = string | Uint8Array;

export interface Sent {
  method: string;
  /** As it goes on the wire. */
  path: string;
  headers?: Record<string, string>;
  body?: Body | undefined;
  /** Sends the body in chunks, without a length. */
  chunked?: boolean;
  token?: string | undefined;
}

export interface Received {
  status: number;
  headers: Record<string, string | undefined>;
  text: string;
  /** The body where it is JSON. */
  json: Record<string, unknown> | undefined;
}

const agents = new Map<string, Agent>();

/** Sends one request as it is told to, and reads the answer whatever becomes of the request. */
export const send = (url: string, sent: Sent): Promise<Received> =>
  new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url);
    const agent = agents.get(url) ?? new Agent({ keepAlive: true, maxSockets: 32 });
    agents.set(url, agent);
    const bytes = sent.body === undefined ? undefined : Buffer.from(sent.body as Uint8Array);
    const req = request({
      agent,
      hostname,
      port,
      method: sent.method,
      path: sent.path,
      headers: {
        'x-forwarded-for': newAddress(),
        ...(sent.token === undefined ? {} : { authorization: `Bearer ${sent.token}` }),
        ...(bytes === undefined || sent.chunked ? {} : { 'content-length': String(bytes.length) }),
        ...(bytes === undefined || !sent.chunked ? {} : { 'transfer-encoding': 'chunked' }),
        ...sent.headers,
      },
    });
    let answered = false;
    req.on('response', (res) => {
      answered = true;
      const chunks: Buffer[] = [];
      res.on('data', (chunk: Buffer) => chunks.push(chunk));
      res.on('error', reject);
      res.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        const type = String(res.headers['content-type'] ?? '');
        resolve({
          status: res.statusCode ?? 0,
          headers: Object.fromEntries(Object.entries(res.headers).map(([name, value]) => [name, value?.toString()])),
          text,
          json: type.includes('json') && !type.includes('jsonl') && text !== '' ? JSON.parse(text) : undefined,
        });
      });
    });
    // An answer that came before all was sent is an answer.
    req.on('error', (error) => (answered ? undefined : reject(error)));
    req.end(bytes);
  });

export const closeConnections = (): void => {
  for (const agent of agents.values()) agent.destroy();
  agents.clear();
};

export const jsonType = { 'content-type': 'application/json' };
export const formType = { 'content-type': 'application/x-www-form-urlencoded' };

/** Runs the work over all items, a few at a time, and gives the results in order. */
export const eachOf = async <T, R>(items: readonly T[], work: (item: T) => Promise<R>, width = 24): Promise<R[]> => {
  const results: R[] = [];
  const left = items.entries();
  const worker = async (): Promise<void> => {
    for (const [i, item] of left) results[i] = await work(item);
  };
  await Promise.all(Array.from({ length: width }, worker));
  return results;
};

/** The first error that is not what it should be ends a batch: all of them at once are easier to read. */
export const noneOf = (faults: (string | undefined)[]): string[] => faults.filter((fault) => fault !== undefined);

/** What is wrong with a refusal as an answer of the API (RFC 9457), or undefined. */
export const problemFault = (received: Received): string | undefined => {
  const { status, headers, json, text } = received;
  if (status < 400 || status > 499) return `status ${status}: ${text.slice(0, 200)}`;
  if (headers['content-type'] !== 'application/problem+json') return `type ${headers['content-type']}`;
  if (!json) return `no JSON: ${text.slice(0, 100)}`;
  const { code, type, title, detail, request_id: id } = json;
  if (json['status'] !== status || type !== `urn:warder:error:${code}`) return `not a problem: ${text.slice(0, 200)}`;
  if (typeof title !== 'string' || typeof detail !== 'string' || detail === '') return 'no title or detail';
  if (typeof id !== 'string' || !/^req_[0-9a-z]{26}$/.test(id) || headers['request-id'] !== id) return 'no request id';
  return leakFault(text);
};

/** What is wrong with a refusal as an answer of an OAuth endpoint (RFC 6749 section 5.2), or undefined. */
export const oauthFault = (received: Received): string | undefined => {
  const { status, headers, json, text } = received;
  if (status < 400 || status > 499) return `status ${status}: ${text.slice(0, 200)}`;
  if (!headers['content-type']?.startsWith('application/json') || !json) return `type ${headers['content-type']}`;
  if (typeof json['error'] !== 'string' || !/^[a-z_]+$/.test(json['error'])) return `no error: ${text}`;
  // RFC 6749 section 5.2: the characters a description may have.
  if (!/^[\x20-\x21\x23-\x5b\x5d-\x7e]+$/.test(String(json['error_description']))) return `description: ${text}`;
  if (!/^req_[0-9a-z]{26}$/.test(headers['request-id'] ?? '')) return 'no request id';
  if (headers['cache-control'] !== 'no-store') return 'may be stored';
  return leakFault(text);
};

/** Stacks, files, inner messages, tokens: nothing of that belongs into an error. */
const leakFault = (text: string): string | undefined =>
  /\n\s+at |node_modules|node:internal|\.ts:\d|SQLITE|TypeError|RangeError|SyntaxError|in JSON at|Unexpected|wdr_[a-z]{2}_[0-9a-z]/.test(
    text,
  )
    ? `it leaks: ${text.slice(0, 300)}`
    : undefined;

const gatewayScopes = { read: [{ methods: ['GET'], path: '/v1/**' }], all: [{ methods: ['*'], path: '/**' }] };

/** A broker's furniture: an agent with a token and a grant, two connections, entitlements, an operator. */
export interface Furniture {
  agent: { id: string; name: string; clientId: string; clientSecret: string };
  agentToken: string;
  grantId: string;
  gatewayToken: string;
  entitlementId: string;
  /** Secrets that must never be seen again. */
  secret: string;
}

const must = <T extends { status: number; text: string }>(status: number, answer: T): T => {
  if (answer.status !== status) throw new Error(`${answer.status} instead of ${status}: ${answer.text}`);
  return answer;
};

export const furnish = async (broker: Broker, upstream = 'http://127.0.0.1:9'): Promise<Furniture> => {
  const secret = 'sk_live_furniture_0123456789';
  const agent = await broker.agent('reporter', 'finance@example.com');
  must(201, await broker.connection('stripe', upstream, { scopes: gatewayScopes, secret }));
  must(
    201,
    await broker.admin('POST', '/connections', {
      name: 'orders',
      provider: 'internal-jwt',
      settings: { audience: 'https://orders.example.com', scopes: ['orders:read'] },
    }),
  );
  const entitled = must(201, await broker.entitle('reporter', 'stripe', ['all', 'read']));
  must(201, await broker.entitle('reporter', 'orders', ['orders:read']));
  must(201, await broker.admin('POST', '/operators', { name: 'olga', roles: ['operator'] }));
  const agentToken = await broker.agentToken(agent);
  const { body } = must(201, await broker.grant(agentToken, { connection: 'stripe', scopes: ['read'] }));
  const { grant, credential } = body as { grant: { id: string }; credential: { token: string } };
  return {
    agent,
    agentToken,
    grantId: grant.id,
    gatewayToken: credential.token,
    entitlementId: String(entitled.body['id']),
    secret,
  };
};

export interface Entry {
  type: string;
  outcome: 'done' | 'refused';
  actor: { kind: string; name?: string; address?: string };
  data?: Record<string, unknown>;
  request_id?: string;
}

/** The whole audit log, oldest first. */
export const auditOf = async (broker: Broker): Promise<Entry[]> => {
  const { text } = must(
    200,
    await send(broker.url, { method: 'GET', path: '/admin/v1/audit/export', token: broker.adminToken }),
  );
  return text
    .split('\n')
    .filter((line) => line.startsWith('{"seq"'))
    .map((line) => JSON.parse(line).entry);
};

/** Everything an operator can list, and how many entries of the audit log are not refusals. */
export const stateOf = async (broker: Broker): Promise<Record<string, unknown>> => {
  const state: Record<string, unknown> = {};
  for (const list of ['agents', 'connections', 'entitlements', 'operators', 'grants', 'revocations']) {
    state[list] = must(200, await broker.admin('GET', `/${list}?limit=500`)).body['items'];
  }
  state['keys'] = must(200, await broker.admin('GET', '/keys')).body;
  state['done'] = await doneIn(broker);
  return state;
};

/** What was counted of a broker's log: it only grows, so nothing of it has to be read twice. */
const counted = new WeakMap<Broker, { size: number; done: number }>();

/** How many entries of the log are not refusals. */
const doneIn = async (broker: Broker): Promise<number> => {
  const known = counted.get(broker) ?? { size: 0, done: 0 };
  const next = { ...known };
  for (let cursor: unknown = null; ; ) {
    const after = cursor === null ? '' : `&cursor=${cursor}`;
    const { body } = must(200, await broker.admin('GET', `/audit?limit=1000${after}`));
    // Newest first.
    const items = body['items'] as (Entry & { seq: number })[];
    const fresh = items.filter(({ seq }) => seq >= known.size);
    next.size = Math.max(next.size, (fresh[0]?.seq ?? -1) + 1);
    next.done += fresh.filter(({ outcome }) => outcome === 'done').length;
    cursor = body['next_cursor'];
    if (fresh.length < items.length || cursor === null) break;
  }
  counted.set(broker, next);
  return next.done;
};
