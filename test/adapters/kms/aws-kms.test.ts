/**
 * `aws-kms` through the conformance suite, over the SDK, against a server that speaks KMS (test/vendors/aws). The same
 * runs against a real endpoint with
 *
 *     WARDER_TEST_AWS_ENDPOINT   e.g. https://kms.eu-west-1.amazonaws.com, or that of another implementation
 *     WARDER_TEST_AWS_KMS_KEY    ARN of a symmetric key; it is disabled and enabled again, never deleted
 *     WARDER_TEST_AWS_KMS_OTHER_KEY
 *     AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
 */
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:net';
import { DisableKeyCommand, EnableKeyCommand, KMSClient, ScheduleKeyDeletionCommand } from '@aws-sdk/client-kms';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openAwsKms } from '../../../adapters/kms/aws-kms.ts';
import { KmsRefused, KmsUnavailable } from '../../../src/ports/kms.ts';
import { kmsConformance } from '../../conformance/kms.ts';
import { eventually, pause } from '../../support/eventually.ts';
import { withEnv } from '../../support/with-env.ts';
import { type AwsServer, startAws } from '../../vendors/aws/server.ts';

const endpoint = process.env['WARDER_TEST_AWS_ENDPOINT'];
const real = endpoint !== undefined;
/** Shorter than in production, so that a service that hangs is waited for in a second. */
const hurried = { patienceMs: 4_500, attemptMs: 600 };
/** What docs/key-services.md says that Warder needs. */
const leastPrivilege = (...keys: string[]) => ({
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Action: ['kms:Encrypt', 'kms:Decrypt'], Resource: keys }],
});

const env = withEnv();
afterAll(() => env.restore());

const identity = (aws: AwsServer, policy: object): string[] => {
  const user = aws.account.addUser('warder', policy);
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
  return [user.accessKeyId, user.secretAccessKey];
};

const given = (name: string): string => {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
};

/** With the patience of production: a real service may be far away. */
const setUpReal = async () => {
  const [arn, otherArn] = [given('WARDER_TEST_AWS_KMS_KEY'), given('WARDER_TEST_AWS_KMS_OTHER_KEY')];
  env.set({ AWS_ENDPOINT_URL_KMS: endpoint });
  const operator = new KMSClient({ region: arn.split(':')[3] ?? '' });
  const KeyId = arn.slice(arn.lastIndexOf('/') + 1);
  const kms = openAwsKms(arn);
  // A change of state takes some seconds to be known everywhere.
  const until = (works: boolean) => async () => {
    const tried = () =>
      kms.wrap(randomBytes(32), { a: 'b' }).then(
        () => true,
        () => false,
      );
    await eventually('the state of the key is known', tried, (now) => now === works, 40_000);
    await pause(1_000);
  };
  return {
    kms,
    other: openAwsKms(otherArn),
    key: {
      disable: async () => void (await operator.send(new DisableKeyCommand({ KeyId })).then(until(false))),
      enable: async () => void (await operator.send(new EnableKeyCommand({ KeyId })).then(until(true))),
      destroy: async () => undefined,
    },
    canaries: [given('AWS_ACCESS_KEY_ID'), given('AWS_SECRET_ACCESS_KEY'), arn],
    close: async () => undefined,
  };
};

kmsConformance(
  'aws-kms',
  real
    ? setUpReal
    : async () => {
        const aws = await startAws();
        const [key, otherKey] = [aws.account.addKey(), aws.account.addKey()];
        const canaries = identity(aws, leastPrivilege(key.arn, otherKey.arn));
        const admin = aws.account.addUser('admin', {
          Version: '2012-10-17',
          Statement: [{ Effect: 'Allow', Action: 'kms:*', Resource: '*' }],
        });
        const operator = new KMSClient({
          endpoint: aws.url,
          region: aws.account.region,
          credentials: { accessKeyId: admin.accessKeyId, secretAccessKey: admin.secretAccessKey },
        });
        const KeyId = key.arn;
        return {
          kms: openAwsKms(key.arn, hurried),
          // By its id alone: the region is the environment's.
          other: openAwsKms(otherKey.id, hurried),
          key: {
            disable: async () => void (await operator.send(new DisableKeyCommand({ KeyId }))),
            enable: async () => void (await operator.send(new EnableKeyCommand({ KeyId }))),
            destroy: async () =>
              void (await operator.send(new ScheduleKeyDeletionCommand({ KeyId, PendingWindowInDays: 7 }))),
          },
          trouble: aws.trouble,
          canaries: [...canaries, key.arn, key.id, aws.account.id],
          close: aws.close,
        };
      },
  {
    canDisable: true,
    canDestroy: !real,
    hasTrouble: !real,
    ...(real ? { skipped: 'not against a real service' } : { patienceMs: hurried.patienceMs + 1_000 }),
  },
);

describe('aws-kms', () => {
  let aws: AwsServer;
  const context = { 'warder:purpose': 'test' };
  const open = (keyId: string) => openAwsKms(keyId, hurried);

  beforeAll(async () => {
    aws = await startAws();
  });
  afterAll(() => aws.close());

  test('is named after the key as the configuration has it', () => {
    expect(open('alias/warder').name).toBe('aws-kms:alias/warder');
  });

  test('may do with its key what its policy says and nothing else', async () => {
    const [key, other] = [aws.account.addKey(), aws.account.addKey()];
    identity(aws, leastPrivilege(key.arn));
    const kms = open(key.arn);
    expect(await kms.unwrap(await kms.wrap(randomBytes(32), context), context)).toHaveLength(32);
    await expect(open(other.arn).wrap(randomBytes(32), context)).rejects.toBeInstanceOf(KmsRefused);
  });

  test('is refused where the key lets Warder encrypt for another context only', async () => {
    const key = aws.account.addKey();
    identity(aws, {
      Version: '2012-10-17',
      Statement: [
        {
          Effect: 'Allow',
          Action: ['kms:Encrypt', 'kms:Decrypt'],
          Resource: key.arn,
          Condition: { StringEquals: { 'kms:EncryptionContext:warder:purpose': 'key-encryption-key' } },
        },
      ],
    });
    await expect(open(key.arn).wrap(randomBytes(32), context)).rejects.toThrow('it does not let Warder use the key');
    await expect(
      open(key.arn).wrap(randomBytes(32), { 'warder:purpose': 'key-encryption-key' }),
    ).resolves.toBeDefined();
  });

  test('a key that is gone, and one of another account or region, are refusals', async () => {
    const key = aws.account.addKey();
    identity(aws, leastPrivilege('*'));
    const wrapped = await open(key.arn).wrap(randomBytes(32), context);
    aws.account.keys.delete(key.id);
    await expect(open(key.arn).unwrap(wrapped, context)).rejects.toThrow('there is no such key');
    await expect(open(key.arn.replace(aws.account.id, '999999999999')).wrap(randomBytes(8), context)).rejects.toThrow(
      'there is no such key',
    );
  });

  test('an access key that was deleted is a refusal, one whose clock or session is off is an outage', async () => {
    const key = aws.account.addKey();
    identity(aws, leastPrivilege(key.arn));
    const kms = open(key.arn);
    const wrapped = await kms.wrap(randomBytes(32), context);
    env.set({ AWS_SECRET_ACCESS_KEY: 'not-the-secret' });
    await expect(open(key.arn).unwrap(wrapped, context)).rejects.toBeInstanceOf(KmsUnavailable);
    aws.account.users.clear();
    await expect(kms.unwrap(wrapped, context)).rejects.toBeInstanceOf(KmsRefused);
  });

  test('nothing that listens, and something that hangs up, are outages', async () => {
    const key = aws.account.addKey();
    identity(aws, leastPrivilege(key.arn));
    const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
    const { port } = await new Promise<{ port: number }>((resolve) =>
      server.once('listening', () => resolve(server.address() as { port: number })),
    );
    env.set({ AWS_ENDPOINT_URL_KMS: `http://127.0.0.1:${port}` });
    await expect(open(key.arn).wrap(randomBytes(32), context)).rejects.toBeInstanceOf(KmsUnavailable);
    await new Promise((resolve) => server.close(resolve));
    await expect(open(key.arn).wrap(randomBytes(32), context)).rejects.toBeInstanceOf(KmsUnavailable);
  });

  test('without region or credentials it says which of them is missing', async () => {
    const key = aws.account.addKey();
    identity(aws, leastPrivilege(key.arn));
    env.set({ AWS_REGION: undefined });
    await expect(open(key.id).wrap(randomBytes(32), context)).rejects.toThrow('Warder has no AWS region');
    env.set({ AWS_ACCESS_KEY_ID: undefined, AWS_SECRET_ACCESS_KEY: undefined });
    await expect(open(key.arn).wrap(randomBytes(32), context)).rejects.toThrow('Warder has no AWS credentials');
  });
});
