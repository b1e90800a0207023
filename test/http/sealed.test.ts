/** The root key is away: nothing that needs a key is done, everything that takes away is, and it mends itself. */
import { chmodSync, cpSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { type Broker, temporaryDir } from '../support/broker.ts';
import { closeConnections, type Furniture, furnish, send, startEdgeBroker } from './support.ts';

let upstream: Server;
let upstreamUrl: string;
const seen: (string | undefined)[] = [];

beforeAll(async () => {
  upstream = createServer((req, res) => {
    seen.push(req.headers.authorization);
    res.end('ok');
  });
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
  const address = upstream.address();
  upstreamUrl = `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`;
});
afterAll(() => {
  closeConnections();
  upstream.close();
});

/** A data directory with something of everything in it, made once; each test works on a copy. */
const template = temporaryDir();
let adminToken: string;
let furniture: Furniture;
const secondSecret = 'sk_live_second_9876543210';

let dataDir: string;
let rootKey: string;
let broker: Broker;

beforeAll(async () => {
  const first = await startEdgeBroker({ dataDir: template });
  adminToken = first.adminToken;
  furniture = await furnish(first, upstreamUrl);
  await first.connection('other', upstreamUrl, { secret: secondSecret });
  await first.close();
});
afterAll(() => {
  rmSync(template, { recursive: true, force: true });
});
beforeEach(() => {
  dataDir = temporaryDir();
  rootKey = join(dataDir, 'root.key');
  cpSync(template, dataDir, { recursive: true });
  seen.splice(0);
});
afterEach(async () => {
  await broker.close();
  rmSync(dataDir, { recursive: true, force: true });
});

const start = async (): Promise<void> => {
  broker = await startEdgeBroker({ dataDir });
};
const admin = (method: string, path: string, body?: unknown) => broker.admin(method, path, body, adminToken);

const use = () => send(broker.url, { method: 'GET', path: '/gateway/stripe/v1/x', token: furniture.gatewayToken });

const until = async (what: () => Promise<boolean>): Promise<number> => {
  const started = performance.now();
  while (!(await what())) {
    if (performance.now() - started > 8_000) throw new Error('it did not happen within eight seconds');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return performance.now() - started;
};
const ready = async (): Promise<boolean> => (await send(broker.url, { method: 'GET', path: '/readyz' })).status === 200;

describe('without its root key Warder', () => {
  let away: string;
  beforeEach(async () => {
    away = `${dataDir}.root.key`;
    renameSync(rootKey, away);
    await start();
  });
  afterEach(() => {
    rmSync(away, { force: true });
  });

  test('starts, says that and why it is not ready, and tells the place of the key to the log only', async () => {
    const answer = await send(broker.url, { method: 'GET', path: '/readyz' });
    expect(answer.status).toBe(503);
    expect(answer.headers['retry-after']).toBe('5');
    expect(answer.json).toEqual({
      status: 'not_ready',
      checks: [
        { name: 'keys', ok: false, why: 'sealed: the local key service: the root key cannot be read (ENOENT)' },
        { name: 'ledger', ok: true },
      ],
    });
    expect(answer.text).not.toContain(dataDir);
    expect(broker.log()).toContain(`"kms":"local:${rootKey}"`);
    expect((await send(broker.url, { method: 'GET', path: '/healthz' })).status).toBe(200);
    const metrics = await send(broker.url, { method: 'GET', path: '/metrics', token: adminToken });
    expect(metrics.text).toContain('warder_sealed 1');
  });

  test('refuses what needs a key, with 503 and when to come back', async () => {
    const agentCall = (method: string, path: string, body?: string) => ({
      method,
      path,
      token: furniture.agentToken,
      ...(body === undefined ? {} : { body, headers: { 'content-type': 'application/json' } }),
    });
    const adminCall = (method: string, path: string, body?: string) => ({
      ...agentCall(method, `/admin/v1${path}`, body),
      token: adminToken,
    });
    const settings = '{"audience":"a","scopes":["a"]}';
    const apiKey = '{"base_url":"https://api.example.com","scopes":{"a":[{"methods":["GET"],"path":"/"}]}}';
    for (const sent of [
      agentCall('POST', '/v1/grants', '{"connection":"stripe","scopes":["read"]}'),
      agentCall('POST', '/v1/grants', '{"connection":"orders","scopes":["orders:read"]}'),
      agentCall('POST', `/v1/grants/${furniture.grantId}/renew`),
      { method: 'GET', path: '/gateway/stripe/v1/x', token: furniture.gatewayToken },
      adminCall('PUT', '/connections/stripe/secret', '{"value":"sk_other_0123456789"}'),
      adminCall(
        'POST',
        '/connections',
        `{"name":"n","provider":"api-key","settings":${apiKey},"secret":{"value":"sk_0123456789"}}`,
      ),
      adminCall(
        'POST',
        '/apply',
        `{"connections":[{"name":"n","provider":"api-key","settings":${apiKey},"secret":{"value":"sk_0123456789"}}]}`,
      ),
      adminCall('POST', '/keys/rotate'),
      adminCall('POST', '/keys/migrate', '{"to":"local:/nowhere/root.key"}'),
      adminCall('POST', '/keys/signing/rotate'),
      adminCall('GET', '/audit/checkpoint'),
      adminCall('GET', '/audit/proof/0'),
      adminCall('GET', '/audit/export'),
    ]) {
      const answer = await send(broker.url, sent);
      expect([sent.path, answer.status, answer.json?.['code']]).toEqual([sent.path, 503, 'sealed']);
      expect(answer.headers['retry-after']).toBe('5');
      expect(answer.text).not.toContain(dataDir);
    }
    const oauth = await broker.form('/token', { grant_type: 'client_credentials' }, furniture.agent);
    expect(oauth.status).toBe(503);
    expect(oauth.headers.get('retry-after')).toBe('5');
    expect(oauth.body).toMatchObject({ error: 'temporarily_unavailable' });
    expect((await broker.form('/introspect', { token: furniture.agentToken }, furniture.agent)).status).toBe(503);
    // What needs no secret is not stopped.
    const plain = await admin('POST', '/connections', {
      name: 'n',
      provider: 'internal-jwt',
      settings: JSON.parse(settings),
    });
    expect(plain.status).toBe(201);
    expect(seen).toEqual([]);
  });

  test('still reads, revokes, suspends and deletes', async () => {
    for (const path of [
      '/agents',
      '/connections/stripe',
      '/grants',
      '/audit',
      '/audit/export?format=csv',
      '/keys',
      '/operators',
    ]) {
      const { status } = await send(broker.url, { method: 'GET', path: `/admin/v1${path}`, token: adminToken });
      expect([path, status]).toEqual([path, 200]);
    }
    expect((await admin('GET', '/keys')).body).toMatchObject({ sealed: true });
    expect(
      (await send(broker.url, { method: 'GET', path: '/v1/connections', token: furniture.agentToken })).status,
    ).toBe(200);
    const revoked = await admin('POST', '/revocations', {
      selector: { agent: 'reporter' },
      reason: 'incident 7',
      suspend: true,
    });
    expect(revoked.status).toBe(201);
    expect(
      (await send(broker.url, { method: 'GET', path: '/v1/connections', token: furniture.agentToken })).status,
    ).toBe(401);
    expect((await admin('PATCH', '/connections/stripe', { status: 'suspended' })).status).toBe(200);
    expect((await admin('DELETE', '/connections/stripe')).status).toBe(204);
    expect((await admin('DELETE', '/agents/reporter')).status).toBe(204);
    expect(await use()).toMatchObject({ status: 401 });
  });

  test('unseals by itself when the key is back, and what was given works again', async () => {
    expect((await use()).status).toBe(503);
    renameSync(away, rootKey);
    expect(await until(ready)).toBeLessThan(6_000);
    expect((await use()).status).toBe(200);
    expect(seen.splice(0)).toEqual([`Bearer ${furniture.secret}`]);
    expect((await broker.grant(furniture.agentToken, { connection: 'stripe', scopes: ['read'] })).status).toBe(201);
  });

  test('does not take another key for it, nor make one', async () => {
    const other = Buffer.alloc(32, 7).toString('base64');
    for (const [content, why] of [
      [other, 'the root key is not the one this data was sealed with'],
      ['', 'the root key is not 32 bytes in base64'],
      [readFileSync(away, 'utf8').slice(0, 20), 'the root key is not 32 bytes in base64'],
    ] as const) {
      writeFileSync(rootKey, content, { mode: 0o600 });
      await until(async () => (await send(broker.url, { method: 'GET', path: '/readyz' })).text.includes(why));
      expect((await use()).status).toBe(503);
    }
    rmSync(rootKey);
    await broker.close();
    await start();
    expect(() => readFileSync(rootKey)).toThrow('ENOENT');
    expect(await ready()).toBe(false);
  });
});

test('a root key that others may read keeps Warder from starting, and it says what to do', async () => {
  for (const mode of [0o640, 0o604, 0o660, 0o644, 0o777, 0o601]) {
    chmodSync(rootKey, mode);
    await expect(startEdgeBroker({ dataDir })).rejects.toThrow(
      `${rootKey} can be read or changed by others (mode ${mode.toString(8)}); run: chmod 600 ${rootKey}`,
    );
  }
  chmodSync(rootKey, 0o600);
  await start();
  expect(await ready()).toBe(true);
});

describe('a database somebody has changed', () => {
  const edit = async (work: (db: Database.Database) => void): Promise<void> => {
    const db = new Database(join(dataDir, 'warder.db'));
    work(db);
    db.close();
    await start();
  };

  /** The call fails here, and neither secret has left. */
  const refused = async (): Promise<void> => {
    const answer = await use();
    expect(answer).toMatchObject({ status: 500, json: { code: 'internal' } });
    expect(answer.text).not.toMatch(/decrypt|authenticate|cipher|sk_live/);
    expect(seen).toEqual([]);
    expect(broker.log()).not.toMatch(/sk_live/);
    const audit = await send(broker.url, { method: 'GET', path: '/admin/v1/audit/export', token: adminToken });
    expect(audit.text).not.toContain('sk_live');
    expect(audit.status).toBe(200);
  };

  test('so that two secrets are swapped gives an error, not the other’s secret', async () => {
    await edit((db) => {
      const rows = db.prepare('SELECT id, sealed FROM secrets ORDER BY id').all() as { id: string; sealed: string }[];
      const [one, two] = rows;
      const put = db.prepare('UPDATE secrets SET sealed = ? WHERE id = ?');
      put.run(two?.sealed, one?.id);
      put.run(one?.sealed, two?.id);
    });
    await refused();
  });

  test('so that a secret’s row belongs to another connection gives an error', async () => {
    await edit((db) => {
      const rows = db.prepare('SELECT id, connection_id FROM secrets ORDER BY id').all() as {
        id: string;
        connection_id: string;
      }[];
      const [one, two] = rows;
      db.prepare('DELETE FROM secrets WHERE id = ?').run(one?.id);
      db.prepare('UPDATE secrets SET connection_id = ? WHERE id = ?').run(one?.connection_id, two?.id);
    });
    await refused();
  });

  test('so that an old secret is in force again gives an error', async () => {
    await start();
    expect((await admin('PUT', '/connections/stripe/secret', { value: 'sk_live_newer_5555555555' })).status).toBe(200);
    await broker.close();
    await edit((db) => {
      const old = db.prepare("SELECT sealed FROM secrets WHERE number = 1 AND state = 'retired'").pluck().get();
      db.prepare('UPDATE secrets SET sealed = ? WHERE number = 2').run(old);
    });
    await refused();
  });

  test('so that one bit of a secret differs gives an error', async () => {
    await edit((db) => {
      for (const { id, sealed } of db.prepare('SELECT id, sealed FROM secrets').all() as {
        id: string;
        sealed: string;
      }[]) {
        const box = JSON.parse(sealed);
        const bytes = Buffer.from(box.text, 'base64');
        bytes[0] = (bytes[0] ?? 0) ^ 1;
        db.prepare('UPDATE secrets SET sealed = ? WHERE id = ?').run(
          JSON.stringify({ ...box, text: bytes.toString('base64') }),
          id,
        );
      }
    });
    await refused();
  });

  test('so that its wrapped key differs starts sealed', async () => {
    await edit((db) => {
      const wrapped = Buffer.from(
        String(db.prepare('SELECT wrapped FROM key_encryption_keys').pluck().get()),
        'base64',
      );
      wrapped[20] = (wrapped[20] ?? 0) ^ 0x80;
      db.prepare('UPDATE key_encryption_keys SET wrapped = ?').run(wrapped.toString('base64'));
    });
    expect(await ready()).toBe(false);
    expect((await use()).status).toBe(503);
    expect(seen).toEqual([]);
  });

  test('so that signing keys are swapped signs nothing', async () => {
    await edit((db) => {
      const rows = db.prepare("SELECT id, sealed FROM signing_keys WHERE purpose = 'jwt'").all() as {
        id: string;
        sealed: string;
      }[];
      const [one, two] = rows;
      db.prepare('UPDATE signing_keys SET sealed = ? WHERE id = ?').run(two?.sealed, one?.id);
      db.prepare('UPDATE signing_keys SET sealed = ? WHERE id = ?').run(one?.sealed, two?.id);
    });
    const token = await broker.agentToken(furniture.agent);
    const answer = await broker.grant(token, { connection: 'orders', scopes: ['orders:read'] });
    expect(answer).toMatchObject({ status: 500, body: { code: 'internal' } });
    expect(answer.text).not.toContain('eyJ');
  });
});
