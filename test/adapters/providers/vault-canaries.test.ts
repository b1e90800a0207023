/** Nothing that opens something, at Vault or behind it, stays with Warder in clear. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type Broker, removeTemporaryDirs, startBroker, temporaryDir } from '../../support/broker.ts';
import { startVaultRig, type VaultRig } from './vault-rig.ts';

let rig: VaultRig;
let broker: Broker;
const dataDir = temporaryDir();
beforeAll(async () => {
  rig = await startVaultRig();
  broker = await startBroker({ dataDir });
});
afterAll(async () => {
  await broker.close();
  await rig.close();
  removeTemporaryDirs();
});

test('no token, secret id or password of Vault is in the log, the audit log, an answer of the API or on the disk', async () => {
  const agent = await broker.agent('worker');
  const added = await broker.admin('POST', '/connections', {
    name: 'vault',
    provider: 'vault',
    settings: rig.settings,
    secret: rig.secret,
  });
  await broker.entitle('worker', 'vault', ['read', 'write', 'short'], { max_ttl_seconds: 600 });
  const token = await broker.agentToken(agent);
  const granted = await broker.grant(token, { connection: 'vault', scopes: ['read'], ttl_seconds: 60 });
  expect(granted.status).toBe(201);
  const { id } = granted.body['grant'] as { id: string };
  const { data } = granted.body['credential'] as { data: { password: string } };
  expect((await broker.json('POST', `/v1/grants/${id}/renew`, token, { ttl_seconds: 120 })).status).toBe(200);
  // In trouble too, with what the answers of a Vault in trouble say.
  for (const into of ['down', 'nonsense', 'halfDone'] as const) {
    await rig.bench.trouble[into]();
    expect((await broker.grant(token, { connection: 'vault', scopes: ['write'] })).status).toBe(502);
  }
  await rig.bench.trouble.well();
  await broker.json('DELETE', `/v1/grants/${id}`, token);

  const shown = [
    added.text,
    (await broker.admin('GET', '/connections/vault')).text,
    (await broker.admin('GET', `/grants/${id}`)).text,
    (await broker.admin('GET', '/audit?limit=500')).text,
    broker.log(),
  ];
  await broker.close();
  const disk = readdirSync(dataDir).map((name) => readFileSync(join(dataDir, name), 'latin1'));
  for (const text of [...shown, ...disk]) {
    for (const canary of [data.password, String(rig.secret['secret_id']), 'hvs.', 'X-Vault-Token']) {
      expect(text.includes(canary)).toBe(false);
    }
  }
  broker = await startBroker({ dataDir });
});
