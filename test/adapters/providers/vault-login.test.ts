/** Logging in with a service account of Kubernetes, and namespaces: only the test's own Vault has them. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Network, openNetwork } from '../../../adapters/network.ts';
import { vaultSessions } from '../../../adapters/providers/vault/sessions.ts';
import { openVaultProvider } from '../../../adapters/providers/vault.ts';
import type { Provider } from '../../../src/ports/provider.ts';
import { isRealVault, skippedOnReal, startVaultBench, type VaultBench } from '../../vendors/vault/bench.ts';
import { direct } from './vault-direct.ts';
import { warderPolicy } from './vault-rig.ts';

const onlyInside = isRealVault ? describe.skip : describe;

onlyInside(`a login${skippedOnReal}`, () => {
  let bench: VaultBench;
  let network: Network;
  let provider: Provider;
  const folder = mkdtempSync(join(tmpdir(), 'warder-secrets-'));
  const outside = mkdtempSync(join(tmpdir(), 'warder-outside-'));
  const jwt = 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ3YXJkZXIifQ.c2ln';
  const settings = (auth: object, over: object = {}) => ({
    address: bench.url,
    allow_private_network: true,
    auth,
    scopes: { read: { path: 'database/creds/reader' } },
    ...over,
  });
  const kubernetes = (path: string) => settings({ method: 'kubernetes', role: 'warder', jwt_path: join(folder, path) });
  const failureOf = (call: Promise<unknown>): Promise<unknown> => call.catch((error: unknown) => error);

  beforeAll(async () => {
    bench = await startVaultBench();
    network = openNetwork();
    provider = openVaultProvider(network, { openSession: vaultSessions(network, [folder]) });
    await bench.database('database');
    await bench.admin('POST', 'sys/policies/acl/warder', { policy: warderPolicy('database') });
    await bench.admin('POST', 'sys/auth/kubernetes', { type: 'kubernetes' });
    await bench.admin('POST', 'auth/kubernetes/role/warder', {
      bound_service_account_names: ['warder'],
      bound_service_account_namespaces: ['tools'],
      token_policies: ['warder'],
    });
    bench.inside?.namespace().serviceAccounts.set(jwt, 'warder');
    // As the kubelet lays it out: the name is a link into a folder of its own.
    mkdirSync(join(folder, '..data'));
    writeFileSync(join(folder, '..data', 'token'), `${jwt}\n`);
    symlinkSync(join('..data', 'token'), join(folder, 'token'));
    writeFileSync(join(outside, 'token'), jwt);
    symlinkSync(join(outside, 'token'), join(folder, 'link-out'));
    writeFileSync(join(folder, 'key'), '-----BEGIN PRIVATE KEY-----\ncanary\n');
  });
  afterAll(async () => {
    await bench.close();
    await network.close();
    for (const path of [folder, outside]) rmSync(path, { recursive: true, force: true });
  });

  test('with the token of the service account needs no secret', async () => {
    expect(provider.checkSecret(undefined)).toEqual({ ok: true, value: undefined });
    const calls = direct(provider, kubernetes('token'), undefined);
    const minted = await calls.mint('read', 60);
    expect(minted.credential).toMatchObject({ data: { username: expect.any(String) } });
    await calls.revoke(minted.handle);
  });

  test('sends no other file: none outside of where such tokens are, by whatever way, and nothing but a token', async () => {
    const seen = bench.inside?.seen ?? [];
    const before = seen.length;
    for (const path of ['link-out', 'key', 'nothing', '..data', join('..', outside.split('/').at(-1) ?? '', 'token')]) {
      const failure = await failureOf(direct(provider, kubernetes(path), undefined).mint('read', 60));
      expect([path, failure]).toEqual([path, expect.objectContaining({ kind: 'refused' })]);
      expect(String(failure)).not.toMatch(/canary|warder-secrets/);
    }
    expect(seen).toHaveLength(before);
  });

  test('takes place in the namespace of the connection, and what it brings works nowhere else', async () => {
    const inside = bench.inside?.addNamespace('team-a');
    if (!inside) throw new Error('no inside');
    const over = { namespace: 'team-a' };
    const root = { token: bench.rootToken };
    // Nothing is mounted there: what the root namespace has does not shine through.
    const failure = await failureOf(direct(provider, settings({ method: 'token' }, over), root).mint('read', 60));
    expect(failure).toMatchObject({ kind: 'refused' });
    const { body } = await bench.admin('POST', 'auth/token/create', { policies: ['warder'], ttl: '1h' });
    const stranger = { token: String(body.auth?.['client_token']) };
    const refused = await failureOf(direct(provider, settings({ method: 'token' }, over), stranger).mint('read', 60));
    expect(refused).toMatchObject({ kind: 'refused', message: expect.stringContaining('403') });
    expect(bench.inside?.seen.at(-1)?.headers).toMatchObject({ 'x-vault-namespace': 'team-a' });
  });
});

if (isRealVault) test.skip('nothing here is asked of a real Vault', () => undefined);
