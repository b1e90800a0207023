/** Connecting an account: the person, the browser, the authorization server, and those who want to be in between. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { removeTemporaryDirs } from '../support/broker.ts';
import { pause } from '../support/eventually.ts';
import { consent, openBrowser } from '../vendors/oidc/rig.ts';
import { type OauthBroker, oauthSettings, startOauthBroker } from './rig.ts';

let rig: OauthBroker;
/** Requests of the test before that the broker took for guesses. */
let guesses = 0;
beforeAll(async () => {
  rig = await startOauthBroker({ connect_scopes: ['openid'] });
  const { broker, server } = rig;
  const made = await broker.admin('POST', '/connections', {
    name: 'other',
    provider: 'oauth2',
    settings: oauthSettings(server),
    secret: { client_secret: server.client.secret },
  });
  expect(made.status).toBe(201);
}, 60_000);
afterAll(async () => {
  await rig.close();
  removeTemporaryDirs();
});
beforeEach(async () => {
  // Guesses of one address are limited, and the tests are one address: a second each.
  await pause(guesses > 5 ? 1_050 : 0);
  guesses = 0;
  for (const connection of ['svc', 'other']) {
    for (const account of await rig.accounts(connection)) {
      const gone = await rig.broker.admin('DELETE', `/connections/${connection}/authorizations/${account['id']}`);
      expect(gone.status).toBe(200);
    }
  }
  await rig.server.set({ denies: false, account: 'ann@example.com' });
});

const isCallback = (url: string): boolean => new URL(url).pathname === '/oauth/callback';
/** Goes as far as the answer, and does not deliver it. */
const answerOf = async (link: string, browser = openBrowser()): Promise<string> =>
  (await browser.follow(link, isCallback)).url;

describe('a person who opens the link and consents', () => {
  test('connects the account, and whoever began it is told which', async () => {
    const { link, id, answer } = await rig.begin();
    expect(answer.status).toBe(201);
    expect(answer.body).toMatchObject({ connection: 'svc', subject: null, status: 'pending' });
    const page = await consent(link);
    expect([page.status, page.text]).toEqual([200, expect.stringContaining('ann@example.com is connected to svc')]);
    expect(await rig.flow(id)).toMatchObject({
      status: 'connected',
      authorization: { account: 'ann@example.com', status: 'connected', subject: null, connected_by: 'admin' },
    });
    const { body } = await rig.broker.admin('GET', '/connections/svc');
    expect(body['authorization']).toMatchObject({ status: 'connected', account: 'ann@example.com' });
    const { body: credential } = await rig.broker.grant(rig.token, { connection: 'svc', scopes: ['read'] });
    expect(await rig.call(credential['credential'] as Record<string, unknown>)).toBe(200);
  });

  test('sees first what it is for, and looking changes nothing', async () => {
    const { link } = await rig.begin({ subject: 'bob@example.com' });
    for (let i = 0; i < 3; i += 1) {
      const page = await openBrowser().visit(link);
      const text = await page.text();
      expect([page.status, page.headers.getSetCookie()]).toEqual([200, []]);
      expect(text).toContain('agents that act for bob@example.com');
      expect(page.headers.get('content-security-policy')).toContain("default-src 'none'");
      expect(page.headers.get('referrer-policy')).toBe('same-origin');
      expect(page.headers.get('cache-control')).toBe('no-store');
    }
    expect((await consent(link)).status).toBe(200);
  });

  test('is sent with PKCE S256, the exact redirect URI, a state, and all scopes there are', async () => {
    const { link } = await rig.begin();
    const response = await openBrowser().visit(link, 'POST');
    const url = new URL(response.headers.get('location') ?? '');
    expect(response.status).toBe(303);
    expect(url.origin).toBe(rig.server.url);
    expect(Object.fromEntries(url.searchParams)).toEqual({
      client_id: 'warder',
      response_type: 'code',
      redirect_uri: `${rig.broker.url}/oauth/callback`,
      scope: 'read write openid',
      state: expect.stringMatching(/^wdr_fl_/),
      nonce: expect.any(String),
      code_challenge: expect.stringMatching(/^[A-Za-z0-9_-]{43}$/),
      code_challenge_method: 'S256',
    });
    const [cookie = ''] = response.headers.getSetCookie();
    expect(cookie).toMatch(/^warder-flw_\w+=wdr_fl_[\w-]+; Path=\/; Max-Age=600; HttpOnly; SameSite=Lax$/);
  });

  test('who has connected before gets new tokens, and the account stays one', async () => {
    await rig.connect();
    const first = (await rig.server.refreshTokens()).map(({ id }) => id);
    await rig.connect();
    // Of the same account: some servers would take the new tokens along.
    expect((await rig.server.refreshTokens()).map(({ id }) => id)).toEqual(expect.arrayContaining(first));
    const both = (await rig.server.refreshTokens()).map(({ id }) => id);
    await rig.server.set({ account: 'eve@example.com' });
    await rig.connect();
    const after = (await rig.server.refreshTokens()).map(({ id }) => id);
    expect(after.filter((id) => !both.includes(id))).toHaveLength(1);
    expect(both.filter((id) => !after.includes(id))).toHaveLength(1);
    expect(await rig.accounts()).toMatchObject([{ account: 'eve@example.com', status: 'connected' }]);
  });

  test('who says no connects nothing, and what the server says about it is not repeated', async () => {
    await rig.server.set({ denies: true });
    const { link, id } = await rig.begin();
    const page = await consent(link);
    expect([page.status, page.text]).toEqual([502, expect.stringContaining('consent was not given')]);
    expect(page.text).not.toContain('script');
    expect(await rig.flow(id)).toMatchObject({ status: 'failed', failure: 'access_denied', authorization: null });
    expect(await rig.accounts()).toEqual([]);
  });
});

describe('a server without an issuer in the settings', () => {
  const begin = async (name: string) => {
    const made = await rig.broker.admin('POST', '/connections', {
      name,
      provider: 'oauth2',
      settings: oauthSettings(rig.server, {
        issuer: undefined,
        authorization_endpoint: `${rig.server.url}/auth`,
        token_endpoint: `${rig.server.url}/token`,
        revocation_endpoint: `${rig.server.url}/token/revocation`,
        connect_scopes: ['openid'],
      }),
      secret: { client_secret: rig.server.client.secret },
    });
    expect([made.status, made.text]).toEqual([201, expect.any(String)]);
    return rig.begin({}, name);
  };

  test('is told by where consent was asked for; whose account it is, nobody can vouch for', async () => {
    const { link, id } = await begin('explicit');
    expect((await consent(link)).status).toBe(200);
    expect(await rig.flow(id, 'explicit')).toMatchObject({ status: 'connected', authorization: { account: null } });
  });

  test('is not taken for another one', async () => {
    for (const [i, iss] of ['https://evil.example', `${rig.server.url.slice(0, -1)}`, 'nonsense'].entries()) {
      const browser = openBrowser();
      const { link } = await begin(`mixed-${i}`);
      const url = new URL(await answerOf(link, browser));
      url.searchParams.set('iss', iss);
      expect([iss, (await browser.visit(url.href)).status]).toEqual([iss, 502]);
      expect(await rig.accounts(`mixed-${i}`)).toEqual([]);
    }
  });
});

describe('accounts of users', () => {
  test('are used for that user only, never the organisation’s instead', async () => {
    await rig.connect();
    await rig.server.set({ account: 'bob@example.com' });
    await rig.connect({ subject: 'bob' });
    expect(await rig.accounts()).toMatchObject([
      { subject: null, account: 'ann@example.com' },
      { subject: 'bob', account: 'bob@example.com' },
    ]);
  });
});

describe('a link', () => {
  test('is opened once, also by many at once', async () => {
    const { link } = await rig.begin();
    guesses = 15;
    const opened = await Promise.all(
      Array.from({ length: 15 }, async () => (await fetch(link, { method: 'POST', redirect: 'manual' })).status),
    );
    expect(opened.filter((status) => status === 303)).toHaveLength(1);
    expect(opened.filter((status) => status !== 303 && status !== 404 && status !== 429)).toEqual([]);
  });

  test.each([
    { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' },
    { origin: 'https://evil.example' },
    { origin: 'null' },
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
  ])('is not opened by a page of another site (%j)', async (headers) => {
    const { link } = await rig.begin();
    const post = (sent: object) => fetch(link, { method: 'POST', redirect: 'manual', headers: { ...sent } });
    const refused = await post(headers);
    expect([refused.status, refused.headers.get('location'), refused.headers.getSetCookie()]).toEqual([403, null, []]);
    expect((await rig.audit('authorization.refused')).at(-1)).toMatchObject({ data: { why: 'another_site' } });
    const own = { origin: new URL(rig.broker.url).origin, 'sec-fetch-site': 'same-origin' };
    expect((await post(own)).status).toBe(303);
  });

  test.each([{ status: 'suspended' }, { roles: ['auditor'] }])(
    'is worth nothing any more when its maker is (%j), before it is opened and after',
    async (change) => {
      guesses = 6;
      const name = `maker-${Object.keys(change)[0]}`;
      const { body } = await rig.broker.admin('POST', '/operators', { name, roles: ['operator'] });
      const begin = async () =>
        String(
          (await rig.broker.admin('POST', '/connections/svc/connect', {}, String(body['token']))).body['authorize_url'],
        );
      const [unopened, opened] = [await begin(), await begin()];
      const browser = openBrowser();
      const answer = await answerOf(opened, browser);
      expect((await rig.broker.admin('PATCH', `/operators/${name}`, change)).status).toBe(200);
      expect((await openBrowser().visit(unopened)).status).toBe(404);
      expect((await openBrowser().visit(unopened, 'POST')).status).toBe(404);
      expect((await browser.visit(answer)).status).toBe(404);
      expect(await rig.accounts()).toEqual([]);
    },
  );

  test('is worth nothing any more when its maker is suspended while the code is exchanged', async () => {
    const { body } = await rig.broker.admin('POST', '/operators', { name: 'maker-late', roles: ['operator'] });
    const token = String(body['token']);
    const made = await rig.broker.admin('POST', '/connections/svc/connect', {}, token);
    const browser = openBrowser();
    const answer = await answerOf(String(made.body['authorize_url']), browser);
    const before = (await rig.server.refreshTokens()).length;
    await rig.server.trouble.slow(600);
    const page = browser.visit(answer);
    await pause(150);
    expect((await rig.broker.admin('PATCH', '/operators/maker-late', { status: 'suspended' })).status).toBe(200);
    expect((await page).status).toBe(403);
    await rig.server.trouble.well();
    expect([await rig.accounts(), (await rig.server.refreshTokens()).length]).toEqual([[], before]);
  });

  test('that was never made, or made up from one that was, is a page that says so', async () => {
    const { link } = await rig.begin();
    guesses = 6;
    for (const wrong of [`${rig.broker.url}/connect/x`, `${link.slice(0, -3)}AAA`, `${link}A`]) {
      for (const method of ['GET', 'POST']) {
        const response = await fetch(wrong, { method, redirect: 'manual' });
        expect([wrong, response.status, response.headers.get('content-type')]).toEqual([
          wrong,
          404,
          'text/html; charset=utf-8',
        ]);
      }
    }
  });

  test('is refused where nobody has to consent, and to whoever does not manage connections', async () => {
    await rig.broker.admin('POST', '/connections', {
      name: 'own',
      provider: 'oauth2',
      settings: oauthSettings(rig.server, { grant: 'client_credentials' }),
      secret: { client_secret: rig.server.client.secret },
    });
    expect((await rig.begin({}, 'own')).answer).toMatchObject({ status: 400, body: { code: 'invalid_request' } });
    const made = await rig.broker.admin('POST', '/operators', { name: 'looker', roles: ['reviewer'] });
    const refused = await rig.broker.admin('POST', '/connections/svc/connect', {}, String(made.body['token']));
    expect(refused.status).toBe(403);
  });

  test('tells how it went to nobody but who made it', async () => {
    const { id } = await rig.begin();
    const made = await rig.broker.admin('POST', '/operators', { name: 'colleague', roles: ['operator'] });
    const asked = await rig.broker.admin(
      'GET',
      `/connections/svc/connect/${id}`,
      undefined,
      String(made.body['token']),
    );
    expect(asked.status).toBe(404);
    expect((await rig.broker.admin('GET', `/connections/other/connect/${id}`)).status).toBe(404);
  });
});

describe('an answer', () => {
  test('is taken once, also when it is delivered many times at once', async () => {
    guesses = 15;
    const browser = openBrowser();
    const { link, id } = await rig.begin();
    const url = await answerOf(link, browser);
    const statuses = await Promise.all(Array.from({ length: 15 }, async () => (await browser.visit(url)).status));
    expect(statuses.filter((status) => status === 200)).toHaveLength(1);
    expect(await rig.flow(id)).toMatchObject({ status: 'connected' });
    expect((await browser.visit(url)).status).toBe(404);
    expect(await rig.accounts()).toHaveLength(1);
  });

  test('in another browser connects nothing, and does not spoil it for the right one', async () => {
    const browser = openBrowser();
    const { link, id } = await rig.begin();
    const url = await answerOf(link, browser);
    const stolen = await openBrowser().visit(url);
    expect([stolen.status, stolen.headers.get('warder-error')]).toEqual([403, 'forbidden']);
    expect(await rig.flow(id)).toMatchObject({ status: 'pending' });
    expect(await rig.audit('authorization.refused')).toEqual(
      expect.arrayContaining([expect.objectContaining({ data: expect.objectContaining({ why: 'another_browser' }) })]),
    );
    expect((await browser.visit(url)).status).toBe(200);
  });

  test('to a flow of somebody else, with a cookie of one’s own, connects nothing (login CSRF)', async () => {
    const [mine, theirs] = [openBrowser(), openBrowser()];
    const url = await answerOf((await rig.begin()).link, mine);
    await answerOf((await rig.begin()).link, theirs);
    expect((await theirs.visit(url)).status).toBe(403);
    expect(await rig.accounts()).toEqual([]);
  });

  test('whose code came for another connection is refused (mix-up)', async () => {
    const browser = openBrowser();
    const first = await rig.begin();
    const second = await rig.begin({}, 'other');
    const [one, two] = [new URL(await answerOf(first.link, browser)), new URL(await answerOf(second.link, browser))];
    // The code of one flow with the state of the other: PKCE holds them apart, whatever the cookie says.
    const code = one.searchParams.get('code') ?? '';
    two.searchParams.set('code', code);
    expect((await browser.visit(two.href)).status).toBe(502);
    expect(await rig.flow(second.id, 'other')).toMatchObject({ status: 'failed' });
    expect(await rig.accounts('other')).toEqual([]);
  });

  const tampered: [string, (url: URL) => void, number][] = [
    ['from another server', (url) => url.searchParams.set('iss', 'https://evil.example'), 502],
    ['from two servers', (url) => url.searchParams.append('iss', 'https://evil.example'), 502],
    ['that does not say from which server', (url) => url.searchParams.delete('iss'), 502],
    ['without a state', (url) => url.searchParams.delete('state'), 404],
    ['with two states', (url) => url.searchParams.append('state', 'x'), 404],
    [
      'with a state nobody made',
      (url) => url.searchParams.set('state', `wdr_fl_${'0'.repeat(26)}${'A'.repeat(43)}`),
      404,
    ],
    ['without a code', (url) => url.searchParams.delete('code'), 502],
    ['with two codes', (url) => url.searchParams.append('code', 'x'), 502],
    ['with a code nobody made', (url) => url.searchParams.set('code', 'x'), 502],
    ['that is an error beside a code', (url) => url.searchParams.set('error', '"><script>alert(1)</script>'), 502],
    [
      'with an error and a hostile description',
      (url) => {
        url.searchParams.set('error', 'access_denied');
        url.searchParams.set('error_description', '<img src=x onerror=alert(1)>');
        url.searchParams.set('error_uri', 'javascript:alert(1)');
      },
      502,
    ],
    ['with an ID token in the front channel', (url) => url.searchParams.set('id_token', 'eyJ.eyJ.x'), 502],
  ];
  test.each(tampered)('%s connects nothing', async (_what, tamper, status) => {
    const browser = openBrowser();
    const { link } = await rig.begin();
    const url = new URL(await answerOf(link, browser));
    tamper(url);
    const response = await browser.visit(url.href);
    const text = await response.text();
    expect([response.status, text]).toEqual([status, expect.stringContaining('was not connected')]);
    expect(text).not.toMatch(/script>|onerror|javascript:|evil\.example/);
    expect(await rig.accounts()).toEqual([]);
  });

  test('that is nothing at all is a page too, and recorded', async () => {
    const response = await fetch(`${rig.broker.url}/oauth/callback`);
    expect([response.status, response.headers.get('content-type')]).toEqual([404, 'text/html; charset=utf-8']);
    const refused = (await rig.audit('authorization.refused')).filter(
      (entry) => (entry['data'] as { why?: string })['why'] === 'unknown_flow',
    );
    expect(refused.length).toBeGreaterThan(0);
  });
});

test('what is recorded of a flow tells its whole story, with no token of anybody', async () => {
  const { link, id } = await rig.begin({ subject: 'carol' });
  const browser = openBrowser();
  const url = new URL(await answerOf(link, browser));
  expect((await browser.visit(url.href)).status).toBe(200);
  const entries = (await rig.audit()).filter((entry) => (entry['data'] as { flow?: string })?.['flow'] === id);
  expect(entries.map((entry) => entry['type'])).toEqual([
    'authorization.offered',
    'authorization.opened',
    'authorization.answered',
    'authorization.connected',
  ]);
  const files = readdirSync(rig.broker.dataDir).filter((name) => name.startsWith('warder.db'));
  const stored = files.map((name) => readFileSync(join(rig.broker.dataDir, name), 'latin1'));
  expect(stored.join('').length).toBeGreaterThan(10_000);
  const everything = [JSON.stringify(await rig.audit()), rig.broker.log(), ...stored].join('\n');
  for (const canary of [
    link.split('/').at(-1) ?? '',
    url.searchParams.get('code') ?? '',
    url.searchParams.get('state') ?? '',
    rig.server.client.secret,
    ...(await rig.server.tokens()),
    ...(await rig.server.refreshTokens()).map((one) => one.id),
  ]) {
    expect(canary.length).toBeGreaterThan(10);
    expect(everything).not.toContain(canary);
  }
});

test('disconnecting ends the grants, revokes the tokens at the server and forgets them', async () => {
  await rig.connect();
  const { body } = await rig.broker.grant(rig.token, { connection: 'svc', scopes: ['read'] });
  const credential = body['credential'] as Record<string, unknown>;
  expect(await rig.call(credential)).toBe(200);
  const before = (await rig.server.refreshTokens()).length;
  const [account] = await rig.accounts();
  const kept = await rig.broker.admin('DELETE', '/connections/svc');
  expect([kept.status, kept.body['detail']]).toEqual([409, expect.stringContaining('disconnect them')]);

  await rig.server.trouble.down();
  const path = `/connections/svc/authorizations/${account?.['id']}`;
  const failed = await rig.broker.admin('DELETE', path);
  await rig.server.trouble.well();
  expect([failed.status, failed.body['detail']]).toEqual([502, expect.stringContaining('its tokens live on there')]);
  const recorded = (await rig.audit()).filter((entry) => entry['request_id'] === failed.body['request_id']);
  expect(recorded.map((entry) => entry['type'])).toEqual(['authorization.disconnected', 'request.refused']);
  expect(await rig.accounts()).toMatchObject([{ status: 'disconnected' }]);
  expect(await rig.call(credential)).toBe(401);
  expect((await rig.broker.grant(rig.token, { connection: 'svc', scopes: ['read'] })).body['code']).toBe(
    'needs_connection',
  );

  expect(await rig.broker.admin('DELETE', path)).toMatchObject({ status: 200, body: { revoked: true } });
  expect(await rig.accounts()).toEqual([]);
  expect((await rig.server.refreshTokens()).length).toBeLessThan(before);
  expect((await rig.broker.admin('DELETE', path)).status).toBe(404);
});

test('accounts can be disconnected also when the settings want none any more', async () => {
  await rig.connect();
  const patch = (more: object) =>
    rig.broker.admin('PATCH', '/connections/svc', { settings: oauthSettings(rig.server, more) });
  expect((await patch({ grant: 'client_credentials' })).status).toBe(200);
  const [account] = await rig.accounts();
  const gone = await rig.broker.admin('DELETE', `/connections/svc/authorizations/${account?.['id']}`);
  expect([gone.status, gone.body]).toEqual([200, { revoked: true }]);
  expect((await patch({ connect_scopes: ['openid'] })).status).toBe(200);
});

test('settings cannot send the tokens of connected accounts elsewhere, not even with a new secret', async () => {
  await rig.connect();
  const settings = { ...oauthSettings(rig.server), base_url: 'http://127.0.0.1:9' };
  const moved = await rig.broker.admin('PATCH', '/connections/svc', {
    settings,
    secret: { client_secret: 'another-client-secret-0123' },
  });
  expect([moved.status, moved.body['detail']]).toEqual([409, expect.stringContaining('disconnect them first')]);
});
