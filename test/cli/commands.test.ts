import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { type run, runOn, type Sent } from './harness.ts';

const folder = mkdtempSync(join(tmpdir(), 'warder-cli-'));
const file = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};

/** What a command sends to a broker that says yes to everything. */
const sends = async (args: readonly string[], options: Parameters<typeof run>[1] = {}): Promise<Sent> => {
  const yes = { body: { items: [], next_cursor: null } };
  const routes = new Proxy<Record<string, typeof yes>>({}, { get: () => yes });
  const { sent, code, err } = await runOn(routes, args, options);
  if (code !== 0) throw new Error(`exit ${code}: ${err}`);
  const [first] = sent;
  if (!first) throw new Error('nothing was sent');
  return first;
};

const env = { STRIPE_KEY: 'sk_live_1' };
const jwk = { kty: 'OKP', crv: 'Ed25519', x: 'AAAA' };
const now = () => Date.parse('2026-11-22T12:00:00.000Z');

describe('what commands send', () => {
  test.each<[string[], string, unknown?]>([
    [
      ['agent', 'add', 'a', '--owner', 'o'],
      'POST agents',
      { name: 'a', owner: 'o', auth: { method: 'client_secret_basic' } },
    ],
    [
      ['agent', 'create', 'a', '--owner', 'o', '--purpose', 'p', '--auth', 'client_secret_post'],
      'POST agents',
      { name: 'a', owner: 'o', purpose: 'p', auth: { method: 'client_secret_post' } },
    ],
    [
      ['agent', 'add', 'a', '--owner', 'o', '--jwks-uri', 'https://x/jwks', '--algorithm', 'ES256,Ed25519'],
      'POST agents',
      {
        name: 'a',
        owner: 'o',
        auth: { method: 'private_key_jwt', jwks_uri: 'https://x/jwks', algorithms: ['ES256', 'Ed25519'] },
      },
    ],
    [
      ['agent', 'add', 'a', '--owner', 'o', '--jwks', file('jwks.json', JSON.stringify({ keys: [jwk] }))],
      'POST agents',
      { name: 'a', owner: 'o', auth: { method: 'private_key_jwt', jwks: { keys: [jwk] } } },
    ],
    [
      [
        ...['agent', 'add', 'deployer', '--owner', 'o', '--workload', 'github', '--dpop', 'required'],
        ...[
          '--claim',
          'sub=repo:acme/app:ref:refs/heads/main',
          '--claim',
          'environment=a',
          '--claim',
          'environment=b=c',
        ],
      ],
      'POST agents',
      {
        name: 'deployer',
        owner: 'o',
        auth: {
          method: 'workload',
          issuer: 'github',
          claims: { sub: 'repo:acme/app:ref:refs/heads/main', environment: ['a', 'b=c'] },
        },
        dpop: 'required',
      },
    ],
    [['agent', 'update', 'a', '--dpop', 'optional'], 'PATCH agents/a', { dpop: 'optional' }],
    [['issuer', 'list'], 'GET issuers'],
    [['issuer', 'show', 'github'], 'GET issuers/github'],
    [
      ['issuer', 'add', 'github', '--issuer', 'https://token.actions.githubusercontent.com', '--use', 'workload'],
      'POST issuers',
      { name: 'github', issuer: 'https://token.actions.githubusercontent.com', uses: ['workload'] },
    ],
    [
      [
        ...['issuer', 'add', 'cluster', '--issuer', 'https://kubernetes.default.svc', '--use', 'workload,subject'],
        ...['--jwks', file('issuer.json', JSON.stringify({ keys: [jwk] })), '--audience', 'https://warder'],
        ...['--algorithm', 'RS256', '--claim', '/kubernetes.io/namespace=agents', '--max-age', '10m', '--reusable'],
        ...['--subject-claim', 'email', '--allow-private-network'],
      ],
      'POST issuers',
      {
        name: 'cluster',
        issuer: 'https://kubernetes.default.svc',
        jwks: { keys: [jwk] },
        allow_private_network: true,
        audiences: ['https://warder'],
        algorithms: ['RS256'],
        uses: ['workload', 'subject'],
        subject_claim: 'email',
        claims: { '/kubernetes.io/namespace': 'agents' },
        max_token_age_seconds: 600,
        single_use: false,
      },
    ],
    [['issuer', 'update', 'x', '--jwks-uri', 'https://x/keys'], 'PATCH issuers/x', { jwks_uri: 'https://x/keys' }],
    [['issuer', 'update', 'x', '--discovery', '--single-use'], 'PATCH issuers/x', { jwks_uri: null, single_use: true }],
    [['issuer', 'update', 'x', '--no-allow-private-network'], 'PATCH issuers/x', { allow_private_network: false }],
    [['issuer', 'suspend', 'x'], 'PATCH issuers/x', { status: 'suspended' }],
    [['issuer', 'resume', 'x'], 'PATCH issuers/x', { status: 'active' }],
    [['issuer', 'remove', 'x'], 'DELETE issuers/x'],
    [
      ['entitlement', 'update', 'ent_1', '--on-behalf-of', 'corp:*@example.com', '--on-behalf-of', 'corp:a,b'],
      'PATCH entitlements/ent_1',
      { on_behalf_of: ['corp:*@example.com', 'corp:a,b'] },
    ],
    [
      ['entitlement', 'update', 'ent_1', '--on-behalf-of', 'nobody'],
      'PATCH entitlements/ent_1',
      { on_behalf_of: null },
    ],
    [['agent', 'show', 'a'], 'GET agents/a'],
    [['agent', 'show', 'a/../b?c#d'], 'GET agents/a%2F..%2Fb%3Fc%23d'],
    [['agent', 'update', 'a', '--owner', 'o'], 'PATCH agents/a', { owner: 'o' }],
    [['agent', 'suspend', 'a'], 'PATCH agents/a', { status: 'suspended' }],
    [['agent', 'resume', 'a'], 'PATCH agents/a', { status: 'active' }],
    [['agent', 'remove', 'a'], 'DELETE agents/a'],
    [['agent', 'rotate-secret', 'a'], 'POST agents/a/secret'],
    [
      [
        ...['connection', 'add', 'stripe', '--base-url', 'https://api.stripe.com', '--header', 'X-Key'],
        ...['--scope', 'read=GET /v1/**', '--allow-private-network', '--secret', 'env:STRIPE_KEY'],
      ],
      'POST connections',
      {
        name: 'stripe',
        provider: 'api-key',
        settings: {
          base_url: 'https://api.stripe.com',
          inject: { header: 'X-Key' },
          scopes: { read: [{ methods: ['GET'], path: '/v1/**' }] },
          allow_private_network: true,
        },
        secret: { value: 'sk_live_1' },
      },
    ],
    [
      [
        'connection',
        'add',
        'jwt',
        '--provider',
        'internal-jwt',
        '--settings',
        file('s.yaml', 'audience: a\nscopes: [read]\n'),
      ],
      'POST connections',
      { name: 'jwt', provider: 'internal-jwt', settings: { audience: 'a', scopes: ['read'] } },
    ],
    [['connection', 'update', 'c', '--owner', 'o'], 'PATCH connections/c', { owner: 'o' }],
    [
      ['connection', 'update', 'c', '--settings', file('s.json', '{"base_url":"https://x"}')],
      'PATCH connections/c',
      { settings: { base_url: 'https://x' } },
    ],
    [
      ['connection', 'set-secret', 'c', '--secret', 'env:STRIPE_KEY'],
      'PUT connections/c/secret',
      { value: 'sk_live_1' },
    ],
    [['connection', 'suspend', 'c'], 'PATCH connections/c', { status: 'suspended' }],
    [['connection', 'resume', 'c'], 'PATCH connections/c', { status: 'active' }],
    [['connection', 'remove', 'c'], 'DELETE connections/c'],
    [
      ['entitlement', 'add', '--agent', 'a', '--connection', 'c', '--scope', 'r', '--scope', 'w,x'],
      'POST entitlements',
      { agent: 'a', connection: 'c', scopes: ['r', 'w', 'x'] },
    ],
    [
      [
        ...['entitlement', 'add', '--agent', 'a', '--connection', 'c', '--scope', 'r', '--max-ttl', '15m'],
        ...['--expires', '2026-12-31', '--reason', 'why', '--hours', '08:00-18:00', '--budget', '100/1h'],
      ],
      'POST entitlements',
      {
        agent: 'a',
        connection: 'c',
        scopes: ['r'],
        max_ttl_seconds: 900,
        expires_at: '2026-12-31T00:00:00.000Z',
        reason: 'why',
        hours: { from: '08:00', to: '18:00' },
        budget: { grants: 100, per_seconds: 3600 },
      },
    ],
    [
      ['entitlement', 'update', 'ent_1', '--expires', 'never', '--hours', 'always', '--budget', 'none'],
      'PATCH entitlements/ent_1',
      { expires_at: null, hours: null, budget: null },
    ],
    [['entitlement', 'remove', 'ent_1'], 'DELETE entitlements/ent_1'],
    [
      ['operator', 'add', 'o', '--role', 'auditor', '--role', 'reviewer', '--expires', '30d'],
      'POST operators',
      { name: 'o', roles: ['auditor', 'reviewer'], expires_at: '2026-12-22T12:00:00.000Z' },
    ],
    [['operator', 'update', 'o', '--expires', 'never'], 'PATCH operators/o', { expires_at: null }],
    [['operator', 'suspend', 'o'], 'PATCH operators/o', { status: 'suspended' }],
    [['operator', 'rotate-token', 'o'], 'POST operators/o/token'],
    [['operator', 'remove', 'o'], 'DELETE operators/o'],
    [['grant', 'show', 'grt_1'], 'GET grants/grt_1'],
    [['revocation', 'list'], 'GET revocations'],
    [['revocation', 'show', 'rev_1'], 'GET revocations/rev_1'],
    [['key', 'list'], 'GET keys'],
    [['key', 'rotate'], 'POST keys/rotate'],
    [['key', 'rotate', '--signing'], 'POST keys/signing/rotate'],
    [
      ['key', 'migrate', '--to', 'aws-kms:alias/warder', '--dry-run'],
      'POST keys/migrate',
      { to: 'aws-kms:alias/warder', dry_run: true },
    ],
    // Rest parameters: Jest takes a parameter that a row does not fill for its own callback.
  ])('%j', async (...[args, call, body]) => {
    const sent = await sends(args, { env, context: { now } });
    expect({ call: `${sent.method} ${sent.path}`, body: sent.body }).toEqual({ call, body });
  });

  test('filters of lists become a query', async () => {
    const grants = await sends([
      'grant',
      'list',
      '--agent',
      'a',
      '--connection',
      'c',
      '--status',
      'active',
      '--from',
      '2026-11-20',
      '--to',
      '2026-11-21',
    ]);
    expect(grants.query).toEqual({
      agent: 'a',
      connection: 'c',
      status: 'active',
      from: '2026-11-20T00:00:00.000Z',
      to: '2026-11-22T00:00:00.000Z',
      limit: '100',
    });
    const entitlements = await sends(['entitlement', 'list', '--agent', 'a']);
    expect(entitlements.query).toEqual({ agent: 'a', limit: '100' });
  });

  test('one day of one agent is a query of its entries', async () => {
    const { query } = await sends(['audit', 'list', '--agent', 'reporter', '--on', '2026-11-21']);
    expect(query).toEqual({
      agent: 'reporter',
      from: '2026-11-21T00:00:00.000Z',
      to: '2026-11-22T00:00:00.000Z',
      limit: '100',
    });
  });

  test('a local day is one of this machine', async () => {
    const { query } = await sends(['audit', 'list', '--on', '2026-11-21', '--timezone', 'local']);
    expect(query['from']).toBe(new Date(2026, 10, 21).toISOString());
  });
});

describe('what is shown once', () => {
  test('a client secret can be copied as it stands', async () => {
    const agent = { name: 'a', id: 'agt_1', client_id: 'a', client_secret: 'wdr_cs_x' };
    const { out } = await runOn({ 'POST agents': { status: 201, body: agent } }, ['agent', 'add', 'a', '--owner', 'o']);
    expect(out.split('\n')).toEqual(expect.arrayContaining(['WARDER_CLIENT_ID=a', 'WARDER_CLIENT_SECRET=wdr_cs_x']));
  });

  test('an operator token can be copied as it stands', async () => {
    const operator = { name: 'o', roles: ['auditor'], token: 'wdr_op_x' };
    const routes = { 'POST operators': { status: 201, body: operator } };
    const { out } = await runOn(routes, ['operator', 'add', 'o', '--role', 'auditor']);
    expect(out.split('\n')).toContain('export WARDER_TOKEN=wdr_op_x');
  });
});

describe('what is refused here already', () => {
  test.each([
    [
      'a private key in a key set',
      ['agent', 'add', 'a', '--owner', 'o', '--jwks', file('p.json', JSON.stringify({ ...jwk, d: 'x' }))],
    ],
    ['a key set that is none', ['agent', 'add', 'a', '--owner', 'o', '--jwks', file('n.json', '{"keys":[1]}')]],
    ['a key set that is not there', ['agent', 'add', 'a', '--owner', 'o', '--jwks', join(folder, 'missing')]],
    ['private_key_jwt without keys', ['agent', 'add', 'a', '--owner', 'o', '--auth', 'private_key_jwt']],
    [
      'keys for a client secret',
      ['agent', 'add', 'a', '--owner', 'o', '--auth', 'client_secret_basic', '--jwks-uri', 'x'],
    ],
    ['settings given twice', ['connection', 'add', 'c', '--base-url', 'x', '--settings', file('t.yaml', 'a: b')]],
    ['settings that are a list', ['connection', 'add', 'c', '--provider', 'p', '--settings', file('l.yaml', '- a')]],
    ['settings that are not YAML', ['connection', 'add', 'c', '--provider', 'p', '--settings', file('b.yaml', 'a: [')]],
    ['one input for two things', ['connection', 'add', 'c', '--provider', 'p', '--settings', '-', '--secret', '-']],
  ])('%s', async (_what, args) => {
    const { code, sent } = await runOn({}, args);
    expect({ code, sent }).toEqual({ code: 2, sent: [] });
  });
});
