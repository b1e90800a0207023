/** Access keys of an IAM user, replaced through the SDK at the server of test/vendors/aws, which allows two as IAM does. */

import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openNetwork } from '../../../../adapters/network.ts';
import { openAwsStsProvider } from '../../../../adapters/providers/aws-sts.ts';
import { rotationConformance } from '../../../conformance/rotation.ts';
import { beginAttempt, type Fields, type RotatedAccount, rotationOf } from '../../../conformance/rotation-attempt.ts';
import type { Account } from '../../../vendors/aws/account.ts';
import { type AwsServer, startAws } from '../../../vendors/aws/server.ts';

/** What docs/providers/aws-sts.md gives a user whose own keys Warder replaces. */
const ownKeys = (arn: string) => ({
  Version: '2012-10-17',
  Statement: [
    { Effect: 'Allow', Action: ['iam:ListAccessKeys', 'iam:CreateAccessKey', 'iam:DeleteAccessKey'], Resource: arn },
  ],
});

const settingsOf = ({ url, account }: AwsServer) => ({
  role_arn: `arn:aws:iam::${account.id}:role/agents`,
  region: account.region,
  scopes: { read: { statements: [{ actions: ['kms:DescribeKey'], resources: ['*'] }] } },
  endpoints: { sts: url, iam: url },
  allow_private_network: true,
});

let made = 0;
const someUser = (account: Account, given?: string) => {
  made += 1;
  const name = given ?? `warder${made}`;
  const user = account.addUser(name, ownKeys(`arn:aws:iam::${account.id}:user/${name}`));
  // As if it had been there before.
  user.createdAt = Date.now() - 3_600_000;
  return user;
};

const secretOf = (user: { accessKeyId: string; secretAccessKey: string }): Fields => ({
  access_key_id: user.accessKeyId,
  secret_access_key: user.secretAccessKey,
});

const accepts = async (url: string, secret: Fields): Promise<boolean> => {
  const client = new STSClient({
    region: 'eu-west-1',
    endpoint: url,
    maxAttempts: 1,
    credentials: {
      accessKeyId: String(secret['access_key_id']),
      secretAccessKey: String(secret['secret_access_key']),
    },
  });
  try {
    await client.send(new GetCallerIdentityCommand({}));
    return true;
  } catch {
    return false;
  } finally {
    client.destroy();
  }
};

rotationConformance(
  'aws-sts, access keys',
  async () => {
    const aws = await startAws();
    const network = openNetwork();
    return {
      provider: openAwsStsProvider(network, 0),
      account: async (kind) => {
        made += 1;
        const user = someUser(aws.account, kind === 'hostile' ? `war+der=,.@-_${made}` : `warder${made}`);
        return {
          settings: settingsOf(aws),
          method: undefined,
          secret: secretOf(user),
          wrong: { ...secretOf(user), secret_access_key: 'x'.repeat(40) },
          accepts: (secret) => accepts(aws.url, secret),
          count: async () => aws.account.accessKeysOf(user).length,
        };
      },
      trouble: aws.trouble,
      close: async () => {
        await network.close();
        await aws.close();
      },
    };
  },
  { overlaps: true, publicFields: ['access_key_id'] },
);

describe('access keys of a user', () => {
  let aws: AwsServer;
  const network = openNetwork();
  const provider = openAwsStsProvider(network, 3_000);
  beforeAll(async () => {
    aws = await startAws();
  });
  afterAll(async () => {
    await network.close();
    await aws.close();
  });

  const begin = (secret: Fields, more: Partial<RotatedAccount> = {}) =>
    beginAttempt({
      provider,
      account: {
        settings: settingsOf(aws),
        method: {},
        secret,
        wrong: {},
        accepts: (one) => accepts(aws.url, one),
        ...more,
      },
      current: secret,
      spoken: () => undefined,
    });

  test('a key that AWS knows only some moments later is waited for', async () => {
    aws.account.keyLagMs = 600;
    const attempt = begin(secretOf(someUser(aws.account)));
    const next = await attempt.create();
    expect(await accepts(aws.url, next)).toBe(false);
    await attempt.test();
    expect(await accepts(aws.url, next)).toBe(true);
    aws.account.keyLagMs = 0;
  });

  test('in doubt for want of time, a new key is not called wrong', async () => {
    aws.account.keyLagMs = 60_000;
    const attempt = begin(secretOf(someUser(aws.account)));
    await attempt.create();
    await expect(attempt.test(undefined, AbortSignal.timeout(300))).rejects.toMatchObject({ kind: 'timeout' });
    aws.account.keyLagMs = 0;
  });

  test('a second key that somebody else made is not touched: it is said', async () => {
    const user = someUser(aws.account);
    const other = aws.account.addAccessKey(user);
    const attempt = begin(secretOf(user));
    await expect(attempt.create()).rejects.toMatchObject({
      kind: 'refused',
      message: expect.stringContaining('two access keys already'),
    });
    await attempt.undo(true);
    expect(aws.account.accessKeysOf(user).map(({ id }) => id)).toEqual([user.accessKeyId, other.id]);
  });

  test('when AWS refuses to make one, what is new there is not taken for Warder’s', async () => {
    const user = someUser(aws.account);
    user.policies = [];
    const attempt = begin(secretOf(user));
    await expect(attempt.create()).rejects.toMatchObject({ kind: 'refused' });
    user.policies = someUser(aws.account, user.name).policies;
    const other = aws.account.addAccessKey(user);
    await attempt.undo(true);
    expect(aws.account.accessKeysOf(user).map(({ id }) => id)).toContain(other.id);
  });

  test('a key that somebody makes by hand while a known one is taken back, stays', async () => {
    const user = someUser(aws.account);
    const attempt = begin(secretOf(user));
    await attempt.create();
    await attempt.undo();
    const other = aws.account.addAccessKey(user);
    await attempt.undo();
    expect(aws.account.accessKeysOf(user).map(({ id }) => id)).toEqual([user.accessKeyId, other.id]);
  });

  test('keys that are no user’s, or this machine’s, cannot be rotated, and it is said why', async () => {
    const user = someUser(aws.account);
    const session = begin({ ...secretOf(user), session_token: 't'.repeat(40) });
    await expect(session.create()).rejects.toMatchObject({ message: expect.stringContaining('of a session') });
    const ambient = { ...settingsOf(aws), credentials: 'ambient', endpoints: {}, allow_private_network: false };
    const settings = provider.checkSettings(ambient);
    if (!settings.ok) throw new Error(settings.problems.join());
    expect(rotationOf(provider).checkMethod(undefined, settings.value)).toMatchObject({ ok: false });
  });

  test('the key in force is never retired, whatever it is called', async () => {
    const user = someUser(aws.account);
    const attempt = begin(secretOf(user));
    await attempt.retire(secretOf(user));
    expect(await accepts(aws.url, secretOf(user))).toBe(true);
  });
});
