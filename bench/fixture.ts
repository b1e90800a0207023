/** A broker with an agent, two connections and entitlements, for the bench. */
import { mkdtempSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Shot } from './load.ts';
import { type Started, start } from './processes.ts';

export const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      const port = address !== null && typeof address === 'object' ? address.port : 0;
      server.close(() => resolve(port));
    });
  });

export interface Fixture {
  broker: Started;
  dataDir: string;
  adminToken: string;
  basic: string;
  admin(method: string, path: string, body?: unknown): Promise<Record<string, unknown>>;
  agentToken(): Promise<string>;
}

/** The JSON of an answer, as what the caller knows it to be. */
export const bodyOf = async <T>(response: Response): Promise<T> => JSON.parse(await response.text());

const jsonOf = async (response: Response): Promise<Record<string, unknown>> => {
  const text = await response.text();
  if (!response.ok) throw new Error(`${response.url}: ${response.status} ${text}`);
  return JSON.parse(text);
};

/** Starts a broker over an empty data directory and registers what the measurements need. */
export const makeFixture = async (upstreamUrl: string): Promise<Fixture> => {
  const dataDir = mkdtempSync(join(tmpdir(), 'warder-bench-'));
  const broker = await startBroker(dataDir);
  const adminToken = String(broker.first['bootstrapToken']);
  const admin: Fixture['admin'] = (method, path, body) =>
    fetch(`${broker.url}/admin/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${adminToken}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    }).then(jsonOf);
  const agent = await admin('POST', '/agents', { name: 'bench', owner: 'bench' });
  const scopes = { read: [{ methods: ['GET'], path: '/v1/**' }] };
  await admin('POST', '/connections', {
    name: 'upstream',
    provider: 'api-key',
    settings: { base_url: upstreamUrl, allow_private_network: true, scopes },
    secret: { value: 'sk_bench_0123456789abcdef0123456789' },
  });
  await admin('POST', '/connections', {
    name: 'orders',
    provider: 'internal-jwt',
    settings: { audience: 'https://orders.internal', scopes: ['orders:read'] },
  });
  await admin('POST', '/entitlements', { agent: 'bench', connection: 'upstream', scopes: ['read'] });
  await admin('POST', '/entitlements', { agent: 'bench', connection: 'orders', scopes: ['orders:read'] });
  const basic = `Basic ${Buffer.from(`bench:${String(agent['client_secret'])}`).toString('base64')}`;
  const agentToken = async (): Promise<string> => {
    const response = await fetch(`${broker.url}/token`, {
      method: 'POST',
      headers: { authorization: basic, 'content-type': 'application/x-www-form-urlencoded' },
      body: 'grant_type=client_credentials',
    });
    return String((await jsonOf(response))['access_token']);
  };
  return { broker, dataDir, adminToken, basic, admin, agentToken };
};

export const startBroker = async (dataDir: string): Promise<Started> => {
  const port = await freePort();
  return start('broker-process.ts', [dataDir, String(port)], port);
};

export const grantShot = (token: string, connection: string, scope: string): Shot => ({
  method: 'POST',
  path: '/v1/grants',
  headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
  body: JSON.stringify({ connection, scopes: [scope], ttl_seconds: 900, reason: 'bench' }),
});

export const formShot = (path: string, authorization: string, fields: Record<string, string>): Shot => ({
  method: 'POST',
  path,
  headers: { authorization, 'content-type': 'application/x-www-form-urlencoded' },
  body: new URLSearchParams(fields).toString(),
});
