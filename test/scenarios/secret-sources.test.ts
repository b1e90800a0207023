/**
 * Secrets that stay in a Vault: a team's KV engine, and connections that only say where theirs is. Also at a real Vault
 * (test/vendors/vault/bench.ts).
 */
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { internalJwtProvider } from '../../adapters/providers/internal-jwt.ts';
import type { Provider } from '../../src/ports/provider.ts';
import { type Answer, type Broker, removeTemporaryDirs, startBroker, temporaryDir } from '../support/broker.ts';
import { eventually, pause } from '../support/eventually.ts';
import { startVaultBench, type VaultBench } from '../vendors/vault/bench.ts';

let bench: VaultBench;
let broker: Broker;
let upstream: { url: string; keys: (string | undefined)[]; server: Server };
let kv: string;
let vaultToken: string;
const refusedKeys = new Set<string>();
const dataDir = temporaryDir();

/** Has a secret, and wants to replace it, as a provider of rotating tokens does. */
const rotating: Provider = {
  ...internalJwtProvider,
  type: 'rotating',
  checkSecret: (secret) => ({ ok: true, value: secret as Record<string, string> }),
  mint: async (_request, _plan, context) => {
    const secret = await context.secret();
    await context.replaceSecret(secret?.version ?? 0, { value: 'canary-rotated-away' });
    return { credential: { type: 'jwt', token: 'x' } };
  },
};

const options = { dataDir, extraProviders: [rotating], env: { WARDER_KMS: `local:${join(dataDir, 'root.key')}` } };

const put = async (name: string, data: object): Promise<void> => {
  await eventually(
    'the engine takes it',
    () => bench.admin('POST', `${kv}/data/team/${name}`, { data }),
    ({ status }) => status === 200,
  );
};
const vaultSettings = (over: object = {}) => ({
  address: bench.url,
  allow_private_network: true,
  readable: [`${kv}/data/team/*`, `${kv}/data/other`],
  ...over,
});
const from = (name: string, over: object = {}) => ({
  connection: 'corp-vault',
  path: `${kv}/data/team/${name}`,
  fields: { value: 'api_key' },
  ...over,
});
const apiSettings = (over: object = {}) => ({
  base_url: upstream.url,
  allow_private_network: true,
  scopes: { all: [{ methods: ['*'], path: '/**' }] },
  ...over,
});
const register = (name: string, secret_from: object, over: object = {}): Promise<Answer> =>
  broker.admin('POST', '/connections', { name, provider: 'api-key', settings: apiSettings(), secret_from, ...over });
/** A gateway call with a grant of its own. @returns the status, and the key the upstream was given */
const use = async (connection: string): Promise<{ call: () => Promise<[number, string | undefined]> }> => {
  await broker.admin('POST', '/entitlements', { agent: 'worker', connection, scopes: ['all'] });
  const token = await broker.agentToken(agent);
  const granted = await broker.grant(token, { connection, scopes: ['all'] });
  if (granted.status !== 201) throw new Error(granted.text);
  const credential = granted.body['credential'] as { token: string; base_url: string };
  return {
    call: async () => {
      const before = upstream.keys.length;
      const answer = await fetch(`${credential.base_url}/x`, {
        headers: { authorization: `Bearer ${credential.token}` },
      });
      await answer.text();
      return [answer.status, upstream.keys[before]];
    },
  };
};
let agent: Awaited<ReturnType<Broker['agent']>>;

beforeAll(async () => {
  bench = await startVaultBench();
  kv = bench.inside ? 'secret' : bench.fresh('secret');
  await bench.admin('POST', `sys/mounts/${kv}`, { type: 'kv', options: { version: '2' } });
  const policy = bench.fresh('warder-kv');
  await bench.admin('POST', `sys/policies/acl/${policy}`, {
    policy: `path "${kv}/data/*" { capabilities = ["read"] }`,
  });
  const made = await bench.admin('POST', 'auth/token/create', { policies: [policy], ttl: '1h' });
  vaultToken = String(made.body.auth?.['client_token']);
  const keys: (string | undefined)[] = [];
  const server = createServer((req, res) => {
    const key = req.headers.authorization?.replace('Bearer ', '');
    keys.push(key);
    res.writeHead(refusedKeys.has(key ?? '') ? 401 : 200).end('{}');
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  upstream = { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, keys, server };
  broker = await startBroker(options);
  agent = await broker.agent('worker');
  const created = await broker.admin('POST', '/connections', {
    name: 'corp-vault',
    provider: 'vault',
    settings: vaultSettings(),
    secret: { token: vaultToken },
  });
  if (created.status !== 201) throw new Error(created.text);
});
afterAll(async () => {
  await broker.close();
  upstream.server.closeAllConnections();
  upstream.server.close();
  await bench.close();
  removeTemporaryDirs();
});

describe('a connection whose secret is in a Vault', () => {
  test('is shown with where it is, and never with what it is', async () => {
    await put('shown', { api_key: 'sk_canary_shown_1' });
    const created = await register('shown', from('shown', { max_age_seconds: 5 }));
    expect([created.status, created.body['secret']]).toEqual([
      201,
      { from: { ...from('shown', { max_age_seconds: 5 }), version: null } },
    ]);
    const { call } = await use('shown');
    expect(await call()).toEqual([200, 'sk_canary_shown_1']);
    const shown = await broker.admin('GET', '/connections/shown');
    expect(shown.body['secret']).toEqual(created.body['secret']);
    expect(shown.text).not.toContain('canary');
  });

  test('follows what changes in Vault, with the grants that are out', async () => {
    await put('changing', { api_key: 'sk_before_0001' });
    await register('changing', from('changing', { max_age_seconds: 1 }));
    const { call } = await use('changing');
    expect(await call()).toEqual([200, 'sk_before_0001']);
    await put('changing', { api_key: 'sk_after_0002' });
    const [, key] = await eventually('it follows', call, ([, key]) => key === 'sk_after_0002', 3_000);
    expect(key).toBe('sk_after_0002');
  });

  test('is read anew before its time when the upstream does not take it any more', async () => {
    await put('revoked', { api_key: 'sk_refused_0001' });
    await register('revoked', from('revoked', { max_age_seconds: 3600 }));
    const { call } = await use('revoked');
    expect(await call()).toEqual([200, 'sk_refused_0001']);
    refusedKeys.add('sk_refused_0001');
    await put('revoked', { api_key: 'sk_after_refusal_0002' });
    expect(await call()).toEqual([401, 'sk_refused_0001']);
    await eventually('it follows', call, ([status]) => status === 200, 3_000);
    expect(await call()).toEqual([200, 'sk_after_refusal_0002']);
  });

  test('does not let an upstream that refuses everything make it ask the vault all the time', async () => {
    await put('hammered', { api_key: 'sk_hammered_0001' });
    await register('hammered', from('hammered', { max_age_seconds: 3600 }));
    const { call } = await use('hammered');
    refusedKeys.add('sk_hammered_0001');
    const reads = () => (bench.inside?.seen ?? []).filter(({ url }) => url.includes('team/hammered')).length;
    const before = reads();
    for (let i = 0; i < 20; i += 1) expect((await call())[0]).toBe(401);
    expect(reads() - before).toBeLessThan(5);
  });

  test('stays with the version that was asked for', async () => {
    await put('pinned', { api_key: 'sk_first_0001' });
    await put('pinned', { api_key: 'sk_second_0002' });
    await register('pinned', from('pinned', { version: 1, max_age_seconds: 0 }));
    expect(await (await use('pinned')).call()).toEqual([200, 'sk_first_0001']);
  });

  test('works through an outage for as long as its age allows, and not a moment longer', async () => {
    await put('outage', { api_key: 'sk_outage_0001' });
    await register('outage', from('outage', { max_age_seconds: 2 }));
    const { call } = await use('outage');
    expect(await call()).toEqual([200, 'sk_outage_0001']);
    const readAt = Date.now();
    await bench.trouble.down();
    expect((await call())[0]).toBe(200);
    await pause(Math.max(0, readAt + 2_050 - Date.now()));
    expect(await call()).toEqual([502, undefined]);
    await bench.trouble.nonsense();
    expect(await call()).toEqual([502, undefined]);
    await bench.trouble.well();
    expect((await call())[0]).toBe(200);
  });

  test('is refused when the value is deleted, has no such field, or is no secret of its provider', async () => {
    await put('deleted', { api_key: 'sk_deleted_0001' });
    await register('deleted', from('deleted', { max_age_seconds: 0 }));
    const { call } = await use('deleted');
    expect((await call())[0]).toBe(200);
    await bench.admin('DELETE', `${kv}/data/team/deleted`);
    expect(await call()).toEqual([502, undefined]);
    await put('deleted', { other: 'sk_deleted_0002' });
    expect(await call()).toEqual([502, undefined]);
    await put('deleted', { api_key: 17_171_717 });
    expect(await call()).toEqual([502, undefined]);
    await put('deleted', { api_key: 'x\r\ny: z-canary' });
    expect(await call()).toEqual([502, undefined]);
    await put('deleted', { api_key: 'sk_deleted_0003' });
    expect(await call()).toEqual([200, 'sk_deleted_0003']);
  });

  test('is given up before its age is over when the vault says that it is gone', async () => {
    await put('taken', { api_key: 'sk_taken_0001' });
    await register('taken', from('taken', { max_age_seconds: 3 }));
    const { call } = await use('taken');
    expect((await call())[0]).toBe(200);
    const readAt = Date.now();
    await bench.admin('DELETE', `${kv}/data/team/taken`);
    await eventually('it is given up', call, ([status]) => status === 502, 3_500);
    expect(Date.now() - readAt).toBeLessThan(2_900);
  });

  test('stops with the vault connection: suspended, or no longer allowed to read it', async () => {
    await put('stopped', { api_key: 'sk_stopped_0001' });
    await register('stopped', from('stopped', { max_age_seconds: 60 }));
    const { call } = await use('stopped');
    expect((await call())[0]).toBe(200);
    await broker.admin('PATCH', '/connections/corp-vault', { status: 'suspended' });
    expect((await call())[0]).toBe(409);
    await broker.admin('PATCH', '/connections/corp-vault', { status: 'active' });
    expect((await call())[0]).toBe(200);
    await broker.admin('PATCH', '/connections/corp-vault', {
      settings: vaultSettings({ readable: [`${kv}/data/other`] }),
    });
    expect((await call())[0]).toBe(502);
    await broker.admin('PATCH', '/connections/corp-vault', { settings: vaultSettings() });
    expect((await call())[0]).toBe(200);
  });

  test('survives a restart as a reference, with nothing of the value on the disk', async () => {
    await put('restart', { api_key: 'sk_canary_on_disk_0001' });
    await register('restart', from('restart'));
    expect((await (await use('restart')).call())[0]).toBe(200);
    const { adminToken } = broker;
    await broker.close();
    for (const name of readdirSync(dataDir)) {
      expect(readFileSync(join(dataDir, name)).includes('sk_canary_on_disk_0001')).toBe(false);
    }
    broker = await startBroker(options);
    expect(broker.adminToken).toBe(adminToken);
    expect(await (await use('restart')).call()).toEqual([200, 'sk_canary_on_disk_0001']);
  });

  test('is asked for once, however many calls wait for it', async () => {
    await put('crowd', { api_key: 'sk_crowd_0001' });
    await register('crowd', from('crowd'));
    const { call } = await use('crowd');
    const reads = () => (bench.inside?.seen ?? []).filter(({ url }) => url.includes('team/crowd')).length;
    const before = reads();
    const answers = await Promise.all(Array.from({ length: 30 }, call));
    expect(new Set(answers.map(([status]) => status))).toEqual(new Set([200]));
    expect(reads() - before).toBe(bench.inside ? 1 : 0);
  });
});

describe('what is put in force', () => {
  const short = (answer: Answer): [number, unknown] => [answer.status, answer.body['code']];

  test('a secret given here replaces the reference, and a reference the secret', async () => {
    await put('swap', { api_key: 'sk_in_vault_0001' });
    await register('swap', from('swap'));
    const { call } = await use('swap');
    expect(await call()).toEqual([200, 'sk_in_vault_0001']);
    expect((await broker.admin('PUT', '/connections/swap/secret', { value: 'sk_kept_here_0002' })).status).toBe(200);
    expect(await call()).toEqual([200, 'sk_kept_here_0002']);
    expect((await broker.admin('GET', '/connections/swap')).body['secret']).toEqual({ version: 1 });
    expect((await broker.admin('PATCH', '/connections/swap', { secret_from: from('swap') })).status).toBe(200);
    expect(await call()).toEqual([200, 'sk_in_vault_0001']);
    expect((await broker.admin('PUT', '/connections/swap/secret', { value: 'sk_kept_here_0003' })).body).toEqual({
      version: 2,
    });
    expect(await call()).toEqual([200, 'sk_kept_here_0003']);
    const { body } = await broker.admin('GET', '/audit?connection=swap');
    const entries = (body['items'] as { type: string; data: object }[]).filter(({ type }) =>
      /^(secret|connection)\./.test(type),
    );
    expect(entries.map(({ type }) => type).reverse()).toEqual([
      'connection.created',
      'secret.set',
      'secret.source_set',
      'secret.set',
    ]);
    expect(entries.at(-1)?.data).toMatchObject({ secret_from: { connection: 'corp-vault', path: expect.any(String) } });
  });

  test('a provider cannot replace what is kept in a vault', async () => {
    await put('rotating', { api_key: 'sk_rotating_0001' });
    const settings = { audience: 'https://x.example', scopes: ['all'] };
    await broker.admin('POST', '/connections', {
      name: 'rot',
      provider: 'rotating',
      settings,
      secret_from: from('rotating'),
    });
    await broker.admin('POST', '/entitlements', { agent: 'worker', connection: 'rot', scopes: ['all'] });
    const answer = await broker.grant(await broker.agentToken(agent), { connection: 'rot', scopes: ['all'] });
    expect([answer.status, answer.body['code'], answer.body['detail']]).toEqual([
      409,
      'conflict',
      expect.stringContaining('kept in a vault'),
    ]);
  });

  test('references that cannot be meant are refused, with the name of the field', async () => {
    const detail = async (secret_from: object, over: object = {}): Promise<unknown> => {
      const answer = await register(`bad-${Math.random().toString(36).slice(2)}`, secret_from, over);
      return [answer.status, answer.text.match(/secret_from[a-z_.]*/)?.[0]];
    };
    expect(await detail(from('x', { connection: 'nobody' }))).toEqual([400, 'secret_from.connection']);
    expect(await detail(from('x', { connection: 'shown' }))).toEqual([400, 'secret_from.connection']);
    expect(await detail(from('x', { path: `${kv}/data/elsewhere` }))).toEqual([400, 'secret_from.path']);
    expect(await detail(from('x', { path: `${kv}/data/team/../../x` }))).toEqual([400, 'secret_from.path']);
    expect(await detail(from('x', { path: 'sys/data/x' }))).toEqual([400, 'secret_from.path']);
    expect((await detail(from('x', { fields: {} }))) as unknown[]).toEqual([400, expect.anything()]);
    expect(await detail(from('x', { max_age_seconds: 3601 }))).toEqual([400, 'secret_from.max_age_seconds']);
    expect(await detail(from('x'), { secret: { value: 'sk_both_0001' } })).toEqual([400, expect.anything()]);
    const own = { secret_from: from('x') };
    expect(short(await broker.admin('PATCH', '/connections/corp-vault', own))).toEqual([400, 'invalid_request']);
  });

  test('a referenced secret does not follow its connection to another host unasked', async () => {
    await put('host', { api_key: 'sk_host_0001' });
    await register('host', from('host'));
    const settings = apiSettings({ base_url: 'http://127.0.0.2:1' });
    expect(short(await broker.admin('PATCH', '/connections/host', { settings }))).toEqual([409, 'conflict']);
    expect((await broker.admin('PATCH', '/connections/host', { settings, secret_from: from('host') })).status).toBe(
      200,
    );
  });

  test('the vault connection is not deleted while a secret is read through it', async () => {
    await broker.admin('POST', '/connections', {
      name: 'second-vault',
      provider: 'vault',
      settings: vaultSettings(),
      secret: { token: vaultToken },
    });
    await put('held', { api_key: 'sk_held_0001' });
    expect((await register('held', from('held', { connection: 'second-vault' }))).status).toBe(201);
    const refused = await broker.admin('DELETE', '/connections/second-vault');
    expect([...short(refused), refused.text]).toEqual([409, 'conflict', expect.stringContaining('held')]);
    // Deleted and referred to at the same moment: one of the two is refused.
    await broker.admin('PUT', '/connections/held/secret', { value: 'sk_held_0002' });
    const [deleted, referred] = await Promise.all([
      broker.admin('DELETE', '/connections/second-vault'),
      broker.admin('PATCH', '/connections/held', { secret_from: from('held', { connection: 'second-vault' }) }),
    ]);
    expect([deleted.status, referred.status].filter((status) => status < 300)).toHaveLength(1);
  });

  test('neither log nor audit ever has a value or a token in it', async () => {
    const audit = (await broker.admin('GET', '/audit?limit=500')).text;
    for (const text of [audit, broker.log()]) {
      expect(text).not.toMatch(/sk_[a-z_]+000\d|canary/);
      expect(text).not.toContain(vaultToken);
    }
  });
});

describe('warder apply', () => {
  const document = (over: object = {}) => ({
    agents: [],
    connections: [
      {
        name: 'applied',
        provider: 'api-key',
        settings: apiSettings(),
        secret_from: from('applied', { connection: 'applied-vault' }),
        ...over,
      },
      { name: 'applied-vault', provider: 'vault', settings: vaultSettings(), secret: { token: vaultToken } },
    ],
    entitlements: [],
  });
  const apply = async (body: object): Promise<unknown[]> => {
    const answer = await broker.admin('POST', '/apply', body);
    if (answer.status !== 200) throw new Error(answer.text);
    return (answer.body['changes'] as { action: string; kind: string; name: string }[]).map(
      ({ action, kind, name }) => `${action} ${kind} ${name}`,
    );
  };

  test('makes both in one step whatever their order, and applying again changes nothing', async () => {
    await put('applied', { api_key: 'sk_applied_0001' });
    expect(await apply(document())).toEqual(['create connection applied-vault', 'create connection applied']);
    expect(await apply(document())).toEqual([]);
    expect(await (await use('applied')).call()).toEqual([200, 'sk_applied_0001']);
    const slower = { secret_from: from('applied', { connection: 'applied-vault', max_age_seconds: 5 }) };
    expect(await apply(document(slower))).toEqual(['update secret applied']);
    expect(await apply(document({ secret_from: undefined, secret: { value: 'sk_applied_0002' } }))).toEqual([
      'update secret applied',
    ]);
    expect(await apply(document())).toEqual(['update secret applied']);
  });

  test('prunes both together, and not the vault alone', async () => {
    const all = (await broker.admin('GET', '/connections?limit=500')).body['items'] as { name: string }[];
    expect(all.map(({ name }) => name)).toEqual(expect.arrayContaining(['applied', 'applied-vault']));
    const [first] = document().connections;
    const alone = await broker.admin('POST', '/apply', { ...document(), connections: [first], prune: true });
    expect(alone.status).toBe(409);
    const nothing = { agents: [], connections: [], entitlements: [] };
    const planned = await broker.admin('POST', '/apply', { ...nothing, prune: true, plan: true });
    expect([planned.status, planned.text]).toEqual([200, expect.stringContaining('applied-vault')]);
    await broker.admin('POST', '/revocations', { selector: { everything: true }, reason: 'test' });
    const pruned = await eventually(
      'it can be done',
      () => broker.admin('POST', '/apply', { ...nothing, prune: true }),
      ({ status }) => status === 200,
    );
    expect(pruned.body['applied']).toBe(true);
    expect((await broker.admin('GET', '/connections')).body['items']).toEqual([]);
  });
});
