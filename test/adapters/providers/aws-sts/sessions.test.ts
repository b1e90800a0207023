/** Sessions of a role as AWS has them: how long they work, what ends them and what does not, and who may do that. */
import { randomBytes } from 'node:crypto';
import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { type Network, openNetwork } from '../../../../adapters/network.ts';
import { openAwsStsProvider } from '../../../../adapters/providers/aws-sts.ts';
import { makeId } from '../../../../src/domain/ids.ts';
import type { Connection } from '../../../../src/domain/model.ts';
import { SecretText } from '../../../../src/domain/secret-text.ts';
import type { Handle, MintRequest, Provider, ProviderContext } from '../../../../src/ports/provider.ts';
import { ProviderFailure } from '../../../../src/ports/provider.ts';
import { eventually } from '../../../support/eventually.ts';
import { parsePolicy } from '../../../vendors/aws/policy.ts';
import { type AwsRig, externalId, kmsScopes, startAwsRig, useAws, warderPolicy } from '../aws-rig.ts';

let network: Network;
let rig: AwsRig;
let provider: Provider;

beforeAll(() => {
  network = openNetwork();
});
afterAll(() => network.close());
beforeEach(async () => {
  rig = await startAwsRig();
  provider = openAwsStsProvider(network);
});
afterEach(() => rig.aws.close());

const connectionOf = (more: object = {}, id = 'con_01arz3ndektsv4rrffq69g5fav'): Connection => {
  const checked = provider.checkSettings({ ...rig.settings, ...more });
  if (!checked.ok) throw new Error(checked.problems.join('\n'));
  return {
    id,
    name: 'aws',
    provider: 'aws-sts',
    owner: null,
    settings: checked.value,
    status: 'active',
    secret_version: 1,
    secret_source: null,
    version: 1,
    created_at: 0,
    updated_at: 0,
  };
};

interface Journal {
  handle?: Handle;
}

const contextOf = (journal: Journal = {}, keys: object = rig.secret): ProviderContext => ({
  now: () => Date.now(),
  signal: AbortSignal.timeout(9_000),
  secret: async () => ({
    version: 1,
    fields: Object.fromEntries(Object.entries(keys).map(([name, value]) => [name, new SecretText(String(value))])),
  }),
  journal: async (handle) => {
    journal.handle = handle;
  },
  kept: async () => undefined,
  replaceSecret: async () => undefined,
  authorization: { redeem: () => Promise.reject(new Error('not an OAuth connection')) },
  signJwt: () => Promise.reject(new Error('no JWTs here')),
});

const requestOf = (connection: Connection, more: Partial<MintRequest> = {}): MintRequest => ({
  grantId: makeId('grt', Date.now(), randomBytes(10)),
  agent: { id: 'agt_x', name: 'deployer' },
  connection,
  scopes: ['read'],
  subject: null,
  issuedAt: Date.now(),
  expiresAt: Date.now() + 60_000,
  ...more,
});

const issue = async (connection: Connection, more: Partial<MintRequest> = {}, context = contextOf()) => {
  const request = requestOf(connection, more);
  const plan = provider.plan(request);
  const { credential } = await provider.mint(request, plan, context);
  return {
    credential,
    revoke: (by = provider, using = contextOf(), row = connection) =>
      Promise.resolve(by.revoke({ id: request.grantId, handle: plan.handle }, row, using)),
    works: (scope: 'read' | 'write' = 'read') =>
      useAws(credential, scope, { keyArn: rig.key.arn, endpoint: rig.aws.url }),
  };
};

const failureOf = async (call: Promise<unknown>): Promise<ProviderFailure> => {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof ProviderFailure)) throw new Error(`not a failure of a provider: ${String(error)}`);
  const whole = inspect(error, { depth: 12, showHidden: true });
  for (const canary of [
    rig.secret.secret_access_key,
    rig.secret.access_key_id,
    rig.role.arn,
    externalId,
    'AWS4-HMAC',
  ]) {
    expect(whole).not.toContain(canary);
  }
  return error;
};

const policyNames = (): string[] => [...rig.role.inline.keys()].filter((name) => name !== 'permissions');

describe('a session', () => {
  test('ends with its grant, though AWS itself lets it live fifteen minutes', async () => {
    const { credential, works } = await issue(connectionOf(), { expiresAt: Date.now() + 2_500 });
    expect(await works()).toBe(true);
    const [session] = rig.aws.account.sessions.values();
    expect((session?.expiresAt ?? 0) - Date.now()).toBeGreaterThan(890_000);
    const end = Date.parse(String(credential['expires_at']));
    expect(end).toBeLessThanOrEqual(Date.now() + 2_500);
    await eventually('its end', works, (working) => !working, 4_000);
    expect(Date.now()).toBeGreaterThanOrEqual(end);
  });

  test('ends with its grant also where its scope is a managed policy', async () => {
    const arn = 'arn:aws:iam::111122223333:policy/describe';
    rig.aws.account.managed.set(arn, {
      Version: '2012-10-17',
      Statement: [{ Effect: 'Allow', Action: ['kms:DescribeKey'], Resource: ['*'] }],
    });
    const connection = connectionOf({ scopes: { read: { policy_arns: [arn] } } });
    const { works } = await issue(connection, { expiresAt: Date.now() + 2_500 });
    expect([await works('read'), await works('write')]).toEqual([true, false]);
    await eventually('its end', works, (working) => !working, 4_000);
  });

  test('is as long as its grant where that is longer than AWS’s least', async () => {
    await issue(connectionOf(), { expiresAt: Date.now() + 7_200_000 });
    const [session] = rig.aws.account.sessions.values();
    expect((session?.expiresAt ?? 0) - (session?.issuedAt ?? 0)).toBeGreaterThanOrEqual(7_199_000);
    expect((session?.expiresAt ?? 0) - (session?.issuedAt ?? 0)).toBeLessThanOrEqual(7_201_000);
  });

  test.each([-60_000, 60_000])(
    'is not issued where the clock of AWS is %d ms ahead: its end would not be its grant’s',
    async (ahead) => {
      rig.aws.account.clockAheadMs = ahead;
      const journal: Journal = {};
      const request = requestOf(connectionOf());
      const failure = await failureOf(provider.mint(request, provider.plan(request), contextOf(journal)));
      expect([failure.kind, failure.message]).toEqual(['refused', expect.stringContaining('clocks')]);
      // It was made: the planned handle is what undoes it.
      expect(journal.handle).toBeUndefined();
    },
  );

  test('has no more than its role has, whatever its scope says', async () => {
    rig.aws.account.putInline(
      rig.role,
      'permissions',
      '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:DescribeKey","Resource":"*"}}',
    );
    const { works } = await issue(connectionOf(), { scopes: ['read', 'write'] });
    expect([await works('read'), await works('write')]).toEqual([true, false]);
  });

  test('is named after its agent and its grant, and tagged where that is asked for', async () => {
    rig.user.policies.push({
      Version: '2012-10-17',
      Statement: [{ Effect: 'Allow', Action: ['sts:TagSession', 'sts:SetSourceIdentity'], Resource: [rig.role.arn] }],
    });
    const connection = connectionOf({ session_tags: true, source_identity: 'agent' });
    const grantId = makeId('grt', Date.now(), randomBytes(10));
    await issue(connection, { grantId, subject: 'ann@example.com' });
    const [session] = rig.aws.account.sessions.values();
    expect(session?.name).toMatch(new RegExp(`^warder\\.deployer\\.${grantId}\\.[0-9a-z]{6}$`));
    expect(session?.sourceIdentity).toBe('deployer');
    expect(session?.tags).toEqual({
      'warder:agent': 'deployer',
      'warder:grant': grantId,
      'warder:subject': 'ann@example.com',
    });
  });
});

describe('a refusal of AWS', () => {
  test('is told without what AWS said, and leaves nothing to undo', async () => {
    const connection = connectionOf({ external_id: 'another-id' });
    const journal: Journal = {};
    const request = requestOf(connection);
    const plan = provider.plan(request);
    const failure = await failureOf(provider.mint(request, plan, contextOf(journal)));
    expect([failure.kind, failure.message]).toEqual([
      'refused',
      'AWS does not allow Warder to do this: see the role’s trust policy and Warder’s own policy',
    ]);
    rig.aws.calls.splice(0);
    await provider.revoke({ id: request.grantId, handle: journal.handle ?? null }, connection, contextOf());
    expect(rig.aws.calls).toEqual([]);
  });

  test.each<[string, (keys: Record<string, string>) => object, string]>([
    [
      'an access key that is unknown',
      (keys) => ({ ...keys, access_key_id: 'AKIAIOSFODNN7EXAMPLE' }),
      'AWS does not know the access key',
    ],
    [
      'a secret that is not the key’s',
      (keys) => ({ ...keys, secret_access_key: 'x'.repeat(40) }),
      'AWS says that the secret access key is not the one of the access key',
    ],
  ])('of %s says so', async (_what, keys, message) => {
    const request = requestOf(connectionOf());
    const failure = await failureOf(provider.mint(request, provider.plan(request), contextOf({}, keys(rig.secret))));
    expect([failure.kind, failure.message]).toEqual(['refused', message]);
  });

  test('of a session that is longer than the role allows hints at that', async () => {
    rig.role.maxSessionSeconds = 3_600;
    const request = requestOf(connectionOf(), { expiresAt: Date.now() + 7_200_000 });
    const failure = await failureOf(provider.mint(request, provider.plan(request), contextOf()));
    expect([failure.kind, failure.message]).toEqual([
      'refused',
      expect.stringContaining('may not allow sessions this long'),
    ]);
  });

  test('nobody who listens is unavailable, an address that is not allowed is refused', async () => {
    const nowhere = { sts: 'http://127.0.0.1:1', iam: 'http://127.0.0.1:1' };
    const request = requestOf(connectionOf({ endpoints: nowhere }));
    expect((await failureOf(provider.mint(request, provider.plan(request), contextOf()))).kind).toBe('unavailable');
    const inside = openNetwork((_host, _options, done) => done(null, [{ address: '10.0.0.7', family: 4 }]));
    const { endpoints: _, allow_private_network: __, ...outside } = rig.settings;
    const checked = provider.checkSettings(outside);
    if (!checked.ok) throw new Error(checked.problems.join('\n'));
    const rebound = openAwsStsProvider(inside);
    const other = requestOf({ ...connectionOf(), settings: checked.value });
    const failure = await failureOf(rebound.mint(other, rebound.plan(other), contextOf()));
    await inside.close();
    expect([failure.kind, failure.message]).toEqual(['refused', 'the address of AWS is not one Warder may connect to']);
  });

  test('the environment of the process is not asked: neither for keys nor for addresses', async () => {
    const before = { ...process.env };
    Object.assign(process.env, {
      AWS_ACCESS_KEY_ID: rig.user.accessKeyId,
      AWS_SECRET_ACCESS_KEY: rig.user.secretAccessKey,
      AWS_ENDPOINT_URL: 'http://127.0.0.1:1',
      AWS_ENDPOINT_URL_STS: 'http://127.0.0.1:1',
      AWS_REGION: 'us-west-2',
    });
    try {
      expect(await (await issue(connectionOf())).works()).toBe(true);
      const request = requestOf(connectionOf());
      const failure = await failureOf(provider.mint(request, provider.plan(request), contextOf({}, {})));
      expect(failure.message).toBe('this connection has no access key yet');
    } finally {
      for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name];
      Object.assign(process.env, before);
    }
  });

  test('the machine’s identity is used where a connection says so, at AWS’s own address', async () => {
    const asked: string[] = [];
    const watching = openNetwork((host, _options, done) => {
      asked.push(host);
      done(null, [{ address: '10.0.0.7', family: 4 }]);
    });
    const before = { ...process.env };
    Object.assign(process.env, { AWS_ACCESS_KEY_ID: rig.user.accessKeyId, AWS_SECRET_ACCESS_KEY: 'x'.repeat(40) });
    try {
      const { endpoints: _, ...outside } = rig.settings;
      const checked = provider.checkSettings({ ...outside, credentials: 'ambient', allow_private_network: false });
      if (!checked.ok) throw new Error(checked.problems.join('\n'));
      const ambient = openAwsStsProvider(watching);
      const request = requestOf({ ...connectionOf(), settings: checked.value, secret_version: null });
      expect(ambient.checkRequest?.(request)).toEqual({ ok: true, value: {} });
      await failureOf(ambient.mint(request, ambient.plan(request), contextOf({}, {})));
      expect(new Set(asked)).toEqual(new Set(['sts.eu-west-1.amazonaws.com']));
    } finally {
      for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name];
      Object.assign(process.env, before);
      await watching.close();
    }
  });
});

describe('a revocation', () => {
  test('ends one session and leaves the others of the role alone', async () => {
    const connection = connectionOf();
    const [one, two] = [await issue(connection), await issue(connection)];
    await one.revoke();
    expect([await one.works(), await two.works()]).toEqual([false, true]);
    await one.revoke();
    await two.revoke();
    expect([await one.works(), await two.works()]).toEqual([false, false]);
    expect(policyNames()).toEqual([`warder-${connection.id}`]);
  });

  test('holds when IAM shows old policies for a while', async () => {
    const connection = connectionOf();
    const sessions = await Promise.all(Array.from({ length: 5 }, () => issue(connection)));
    rig.aws.account.iamLagMs = 300;
    for (const one of sessions) await one.revoke();
    rig.aws.account.iamLagMs = 0;
    expect(await Promise.all(sessions.map((one) => one.works()))).toEqual(Array(5).fill(false));
  }, 20_000);

  test('of many at once costs few calls', async () => {
    const connection = connectionOf();
    const sessions = await Promise.all(Array.from({ length: 30 }, () => issue(connection)));
    rig.aws.calls.splice(0);
    await Promise.all(sessions.map((one) => one.revoke()));
    expect(rig.aws.calls.filter((call) => call === 'iam:PutRolePolicy').length).toBeLessThanOrEqual(2);
    expect(await Promise.all(sessions.map((one) => one.works()))).toEqual(Array(30).fill(false));
  });

  test('of two connections over one role at once loses neither’s', async () => {
    const [a, b] = [connectionOf(), connectionOf({}, 'con_01arz3ndektsv4rrffq69g5fb0')];
    const sessions = await Promise.all([a, b, a, b, a, b].map((connection) => issue(connection)));
    await Promise.all(sessions.map((one) => one.revoke()));
    expect(await Promise.all(sessions.map((one) => one.works()))).toEqual(Array(6).fill(false));
    expect(policyNames()).toHaveLength(2);
  });

  test('by two replicas, one after the other, keeps what the other wrote', async () => {
    const connection = connectionOf();
    const sessions = await Promise.all(Array.from({ length: 6 }, () => issue(connection)));
    const replica = openAwsStsProvider(network);
    for (const [i, one] of sessions.entries()) await one.revoke(i % 2 === 0 ? provider : replica);
    expect(await Promise.all(sessions.map((one) => one.works()))).toEqual(Array(6).fill(false));
  });

  test('asks nothing of AWS for what is over', async () => {
    const one = await issue(connectionOf(), { expiresAt: Date.now() + 1_000 });
    await eventually('its end', one.works, (working) => !working, 3_000);
    rig.aws.calls.splice(0);
    const left = await one.revoke();
    expect(rig.aws.calls).toEqual([]);
    // AWS's clock may be behind ours by a few seconds.
    expect(left).toMatchObject({ endsBy: expect.any(Number) });
    expect((left?.endsBy ?? 0) - Date.now()).toBeLessThanOrEqual(10_000);
  });

  test('succeeds when the role is gone', async () => {
    // Of a role that is not there AWS knows no path.
    const withoutPath = `arn:aws:iam::${rig.aws.account.id}:role/${rig.role.name}`;
    rig.user.policies.push(parsePolicy(JSON.stringify(warderPolicy(withoutPath))));
    const one = await issue(connectionOf());
    rig.aws.account.roles.delete(rig.role.name);
    await expect(one.revoke()).resolves.toBeUndefined();
    expect(await one.works()).toBe(false);
  });

  test('never takes a role of the same name in another account for the session’s', async () => {
    const connection = connectionOf();
    const one = await issue(connection);
    const elsewhere = await startAwsRig();
    try {
      Object.assign(elsewhere.aws.account, { id: '444455556666' });
      const moved = connectionOf({ endpoints: { sts: elsewhere.aws.url, iam: elsewhere.aws.url } });
      const failure = await failureOf(one.revoke(provider, contextOf({}, elsewhere.secret), moved));
      expect([failure.kind, failure.message]).toEqual([
        'refused',
        expect.stringContaining('not of the role’s account'),
      ]);
      expect(elsewhere.aws.calls).toEqual(['sts:GetCallerIdentity']);
    } finally {
      await elsewhere.aws.close();
    }
    expect(await one.works()).toBe(true);
  });

  test('through a role of its own needs no right of the access key but to assume it', async () => {
    const { account } = rig.aws;
    const trust = (who: string) => ({
      Version: '2012-10-17',
      Statement: [{ Effect: 'Allow', Principal: { AWS: who }, Action: 'sts:AssumeRole' }],
    });
    const revoker = account.addRole('warder-revoker', trust(rig.user.arn), {
      Version: '2012-10-17',
      Statement: [{ Effect: 'Allow', Action: ['iam:GetRolePolicy', 'iam:PutRolePolicy'], Resource: rig.role.arn }],
    });
    rig.user.policies = [
      {
        Version: '2012-10-17',
        Statement: [{ Effect: 'Allow', Action: ['sts:AssumeRole'], Resource: [rig.role.arn, revoker.arn] }],
      },
    ];
    const one = await issue(connectionOf({ revocation_role_arn: revoker.arn }));
    await one.revoke();
    expect(await one.works()).toBe(false);
    // Without it the access key may not.
    const two = await issue(connectionOf());
    expect((await failureOf(two.revoke())).kind).toBe('refused');
  });

  test('says so when Warder may not write to the role, and the session lives on', async () => {
    rig.user.policies = [
      { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: ['sts:AssumeRole'], Resource: [rig.role.arn] }] },
    ];
    const one = await issue(connectionOf());
    const failure = await failureOf(one.revoke());
    expect([failure.kind, failure.message]).toEqual(['refused', expect.stringContaining('Warder’s own policy')]);
    expect(await one.works()).toBe(true);
  });

  test('finds room beside large policies of the role’s own', async () => {
    const filler = Array.from({ length: 85 }, (_, i) => `arn:aws:s3:::${'x'.repeat(80)}${i}`);
    const statement = { Effect: 'Allow', Action: 's3:GetObject', Resource: filler };
    rig.aws.account.putInline(rig.role, 'more', JSON.stringify({ Version: '2012-10-17', Statement: [statement] }));
    const old = Date.now() - 600_000;
    const connection = connectionOf();
    const sessions = await Promise.all(
      Array.from({ length: 80 }, (_, i) => issue(connection, { grantId: makeId('grt', old + i, randomBytes(10)) })),
    );
    for (const session of rig.aws.account.sessions.values()) session.issuedAt = old;
    await Promise.all(sessions.map((one) => one.revoke()));
    expect(await Promise.all(sessions.map((one) => one.works()))).toEqual(Array(80).fill(false));
    const later = await issue(connection);
    expect(await later.works()).toBe(true);
    await later.revoke();
    expect(await later.works()).toBe(false);
  }, 30_000);

  test('needs no more rights than the documentation says', () => {
    expect(warderPolicy(rig.role.arn).Statement.flatMap(({ Action }) => Action)).toEqual([
      'sts:AssumeRole',
      'iam:GetRolePolicy',
      'iam:PutRolePolicy',
    ]);
    expect(Object.keys(kmsScopes(rig.key.arn))).toEqual(['read', 'write']);
  });
});
