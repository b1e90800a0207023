/** No key of AWS in the log, the audit log, an answer, or the files: neither Warder's own nor an agent's. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type Broker, removeTemporaryDirs, startBroker, temporaryDir } from '../../../support/broker.ts';
import { eventually } from '../../../support/eventually.ts';
import { type AwsRig, externalId, startAwsRig } from '../aws-rig.ts';

let rig: AwsRig;
let broker: Broker;

beforeAll(async () => {
  rig = await startAwsRig();
  broker = await startBroker({ dataDir: temporaryDir() });
});
afterAll(async () => {
  await broker.close();
  await rig.aws.close();
  removeTemporaryDirs();
});

const grant = async (token: string) => broker.grant(token, { connection: 'aws', scopes: ['read'], ttl_seconds: 60 });

test('issuing, refusals of AWS, outages and revocations leave no key behind', async () => {
  const agent = await broker.agent('deployer');
  const added = await broker.admin('POST', '/connections', {
    name: 'aws',
    provider: 'aws-sts',
    settings: rig.settings,
    secret: rig.secret,
  });
  expect(added.status).toBe(201);
  await broker.entitle('deployer', 'aws', ['read']);
  const token = await broker.agentToken(agent);
  const good = await grant(token);
  expect(good.status).toBe(201);
  const answers = [added.text];
  rig.role.maxSessionSeconds = 100;
  answers.push((await grant(token)).text);
  rig.role.maxSessionSeconds = 3_600;
  for (const into of ['down', 'nonsense', 'halfDone'] as const) {
    await rig.aws.trouble[into]();
    const answer = await grant(token);
    expect(answer.status).toBe(502);
    answers.push(answer.text);
    await rig.aws.trouble.well();
  }
  const secret = rig.user.secretAccessKey;
  rig.user.secretAccessKey = 'x'.repeat(40);
  answers.push((await grant(token)).text);
  rig.user.secretAccessKey = secret;
  const revoked = await broker.admin('POST', '/revocations', { selector: { connection: 'aws' }, reason: 'test' });
  await eventually(
    'it is complete',
    () => broker.admin('GET', `/revocations/${revoked.body['id']}`),
    ({ body }) => body['completed_at'] !== null,
  );
  const sessions = [...rig.aws.account.sessions.values()];
  expect(sessions.length).toBeGreaterThanOrEqual(2);
  const canaries = [
    rig.secret.secret_access_key,
    'AWS4-HMAC',
    ...sessions.flatMap((one) => [one.secretAccessKey, one.sessionToken, one.accessKeyId]),
  ];
  const files = readdirSync(broker.dataDir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'latin1'));
  const audit = (await broker.admin('GET', '/audit?limit=200')).text;
  for (const text of [broker.log(), audit, ...answers, ...files]) {
    for (const canary of canaries) expect(text.includes(canary)).toBe(false);
  }
  // Settings are no secret, what AWS says about them to an agent would be.
  for (const answer of answers.slice(1)) {
    for (const inside of [rig.role.arn, externalId, rig.aws.account.id]) expect(answer).not.toContain(inside);
  }
}, 60_000);
