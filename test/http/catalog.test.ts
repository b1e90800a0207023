/** Connections from presets, over HTTP, down to what an agent can do through the gateway. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Broker, removeTemporaryDirs, startBroker, temporaryDir } from '../support/broker.ts';

const secret = 'rk_live_catalog_0123456789';
const custom = `name: till
title: Till
category: payments
documentation: https://till.example/docs
base_url: https://{tenant}.till.example
variables:
  tenant: { description: the first part of the address, pattern: dns-label }
api_key:
  obtain: Settings
  inject: { query: key }
  rotation: { api: false, overlap: true, how: by hand }
  revocation: { api: false, how: by hand }
scopes:
  sales:read:
    risk: read
    description: Sales
    rules:
      - { methods: [GET], path: /sales }
`;

let broker: Broker;
let upstream: Server;
let upstreamUrl = '';
let seen: string[] = [];

const add = (body: object) => broker.admin('POST', '/connections', body);
const audit = async (type: string): Promise<Record<string, unknown>[]> => {
  const { body } = await broker.admin('GET', `/audit?type=${type}&limit=200`);
  return (body['items'] as { data: Record<string, unknown> }[]).map(({ data }) => data);
};

beforeAll(async () => {
  upstream = createServer((req, res) => {
    seen.push(`${req.method} ${req.url} ${req.headers.authorization ?? ''}`);
    res.end('{}');
  });
  await new Promise<void>((listening) => upstream.listen(0, '127.0.0.1', listening));
  const address = upstream.address();
  upstreamUrl = `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`;
  const folder = temporaryDir();
  mkdirSync(join(folder, 'presets'));
  writeFileSync(join(folder, 'presets', 'till.yaml'), custom);
  broker = await startBroker({ env: { WARDER_CATALOG_DIR: join(folder, 'presets') } });
});
afterAll(async () => {
  await broker.close();
  upstream.closeAllConnections();
  upstream.close();
  removeTemporaryDirs();
});

describe('GET /catalog', () => {
  interface Line {
    name: string;
    category: string;
    source: string;
    scopes: { name: string; risk: string }[];
  }
  const list = async (query = ''): Promise<{ items: Line[]; next: unknown }> => {
    const { status, body, text } = await broker.admin('GET', `/catalog${query}`);
    if (status !== 200) throw new Error(text);
    return { items: body['items'] as Line[], next: body['next_cursor'] };
  };

  test('lists every preset in pages, in order of their names', async () => {
    const all: Line[] = [];
    let query = '?limit=25';
    for (;;) {
      const { items, next } = await list(query);
      expect(items.length).toBeLessThanOrEqual(25);
      all.push(...items);
      if (typeof next !== 'string') break;
      query = `?limit=25&cursor=${next}`;
    }
    const names = all.map(({ name }) => name);
    expect(names.length).toBeGreaterThan(60);
    expect(names).toEqual([...new Set(names)].sort());
    expect(all.find(({ name }) => name === 'till')).toEqual({
      name: 'till',
      title: 'Till',
      category: 'payments',
      providers: ['api-key'],
      scopes: [{ name: 'sales:read', risk: 'read' }],
      variables: ['tenant'],
      source: 'custom',
    });
  });

  test('finds by words, wherever they stand, and by category', async () => {
    expect((await list('?search=GITHUB')).items.map(({ name }) => name)).toEqual(['github']);
    expect((await list('?search=refunds%20stripe')).items.map(({ name }) => name)).toEqual(['stripe']);
    expect((await list('?search=no-such-service')).items).toEqual([]);
    const { items } = await list('?category=payments');
    expect(items.map(({ name }) => name)).toEqual(['paypal', 'square', 'stripe', 'till']);
    for (const query of ['?category=nonsense', '?search=', '?limit=0', '?cursor=__proto__', '?page=2']) {
      expect((await broker.admin('GET', `/catalog${query}`)).body).toMatchObject({ code: 'invalid_request' });
    }
  });

  test('shows one whole, with its digest, and does not show what is none', async () => {
    const { body } = await broker.admin('GET', '/catalog/stripe');
    expect(body).toMatchObject({ name: 'stripe', source: 'built-in', providers: ['api-key'] });
    expect(body['digest']).toMatch(/^[0-9a-f]{64}$/);
    for (const name of ['nothing', '__proto__', 'constructor', 'stripe.yaml', '..%2f..%2fpackage', 'Stripe']) {
      expect((await broker.admin('GET', `/catalog/${name}`)).body).toMatchObject({ code: 'not_found' });
    }
  });
});

describe('a connection from a preset', () => {
  test('keeps plain settings, and its audit entry names preset and digest', async () => {
    const made = await add({
      name: 'shop',
      preset: 'stripe',
      scopes: ['charges', 'balance:read'],
      secret: { value: secret },
    });
    expect(made.body).toMatchObject({ code: 'invalid_request' });
    const right = await add({ name: 'shop', preset: 'stripe', scopes: ['balance:read'], secret: { value: secret } });
    expect(right.status).toBe(201);
    expect(right.body).toMatchObject({
      provider: 'api-key',
      scopes: ['balance:read'],
      settings: { base_url: 'https://api.stripe.com', inject: { header: 'Authorization', value: 'Bearer {secret}' } },
    });
    expect(right.body['preset']).toBeUndefined();
    const shown = await broker.admin('GET', '/catalog/stripe');
    expect((await audit('connection.created'))[0]).toMatchObject({
      provider: 'api-key',
      preset: { name: 'stripe', source: 'built-in', digest: shown.body['digest'] },
    });
  });

  test('fills its variables in, and refuses those that would lead elsewhere', async () => {
    const desk = { name: 'desk', preset: 'zendesk' };
    const right = await add({ ...desk, variables: { subdomain: 'acme', email: 'bot@acme.example' } });
    expect(right.body['settings']).toMatchObject({
      base_url: 'https://acme.zendesk.com',
      inject: { basic: { username: 'bot@acme.example/token' } },
    });
    for (const subdomain of ['evil.example/', 'evil.example#', 'a@evil', 'acme.evil', '', 'ACME', '{email}']) {
      const { status, body, text } = await add({
        ...desk,
        name: 'd2',
        variables: { subdomain, email: 'b@acme.example' },
      });
      expect(status).toBe(400);
      expect(body['detail']).toMatch(/^variables\.subdomain: one label of a host name/);
      if (subdomain.length > 4) expect(text).not.toContain(subdomain);
    }
    const missing = await add({ ...desk, name: 'd2' });
    expect(missing.body['problems']).toEqual([
      expect.stringMatching(/^variables\.subdomain: is needed: /),
      expect.stringMatching(/^variables\.email: is needed: /),
    ]);
  });

  test('says what is missing or astray', async () => {
    const refused = async (body: object): Promise<unknown> => {
      const answer = await add({ name: 'x', ...body });
      expect(answer.body).toMatchObject({ code: 'invalid_request' });
      return answer.body['problems'] ?? answer.body['detail'];
    };
    expect(await refused({})).toEqual(['provider: is needed where no preset is given']);
    expect(await refused({ preset: 'nothing' })).toEqual(['preset: there is none of this name']);
    expect(await refused({ preset: 'stripe', provider: 'oauth2' })).toEqual(['provider: preset stripe is for api-key']);
    expect(await refused({ preset: 'stripe', variables: { a: 'b' } })).toEqual(['variables: preset stripe has none']);
    expect(await refused({ provider: 'api-key', variables: {}, scopes: ['a'] })).toEqual([
      'variables: only with a preset',
      'scopes: only with a preset',
    ]);
    expect(await refused({ preset: 'stripe', settings: { base_url: 'http://127.0.0.1' } })).toEqual([
      expect.stringContaining('settings.base_url: this address is not on the public internet'),
    ]);
    for (const wrong of [
      { variables: ['a'] },
      { variables: { a: 1 } },
      { scopes: [] },
      { scopes: 'a' },
      { preset: 7 },
    ]) {
      await refused({ preset: 'stripe', ...wrong });
    }
    expect(JSON.stringify(await refused({ preset: 'till', variables: { tenant: secret } }))).not.toContain(secret);
  });

  test('of oauth2 is taken by its provider', async () => {
    const made = await add({
      name: 'mail',
      preset: 'gmail',
      variables: { client_id: '1-a.apps.googleusercontent.com' },
    });
    expect(made.body).toMatchObject({ provider: 'oauth2', enforcement: 'gateway' });
    expect(made.body['settings']).toMatchObject({ client_id: '1-a.apps.googleusercontent.com', narrowing: 'gateway' });
  });

  test('lets an agent do what its read scope says, at the upstream it was pointed to, and nothing else', async () => {
    const settings = { base_url: upstreamUrl, allow_private_network: true };
    const made = await add({ name: 'stripe', preset: 'stripe', settings, secret: { value: secret } });
    expect(made.status).toBe(201);
    const agent = await broker.agent('reporter');
    await broker.entitle('reporter', 'stripe', ['customers:read', 'customers:create']);
    const { body } = await broker.grant(await broker.agentToken(agent), {
      connection: 'stripe',
      scopes: ['customers:read'],
    });
    const { token } = body['credential'] as { token: string };
    const call = async (method: string, path: string): Promise<number> => {
      const answer = await broker.fetch(`/gateway/stripe${path}`, {
        method,
        headers: { authorization: `Bearer ${token}` },
      });
      await answer.arrayBuffer();
      return answer.status;
    };
    seen = [];
    expect(await call('GET', '/v1/customers?limit=3')).toBe(200);
    expect(await call('GET', '/v1/customers/cus_1/sources')).toBe(200);
    for (const [method, path] of [
      ['POST', '/v1/customers'],
      ['DELETE', '/v1/customers/cus_1'],
      ['GET', '/v1/charges'],
      ['POST', '/v1/refunds'],
      ['GET', '/v1/customersX'],
    ] as const) {
      expect(await call(method, path)).toBe(403);
    }
    expect(seen).toEqual([
      `GET /v1/customers?limit=3 Bearer ${secret}`,
      `GET /v1/customers/cus_1/sources Bearer ${secret}`,
    ]);
  });
});

describe('apply', () => {
  const connection = {
    name: 'till',
    preset: 'till',
    variables: { tenant: 'acme' },
    secret: { value: 'key_0123456789' },
  };
  const apply = async (body: object): Promise<Record<string, unknown>> =>
    (await broker.admin('POST', '/apply', { connections: [connection], ...body })).body;

  test('makes a connection from a preset, and twice changes nothing', async () => {
    expect(await apply({})).toMatchObject({ applied: true, changes: [{ action: 'create', name: 'till' }] });
    expect(await apply({})).toMatchObject({ applied: false, changes: [] });
    expect((await broker.admin('GET', '/connections/till')).body['settings']).toMatchObject({
      base_url: 'https://acme.till.example',
    });
  });

  test('changes it where its line changes, and says which preset it was', async () => {
    const settings = { base_url: 'https://acme.till.example/v2' };
    expect(await apply({ connections: [{ ...connection, settings }] })).toMatchObject({
      changes: [{ action: 'update', name: 'till', fields: ['settings'] }],
    });
    expect((await audit('connection.updated'))[0]).toMatchObject({ preset: { name: 'till', source: 'custom' } });
    expect(
      await apply({ connections: [{ name: 'till', preset: 'gmail', variables: { client_id: 'a' } }] }),
    ).toMatchObject({
      code: 'conflict',
    });
    expect(await apply({ connections: [{ ...connection, preset: 'none' }] })).toMatchObject({
      problems: ['connections.0.preset: there is none of this name'],
    });
  });
});

describe('a folder that is wrong', () => {
  test('keeps the broker from starting, before a first admin is made', async () => {
    const dataDir = temporaryDir();
    const presets = temporaryDir();
    writeFileSync(join(presets, 'till.yaml'), custom.replace('methods: [GET]', 'methods: [POST]'));
    writeFileSync(join(presets, 'other.yaml'), 'name: other\n');
    const start = (env: Record<string, string>) => startBroker({ dataDir, env });
    const refusal = await start({ WARDER_CATALOG_DIR: presets }).then(
      () => '',
      (error: Error) => error.message,
    );
    expect(refusal).toContain(`${join(presets, 'till.yaml')} line 18: scopes.sales:read.rules.0: a read scope has`);
    expect(refusal).toContain(`${join(presets, 'other.yaml')} line 1: title: is needed`);
    const mended = await start({});
    expect(mended.adminToken).toMatch(/^wdr_op_/);
    await mended.close();
  });
});
