/** A broker whose root key is in a Vault: what it takes to start, and how the key's end there ends it here. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Broker, removeTemporaryDirs, startBroker, temporaryDir } from '../support/broker.ts';
import { eventually } from '../support/eventually.ts';
import { startVaultBench, type VaultBench } from '../vendors/vault/bench.ts';

let bench: VaultBench;
let broker: Broker;
let policy: string;
let mount: string;
let token: string;
const dataDir = temporaryDir();
const env = () => ({
  WARDER_KMS: `vault-transit:${mount}/warder`,
  WARDER_VAULT_ADDR: bench.url,
  WARDER_VAULT_TOKEN: token,
  WARDER_KEY_MAX_AGE_SECONDS: '60',
});
const allow = (capabilities: string) =>
  bench.admin('POST', `sys/policies/acl/${policy}`, {
    policy: ['encrypt', 'decrypt']
      .map((action) => `path "${mount}/${action}/warder" { capabilities = [${capabilities}] }`)
      .join('\n'),
  });
const ready = async (): Promise<number> => (await broker.fetch('/readyz')).status;

beforeAll(async () => {
  bench = await startVaultBench();
  [policy, mount] = [bench.fresh('kms'), bench.fresh('transit')];
  await bench.admin('POST', `sys/mounts/${mount}`, { type: 'transit' });
  await bench.admin('POST', `${mount}/keys/warder`, {});
  await allow('"update"');
  const made = await bench.admin('POST', 'auth/token/create', { policies: [policy], period: '24h' });
  token = String(made.body.auth?.['client_token']);
  broker = await startBroker({ dataDir, env: env() });
});
afterAll(async () => {
  await broker.close();
  await bench.close();
  removeTemporaryDirs();
});

describe('a broker whose root key is in a Vault', () => {
  test('starts with it, keeps secrets under it, and opens them after a restart', async () => {
    expect(await ready()).toBe(200);
    expect((await broker.connection('api', 'http://127.0.0.1:9')).status).toBe(201);
    await broker.close();
    broker = await startBroker({ dataDir, env: env() });
    expect(await ready()).toBe(200);
  });

  test('is sealed when the key is denied at the start, says so without the place, and opens when it is allowed', async () => {
    await broker.close();
    await allow('"deny"');
    broker = await startBroker({ dataDir, env: env() });
    const sealed = await broker.fetch('/readyz');
    const text = await sealed.text();
    expect([sealed.status, text]).toEqual([503, expect.stringContaining('vault-transit')]);
    for (const canary of [token, bench.url, 'hvs.']) {
      expect(text).not.toContain(canary);
      expect(broker.log().replaceAll(`"kms":"vault-transit:${mount}/warder"`, '')).not.toContain(canary);
    }
    // Revocation works all the same.
    const revoked = await broker.admin('POST', '/revocations', { selector: { everything: true }, reason: 'test' });
    expect(revoked.status).toBe(201);
    await allow('"update"');
    await eventually('it is unsealed', ready, (status) => status === 200, 20_000);
  }, 40_000);

  test('is sealed while Vault is away at the start, and opens when it is back', async () => {
    await broker.close();
    await bench.trouble.down();
    broker = await startBroker({ dataDir, env: env() });
    expect(await ready()).toBe(503);
    await bench.trouble.well();
    await eventually('it is unsealed', ready, (status) => status === 200, 20_000);
  }, 40_000);
});
