/**
 * A real broker for tests: in this process, on a free port, over a data directory of its own. Everything goes through
 * HTTP; nothing of the inside is handed out.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readConfig } from '../../src/config.ts';
import type { RetrySchedule } from '../../src/domain/delivery.ts';
import type { Provider } from '../../src/ports/provider.ts';
import type { RewrapPace } from '../../src/services/keys/rotate-keys.ts';
import type { DrainPatience } from '../../src/services/revocation/drain-patience.ts';
import { type RotationPace, rotationPace } from '../../src/services/rotation/pace.ts';
import { type Running, startWarder } from '../../src/warder.ts';

export interface BrokerOptions {
  dataDir?: string;
  port?: number;
  env?: Record<string, string>;
  extraProviders?: readonly Provider[];
  /** Unless told otherwise the drain hurries: five tries within a second. */
  drainPatience?: DrainPatience;
  rewrapPace?: RewrapPace;
  retrySchedule?: RetrySchedule;
  /** Unless told otherwise rotations hurry, too. */
  rotationPace?: RotationPace;
  onFatal?(error: Error): void;
  /** Less than the configuration takes, so that a test sees keys come of age. */
  keyMaxAgeSeconds?: number;
}

export interface Answer<T = Record<string, unknown>> {
  status: number;
  headers: Headers;
  body: T;
  text: string;
}

/** What can be done with a broker over HTTP, wherever it runs. */
export interface BrokerClient {
  url: string;
  adminToken: string;
  /** Calls the operators' API as the first admin (or with another token); the path is below `/admin/v1`. */
  admin(method: string, path: string, body?: unknown, token?: string): Promise<Answer>;
  /** Registers an agent with a client secret. */
  agent(name: string, owner?: string): Promise<{ id: string; name: string; clientId: string; clientSecret: string }>;
  /** An `api-key` connection to this upstream with one scope `all` that allows everything, unless told otherwise. */
  connection(
    name: string,
    baseUrl: string,
    options?: { scopes?: unknown; secret?: string; settings?: object },
  ): Promise<Answer>;
  entitle(agent: string, connection: string, scopes: string[], limits?: object): Promise<Answer>;
  /** An agent token, by client credentials. */
  agentToken(agent: { clientId: string; clientSecret: string }): Promise<string>;
  /** POST /v1/grants. */
  grant(agentToken: string, request: object): Promise<Answer>;
  /** POST of a form with HTTP Basic client authentication. */
  form(
    path: string,
    fields: Record<string, string>,
    client?: { clientId: string; clientSecret: string },
  ): Promise<Answer>;
  fetch(path: string, init?: RequestInit): Promise<Response>;
  /** Any call with a bearer token and a JSON body. */
  json(method: string, path: string, token: string, body?: unknown): Promise<Answer>;
}

export interface Broker extends BrokerClient {
  dataDir: string;
  /** Everything it logged so far. */
  log(): string;
  /** Stops it; the data directory stays if it was given. */
  close(): Promise<void>;
}

export const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() =>
        address && typeof address === 'object' ? resolve(address.port) : reject(new Error('no port')),
      );
    });
  });

const temporaryDirs: string[] = [];
export const temporaryDir = (): string => {
  const path = mkdtempSync(join(tmpdir(), 'warder-test-'));
  temporaryDirs.push(path);
  return path;
};
/** For the end of a test file: all that {@link temporaryDir} made in it. */
export const removeTemporaryDirs = (): void => {
  for (const path of temporaryDirs.splice(0)) rmSync(path, { recursive: true, force: true });
};

const answerOf = async (response: Response): Promise<Answer> => {
  const text = await response.text();
  const json = response.headers.get('content-type')?.includes('json') === true && text !== '';
  return { status: response.status, headers: response.headers, body: json ? JSON.parse(text) : {}, text };
};

const basic = (client: { clientId: string; clientSecret: string }): string =>
  `Basic ${Buffer.from(`${encodeURIComponent(client.clientId)}:${encodeURIComponent(client.clientSecret)}`).toString('base64')}`;

/** @param adminToken of the first admin */
export const brokerClient = (url: string, adminToken: string): BrokerClient => {
  const call = async (path: string, init: RequestInit = {}): Promise<Answer> =>
    answerOf(await fetch(`${url}${path}`, init));
  const json = (method: string, token: string, body: unknown): RequestInit => ({
    method,
    headers: {
      authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });

  const broker: BrokerClient = {
    url,
    adminToken,
    admin: (method, path, body, token = adminToken) => call(`/admin/v1${path}`, json(method, token, body)),
    agent: async (name, owner = 'team@example.com') => {
      const { status, body, text } = await broker.admin('POST', '/agents', { name, owner });
      if (status !== 201) throw new Error(`agent ${name}: ${status} ${text}`);
      return {
        id: String(body['id']),
        name,
        clientId: String(body['client_id']),
        clientSecret: String(body['client_secret']),
      };
    },
    connection: (name, baseUrl, more = {}) =>
      broker.admin('POST', '/connections', {
        name,
        provider: 'api-key',
        settings: {
          base_url: baseUrl,
          allow_private_network: true,
          scopes: more.scopes ?? { all: [{ methods: ['*'], path: '/**' }] },
          ...more.settings,
        },
        secret: { value: more.secret ?? 'sk_test_0123456789abcdef' },
      }),
    entitle: (agent, connection, scopes, limits = {}) =>
      broker.admin('POST', '/entitlements', { agent, connection, scopes, ...limits }),
    agentToken: async (agent) => {
      const { status, body, text } = await broker.form('/token', { grant_type: 'client_credentials' }, agent);
      if (status !== 200) throw new Error(`token: ${status} ${text}`);
      return String(body['access_token']);
    },
    grant: (agentToken, request) => call('/v1/grants', json('POST', agentToken, request)),
    form: (path, fields, client) =>
      call(path, {
        method: 'POST',
        headers: {
          'content-type': 'application/x-www-form-urlencoded',
          ...(client ? { authorization: basic(client) } : {}),
        },
        body: new URLSearchParams(fields).toString(),
      }),
    fetch: (path, init) => fetch(`${url}${path}`, init),
    json: (method, path, token, body) => call(path, json(method, token, body)),
  };
  return broker;
};

/** Five tries within a second, and a second look soon. */
export const hurriedDrain: DrainPatience = {
  roundMs: 300,
  tries: 5,
  firstPauseMs: 30,
  longestPauseMs: 500,
  secondLookMs: 500,
};

/** Five tries of a step within half a second, another attempt soon, and little time for an upstream that went silent. */
export const hurriedRotation: RotationPace = {
  ...rotationPace,
  firstPauseMs: 20,
  longestPauseMs: 200,
  silenceMs: 300,
  firstAttemptPauseMs: 50,
  longestAttemptPauseMs: 500,
};

/** The admin token of brokers that were restarted over the same data: it is shown only once. */
const adminTokens = new Map<string, string>();

export const startBroker = async (options: BrokerOptions = {}): Promise<Broker> => {
  const dataDir = options.dataDir ?? temporaryDir();
  const port = options.port ?? (await freePort());
  const read = readConfig({
    env: {
      WARDER_DATA_DIR: dataDir,
      WARDER_LISTEN: `127.0.0.1:${port}`,
      WARDER_LOG_LEVEL: 'debug',
      WARDER_RATE_LIMIT_PER_SECOND: '100000',
      ...options.env,
    },
    readFile: (path) => readFileSync(path, 'utf8'),
  });
  if (!read.ok) throw new Error(read.problems.join('\n'));
  const lines: string[] = [];
  const { keyMaxAgeSeconds = read.config.keyMaxAgeSeconds } = options;
  const running: Running = await startWarder({ ...read.config, keyMaxAgeSeconds }, read.secrets, {
    onFatal: options.onFatal ?? ((error) => lines.push(`FATAL ${error.message}\n`)),
    extraProviders: options.extraProviders ?? [],
    drainPatience: options.drainPatience ?? hurriedDrain,
    ...(options.rewrapPace ? { rewrapPace: options.rewrapPace } : {}),
    ...(options.retrySchedule ? { retrySchedule: options.retrySchedule } : {}),
    rotationPace: options.rotationPace ?? hurriedRotation,
    logDestination: { write: (line) => lines.push(line) },
  });
  if (running.bootstrapToken !== undefined) adminTokens.set(dataDir, running.bootstrapToken);
  const adminToken = adminTokens.get(dataDir) ?? '';
  return {
    ...brokerClient(running.url, adminToken),
    dataDir,
    log: () => lines.join(''),
    close: async () => {
      await running.close();
      if (options.dataDir === undefined) rmSync(dataDir, { recursive: true, force: true });
    },
  };
};
