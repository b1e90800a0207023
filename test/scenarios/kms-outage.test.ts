/**
 * The key service in trouble, as a broker meets it: AWS KMS (test/vendors/aws) that is down, slow, throttling, answering
 * with the wrong key, or whose operator has disabled the key. What is sealed refuses, what takes away goes on, nothing is
 * lost, and all of it mends itself.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { type Broker, removeTemporaryDirs, startBroker, temporaryDir } from '../support/broker.ts';
import { eventually } from '../support/eventually.ts';
import { withEnv } from '../support/with-env.ts';
import type { Key } from '../vendors/aws/account.ts';
import { type AwsServer, startAws } from '../vendors/aws/server.ts';

/** The least that keys are confirmed in: every two seconds (src/services/maintenance.ts). */
const keyMaxAgeSeconds = 4;

const env = withEnv();
let aws: AwsServer;
let key: Key;
let dataDir: string;
let broker: Broker | undefined;

beforeAll(async () => {
  aws = await startAws();
});
afterAll(async () => {
  env.restore();
  await aws.close();
  removeTemporaryDirs();
});
beforeEach(() => {
  key = aws.account.addKey();
  dataDir = temporaryDir();
  const user = aws.account.addUser('warder', {
    Version: '2012-10-17',
    Statement: [{ Effect: 'Allow', Action: ['kms:Encrypt', 'kms:Decrypt'], Resource: key.arn }],
  });
  env.set({
    AWS_ACCESS_KEY_ID: user.accessKeyId,
    AWS_SECRET_ACCESS_KEY: user.secretAccessKey,
    AWS_SESSION_TOKEN: undefined,
    AWS_ENDPOINT_URL_KMS: aws.url,
    AWS_CONFIG_FILE: '/dev/null',
    AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
  });
});
afterEach(async () => {
  await aws.trouble.well();
  await broker?.close();
  broker = undefined;
});

const start = async (): Promise<Broker> => {
  broker = await startBroker({ dataDir, keyMaxAgeSeconds, env: { WARDER_KMS: `aws-kms:${key.arn}` } });
  return broker;
};
const restart = async (): Promise<Broker> => {
  await broker?.close();
  return start();
};

interface Furnished {
  agent: { clientId: string; clientSecret: string };
  token: string;
}

/** An agent that may obtain a token of Warder's own, and that token's grant as it is asked for. */
const furnish = async (on: Broker): Promise<Furnished> => {
  const agent = await on.agent('worker');
  await on.admin('POST', '/connections', {
    name: 'orders',
    provider: 'internal-jwt',
    settings: { audience: 'https://orders.example', scopes: ['read'] },
  });
  await on.entitle('worker', 'orders', ['read']);
  return { agent, token: await on.agentToken(agent) };
};
const grant = (on: Broker, { token }: Furnished) => on.grant(token, { connection: 'orders', scopes: ['read'] });

const why = async (on: Broker): Promise<string | undefined> => {
  const answer = (await (await on.fetch('/readyz')).json()) as { checks: { name: string; why?: string }[] };
  return answer.checks.find(({ name }) => name === 'keys')?.why;
};
const unsealed = (on: Broker): Promise<unknown> =>
  eventually(
    'it is unsealed',
    () => why(on),
    (reason) => reason === undefined,
    12_000,
  );
const sealed = (on: Broker): Promise<string | undefined> =>
  eventually(
    'it is sealed',
    () => why(on),
    (reason) => reason !== undefined,
    12_000,
  );
/** Nothing that anybody may see names the key, its account or who asked. */
const showsNothing = (reason: string | undefined): void => {
  for (const canary of [key.arn, key.id, aws.account.id, aws.url, process.env['AWS_SECRET_ACCESS_KEY'] ?? '?']) {
    expect(reason).not.toContain(canary);
  }
};

describe('at start', () => {
  test('a first start without the service makes nothing, and the next one with it starts', async () => {
    await aws.trouble.down();
    await expect(start()).rejects.toThrow();
    await aws.trouble.well();
    const fresh = await start();
    expect(await why(fresh)).toBeUndefined();
    expect((await grant(fresh, await furnish(fresh))).status).toBe(201);
  });

  test('without the service it starts sealed, revokes all the same, and unseals when the service is back', async () => {
    const furnished = await furnish(await start());
    await aws.trouble.down();
    const again = await restart();
    const reason = await why(again);
    expect(reason).toBe('sealed: the aws-kms key service: it cannot be reached, or does not work');
    showsNothing(reason);
    expect(await grant(again, furnished)).toMatchObject({ status: 503, body: { code: 'sealed' } });
    const revoked = await again.admin('POST', '/revocations', { selector: { everything: true }, reason: 'incident' });
    expect(revoked.status).toBe(201);
    await aws.trouble.well();
    await unsealed(again);
    // What was revoked meanwhile stays so: the agent has to ask for a new token.
    expect((await grant(again, furnished)).status).toBe(401);
    const token = await again.agentToken(furnished.agent);
    expect((await grant(again, { ...furnished, token })).status).toBe(201);
  }, 40_000);

  test('a service that is slow and throttles is waited for', async () => {
    const furnished = await furnish(await start());
    await aws.trouble.throttled(1);
    await aws.trouble.slow(500);
    const again = await restart();
    await unsealed(again);
    expect((await grant(again, furnished)).status).toBe(201);
  }, 40_000);
});

describe('at run time', () => {
  test('an outage changes nothing until the keys are of age; then it seals, and unseals when the service is back', async () => {
    const running = await start();
    const furnished = await furnish(running);
    await aws.trouble.down();
    const began = Date.now();
    expect((await grant(running, furnished)).status).toBe(201);
    const reason = await sealed(running);
    // Not before half of their age (they were confirmed at most two seconds earlier), and not long after it.
    expect(Date.now() - began).toBeGreaterThan(1_000);
    expect(Date.now() - began).toBeLessThan(keyMaxAgeSeconds * 1000 + 1_500);
    expect(reason).toBe(`sealed: the aws-kms key service has not confirmed the keys for ${keyMaxAgeSeconds} seconds`);
    expect(await grant(running, furnished)).toMatchObject({ status: 503, body: { code: 'sealed' } });
    await aws.trouble.well();
    await unsealed(running);
    expect((await grant(running, furnished)).status).toBe(201);
  }, 40_000);

  test('a key that its operator disables seals Warder within their age, and one that is enabled again unseals it', async () => {
    const running = await start();
    const furnished = await furnish(running);
    key.state = 'Disabled';
    const began = Date.now();
    const reason = await sealed(running);
    expect(Date.now() - began).toBeLessThan(keyMaxAgeSeconds * 1000 + 1_500);
    expect(reason).toBe('sealed: the aws-kms key service: the key is disabled');
    showsNothing(reason);
    expect(await grant(running, furnished)).toMatchObject({ status: 503, body: { code: 'sealed' } });
    key.state = 'Enabled';
    await unsealed(running);
    expect((await grant(running, furnished)).status).toBe(201);
  }, 40_000);

  test('an answer made with another key seals it, and harms nothing', async () => {
    const running = await start();
    const furnished = await furnish(running);
    await aws.trouble.wrongKey();
    expect(await sealed(running)).toBe('sealed: the aws-kms key service: it answered with another key');
    await aws.trouble.well();
    await unsealed(running);
    expect((await grant(running, furnished)).status).toBe(201);
  }, 40_000);

  test('nonsense is an outage: it does not seal at once', async () => {
    const running = await start();
    const furnished = await furnish(running);
    await aws.trouble.nonsense();
    const reason = await sealed(running);
    expect(reason).toBe(`sealed: the aws-kms key service has not confirmed the keys for ${keyMaxAgeSeconds} seconds`);
    await aws.trouble.well();
    await unsealed(running);
    expect((await grant(running, furnished)).status).toBe(201);
  }, 40_000);
});
