/** What an operator may write, and what is refused before AWS would refuse it. */
import { describe, expect, test } from '@jest/globals';
import { openNetwork } from '../../../../adapters/network.ts';
import { openAwsStsProvider } from '../../../../adapters/providers/aws-sts.ts';
import type { MintRequest } from '../../../../src/ports/provider.ts';

const provider = openAwsStsProvider(openNetwork());

const statement = { actions: ['s3:GetObject'], resources: ['arn:aws:s3:::reports/*'] };
const good = {
  role_arn: 'arn:aws:iam::111122223333:role/agents/deployer',
  region: 'eu-west-1',
  scopes: { read: { statements: [statement] } },
};
const problemsOf = (more: object): string[] => {
  const checked = provider.checkSettings({ ...good, ...more });
  return checked.ok ? [] : checked.problems;
};
const settingsOf = (more: object = {}): Record<string, unknown> => {
  const checked = provider.checkSettings({ ...good, ...more });
  if (!checked.ok) throw new Error(checked.problems.join('\n'));
  return checked.value;
};
const long = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ ...statement, resources: [`arn:aws:s3:::${'x'.repeat(100)}${i}`] }));

describe('settings', () => {
  test('are complete with a role, a region and scopes', () => {
    expect(settingsOf()).toMatchObject({
      credentials: 'secret',
      revocation: 'session-deny',
      session_name_prefix: 'warder',
      session_tags: false,
      allow_private_network: false,
      scopes: { read: { statements: [statement], policy_arns: [] } },
    });
  });

  test.each<[string, object, string]>([
    ['no role', { role_arn: 'arn:aws:iam::111122223333:user/x' }, 'role_arn'],
    ['a role of a short account', { role_arn: 'arn:aws:iam::1111:role/x' }, 'role_arn'],
    ['a line break in the role', { role_arn: 'arn:aws:iam::111122223333:role/x\ny' }, 'role_arn'],
    ['no region', { region: 'eu-west-1.evil.example' }, 'region'],
    ['a region of another partition', { region: 'cn-north-1' }, 'region'],
    ['a region of GovCloud for a commercial role', { region: 'us-gov-west-1' }, 'region'],
    ['an unknown partition without endpoints', { role_arn: 'arn:aws-iso:iam::111122223333:role/x' }, 'endpoints'],
    ['no scopes', { scopes: {} }, 'scopes'],
    ['an empty scope', { scopes: { read: {} } }, 'scopes.read'],
    ['a scope of the prototype', { scopes: JSON.parse('{"__proto__":{"statements":[]}}') }, 'scopes'],
    ['an action that is none', { scopes: { a: { statements: [{ ...statement, actions: ['s3'] }] } } }, 'scopes.a'],
    ['an action with a quote', { scopes: { a: { statements: [{ ...statement, actions: ['s3:"'] }] } } }, 'scopes.a'],
    ['a resource that is none', { scopes: { a: { statements: [{ ...statement, resources: ['b'] }] } } }, 'scopes.a'],
    ['an effect', { scopes: { a: { statements: [{ ...statement, effect: 'Deny' }] } } }, 'scopes.a'],
    [
      'a condition that is none',
      { scopes: { a: { statements: [{ ...statement, conditions: { x: {} } }] } } },
      'scopes.a',
    ],
    [
      'eleven managed policies',
      { scopes: { a: { policy_arns: Array(11).fill('arn:aws:iam::aws:policy/ReadOnlyAccess') } } },
      'scopes.a',
    ],
    ['a scope that is too large', { scopes: { a: { statements: long(20) } } }, 'scopes.a'],
    ['a prefix with a dot', { session_name_prefix: 'a.b' }, 'session_name_prefix'],
    ['a prefix with a wildcard', { session_name_prefix: '*' }, 'session_name_prefix'],
    ['a long prefix', { session_name_prefix: 'a'.repeat(13) }, 'session_name_prefix'],
    ['a private endpoint', { endpoints: { sts: 'https://10.0.0.1' } }, 'endpoints.sts'],
    ['an endpoint in clear', { endpoints: { iam: 'http://example.com' } }, 'endpoints.iam'],
    ['cloud metadata', { endpoints: { sts: 'http://169.254.169.254' }, allow_private_network: true }, 'endpoints.sts'],
    ['an endpoint with a path', { endpoints: { sts: 'https://example.com/x' } }, 'endpoints.sts'],
    ['an endpoint with credentials', { endpoints: { sts: 'https://u:p@example.com' } }, 'endpoints.sts'],
    [
      'the machine’s identity for an endpoint',
      { credentials: 'ambient', endpoints: { sts: 'https://example.com' } },
      'endpoints.sts',
    ],
    [
      'a revoker of another account',
      { revocation_role_arn: 'arn:aws:iam::999999999999:role/x' },
      'revocation_role_arn',
    ],
    [
      'a revoker that is not to revoke',
      { revocation: 'none', revocation_role_arn: good.role_arn },
      'revocation_role_arn',
    ],
    ['a word that is unknown', { rolearn: 'x' }, 'settings'],
  ])('refuse %s', (_what, more, field) => {
    const problems = problemsOf(more);
    expect(problems).not.toEqual([]);
    expect(problems.join('\n')).toContain(field);
  });

  test('say where the secret goes: another region or endpoint asks for it anew', () => {
    const destination = (more: object): string | undefined => provider.secretDestination?.(settingsOf(more));
    expect(destination({})).toBe('https://sts.eu-west-1.amazonaws.com https://iam.amazonaws.com');
    expect(destination({ region: 'us-east-2' })).toBe('https://sts.us-east-2.amazonaws.com https://iam.amazonaws.com');
    expect(destination({ role_arn: 'arn:aws-cn:iam::111122223333:role/x', region: 'cn-north-1' })).toBe(
      'https://sts.cn-north-1.amazonaws.com.cn https://iam.cn-north-1.amazonaws.com.cn',
    );
    expect(destination({ endpoints: { sts: 'https://vpce-1.sts.eu-west-1.vpce.amazonaws.com' } })).toBe(
      'https://vpce-1.sts.eu-west-1.vpce.amazonaws.com https://iam.amazonaws.com',
    );
  });
});

describe('the secret', () => {
  const key = { access_key_id: 'AKIAIOSFODNN7EXAMPLE', secret_access_key: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY' };

  test('is an access key, with a session token or without; none where the machine’s identity is used', () => {
    expect(provider.checkSecret(key)).toEqual({ ok: true, value: key });
    const withToken = { ...key, session_token: 'x'.repeat(40) };
    expect(provider.checkSecret(withToken)).toEqual({ ok: true, value: withToken });
    expect(provider.checkSecret(undefined)).toEqual({ ok: true, value: undefined });
  });

  test.each([
    ['a key id with a slash', { ...key, access_key_id: 'AKIA/IOSFODNN7EXAMPLE' }],
    ['a line break', { ...key, secret_access_key: `${key.secret_access_key}\n` }],
    ['half of it', { access_key_id: key.access_key_id }],
    ['something more', { ...key, more: 'x' }],
  ])('is refused with %s, without being shown', (_what, secret) => {
    const checked = provider.checkSecret(secret);
    expect(checked.ok).toBe(false);
    expect(JSON.stringify(checked)).not.toContain('wJalr');
  });
});

describe('a request', () => {
  const ask = (settings: Record<string, unknown>, more: Partial<MintRequest> = {}) => {
    const request: MintRequest = {
      grantId: 'grt_01arz3ndektsv4rrffq69g5fav',
      agent: { id: 'agt_x', name: 'deployer' },
      connection: {
        id: 'con_x',
        name: 'aws',
        provider: 'aws-sts',
        owner: null,
        settings,
        status: 'active',
        secret_version: 1,
        secret_source: null,
        version: 1,
        created_at: 0,
        updated_at: 0,
      },
      scopes: ['read'],
      subject: null,
      issuedAt: 0,
      expiresAt: 60_000,
      ...more,
    };
    const checked = provider.checkRequest?.(request);
    return checked?.ok === false ? checked.problems.join('\n') : 'fine';
  };

  test('for scopes that fit together is fine', () => {
    expect(ask(settingsOf())).toBe('fine');
  });

  test('is refused before anything is made when the scopes are too large together, with the sizes', () => {
    const settings = settingsOf({ scopes: { a: { statements: long(9) }, b: { statements: long(16).slice(9) } } });
    expect(ask(settings, { scopes: ['a'] })).toBe('fine');
    expect(ask(settings, { scopes: ['a', 'b'] })).toMatch(
      /^scopes: these scopes together make a session policy of \d+ characters; AWS takes 2048$/,
    );
  });

  test('is refused when the scopes name more managed policies than AWS takes', () => {
    const arns = (from: number) => Array.from({ length: 6 }, (_, i) => `arn:aws:iam::aws:policy/P${from + i}`);
    const settings = settingsOf({ scopes: { a: { policy_arns: arns(0) }, b: { policy_arns: arns(6) } } });
    expect(ask(settings, { scopes: ['a', 'b'] })).toBe(
      'scopes: these scopes together name 12 managed policies; AWS takes 10',
    );
  });

  test('is refused for longer than AWS lets any session live', () => {
    expect(ask(settingsOf(), { expiresAt: 43_200_000 })).toBe('fine');
    expect(ask(settingsOf(), { expiresAt: 43_201_000 })).toContain('at most 43200 seconds');
  });

  test('is refused while there is no access key', () => {
    const connection = { secret_version: null } as MintRequest['connection'];
    const settings = settingsOf();
    expect(ask(settings, { connection: { ...connection, settings } })).toContain('no access key yet');
    const ambient = settingsOf({ credentials: 'ambient' });
    expect(ask(ambient, { connection: { ...connection, settings: ambient } })).toBe('fine');
  });

  test('is refused for a subject that AWS could not record as it is', () => {
    const asSource = settingsOf({ source_identity: 'subject' });
    expect(ask(asSource, { subject: 'ann@example.com' })).toBe('fine');
    expect(ask(asSource, { subject: 'Ann Smith' })).toContain('source identity');
    expect(ask(asSource)).toContain('source identity');
    const asTag = settingsOf({ session_tags: true });
    expect(ask(asTag, { subject: 'Ann Smith' })).toBe('fine');
    expect(ask(asTag, { subject: 'ann|smith' })).toContain('session tag');
  });
});
