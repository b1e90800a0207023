/**
 * Root keys that travel while agents work: from a file to AWS KMS, on to Vault, rotated there, and home again. Over the
 * vendors' own clients and protocols; the same against a real Vault with WARDER_TEST_VAULT_ADDR.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type Broker, removeTemporaryDirs, startBroker, temporaryDir } from '../support/broker.ts';
import { eventually } from '../support/eventually.ts';
import { withEnv } from '../support/with-env.ts';
import { type AwsServer, startAws } from '../vendors/aws/server.ts';
import { startVaultBench, type VaultBench } from '../vendors/vault/bench.ts';

const env = withEnv();
const dataDir = temporaryDir();
let aws: AwsServer;
let vault: VaultBench;
let mount: string;
let vaultToken: string;
let broker: Broker;

const start = (kms: string): Promise<Broker> =>
  startBroker({
    dataDir,
    env: { WARDER_KMS: kms, WARDER_VAULT_ADDR: vault.url, WARDER_VAULT_TOKEN: vaultToken },
    rewrapPace: { everyMs: 50, boxes: 50, graceMs: 0 },
  });

beforeAll(async () => {
  [aws, vault] = await Promise.all([startAws(), startVaultBench()]);
  mount = vault.inside ? 'transit' : vault.fresh('transit');
  await vault.admin('POST', `sys/mounts/${mount}`, { type: 'transit' });
  await vault.admin('POST', `${mount}/keys/warder`, {});
  const policy = vault.fresh('warder-kms');
  const paths = ['encrypt', 'decrypt'].map((act) => `path "${mount}/${act}/warder" { capabilities = ["update"] }`);
  await vault.admin('POST', `sys/policies/acl/${policy}`, { policy: paths.join('\n') });
  const made = await vault.admin('POST', 'auth/token/create', { policies: [policy], ttl: '1h' });
  vaultToken = String(made.body.auth?.['client_token']);
});
afterAll(async () => {
  await broker?.close();
  await Promise.all([aws.close(), vault.close()]);
  env.restore();
  removeTemporaryDirs();
});

test('keys go from one key service to the next while agents get grants, and open with the last', async () => {
  const key = aws.account.addKey();
  const user = aws.account.addUser('warder', {
    Version: '2012-10-17',
    Statement: [{ Effect: 'Allow', Action: ['kms:Encrypt', 'kms:Decrypt'], Resource: [key.arn] }],
  });
  env.set({
    AWS_ACCESS_KEY_ID: user.accessKeyId,
    AWS_SECRET_ACCESS_KEY: user.secretAccessKey,
    AWS_SESSION_TOKEN: undefined,
    AWS_ENDPOINT_URL_KMS: aws.url,
    AWS_REGION: aws.account.region,
    AWS_CONFIG_FILE: '/dev/null',
    AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
    AWS_EC2_METADATA_DISABLED: 'true',
  });
  const services = {
    local: `local:${join(dataDir, 'root.key')}`,
    aws: `aws-kms:${key.arn}`,
    vault: `vault-transit:${mount}/warder`,
  };
  broker = await start(services.local);
  const agent = await broker.agent('worker');
  const settings = { audience: 'https://orders.example', scopes: ['read'] };
  await broker.admin('POST', '/connections', { name: 'orders', provider: 'internal-jwt', settings });
  await broker.connection('stripe', 'http://127.0.0.1:9');
  await broker.entitle('worker', 'orders', ['read']);
  const token = await broker.agentToken(agent);

  let working = true;
  const answers: number[] = [];
  const work = (async () => {
    while (working) answers.push((await broker.grant(token, { connection: 'orders', scopes: ['read'] })).status);
  })();
  const migrate = async (to: string) => {
    const { status, text } = await broker.admin('POST', '/keys/migrate', { to });
    expect([status, text]).toEqual([200, expect.stringContaining(to)]);
  };
  await migrate(services.aws);
  await migrate(services.vault);
  expect((await broker.admin('POST', '/keys/rotate')).status).toBe(201);
  const keys = await eventually(
    'the old key is retired',
    async () => (await broker.admin('GET', '/keys')).body,
    (body) => (body['key_encryption_keys'] as { state: string }[])[0]?.state === 'retired',
  );
  expect(keys['kms']).toBe(services.vault);
  working = false;
  await work;
  expect(answers.length).toBeGreaterThan(3);
  expect(new Set(answers)).toEqual(new Set([201]));

  // A start with the first is sealed and says what it takes, not where that is.
  await broker.close();
  broker = await start(services.local);
  const ready = await (await broker.fetch('/readyz')).text();
  expect(ready).toContain('the keys were migrated to the vault-transit key service; set WARDER_KMS to that');
  expect(ready).not.toContain(`${mount}/warder`);
  await broker.close();
  broker = await start(services.vault);
  expect((await broker.grant(token, { connection: 'orders', scopes: ['read'] })).status).toBe(201);
  await migrate(services.local);
  await broker.close();
  broker = await start(services.local);
  expect((await broker.grant(token, { connection: 'orders', scopes: ['read'] })).status).toBe(201);
}, 60_000);
