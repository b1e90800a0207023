/** Agents without a secret: a token of the platform they run on proves them (RFC 7523). */
import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import * as oauth from 'oauth4webapi';
import * as client from 'openid-client';
import { compact } from '../corpora/tokens.ts';
import { type Answer, type Broker, freePort, temporaryDir } from '../support/broker.ts';
import { grantTypes, type LocalIssuer, startIssuer, trust, withAssertionGrant, workloadAgent } from './issuers.ts';
import {
  answerTo,
  basic,
  bearer,
  type Listener,
  listen,
  makeKey,
  must,
  post,
  seconds,
  startProtocolBroker,
  tokenIn,
  troubleIn,
  withAssertion,
} from './support.ts';

const refusal = '{"error":"invalid_grant","error_description":"the assertion was not accepted"}';
const sub = 'repo:acme/app:ref:refs/heads/main';

describe('a workload', () => {
  let broker: Broker;
  let issuer: LocalIssuer;
  let upstream: Listener;
  let dataDir: string;
  let port: number;

  beforeAll(async () => {
    dataDir = temporaryDir();
    upstream = await listen(() => ({ ok: true }));
    issuer = await startIssuer();
    // Last, so that none of the servers above is given it.
    port = await freePort();
    broker = await startProtocolBroker({ dataDir, port });
    await trust(broker, 'ci', issuer, { uses: ['workload'] });
    await workloadAgent(broker, 'deployer', 'ci', { sub });
    await workloadAgent(broker, 'tester', 'ci', { sub: 'repo:acme/app:ref:refs/heads/*', environment: 'test' });
    must(await broker.connection('echo', upstream.url), 201);
    must(await broker.entitle('deployer', 'echo', ['all']), 201);
  });
  afterAll(async () => {
    await broker.close();
    await issuer.close();
    await upstream.close();
    rmSync(dataDir, { recursive: true, force: true });
  });

  const token = (claims: Record<string, unknown> = {}, header = {}): string =>
    issuer.token(broker.url, { sub, ...claims }, header);
  const use = (assertion = token(), more: Record<string, string> = {}): Promise<Answer> =>
    withAssertionGrant(broker, assertion, more);
  const agentOf = async (agentToken: string): Promise<number> =>
    (await answerTo(`${broker.url}/v1/connections`, { headers: bearer(agentToken) })).status;

  test('obtains an agent token', async () => {
    const answer = must(await use(), 200);
    expect(answer.body).toEqual({
      access_token: expect.stringMatching(/^wdr_at_/),
      token_type: 'Bearer',
      expires_in: 300,
    });
    expect(await agentOf(tokenIn(answer))).toBe(200);
  });

  test('obtains a grant in one round trip', async () => {
    const { body } = must(await use(token(), { resource: `${broker.url}/connections/echo`, scope: 'all' }), 200);
    const called = await answerTo(`${broker.url}/gateway/echo/x`, { headers: bearer(String(body['access_token'])) });
    expect(called.status).toBe(200);
    const shown = must(await broker.admin('GET', `/grants/${body['grant_id']}`), 200).body;
    expect(shown).toMatchObject({ agent: 'deployer', subject: null, issuers: ['ci'] });
  });

  test('may say which agent it is, and is only that one', async () => {
    must(await use(token(), { client_id: 'deployer' }), 200);
    for (const client_id of ['tester', 'nobody', 'ci', '']) {
      const { status, text } = await use(token({ sub: 'x' }), { client_id });
      expect([client_id, status, text]).toEqual([client_id, 400, refusal]);
    }
  });

  test('that two agents are bound to is neither of them, unless it says which', async () => {
    const both = () => token({ environment: 'test' });
    expect((await use(both())).text).toBe(refusal);
    for (const name of ['deployer', 'tester']) must(await use(both(), { client_id: name }), 200);
  });

  test('may come as a client assertion, at every endpoint', async () => {
    const issued = tokenIn(await post(`${broker.url}/token`, withAssertion(token())));
    const introspected = await post(`${broker.url}/introspect`, withAssertion(token(), { token: issued }));
    expect(introspected.body).toMatchObject({ active: true, sub: 'deployer' });
    must(await post(`${broker.url}/revoke`, withAssertion(token(), { token: issued })), 200);
    expect(await agentOf(issued)).toBe(401);
  });

  test('with a client secret beside it must be the same agent', async () => {
    const { clientId, clientSecret } = await broker.agent('other');
    const fields = { grant_type: grantTypes.jwtBearer, assertion: token() };
    const authorization = basic(clientId, clientSecret);
    expect((await post(`${broker.url}/token`, fields, { authorization })).text).toBe(refusal);
    const wrong = await post(`${broker.url}/token`, fields, { authorization: basic(clientId, 'wrong') });
    expect(wrong.body['error']).toBe('invalid_client');
  });

  test('without an assertion is told so', async () => {
    const { status, body } = await post(`${broker.url}/token`, { grant_type: grantTypes.jwtBearer });
    expect([status, body['error']]).toEqual([400, 'invalid_request']);
  });

  test('proves itself once with one token, also one hundred times at once and over a restart', async () => {
    const once = token();
    const answers = await Promise.all(Array.from({ length: 100 }, () => use(once)));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
    expect(new Set(answers.map(({ text }) => text)).size).toBe(2);
    await broker.close();
    broker = await startProtocolBroker({ dataDir, port });
    expect((await use(once)).text).toBe(refusal);
    expect((await use(once, { client_id: 'deployer' })).text).toBe(refusal);
    // The other signature of the same bytes is the same token.
    const [head, body] = once.split('.');
    const again = compact(
      JSON.parse(Buffer.from(head ?? '', 'base64url').toString()),
      JSON.parse(Buffer.from(body ?? '', 'base64url').toString()),
      issuer.key,
    );
    expect(again).not.toBe(once);
    expect((await use(again)).text).toBe(refusal);
  });

  test('of a platform without jti is known by what was signed', async () => {
    const without = token({ jti: undefined });
    const answers = await Promise.all(Array.from({ length: 20 }, () => use(without)));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
  });

  test('is another agent’s where the rules say so, and nobody’s where none does', async () => {
    expect((await use(token({ sub: 'repo:acme/app:ref:refs/heads/feature' }))).text).toBe(refusal);
    const tester = await use(token({ sub: 'repo:acme/app:ref:refs/heads/feature', environment: 'test' }));
    const { body } = await broker.admin('GET', '/audit?type=token.issued&limit=1');
    must(tester, 200);
    expect(JSON.stringify(body)).toContain('tester');
  });

  test('is refused everything while its agent is suspended, and proves itself again afterwards', async () => {
    const before = tokenIn(await use());
    must(await broker.admin('PATCH', '/agents/deployer', { status: 'suspended' }), 200);
    const { status, body } = await use();
    expect([status, body['error']]).toEqual([400, 'unauthorized_client']);
    expect(await agentOf(before)).toBe(403);
    must(await broker.admin('PATCH', '/agents/deployer', { status: 'active' }), 200);
    must(await use(), 200);
  });

  test('is another agent, or none, from the moment its binding is changed', async () => {
    const before = tokenIn(await use());
    const bind = (claims: object) =>
      broker.admin('PATCH', '/agents/deployer', { auth: { method: 'workload', issuer: 'ci', claims } });
    must(await bind({ sub: 'repo:acme/other:ref:refs/heads/main' }), 200);
    expect((await use()).text).toBe(refusal);
    expect(await agentOf(before)).toBe(401);
    must(await bind({ sub }), 200);
    must(await use(), 200);
    expect(await agentOf(before)).toBe(401);
  });

  test('with a token bound to a key, which an assertion cannot prove, is refused', async () => {
    expect((await use(token({ cnf: { jkt: 'x'.repeat(43) } }))).text).toBe(refusal);
  });

  test('is told nothing of why it was refused; the audit log is', async () => {
    const answers = [
      await use(token({ sub: 'repo:evil/app:ref:refs/heads/main' })),
      await use(token({ aud: 'https://other.example' })),
      await use(token({ iss: 'https://nobody.example' })),
      await use(token({}, { kid: 'unknown' })),
      await use('x'),
    ];
    expect(new Set(answers.map(({ status, text }) => `${status} ${text}`))).toEqual(new Set([`400 ${refusal}`]));
    const { body } = await broker.admin('GET', '/audit?type=agent.authentication_failed&limit=5');
    const whys = (body['items'] as { data: { why: string } }[]).map(({ data }) => data.why);
    expect(whys[4]).toMatch(/no agent is bound/);
    expect(whys[3]).toMatch(/"aud"/);
    expect(whys[2]).toMatch(/nobody trusts/);
    expect(whys[0]).toMatch(/not a JWT/);
  });

  test('through openid-client', async () => {
    const config = await client.discovery(new URL(broker.url), 'deployer', undefined, client.None(), {
      algorithm: 'oauth2',
      execute: [client.allowInsecureRequests],
    });
    const tokens = await client.genericGrantRequest(config, grantTypes.jwtBearer, { assertion: token() });
    expect(tokens.access_token).toMatch(/^wdr_at_/);
  });

  test('through oauth4webapi', async () => {
    const insecure = { [oauth.allowInsecureRequests]: true };
    const url = new URL(broker.url);
    const as = await oauth.processDiscoveryResponse(
      url,
      await oauth.discoveryRequest(url, { algorithm: 'oauth2', ...insecure }),
    );
    const who = { client_id: 'deployer' };
    const parameters = { assertion: token() };
    const response = await oauth.genericTokenEndpointRequest(
      as,
      who,
      oauth.None(),
      grantTypes.jwtBearer,
      parameters,
      insecure,
    );
    const tokens = await oauth.processGenericTokenEndpointResponse(as, who, response);
    expect(tokens.access_token).toMatch(/^wdr_at_/);
  });

  test('leaves no trouble in the log', () => {
    expect(troubleIn(broker.log())).toEqual([]);
  });
});

describe('platforms', () => {
  let broker: Broker;
  let issuer: LocalIssuer;

  beforeAll(async () => {
    broker = await startProtocolBroker();
    issuer = await startIssuer('RS256');
  });
  afterAll(async () => {
    await broker.close();
    await issuer.close();
  });

  test('Kubernetes: a projected token is read again and again from its file until it is replaced', async () => {
    const audience = 'https://warder.example';
    await trust(broker, 'cluster', issuer, { uses: ['workload'], audiences: [audience], single_use: false });
    await workloadAgent(broker, 'pod', 'cluster', {
      sub: 'system:serviceaccount:agents:deployer',
      '/kubernetes.io/namespace': 'agents',
    });
    // As kube-apiserver writes it: an audience in a list, nbf, an hour of life, no typ.
    const projected = issuer.token('', {
      aud: [audience],
      sub: 'system:serviceaccount:agents:deployer',
      exp: seconds() + 3607,
      nbf: seconds(),
      'kubernetes.io': {
        namespace: 'agents',
        node: { name: 'n1', uid: randomUUID() },
        pod: { name: 'deployer-5d4', uid: randomUUID() },
        serviceaccount: { name: 'deployer', uid: randomUUID() },
      },
    });
    for (let time = 0; time < 3; time += 1) must(await withAssertionGrant(broker, projected), 200);
    // A legacy token of a year is believed for as long as the issuer's rule says, counted from when it was made.
    const claims = {
      aud: [audience],
      sub: 'system:serviceaccount:agents:deployer',
      'kubernetes.io': { namespace: 'agents' },
    };
    const old = issuer.token('', { ...claims, iat: seconds() - 3700, exp: seconds() + 31_536_000 });
    expect((await withAssertionGrant(broker, old)).text).toBe(refusal);
    const undated = issuer.token('', { ...claims, iat: undefined, exp: seconds() + 31_536_000 });
    expect((await withAssertionGrant(broker, undated)).text).toBe(refusal);
    must(await broker.admin('DELETE', '/agents/pod'), 204);
    must(await broker.admin('DELETE', '/issuers/cluster'), 204);
  });

  test('SPIFFE: a JWT-SVID has no iss; its trust domain is in its subject', async () => {
    const key = makeKey('ES256', 'spire');
    const jwks = { keys: [{ ...key.publicJwk, alg: undefined, use: 'jwt-svid' }] };
    const spiffe = { name: 'spiffe', issuer: 'spiffe://example.org', jwks, uses: ['workload'] };
    must(await broker.admin('POST', '/issuers', spiffe), 201);
    await workloadAgent(broker, 'svid', 'spiffe', { sub: 'spiffe://example.org/ns/agents/sa/*' });
    const svid = (claims: object, header: object = { typ: 'JOSE' }): string =>
      compact(
        { alg: key.alg, kid: key.kid, ...header },
        { sub: 'spiffe://example.org/ns/agents/sa/bot', aud: [broker.url], exp: seconds() + 300, ...claims },
        key,
      );
    for (const header of [{ typ: 'JOSE' }, { typ: 'JWT' }, {}])
      must(await withAssertionGrant(broker, svid({}, header)), 200);
    must(await withAssertionGrant(broker, svid({ iss: 'https://spire.example.org', iat: seconds() })), 200);
    for (const changed of [
      { sub: 'spiffe://example.org.evil/ns/agents/sa/bot' },
      { sub: 'spiffe://example.org' },
      { sub: 'spiffe://evil.org/ns/agents/sa/bot', iss: 'spiffe://example.org' },
      { sub: 'spiffe://example.org/ns/agents/sa/a/b' },
      { aud: [broker.url, 'https://other.example'] },
      { aud: undefined },
    ]) {
      expect([changed, (await withAssertionGrant(broker, svid(changed))).text]).toEqual([changed, refusal]);
    }
  });

  test('an issuer whose keys change is asked again, once for many, and not for every stranger’s token', async () => {
    const rotating = await startIssuer();
    await trust(broker, 'rotating', rotating, { uses: ['workload'] });
    await workloadAgent(broker, 'rotated', 'rotating', { sub: 'sam' });
    const all = await Promise.all(
      Array.from({ length: 20 }, () => withAssertionGrant(broker, rotating.token(broker.url))),
    );
    expect(all.map(({ status }) => status)).toEqual(Array.from({ length: 20 }, () => 200));
    expect(rotating.fetches()).toBe(1);
    const stranger = makeKey('ES256', 'nobody-knows');
    for (let time = 0; time < 10; time += 1) {
      const forged = compact(
        { alg: 'ES256', kid: 'nobody-knows' },
        { iss: rotating.url, aud: broker.url, sub: 'sam', exp: seconds() + 60, iat: seconds() },
        stranger,
      );
      expect((await withAssertionGrant(broker, forged)).text).toBe(refusal);
    }
    expect(rotating.fetches()).toBeLessThanOrEqual(2);
    await rotating.close();
  });

  test('an issuer that is down for a moment costs nobody the keys that are known, whatever strangers send', async () => {
    const shaky = await startIssuer();
    await trust(broker, 'shaky', shaky, { uses: ['workload'] });
    await workloadAgent(broker, 'shaken', 'shaky', { sub: 'sam' });
    must(await withAssertionGrant(broker, shaky.token(broker.url)), 200);
    const now = Date.now;
    const clock = jest.spyOn(Date, 'now');
    try {
      const good = shaky.published.keys;
      shaky.published.keys = 'none';
      clock.mockImplementation(() => now.call(Date) + 31_000);
      const forged = shaky.token(broker.url, {}, { kid: 'nobody-knows' });
      expect((await withAssertionGrant(broker, forged)).text).toBe(refusal);
      expect(shaky.fetches()).toBe(2);
      must(await withAssertionGrant(broker, shaky.token(broker.url)), 200);
      // For the five minutes they are believed, and no longer.
      clock.mockImplementation(() => now.call(Date) + 301_000);
      expect((await withAssertionGrant(broker, shaky.token(broker.url))).text).toBe(refusal);
      shaky.published.keys = good;
      clock.mockImplementation(() => now.call(Date) + 304_000);
      must(await withAssertionGrant(broker, shaky.token(broker.url)), 200);
    } finally {
      clock.mockRestore();
      await shaky.close();
    }
  });

  test('what is no JSON where the keys should be is quoted nowhere', async () => {
    const canary = 'sk_live_9f8e7d6c';
    const page = createServer((_req, res) => res.end(`${canary} is what a neighbour answers`));
    await new Promise<void>((resolve) => page.listen(0, '127.0.0.1', resolve));
    const address = page.address();
    const port = typeof address === 'object' && address ? address.port : 0;
    const lost = await startIssuer();
    lost.metadata['jwks_uri'] = `http://127.0.0.1:${port}/`;
    await trust(broker, 'lost', lost, { uses: ['workload'] });
    await workloadAgent(broker, 'lost-one', 'lost', { sub: 'sam' });
    expect((await withAssertionGrant(broker, lost.token(broker.url))).text).toBe(refusal);
    const { text } = must(await broker.admin('GET', '/audit?type=agent.authentication_failed&limit=20'), 200);
    expect(text).toContain('what is no JSON');
    expect(`${text}${broker.log()}`).not.toContain(canary.slice(0, 8));
    await lost.close();
    await new Promise((resolve) => page.close(resolve));
  });

  test.each([
    ['a symmetric key', (keys: object[]) => ({ keys: [...keys, { kty: 'oct', k: 'AAAA', kid: 'x' }] })],
    ['a private key', (keys: object[]) => ({ keys: [{ ...keys[0], d: 'AAAA' }] })],
    ['two of one kid', (keys: object[]) => ({ keys: [...keys, ...keys] })],
    [
      'more keys than there can be',
      (keys: object[]) => ({ keys: Array.from({ length: 200 }, (_, i) => ({ ...keys[0], kid: `${i}` })) }),
    ],
    ['half a megabyte', (keys: object[]) => ({ keys, more: 'x'.repeat(500_000) })],
    ['no set', () => ({ keys: 'none' })],
  ])('an issuer that publishes %s is not believed', async (name, spoil) => {
    const hostile = await startIssuer();
    const called = name.replaceAll(' ', '-');
    await trust(broker, called, hostile, { uses: ['workload'] });
    await workloadAgent(broker, `agent-${called}`, called, { sub: 'sam' });
    Object.assign(hostile.published, spoil([hostile.key.publicJwk]));
    expect((await withAssertionGrant(broker, hostile.token(broker.url))).text).toBe(refusal);
    await hostile.close();
  });

  test('metadata of another issuer, or with an address that may not be used, is not believed', async () => {
    const liar = await startIssuer();
    await trust(broker, 'liar', liar, { uses: ['workload'] });
    await workloadAgent(broker, 'lied-to', 'liar', { sub: 'sam' });
    liar.metadata['issuer'] = `${liar.url}/other`;
    expect((await withAssertionGrant(broker, liar.token(broker.url))).text).toBe(refusal);
    expect(liar.fetches()).toBe(0);
    await liar.close();
  });

  test('an address on a private network is not asked unless that is allowed', async () => {
    const inside = await startIssuer();
    const body = {
      name: 'inside',
      issuer: 'https://inside.example',
      jwks_uri: inside.url.replace('http:', 'https:'),
      uses: ['workload'],
    };
    must(await broker.admin('POST', '/issuers', body), 201);
    await workloadAgent(broker, 'insider', 'inside', { sub: 'sam' });
    expect((await withAssertionGrant(broker, inside.token(broker.url, { iss: 'https://inside.example' }))).text).toBe(
      refusal,
    );
    expect(inside.fetches()).toBe(0);
    await inside.close();
  });
});
