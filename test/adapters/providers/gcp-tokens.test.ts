/** What `gcp-service-account` asks Google for, what it takes for a key, and what it never lets out. */
import { generateKeyPairSync } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { IdentityPoolClient, Impersonated, JWT } from 'google-auth-library';
import { createLocalJWKSet, createRemoteJWKSet, exportJWK, SignJWT } from 'jose';
import { openNetwork } from '../../../adapters/network.ts';
import { combined, parsed } from '../../../adapters/providers/gcp-service-account/settings.ts';
import { openGcpServiceAccountProvider } from '../../../adapters/providers/gcp-service-account.ts';
import { Refused } from '../../../src/domain/refusals.ts';
import { type Answer, type Broker, removeTemporaryDirs, startBroker } from '../../support/broker.ts';
import {
  createObject,
  devstorage,
  keyFileOf,
  readObject,
  source,
  startTestGcp,
  type TestGcp,
  target,
} from '../../vendors/gcp/rig.ts';

const network = openNetwork();
const provider = openGcpServiceAccountProvider(network);
let gcp: TestGcp;
let broker: Broker;
let token: string;

const audience = '//iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/agents/providers/warder';
const principalPrefix =
  'principal://iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/agents/subject/';

const bucketRule = (role: string, more: object = {}, bucket = 'reports') => ({
  available_resource: `//storage.googleapis.com/projects/_/buckets/${bucket}`,
  available_permissions: [`inRole:roles/storage.${role}`],
  ...more,
});
const daily = {
  expression: "resource.name.startsWith('projects/_/buckets/reports/objects/daily/')",
  title: 'only the daily reports',
};
const scopes = {
  read: { oauth_scopes: [`${devstorage}read_only`] },
  write: { oauth_scopes: [`${devstorage}read_write`] },
  'daily:read': {
    oauth_scopes: [`${devstorage}read_write`],
    access_boundary: [bucketRule('objectViewer', { availability_condition: daily })],
  },
  'reports:create': { oauth_scopes: [`${devstorage}read_write`], access_boundary: [bucketRule('objectCreator')] },
  'payroll:read': {
    oauth_scopes: [`${devstorage}read_only`],
    access_boundary: [bucketRule('objectViewer', {}, 'payroll')],
  },
  strange: {
    oauth_scopes: [`${devstorage}read_only`],
    access_boundary: [bucketRule('objectViewer', { availability_condition: { expression: 'true || false' } })],
  },
};
const settingsFor = (more: object = {}) => ({ ...gcp.settings, scopes, ...more });

beforeAll(async () => {
  gcp = await startTestGcp();
  broker = await startBroker();
  const agent = await broker.agent('analyst');
  const register = async (name: string, more: object, secret: object | undefined) => {
    const made = await broker.admin('POST', '/connections', {
      name,
      provider: 'gcp-service-account',
      settings: settingsFor(more),
      ...(secret ? { secret } : {}),
    });
    expect([made.status, made.text]).toEqual([201, expect.any(String)]);
    await broker.entitle('analyst', name, Object.keys(scopes), { max_ttl_seconds: 50_000 });
  };
  await register('gcs', {}, { key_json: gcp.keyJson });
  await register('keyless', { workload_identity: { audience } }, undefined);
  await register('bare', {}, undefined);
  gcp.state.pool = {
    audience,
    principalPrefix,
    issuer: broker.url,
    keys: createRemoteJWKSet(new URL(`${broker.url}/jwks`)),
  };
  gcp.state.accounts.get(target)?.tokenCreators.add(`${principalPrefix}connection:keyless`);
  token = await broker.agentToken(agent);
});
afterEach(() => {
  gcp.state.intercept = undefined;
  gcp.state.clockOffsetMs = 0;
  const account = gcp.state.accounts.get(target);
  if (account) account.extended = false;
});
afterAll(async () => {
  await broker.close();
  await gcp.close();
  await network.close();
  removeTemporaryDirs();
});

const ask = (asked: string[], more: object = {}, connection = 'gcs'): Promise<Answer> =>
  broker.grant(token, { connection, scopes: asked, ...more });
const bearerOf = ({ body }: Answer): string => String((body['credential'] as { token: string }).token);
const newestGrant = async () =>
  ((await broker.admin('GET', '/grants?limit=1')).body['items'] as Record<string, unknown>[])[0];

describe('a token', () => {
  test('is the impersonated account’s, and ends with its grant', async () => {
    const answer = await ask(['read'], { ttl_seconds: 300 });
    const grant = answer.body['grant'] as { expires_at: string };
    const held = gcp.state.tokens.get(bearerOf(answer));
    expect(held).toMatchObject({ principal: target, kind: 'impersonated', scopes: [`${devstorage}read_only`] });
    const early = Date.parse(grant.expires_at) - (held?.expiresAt ?? 0);
    expect(early).toBeGreaterThanOrEqual(0);
    expect(early).toBeLessThan(2_000);
    expect(answer.body['credential']).toMatchObject({ type: 'bearer', service_account: target });
  });

  test('inside a boundary reads what its condition names, and nothing else', async () => {
    const bearer = bearerOf(await ask(['daily:read']));
    expect(await readObject(gcp, bearer, 'daily/one.csv')).toBe(200);
    expect(await readObject(gcp, bearer, 'private/two.csv')).toBe(403);
    expect(await readObject(gcp, bearer, 'daily/one.csv', 'payroll')).toBe(403);
    expect(await createObject(gcp, bearer)).toBe(403);
  });

  test('comes without any key where Warder is a workload that Google trusts', async () => {
    const answer = await ask(['read'], {}, 'keyless');
    expect([answer.status, answer.text]).toEqual([201, expect.any(String)]);
    expect(await readObject(gcp, bearerOf(answer))).toBe(200);
    const sources = [...gcp.state.tokens.values()].filter(({ principal }) => principal.startsWith('principal:'));
    expect(sources.at(-1)).toMatchObject({ principal: `${principalPrefix}connection:keyless` });
  });

  test('asks Google for no more than the right to impersonate', async () => {
    await ask(['read']);
    const sources = [...gcp.state.tokens.values()].filter(({ kind }) => kind === 'source');
    expect(new Set(sources.flatMap((one) => one.scopes))).toEqual(new Set(['https://www.googleapis.com/auth/iam']));
  });

  test('may live for twelve hours where the organisation allows it, for one where not, and never longer', async () => {
    expect((await ask(['read'], { ttl_seconds: 7_200 })).body['code']).toBe('upstream_refused');
    const account = gcp.state.accounts.get(target);
    if (account) account.extended = true;
    expect((await ask(['read'], { ttl_seconds: 7_200 })).status).toBe(201);
    expect((await ask(['read'], { ttl_seconds: 43_201 })).body['code']).toBe('ttl_too_long');
  });

  test('needs a key or a workload identity', async () => {
    const answer = await ask(['read'], {}, 'bare');
    expect([answer.status, answer.body['code']]).toEqual([502, 'upstream_refused']);
    expect(await newestGrant()).toMatchObject({ status: 'aborted', upstream: 'gone' });
  });
});

describe('several scopes', () => {
  test('within one set of OAuth scopes have the rules of all', async () => {
    const bearer = bearerOf(await ask(['daily:read', 'reports:create']));
    expect(await readObject(gcp, bearer, 'daily/one.csv')).toBe(200);
    expect(await readObject(gcp, bearer, 'private/two.csv')).toBe(403);
    expect(await createObject(gcp, bearer)).toBe(200);
  });

  test('that could do more together than one by one are refused', async () => {
    for (const asked of [
      ['daily:read', 'payroll:read'],
      ['read', 'payroll:read'],
      ['write', 'daily:read'],
    ]) {
      const answer = await ask(asked);
      expect([answer.status, answer.body['code']]).toEqual([403, 'scope_not_allowed']);
    }
  });

  test('whatever they are: what the one token may do, one of them allows by itself', () => {
    const oauth = fc.constantFrom(...['read_only', 'read_write', 'full_control'].map((name) => `${devstorage}${name}`));
    const rule = fc
      .tuple(fc.constantFrom('objectViewer', 'objectCreator', 'objectUser'), fc.constantFrom('reports', 'payroll'))
      .map(([role, bucket]) => bucketRule(role, {}, bucket));
    const one = fc.record(
      {
        oauth_scopes: fc.array(oauth, { minLength: 1, maxLength: 2 }),
        access_boundary: fc.array(rule, { minLength: 1, maxLength: 3 }),
      },
      { requiredKeys: ['oauth_scopes'] },
    );
    fc.assert(
      fc.property(fc.array(one, { minLength: 1, maxLength: 3 }), (given) => {
        const named = Object.fromEntries(given.map((value, index) => [`s${index}`, value]));
        let asked: ReturnType<typeof combined>;
        try {
          asked = combined(parsed(settingsFor({ scopes: named })), Object.keys(named));
        } catch (error) {
          expect(error).toBeInstanceOf(Refused);
          return;
        }
        const spelled = (value: unknown) => JSON.stringify(value);
        for (const scope of asked.oauthScopes) {
          for (const boundary of asked.boundary ?? [null]) {
            const allowed = given.some(
              ({ oauth_scopes: scopesOf, access_boundary: rules }) =>
                scopesOf.includes(scope) &&
                (boundary === null ? rules === undefined : rules?.some((one) => spelled(one) === spelled(boundary))),
            );
            expect(allowed).toBe(true);
          }
        }
      }),
    );
  });
});

describe('what Google refuses', () => {
  const cases: [string, () => void, string[], string, RegExp][] = [
    ['an unknown condition of a boundary', () => undefined, ['strange'], 'upstream_refused', /access boundary/],
    [
      'a key that was deleted',
      () => {
        gcp.state.intercept = (route) =>
          route === 'POST /token'
            ? { status: 400, body: { error: 'invalid_grant', error_description: 'Invalid JWT Signature.' } }
            : undefined;
      },
      ['read'],
      'upstream_refused',
      /service account’s key$/,
    ],
    [
      'clocks that differ',
      () => {
        gcp.state.clockOffsetMs = 7_200_000;
      },
      ['read'],
      'upstream_refused',
      /clocks/,
    ],
    [
      'used up quota',
      () => {
        gcp.state.intercept = () => ({ status: 429, body: {} });
      },
      ['read'],
      'upstream_unavailable',
      /quota/,
    ],
    [
      'a failure of its own',
      () => {
        gcp.state.intercept = () => ({ status: 503, body: {} });
      },
      ['read'],
      'upstream_unavailable',
      /failed/,
    ],
    [
      'a redirect',
      () => {
        gcp.state.intercept = () => ({ status: 307, headers: { Location: 'http://127.0.0.1:1/' } });
      },
      ['read'],
      'upstream_unavailable',
      /failed/,
    ],
  ];
  for (const [what, arrange, asked, code, detail] of cases) {
    test(`${what} is told for what it is, without Google’s words`, async () => {
      arrange();
      const answer = await ask(asked);
      expect([answer.status, answer.body['code']]).toEqual([502, code]);
      expect(String(answer.body['detail'])).toMatch(detail);
      expect(answer.text).not.toMatch(/ya29|invalid_grant|Invalid|gserviceaccount/);
    });
  }

  test('a boundary, when the token it is for is made already: that one is told of until it ends', async () => {
    expect((await ask(['strange'])).body['code']).toBe('upstream_refused');
    expect(await newestGrant()).toMatchObject({
      status: 'aborted',
      upstream: 'live',
      upstream_ends_by: expect.stringContaining('T'),
    });
  });

  test('the right to impersonate, when it is taken away', async () => {
    const creators = gcp.state.accounts.get(target)?.tokenCreators;
    creators?.delete(source);
    const answer = await ask(['read']);
    creators?.add(source);
    expect([answer.body['code'], answer.body['detail']]).toEqual([
      'upstream_refused',
      'the source may not impersonate this service account',
    ]);
    expect(await newestGrant()).toMatchObject({ status: 'aborted', upstream: 'gone' });
  });
});

describe('a key', () => {
  const problems = (keyJson: unknown): string[] => {
    const checked = provider.checkSecret({ key_json: keyJson });
    return checked.ok ? [] : checked.problems;
  };
  const key = (more: object): string => JSON.stringify({ ...JSON.parse(gcp.keyJson), ...more });

  test('is taken as Google writes it, and only what is used of it is kept', () => {
    const checked = provider.checkSecret({ key_json: gcp.keyJson });
    expect(checked.ok).toBe(true);
    const kept = checked.ok ? JSON.parse(checked.value?.['key_json'] ?? '') : {};
    expect(Object.keys(kept).sort()).toEqual(
      ['client_email', 'private_key', 'private_key_id', 'token_uri', 'type', 'universe_domain'].sort(),
    );
  });

  test('that says where its proof is to be sent is refused, unless that is Google', () => {
    for (const uri of [
      'https://evil.example/token',
      'https://oauth2.googleapis.com.evil.example/token',
      'https://oauth2.googleapis.com/token?x=',
      'http://oauth2.googleapis.com/token',
      'https://oauth2.googleapis.com@evil.example/token',
      'http://169.254.169.254/computeMetadata/v1/',
      'file:///etc/passwd',
    ]) {
      expect(problems(key({ token_uri: uri })).join()).toContain('token_uri');
    }
    expect(problems(key({ universe_domain: 'evil.example' })).join()).toContain('universe_domain');
  });

  test.each<[string, object]>([
    ['external_account with a program to run', { credential_source: { executable: { command: '/bin/sh -c id' } } }],
    ['external_account with a file to read', { credential_source: { file: '/etc/shadow' } }],
    ['external_account with an address to ask', { credential_source: { url: 'http://169.254.169.254/' } }],
    ['impersonated_service_account', { service_account_impersonation_url: 'https://evil.example' }],
    ['authorized_user', { refresh_token: '1//x', client_secret: 'x' }],
    ['external_account_authorized_user', { token_url: 'https://evil.example' }],
    ['gdch_service_account', { ca_cert_path: '/etc/passwd' }],
  ])('of another kind is refused: %s', (what, more) => {
    const type = what.split(' ')[0] ?? '';
    const said = problems(JSON.stringify({ ...JSON.parse(gcp.keyJson), type, ...more }));
    expect(said.join()).toContain('only the key of a service account');
  });

  test('that is none is refused, and never repeated', () => {
    const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'pkcs8', format: 'pem' });
    for (const bad of [
      'ya29.canary-canary-canary',
      '{"type":"service_account","private_key":"canary-canary-canary"}',
      '[]',
      'null',
      keyFileOf(ec.toString()),
      key({ client_email: 'canary@example.com' }),
      key({ client_email: 'x/../../canary@a.gserviceaccount.com' }),
      key({ private_key_id: 'canary"}' }),
      '',
    ]) {
      const said = problems(bad);
      expect(said).toHaveLength(1);
      expect(said.join()).not.toContain('canary');
    }
    expect(provider.checkSecret({}).ok).toBe(false);
    expect(provider.checkSecret({ key_json: gcp.keyJson, more: 1 }).ok).toBe(false);
  });

  test('and tokens are in no database, log, audit trail or error', async () => {
    const bearer = bearerOf(await ask(['daily:read']));
    await ask(['strange']);
    const stored = readdirSync(broker.dataDir)
      .map((name) => readFileSync(join(broker.dataDir, name), 'latin1'))
      .join('');
    const audit = (await broker.admin('GET', '/audit?limit=200')).text;
    const line = JSON.parse(gcp.keyJson).private_key.split('\n')[3];
    for (const place of [stored, broker.log(), audit]) {
      expect(place).not.toContain(line);
      for (const text of gcp.state.tokens.keys()) expect(place).not.toContain(text);
      expect(place).not.toContain(bearer);
    }
  });
});

describe('settings', () => {
  const problems = (more: object): string[] => {
    const checked = provider.checkSettings({ target_service_account: target, scopes: { read: scopes.read }, ...more });
    return checked.ok ? [] : checked.problems;
  };
  const scope = (more: object) => ({ scopes: { read: { ...scopes['daily:read'], ...more } } });
  const rule = (more: object) => scope({ access_boundary: [{ ...bucketRule('objectViewer'), ...more }] });

  test('as an operator writes them are taken, with Google’s addresses', () => {
    expect(problems({})).toEqual([]);
    expect(problems({ delegates: [source], workload_identity: { audience } })).toEqual([]);
    expect(problems({ target_service_account: '123-compute@developer.gserviceaccount.com' })).toEqual([]);
    expect(problems({ target_service_account: '112233445566778899001' })).toEqual([]);
    expect(problems(scope({}))).toEqual([]);
    expect(problems({ iam_credentials_url: 'https://iamcredentials-vpc.p.googleapis.com' })).toEqual([]);
  });

  test.each<[string, object]>([
    ['no target', { target_service_account: undefined }],
    ['a target that is a person', { target_service_account: 'someone@example.com' }],
    ['a target that leaves its path', { target_service_account: 'x/../y@a.iam.gserviceaccount.com' }],
    ['a target with another method', { target_service_account: 'x@a.iam.gserviceaccount.com:signJwt' }],
    ['a target with a newline', { target_service_account: `${target}\n` }],
    ['a delegate that is a path', { delegates: ['projects/-/serviceAccounts/x'] }],
    ['an unknown field', { credential_source: { file: '/etc/passwd' } }],
    ['an audience elsewhere', { workload_identity: { audience: 'https://evil.example' } }],
    ['a token address in clear', { token_url: 'http://oauth2.googleapis.com/token' }],
    ['a token address that is private', { token_url: 'https://10.0.0.1/token' }],
    ['a metadata address', { sts_url: 'http://169.254.169.254/token', allow_private_network: true }],
    [
      'the name of the metadata server',
      { iam_credentials_url: 'http://metadata.google.internal', allow_private_network: true },
    ],
    ['a query in an address', { sts_url: 'https://sts.googleapis.com/v1/token?alt=' }],
    ['a file for an address', { sts_url: 'file:///etc/passwd' }],
    ['no scopes', { scopes: {} }],
    ['no OAuth scopes', scope({ oauth_scopes: [] })],
    ['an OAuth scope with a blank', scope({ oauth_scopes: ['https://www.googleapis.com/auth/a https://b/'] })],
    ['an OAuth scope that is none', scope({ oauth_scopes: ['cloud-platform'] })],
    ['an empty boundary', scope({ access_boundary: [] })],
    ['eleven rules', scope({ access_boundary: Array(11).fill(bucketRule('objectViewer')) })],
    ['a resource that is no bucket', rule({ available_resource: '//storage.googleapis.com/projects/_/buckets/*' })],
    ['a resource of another service', rule({ available_resource: '//bigquery.googleapis.com/projects/x' })],
    ['a permission instead of a role', rule({ available_permissions: ['storage.objects.get'] })],
    ['no roles', rule({ available_permissions: [] })],
    ['an empty condition', rule({ availability_condition: { expression: '' } })],
    ['a condition of two lines', rule({ availability_condition: { expression: 'a\nb' } })],
  ])('with %s are refused', (_what, more) => {
    expect(problems(more)).not.toEqual([]);
  });

  test('that lead to another host want the key anew', async () => {
    for (const field of ['token_url', 'iam_credentials_url', 'sts_url']) {
      const moved = await broker.admin('PATCH', '/connections/gcs', {
        settings: settingsFor({ [field]: 'https://evil.example/token' }),
      });
      expect([moved.status, moved.body['code']]).toEqual([409, 'conflict']);
    }
  });
});

describe('the Google of these tests', () => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });

  test('takes the vendor’s own library: a key’s token, impersonation, a workload', async () => {
    const atTest: typeof fetch = (input, init) =>
      fetch(String(input).replace('https://oauth2.googleapis.com', gcp.url), init);
    const key = JSON.parse(gcp.keyJson);
    const client = new JWT({
      email: key.client_email,
      key: key.private_key,
      scopes: ['https://www.googleapis.com/auth/cloud-platform'],
      transporterOptions: { fetchImplementation: atTest },
    });
    const warned: unknown[] = [];
    const { warn } = console;
    console.warn = (...words: unknown[]) => void warned.push(words);
    const impersonated = new Impersonated({
      sourceClient: client,
      targetPrincipal: target,
      targetScopes: [`${devstorage}read_only`],
      lifetime: 120,
      endpoint: gcp.url,
    });
    const { token: made } = await impersonated.getAccessToken();
    expect(await readObject(gcp, made)).toBe(200);
    expect(await createObject(gcp, made)).toBe(403);

    const { pool } = gcp.state;
    const jwk = { ...(await exportJWK(publicKey)), kid: 'k1', alg: 'ES256' };
    gcp.state.pool = pool && { ...pool, issuer: 'https://issuer.example', keys: createLocalJWKSet({ keys: [jwk] }) };
    const workload = new IdentityPoolClient({
      type: 'external_account',
      audience,
      subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
      token_url: `${gcp.url}/v1/token`,
      subject_token_supplier: {
        getSubjectToken: async () =>
          new SignJWT({})
            .setProtectedHeader({ alg: 'ES256', kid: 'k1' })
            .setIssuer('https://issuer.example')
            .setSubject('build-17')
            .setAudience(audience)
            .setIssuedAt()
            .setExpirationTime('1 minute')
            .sign(privateKey),
      },
    });
    const { token: federated } = await workload.getAccessToken();
    console.warn = warn;
    gcp.state.pool = pool;
    expect(gcp.state.tokens.get(String(federated))?.principal).toBe(`${principalPrefix}build-17`);
  });

  test('refuses assertions that Google refuses', async () => {
    const now = Math.floor(Date.now() / 1000);
    const key = JSON.parse(gcp.keyJson);
    const { createPrivateKey } = await import('node:crypto');
    const own = createPrivateKey(key.private_key);
    const sign = (claims: object, alg = 'RS256', with_ = own) =>
      new SignJWT({
        iss: source,
        aud: 'https://oauth2.googleapis.com/token',
        scope: 'https://www.googleapis.com/auth/iam',
        iat: now,
        exp: now + 60,
        ...claims,
      })
        .setProtectedHeader({ alg })
        .sign(with_);
    const present = async (assertion: string) => {
      const body = new URLSearchParams({ grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer', assertion });
      return (await fetch(`${gcp.url}/token`, { method: 'POST', body })).status;
    };
    expect(await present(await sign({}))).toBe(200);
    for (const bad of [
      await sign({ exp: now + 3700 }),
      await sign({ iat: now - 400, exp: now - 120 }),
      await sign({ iat: now + 300, exp: now + 400 }),
      await sign({ aud: gcp.url }),
      await sign({ iss: target }),
      await sign({ sub: 'boss@example.com' }),
      await sign({ scope: '' }),
      await sign({}, 'PS256'),
      await sign({}, 'RS256', generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey),
      'x.y.z',
    ]) {
      expect(await present(bad)).toBeGreaterThanOrEqual(400);
    }
  });
});
