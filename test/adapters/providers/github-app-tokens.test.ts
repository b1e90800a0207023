/** What `github-app` asks GitHub for, what it does with the answer, and what it never lets out. */
import { generateKeyPairSync } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { createAppAuth } from '@octokit/auth-app';
import { request } from '@octokit/request';
import Database from 'better-sqlite3';
import fc from 'fast-check';
import { SignJWT } from 'jose';
import { openNetwork } from '../../../adapters/network.ts';
import { combined, includes, type Level, parsed } from '../../../adapters/providers/github-app/settings.ts';
import { openGithubAppProvider } from '../../../adapters/providers/github-app.ts';
import { Refused } from '../../../src/domain/refusals.ts';
import { type Answer, type Broker, removeTemporaryDirs, startBroker, temporaryDir } from '../../support/broker.ts';
import { eventually } from '../../support/eventually.ts';
import { readsFile, startTestGitHub, useToken, writesFile } from '../../vendors/github/rig.ts';

type GitHub = Awaited<ReturnType<typeof startTestGitHub>>;

const network = openNetwork();
const provider = openGithubAppProvider(network);
let github: GitHub;
let broker: Broker;
let token: string;

const site = ['acme/site'];
const settingsFor = (more: object = {}) => ({
  app_id: github.appId,
  installation_id: github.installationId,
  base_url: github.url,
  allow_private_network: true,
  scopes: {
    read: { permissions: { contents: 'read' }, repositories: site },
    write: { permissions: { contents: 'write', issues: 'read' }, repositories: ['ACME/Site'] },
    issues: { permissions: { issues: 'read' }, repositories: site },
    billing: { permissions: { contents: 'read' }, repositories: ['acme/billing'] },
    byid: { permissions: { contents: 'read' }, repository_ids: [2] },
    every: { permissions: { contents: 'read' }, repositories: 'all' },
    gone: { permissions: { contents: 'read' }, repositories: ['acme/nowhere'] },
    toomuch: { permissions: { issues: 'write' }, repositories: site },
  },
  ...more,
});
const scopeNames = ['read', 'write', 'issues', 'billing', 'byid', 'every', 'gone', 'toomuch'];

beforeAll(async () => {
  github = await startTestGitHub();
  broker = await startBroker();
  const agent = await broker.agent('builder');
  const secret = { private_key: github.privateKey };
  const made = await broker.admin('POST', '/connections', {
    name: 'github',
    provider: 'github-app',
    settings: settingsFor(),
    secret,
  });
  expect([made.status, made.text]).toEqual([201, expect.any(String)]);
  await broker.entitle('builder', 'github', scopeNames, { max_ttl_seconds: 7200 });
  token = await broker.agentToken(agent);
});
afterEach(async () => {
  github.state.intercept = undefined;
  github.state.tamper = undefined;
  github.state.clockOffsetMs = 0;
  github.state.installation.suspended = false;
  await broker.admin('POST', '/revocations', { selector: { connection: 'github' }, reason: 'tidy' });
  await eventually('nothing is left', github.upstream.artefacts, (left) => left.length === 0);
});
afterAll(async () => {
  await broker.close();
  await github.close();
  await network.close();
  removeTemporaryDirs();
});

const ask = (scopes: string[], more: object = {}): Promise<Answer> =>
  broker.grant(token, { connection: 'github', scopes, ...more });
const bearerOf = ({ body }: Answer): string => String((body['credential'] as { token: string }).token);
const newestGrant = async () =>
  ((await broker.admin('GET', '/grants?connection=github&limit=1')).body['items'] as Record<string, unknown>[])[0];

describe('a token', () => {
  test('reaches the repository and the permission of its scope, and nothing else', async () => {
    const answer = await ask(['read']);
    expect(answer.body['credential']).toEqual({
      type: 'bearer',
      token: expect.stringMatching(/^ghs_/),
      expires_at: expect.any(String),
      permissions: { contents: 'read', metadata: 'read' },
      repositories: ['acme/site'],
    });
    const bearer = bearerOf(answer);
    expect(await readsFile(github, bearer)).toBe(true);
    expect(await writesFile(github, bearer)).toBe(false);
    expect(await useToken(github, bearer, 'GET', '/repos/acme/billing/contents/README.md')).toBe(404);
    expect(await useToken(github, bearer, 'GET', '/repos/acme/site/issues')).toBe(403);
  });

  test('ends no later than its grant, whatever GitHub gives it', async () => {
    const answer = await ask(['read'], { ttl_seconds: 60 });
    const grant = answer.body['grant'] as { expires_at: string };
    expect((answer.body['credential'] as { expires_at: string }).expires_at).toBe(grant.expires_at);
  });

  test('is for repositories by their numbers, or for all, where the scope says so', async () => {
    const [byId, every] = [await ask(['byid']), await ask(['every'])];
    expect(byId.body['credential']).toMatchObject({ repositories: ['acme/billing'] });
    expect(await readsFile(github, bearerOf(byId), 'acme/site')).toBe(false);
    expect(every.body['credential']).toMatchObject({ repositories: null });
    expect(await readsFile(github, bearerOf(every), 'acme/docs.wiki')).toBe(true);
  });

  test('of two grants for the same is never the same one', async () => {
    const [one, other] = await Promise.all([ask(['read']), ask(['read'])]);
    await broker.json('DELETE', `/v1/grants/${(one.body['grant'] as { id: string }).id}`, token);
    await eventually(
      'the first is dead',
      () => readsFile(github, bearerOf(one)),
      (works) => !works,
    );
    expect(await readsFile(github, bearerOf(other))).toBe(true);
  });

  test('for longer than GitHub’s hour is refused before anything is asked of GitHub', async () => {
    github.state.intercept = () => ({ status: 500 });
    expect((await ask(['read'], { ttl_seconds: 3601 })).body['code']).toBe('ttl_too_long');
  });
});

describe('several scopes', () => {
  test('over the same repositories are one token with the higher permissions', async () => {
    const { body } = await ask(['read', 'write', 'issues']);
    expect(body['credential']).toMatchObject({ permissions: { contents: 'write', issues: 'read', metadata: 'read' } });
  });

  test('over different repositories are refused, because each would gain the other’s', async () => {
    github.state.intercept = () => ({ status: 500 });
    for (const scopes of [
      ['read', 'billing'],
      ['billing', 'byid'],
      ['issues', 'every'],
    ]) {
      const answer = await ask(scopes);
      expect([answer.status, answer.body['code']]).toEqual([403, 'scope_not_allowed']);
    }
  });

  const levels = fc.constantFrom<Level>('read', 'write', 'admin');
  const names = fc.constantFrom('contents', 'issues', 'actions', 'pull_requests');
  const permissions = fc.dictionary(names, levels, { minKeys: 1 });
  test('never ask for a permission that none of them has, nor for a lower one than any has', () => {
    fc.assert(
      fc.property(fc.array(permissions, { minLength: 1, maxLength: 5 }), (given) => {
        const scopes = Object.fromEntries(
          given.map((one, index) => [`s${index}`, { permissions: one, repositories: site }]),
        );
        const checked = parsed(settingsFor({ scopes }));
        const asked = combined(checked, Object.keys(scopes)).permissions;
        const all = given.flatMap((one) => Object.entries(one));
        expect(all.every(([name, level]) => includes(asked[name] ?? '', level))).toBe(true);
        expect(Object.entries(asked).every(([name, level]) => all.some(([n, l]) => n === name && l === level))).toBe(
          true,
        );
      }),
    );
  });

  test('that are not the connection’s are refused, names of the language included', () => {
    const checked = parsed(settingsFor());
    for (const name of ['__proto__', 'constructor', 'toString', 'READ', '']) {
      expect(() => combined(checked, [name])).toThrow(Refused);
      expect(() => combined(checked, ['read', name])).toThrow(Refused);
    }
  });
});

describe('an answer with more than was asked for', () => {
  const wider: [string, (answer: Record<string, unknown>) => Record<string, unknown>][] = [
    ['a higher permission', (one) => ({ ...one, permissions: { contents: 'write', metadata: 'read' } })],
    ['another permission', (one) => ({ ...one, permissions: { contents: 'read', secrets: 'read' } })],
    ['a level nobody knows', (one) => ({ ...one, permissions: { contents: 'maintain' } })],
    ['more metadata', (one) => ({ ...one, permissions: { metadata: 'write' } })],
    ['all repositories', (one) => ({ ...one, repository_selection: 'all' })],
    ['another repository', (one) => ({ ...one, repositories: [{ id: 1, full_name: 'acme/billing' }] })],
    ['the repository of another owner', (one) => ({ ...one, repositories: [{ id: 1, full_name: 'evil/site' }] })],
    ['no list of repositories', ({ repositories: _, ...one }) => one],
    ['no permissions', ({ permissions: _, ...one }) => one],
    ['an end that is no time', (one) => ({ ...one, expires_at: 'never' })],
  ];
  for (const [what, tamper] of wider) {
    test(`${what}: nothing is delivered, and the token is deleted at once`, async () => {
      github.state.tamper = tamper;
      const answer = await ask(['read']);
      expect([answer.status, answer.body['code']]).toEqual([502, 'upstream_refused']);
      expect(answer.text).not.toContain('ghs_');
      expect([...github.state.tokens]).toEqual([]);
      expect(await newestGrant()).toMatchObject({ status: 'aborted', upstream: 'gone', upstream_ends_by: null });
    });
  }

  test('is taken back later when GitHub cannot do it at once', async () => {
    github.state.tamper = (one) => ({ ...one, repository_selection: 'all' });
    let refusals = 0;
    github.state.intercept = (route) =>
      route.startsWith('DELETE') && ++refusals <= 2 ? { status: 502, body: {} } : undefined;
    expect((await ask(['read'])).status).toBe(502);
    await eventually('it is taken back', newestGrant, (grant) => grant?.['status'] === 'aborted');
    expect([...github.state.tokens]).toEqual([]);
    expect(refusals).toBe(3);
  });
});

describe('what GitHub refuses', () => {
  const cases: [string, () => void, string[], string, RegExp][] = [
    ['a repository outside', () => undefined, ['gone'], 'upstream_refused', /repository or a permission/],
    ['a permission too many', () => undefined, ['toomuch'], 'upstream_refused', /repository or a permission/],
    [
      'a suspended installation',
      () => {
        github.state.installation.suspended = true;
      },
      ['read'],
      'upstream_refused',
      /suspended/,
    ],
    [
      'clocks that differ',
      () => {
        github.state.clockOffsetMs = 600_000;
      },
      ['read'],
      'upstream_refused',
      /clocks/,
    ],
    [
      'an App that is gone',
      () => {
        github.state.intercept = () => ({ status: 404, body: { message: 'Integration not found' } });
      },
      ['read'],
      'upstream_refused',
      /no such installation/,
    ],
    [
      'the primary rate limit',
      () => {
        github.state.intercept = () => ({ status: 403, headers: { 'X-RateLimit-Remaining': '0' }, body: {} });
      },
      ['read'],
      'upstream_unavailable',
      /rate limit/,
    ],
    [
      'the secondary rate limit',
      () => {
        github.state.intercept = () => ({ status: 403, headers: { 'Retry-After': '60' }, body: {} });
      },
      ['read'],
      'upstream_unavailable',
      /rate limit/,
    ],
    [
      'too many requests',
      () => {
        github.state.intercept = () => ({ status: 429, body: {} });
      },
      ['read'],
      'upstream_unavailable',
      /rate limit/,
    ],
  ];
  for (const [what, arrange, scopes, code, detail] of cases) {
    test(`${what} is told for what it is, without GitHub’s words`, async () => {
      arrange();
      const answer = await ask(scopes);
      expect([answer.status, answer.body['code']]).toEqual([502, code]);
      expect(String(answer.body['detail'])).toMatch(detail);
      expect(answer.text).not.toMatch(/JSON web token|parent installation|Integration|Bearer/);
      const clear = code === 'upstream_refused';
      expect(await newestGrant()).toMatchObject({ status: 'aborted', upstream: clear ? 'gone' : 'live' });
    });
  }

  test('a redirect is not followed: neither assertion nor token goes to another host', async () => {
    const heard: string[] = [];
    const stranger = createServer((req, res) => {
      heard.push(`${req.method} ${req.url} ${req.headers.authorization}`);
      res.end('{}');
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => stranger.once('listening', resolve));
    const elsewhere = `http://127.0.0.1:${(stranger.address() as AddressInfo).port}/`;
    const issued = await ask(['read']);
    for (const status of [301, 302, 307, 308]) {
      github.state.intercept = () => ({ status, headers: { Location: elsewhere } });
      expect((await ask(['read'])).body['code']).toBe('upstream_unavailable');
    }
    await broker.json('DELETE', `/v1/grants/${(issued.body['grant'] as { id: string }).id}`, token);
    await eventually(
      'it was tried',
      () => broker.log(),
      (log) => log.includes('revoking upstream failed'),
    );
    expect(heard).toEqual([]);
    stranger.close();
  });

  test('an endless answer is given up', async () => {
    github.state.intercept = () => ({ status: 201, body: { token: 'x'.repeat(9 * 1024 * 1024) } });
    expect((await ask(['read'])).body['code']).toBe('upstream_unavailable');
  });
});

describe('what is kept', () => {
  const everythingStored = (dir: string): string =>
    readdirSync(dir)
      .map((name) => readFileSync(join(dir, name), 'latin1'))
      .join('');

  test('is sealed: no token and no key is in the database, the log or the audit trail', async () => {
    const bearer = bearerOf(await ask(['read']));
    const audit = (await broker.admin('GET', '/audit?limit=200')).text;
    for (const place of [everythingStored(broker.dataDir), broker.log(), audit]) {
      expect(place).not.toContain(bearer);
      expect(place).not.toContain(Buffer.from(bearer).toString('base64').slice(0, 40));
      expect(place).not.toContain(github.privateKey.split('\n')[3]);
    }
  });

  test('outlives a restart, opens only for its own grant, and is dropped with the token', async () => {
    const dataDir = temporaryDir();
    const rows = <T>(work: (db: Database.Database) => T): T => {
      const db = new Database(join(dataDir, 'warder.db'));
      try {
        return work(db);
      } finally {
        db.close();
      }
    };
    const first = await startBroker({ dataDir });
    const agent = await first.agent('builder');
    await first.admin('POST', '/connections', {
      name: 'github',
      provider: 'github-app',
      settings: settingsFor(),
      secret: { private_key: github.privateKey },
    });
    await first.entitle('builder', 'github', scopeNames);
    const agentToken = await first.agentToken(agent);
    const bearers: string[] = [];
    for (let count = 0; count < 3; count += 1) {
      bearers.push(bearerOf(await first.grant(agentToken, { connection: 'github', scopes: ['read'] })));
    }
    await first.close();
    const ids = rows((db) => {
      const found = db.prepare('SELECT id, handle FROM grants ORDER BY id').all() as { id: string; handle: string }[];
      expect(found.every(({ handle }) => '$sealed' in JSON.parse(handle))).toBe(true);
      // The first grant gets the second's box.
      db.prepare('UPDATE grants SET handle = ? WHERE id = ?').run(found[1]?.handle, found[0]?.id);
      return found.map(({ id }) => id);
    });

    const second = await startBroker({ dataDir });
    await second.admin('POST', '/revocations', { selector: { connection: 'github' }, reason: 'test' });
    const statusOf = async (id: string | undefined) => (await second.admin('GET', `/grants/${id}`)).body;
    await eventually(
      'the moved one is given up',
      () => statusOf(ids[0]),
      (grant) => grant['status'] === 'unrevocable',
    );
    expect(await statusOf(ids[1])).toMatchObject({ upstream: 'gone' });
    expect(await statusOf(ids[2])).toMatchObject({ upstream: 'gone' });
    expect(await Promise.all(bearers.map((one) => readsFile(github, one)))).toEqual([true, false, false]);
    await second.close();
    const left = rows((db) => db.prepare(`SELECT handle ->> '$."$sealed"' FROM grants ORDER BY id`).pluck().all());
    // What was given up can be retried by hand, for which it is needed.
    expect(left).toEqual([expect.any(String), null, null]);
    await github.upstream.elapse?.();
  });
});

test('a token goes back to where it came from, and not to where the connection has moved since', async () => {
  const heard: string[] = [];
  const stranger = createServer((req, res) => {
    heard.push(`${req.method} ${req.url}`);
    res.writeHead(204).end();
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => stranger.once('listening', resolve));
  const elsewhere = `http://127.0.0.1:${(stranger.address() as AddressInfo).port}`;
  await broker.admin('POST', '/connections', {
    name: 'moving',
    provider: 'github-app',
    settings: settingsFor(),
    secret: { private_key: github.privateKey },
  });
  await broker.entitle('builder', 'moving', ['read']);
  const answer = await broker.grant(token, { connection: 'moving', scopes: ['read'] });
  const moved = await broker.admin('PATCH', '/connections/moving', {
    settings: settingsFor({ base_url: elsewhere }),
    secret: { private_key: github.privateKey },
  });
  expect([moved.status, moved.text]).toEqual([200, expect.any(String)]);
  await eventually('it is deleted', github.upstream.artefacts, (left) => left.length === 0);
  expect(await readsFile(github, bearerOf(answer))).toBe(false);
  expect(heard).toEqual([]);
  stranger.close();
});

test('whatever GitHub answers, nothing is delivered that was not checked, and no answer breaks Warder', async () => {
  const odd = fc.oneof(
    fc.json(),
    fc.record(
      {
        token: fc.oneof(fc.string(), fc.constant('ghs_0123456789012345678901234567890123456789'), fc.integer()),
        expires_at: fc.oneof(
          fc.string(),
          fc.date({ noInvalidDate: true }).map((at) => at.toISOString()),
        ),
        permissions: fc.dictionary(fc.constantFrom('contents', 'metadata', '__proto__', 'secrets'), fc.string()),
        repository_selection: fc.constantFrom('all', 'selected', 'none'),
        repositories: fc.array(fc.record({ id: fc.anything(), full_name: fc.string() })),
      },
      { requiredKeys: [] },
    ),
  );
  const statuses = fc.constantFrom(200, 201, 201, 201, 204, 299, 304, 400, 401, 403, 404, 418, 422, 500, 503);
  await fc.assert(
    fc.asyncProperty(odd, statuses, async (body, status) => {
      github.state.intercept = (route) => (route.startsWith('POST') ? { status, body } : undefined);
      const answer = await ask(['read']);
      if (answer.status === 201) {
        expect(answer.body['credential']).toMatchObject({ repositories: [] });
        return;
      }
      expect([answer.status, answer.text.includes('ghs_')]).toEqual([502, false]);
    }),
    { numRuns: 60 },
  );
}, 30_000);

test('a token that is overtaken by a revocation is deleted, also when GitHub fails at that very moment', async () => {
  const overtaken = await startBroker({
    extraProviders: [
      {
        ...provider,
        mint: async (...given) => {
          const minted = await provider.mint(...given);
          await overtaken.admin('POST', '/revocations', { selector: { everything: true }, reason: 'test' });
          return minted;
        },
      },
    ],
  });
  const agent = await overtaken.agent('builder');
  await overtaken.admin('POST', '/connections', {
    name: 'github',
    provider: 'github-app',
    settings: settingsFor(),
    secret: { private_key: github.privateKey },
  });
  await overtaken.entitle('builder', 'github', scopeNames);
  let refusals = 0;
  github.state.intercept = (route) => (route.startsWith('DELETE') && ++refusals <= 3 ? { status: 502 } : undefined);
  const answer = await overtaken.grant(await overtaken.agentToken(agent), { connection: 'github', scopes: ['read'] });
  expect(answer.body['code']).toBe('revoked');
  await eventually('it is deleted', github.upstream.artefacts, (left) => left.length === 0);
  expect(refusals).toBe(4);
  await overtaken.close();
});

describe('settings', () => {
  const problems = (more: object): string[] => {
    const checked = provider.checkSettings({
      app_id: 1,
      installation_id: 2,
      scopes: { read: { permissions: { contents: 'read' }, repositories: site } },
      ...more,
    });
    return checked.ok ? [] : checked.problems;
  };
  const scope = (one: object) => ({
    scopes: { read: { permissions: { contents: 'read' }, repositories: site, ...one } },
  });

  test('as an operator writes them are taken, with github.com for a host', () => {
    expect(problems({})).toEqual([]);
    expect(problems({ app_id: undefined, client_id: 'Iv23liAbc' })).toEqual([]);
    expect(problems({ base_url: 'https://ghe.example.com/api/v3' })).toEqual([]);
  });

  test.each<[string, object]>([
    ['both app_id and client_id', { client_id: 'Iv23liAbc' }],
    ['neither', { app_id: undefined }],
    ['a client ID that is a path', { app_id: undefined, client_id: '../x' }],
    ['an installation that is a path', { installation_id: '1/../2' }],
    ['a negative installation', { installation_id: -1 }],
    ['an unknown field', { token_url: 'https://evil.example' }],
    ['no scopes', { scopes: {} }],
    ['clear text', { base_url: 'http://api.github.com' }],
    ['a private address', { base_url: 'https://10.0.0.1' }],
    ['a metadata address', { base_url: 'http://169.254.169.254', allow_private_network: true }],
    ['a user in the URL', { base_url: 'https://user:pass@api.github.com' }],
    ['a query in the URL', { base_url: 'https://api.github.com/?x=' }],
    ['no permissions', scope({ permissions: {} })],
    ['a permission level that does not exist', scope({ permissions: { contents: 'owner' } })],
    ['a permission that is no name', scope({ permissions: { 'contents"': 'read' } })],
    ['repositories left out', scope({ repositories: undefined })],
    ['repositories in both ways', scope({ repository_ids: [1] })],
    ['no repository', scope({ repositories: [] })],
    ['a name without an owner', scope({ repositories: ['site'] })],
    ['a repository that is a path', scope({ repositories: ['acme/..'] })],
    ['a repository with a slash too many', scope({ repositories: ['acme/site/x'] })],
    ['a repository in Unicode', scope({ repositories: ['acmé/site'] })],
    ['two owners', scope({ repositories: ['acme/site', 'other/site'] })],
    ['a repository twice', scope({ repositories: ['acme/site', 'ACME/SITE'] })],
  ])('with %s are refused', (_what, more) => {
    expect(problems(more)).not.toEqual([]);
  });

  test('that lead to another host want the key anew', async () => {
    const moved = await broker.admin('PATCH', '/connections/github', {
      settings: settingsFor({ base_url: 'https://ghe.example.com/api/v3' }),
    });
    expect([moved.status, moved.body['code']]).toEqual([409, 'conflict']);
    expect(moved.text).toContain('https://ghe.example.com');
  });

  const pem = (type: 'pkcs1' | 'pkcs8', bits = 2048): string =>
    generateKeyPairSync('rsa', { modulusLength: bits }).privateKey.export({ type, format: 'pem' }).toString();
  const secretProblems = (value: unknown): string[] => {
    const checked = provider.checkSecret(value);
    return checked.ok ? [] : checked.problems;
  };

  test('take a key as GitHub hands it out, and as it is converted', () => {
    expect(secretProblems({ private_key: pem('pkcs1') })).toEqual([]);
    expect(secretProblems({ private_key: pem('pkcs8') })).toEqual([]);
  });

  test('take no other key, and never repeat it', () => {
    const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const bad = [
      pem('pkcs8', 1024),
      ec.export({ type: 'pkcs8', format: 'pem' }).toString(),
      rsa.publicKey.export({ type: 'spki', format: 'pem' }).toString(),
      rsa.privateKey.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'hunter22' }).toString(),
      `${pem('pkcs8').slice(0, 200)}\n-----END PRIVATE KEY-----\n`,
      'ghp_0123456789abcdef',
      '',
    ];
    for (const key of bad) {
      const said = secretProblems({ private_key: key });
      expect(said).toHaveLength(1);
      if (key !== '') expect(said.join()).not.toContain(key.slice(30, 60) || key);
    }
    for (const value of [undefined, {}, { private_key: 1 }, { private_key: pem('pkcs8'), more: 1 }]) {
      expect(secretProblems(value)).not.toEqual([]);
    }
  });
});

describe('the GitHub of these tests', () => {
  test('takes the vendor’s own library: an assertion, and a token for one repository', async () => {
    const auth = createAppAuth({
      appId: github.appId,
      privateKey: github.privateKey,
      installationId: github.installationId,
      request: request.defaults({ baseUrl: github.url }),
    });
    const app = await auth({ type: 'app' });
    expect(await useToken(github, app.token, 'GET', '/app')).toBe(200);
    const { token: made } = await auth({
      type: 'installation',
      repositoryNames: ['site'],
      permissions: { contents: 'read' },
    });
    const as = request.defaults({ baseUrl: github.url, headers: { authorization: `token ${made}` } });
    expect((await as('GET /installation/repositories')).data).toMatchObject({ total_count: 1 });
    expect(
      (await as('GET /repos/{owner}/{repo}/contents/{path}', { owner: 'acme', repo: 'site', path: 'README.md' }))
        .status,
    ).toBe(200);
    await expect(as('GET /repos/{owner}/{repo}/issues', { owner: 'acme', repo: 'site' })).rejects.toMatchObject({
      status: 403,
    });
    expect((await as('DELETE /installation/token')).status).toBe(204);
    await expect(as('GET /installation/repositories')).rejects.toMatchObject({ status: 401 });
  });

  test('refuses assertions that GitHub refuses', async () => {
    const now = Math.floor(Date.now() / 1000);
    const { createPrivateKey } = await import('node:crypto');
    const own = createPrivateKey(github.privateKey);
    const sign = (claims: object, key = own, alg = 'RS256') =>
      new SignJWT({ iss: String(github.appId), iat: now - 60, exp: now + 60, ...claims })
        .setProtectedHeader({ alg })
        .sign(key);
    const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    const bad = [
      await sign({ exp: now + 700 }),
      await sign({ exp: now - 1 }),
      await sign({ iat: now + 30 }),
      await sign({ iss: '9999' }),
      await sign({}, stranger),
      await sign({}, own, 'PS256'),
      'eyJhbGciOiJub25lIn0.eyJpc3MiOiI0NzExIn0.',
      'x',
    ];
    for (const assertion of bad) expect(await useToken(github, assertion, 'GET', '/app')).toBeGreaterThanOrEqual(401);
    expect(await useToken(github, await sign({}), 'GET', '/app')).toBe(200);
  });
});
