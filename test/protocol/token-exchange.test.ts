/** An agent acts for a person whose token it was given, or narrows a token of its own (RFC 8693). */
import { rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { createRemoteJWKSet, decodeJwt, jwtVerify } from 'jose';
import * as oauth from 'oauth4webapi';
import Provider from 'oidc-provider';
import * as client from 'openid-client';
import { type Answer, type Broker, freePort, temporaryDir } from '../support/broker.ts';
import { exchange, grantTypes, type LocalIssuer, startIssuer, tokenType, trust, workloadAgent } from './issuers.ts';
import {
  answerTo,
  basic,
  bearer,
  grantTokenIn,
  jwtConnection,
  type Listener,
  listen,
  makeKey,
  must,
  post,
  seconds,
  startProtocolBroker,
  tokenIn,
  troubleIn,
} from './support.ts';

const refusal =
  '{"error":"invalid_request","error_description":"the subject or actor token was not accepted, or this agent may not act for its subject"}';
const inactive = '{"active":false}';

describe('token exchange', () => {
  let broker: Broker;
  let issuer: LocalIssuer;
  let partner: LocalIssuer;
  let upstream: Listener;
  let agent: { clientId: string; clientSecret: string };
  let other: { clientId: string; clientSecret: string };
  let dataDir: string;
  let port: number;

  beforeAll(async () => {
    dataDir = temporaryDir();
    upstream = await listen(() => ({ ok: true }));
    issuer = await startIssuer();
    partner = await startIssuer('RS256');
    // Last, so that none of the servers above is given it.
    port = await freePort();
    broker = await startProtocolBroker({ dataDir, port, env: { WARDER_KEY_MAX_AGE_SECONDS: '86400' } });
    await trust(broker, 'corp', issuer, { uses: ['subject', 'workload'] });
    await trust(broker, 'partner', partner, { subject_claim: 'email', audiences: ['https://app.example'] });
    agent = await broker.agent('helper');
    other = await broker.agent('other');
    must(await broker.connection('echo', upstream.url), 201);
    await jwtConnection(broker, 'orders', { audience: 'https://orders.example', scopes: ['read', 'write'] });
    await jwtConnection(broker, 'private', { audience: 'https://private.example', scopes: ['read'] });
    const behalf = { on_behalf_of: ['corp:sam', 'corp:team-*', 'partner:*@example.com'] };
    must(await broker.entitle('helper', 'echo', ['all'], behalf), 201);
    must(await broker.entitle('helper', 'orders', ['read', 'write'], behalf), 201);
    must(await broker.entitle('helper', 'private', ['read']), 201);
    must(await broker.entitle('other', 'orders', ['read'], { on_behalf_of: ['corp:**'] }), 201);
  });
  afterAll(async () => {
    await broker.close();
    await Promise.all([issuer.close(), partner.close(), upstream.close()]);
    rmSync(dataDir, { recursive: true, force: true });
  });

  const as = ({ clientId, clientSecret } = agent) => ({ authorization: basic(clientId, clientSecret) });
  const swap = (token: string, more: Record<string, string> = {}, who = agent): Promise<Answer> =>
    exchange(broker, token, more, as(who));
  const of = (sub: string, claims: Record<string, unknown> = {}): string =>
    issuer.token(broker.url, { sub, ...claims });
  const orders = (scope = 'read') => ({ resource: `${broker.url}/connections/orders`, scope });
  const introspect = (token: string, who = agent): Promise<Answer> =>
    post(`${broker.url}/introspect`, { token }, as(who));

  test('gives an agent token that acts for the subject, and says what it is', async () => {
    const { body } = must(await swap(of('sam')), 200);
    expect(body).toEqual({
      access_token: expect.stringMatching(/^wdr_at_/),
      issued_token_type: tokenType('access_token'),
      token_type: 'Bearer',
      expires_in: expect.any(Number),
    });
    expect((await introspect(String(body['access_token']))).body).toMatchObject({
      active: true,
      client_id: 'helper',
      sub: 'corp:sam',
      act: { sub: 'helper' },
    });
  });

  test('gives a token with which only connections are seen and asked for that allow acting for the subject', async () => {
    const token = tokenIn(await swap(of('sam')));
    const { body } = must(await answerTo(`${broker.url}/v1/connections`, { headers: bearer(token) }), 200);
    expect((body['items'] as { connection: string }[]).map(({ connection }) => connection).sort()).toEqual([
      'echo',
      'orders',
    ]);
    expect((await broker.grant(token, { connection: 'private', scopes: ['read'] })).body['code']).toBe('not_entitled');
    const granted = must(await broker.grant(token, { connection: 'orders', scopes: ['read'] }), 201);
    expect(granted.body['grant']).toMatchObject({ subject: 'corp:sam' });
    const claims = decodeJwt(grantTokenIn(granted));
    expect(claims).toMatchObject({ sub: 'corp:sam', act: { sub: 'helper' }, client_id: 'helper' });
  });

  test('gives a grant at once, as a JWT whose claims say for whom and by whom', async () => {
    const { body } = must(await swap(of('sam'), orders()), 200);
    expect(body).toMatchObject({ token_type: 'Bearer', issued_token_type: tokenType('access_token') });
    const jwks = createRemoteJWKSet(new URL(`${broker.url}/jwks`));
    const { payload } = await jwtVerify(String(body['access_token']), jwks, { audience: 'https://orders.example' });
    expect(payload).toMatchObject({ sub: 'corp:sam', act: { sub: 'helper' }, scope: 'read' });
    const shown = must(await broker.admin('GET', `/grants/${body['grant_id']}`), 200).body;
    expect(shown).toMatchObject({ subject: 'corp:sam', issuers: ['corp'], agent: 'helper' });
    expect((await introspect(String(body['access_token']))).body).toMatchObject({
      sub: 'corp:sam',
      act: { sub: 'helper' },
    });
  });

  test('takes the connection as an audience, and one target only', async () => {
    must(await swap(of('sam'), { audience: 'orders', scope: 'read' }), 200);
    must(await swap(of('sam'), { audience: 'orders', ...orders() }), 200);
    for (const more of [
      { audience: 'echo', ...orders() },
      { audience: 'nowhere', scope: 'read' },
      { resource: 'https://other.example/x', scope: 'read' },
      { resource: `${broker.url}/connections/nowhere`, scope: 'read' },
      { resource: `${broker.url}/connections/private`, scope: 'read' },
    ]) {
      const { status, body } = await swap(of('sam'), more);
      expect([more, status, body['error']]).toEqual([more, 400, 'invalid_target']);
    }
    expect((await swap(of('sam'), orders('read admin'))).body['error']).toBe('invalid_scope');
    expect((await swap(of('sam'), { scope: 'read' })).body['error']).toBe('invalid_scope');
  });

  test('gives the type of token that was asked for, or says that there is none', async () => {
    const asJwt = { requested_token_type: tokenType('jwt') };
    expect(must(await swap(of('sam'), { ...orders(), ...asJwt }), 200).body['issued_token_type']).toBe(
      tokenType('jwt'),
    );
    const echo = { resource: `${broker.url}/connections/echo`, scope: 'all' };
    for (const more of [
      { ...echo, ...asJwt },
      asJwt,
      { requested_token_type: tokenType('refresh_token') },
      { requested_token_type: tokenType('saml2') },
      { requested_token_type: 'jwt' },
    ]) {
      const { status, body } = await swap(of('sam'), more);
      expect([more, status, body['error']]).toEqual([more, 400, 'invalid_request']);
    }
    must(await swap(of('sam'), { ...echo, requested_token_type: tokenType('access_token') }), 200);
  });

  test('is for subjects an entitlement names, of the issuer it names, and for nobody else', async () => {
    for (const sub of ['ann', 'Sam', 'sam2', 'team-a:b', 'partner:x@example.com', 'team']) {
      expect([sub, (await swap(of(sub))).text]).toEqual([sub, refusal]);
      expect([sub, (await swap(of(sub), orders())).body['error']]).toEqual([sub, 'invalid_target']);
    }
    must(await swap(of('team-blue')), 200);
    must(await swap(of('ann'), {}, other), 200);
    const email = (claims: object) => partner.token('https://app.example', { sub: 'u1', ...claims });
    const { body } = must(await swap(email({ email: 'eve@example.com' })), 200);
    expect((await introspect(String(body['access_token']))).body['sub']).toBe('partner:eve@example.com');
    for (const claims of [
      { email: 'sam' },
      { email: 'eve@example.com.evil' },
      {},
      { email: ['eve@example.com'] },
      { email: 7 },
    ]) {
      expect((await swap(email(claims))).text).toBe(refusal);
    }
  });

  test('never gives anything that outlives the subject’s token', async () => {
    const soon = seconds() + 40;
    const token = () => of('sam', { exp: soon });
    const own = must(await swap(token()), 200).body;
    expect(own['expires_in']).toBeLessThanOrEqual(40);
    const direct = must(await swap(token(), orders()), 200).body;
    expect(decodeJwt(String(direct['access_token'])).exp).toBeLessThanOrEqual(soon);
    const granted = must(await broker.grant(String(own['access_token']), { connection: 'echo', scopes: ['all'] }), 201);
    const { id, expires_at } = granted.body['grant'] as { id: string; expires_at: string };
    expect(Date.parse(expires_at)).toBeLessThanOrEqual(soon * 1000);
    const shown = must(await broker.admin('GET', `/grants/${id}`), 200).body;
    expect(Date.parse(String(shown['max_expires_at']))).toBeLessThanOrEqual(soon * 1000);
    // Exchanged again, it is the token presented that bounds.
    const again = must(await swap(String(own['access_token']), { subject_token_type: tokenType('access_token') }), 200);
    expect(again.body['expires_in']).toBeLessThanOrEqual(40);
    // Long-lived tokens are bounded by what Warder gives anyway.
    expect(must(await swap(of('sam', { exp: seconds() + 86_400 })), 200).body['expires_in']).toBe(300);
  });

  test('holds itself to who may act, where the token says it', async () => {
    must(await swap(of('sam', { may_act: { sub: 'helper' } })), 200);
    must(await swap(of('sam', { may_act: { sub: 'helper', iss: broker.url } })), 200);
    for (const may_act of [
      { sub: 'other' },
      { sub: 'helper', iss: 'https://x.example' },
      {},
      'helper',
      null,
      ['helper'],
    ]) {
      expect([may_act, (await swap(of('sam', { may_act }))).text]).toEqual([may_act, refusal]);
    }
  });

  test('lets only top-level claims decide, whatever actors the token names', async () => {
    const act = { sub: 'team-blue', act: { sub: 'helper' } };
    const { body } = must(await swap(of('sam', { act })), 200);
    expect((await introspect(String(body['access_token']))).body).toMatchObject({
      sub: 'corp:sam',
      act: { sub: 'helper' },
    });
    expect((await swap(of('ann', { act: { sub: 'sam' } }))).text).toBe(refusal);
  });

  test('does not take a token bound to a key of somebody else', async () => {
    expect((await swap(of('sam', { cnf: { jkt: 'x'.repeat(43) } }))).body['error']).toBe('invalid_dpop_proof');
    expect((await swap(of('sam', { cnf: { 'x5t#S256': 'x' } }))).text).toBe(refusal);
  });

  test('needs what section 2.1 says, and nothing that contradicts it', async () => {
    const body = (fields: Record<string, string>) =>
      post(`${broker.url}/token`, { grant_type: grantTypes.exchange, ...fields }, as());
    const subject = { subject_token: of('sam'), subject_token_type: tokenType('id_token') };
    for (const fields of [
      {},
      { subject_token: subject.subject_token },
      { subject_token_type: subject.subject_token_type },
      { ...subject, subject_token_type: tokenType('saml2') },
      { ...subject, subject_token_type: tokenType('refresh_token') },
      { ...subject, subject_token_type: 'id_token' },
      { ...subject, actor_token: 'x' },
      { ...subject, actor_token_type: tokenType('jwt') },
    ]) {
      const { status, body: answer } = await body(fields);
      expect([Object.keys(fields), status, answer['error']]).toEqual([Object.keys(fields), 400, 'invalid_request']);
    }
    expect((await exchange(broker, of('sam'))).body['error']).toBe('invalid_client');
    expect((await exchange(broker, of('sam'), {}, { authorization: basic('helper', 'wrong') })).status).toBe(401);
  });

  test('knows a token by its kind', async () => {
    const typed = (typ: string | undefined, type: string) =>
      swap(issuer.token(broker.url, { sub: 'sam' }, { typ }), { subject_token_type: tokenType(type) });
    expect((await typed('at+jwt', 'id_token')).text).toBe(refusal);
    must(await typed('at+jwt', 'access_token'), 200);
    must(await typed('application/at+jwt', 'jwt'), 200);
    must(await typed(undefined, 'access_token'), 200);
    for (const typ of [
      'dpop+jwt',
      'logout+jwt',
      'secevent+jwt',
      'oauth-id-jag+jwt',
      'JOSE',
      'client-authentication+jwt',
    ]) {
      expect([typ, (await typed(typ, 'jwt')).text]).toEqual([typ, refusal]);
    }
  });

  test('takes no event for a token: neither logging out nor anything else the issuer tells of its subject', async () => {
    const event = { 'http://schemas.openid.net/event/backchannel-logout': {} };
    for (const type of ['id_token', 'access_token', 'jwt']) {
      for (const typ of [undefined, 'JWT']) {
        const told = issuer.token(broker.url, { sub: 'sam', sid: 's1', events: event }, { typ });
        expect((await swap(told, { subject_token_type: tokenType(type) })).text).toBe(refusal);
      }
    }
  });

  test('keeps issuers to what they are trusted for', async () => {
    const workload = await startIssuer();
    await trust(broker, 'only-workloads', workload, { uses: ['workload'] });
    expect((await swap(workload.token(broker.url))).text).toBe(refusal);
    must(await broker.admin('PATCH', '/issuers/only-workloads', { uses: ['subject'] }), 200);
    expect((await swap(workload.token(broker.url), orders())).body['error']).toBe('invalid_target');
    await workload.close();
  });

  test('holds tokens to the rules of their issuer', async () => {
    const ruled = await startIssuer();
    await trust(broker, 'ruled', ruled, {
      claims: { hd: 'example.com', email_verified: 'true' },
      max_token_age_seconds: 60,
    });
    must(await broker.entitle('helper', 'private', ['read'], { on_behalf_of: ['ruled:sam'] }), 201);
    const good = { hd: 'example.com', email_verified: true };
    must(await swap(ruled.token(broker.url, good)), 200);
    for (const claims of [
      { ...good, hd: 'evil.example' },
      { hd: 'example.com' },
      { ...good, email_verified: false },
      { ...good, iat: seconds() - 100 },
    ]) {
      expect((await swap(ruled.token(broker.url, claims))).text).toBe(refusal);
    }
    await ruled.close();
  });

  describe('of a token of Warder', () => {
    const own = { subject_token_type: tokenType('access_token') };

    test('narrows a grant: its connection, fewer scopes, no longer life', async () => {
      const wide = must(await swap(of('sam'), orders('read write')), 200).body;
      const narrow = must(await swap(String(wide['access_token']), { ...own, ...orders('read') }), 200).body;
      const claims = decodeJwt(String(narrow['access_token']));
      expect(claims).toMatchObject({ scope: 'read', sub: 'corp:sam', act: { sub: 'helper' } });
      expect(claims.exp).toBeLessThanOrEqual(decodeJwt(String(wide['access_token'])).exp ?? 0);
      const token = String(narrow['access_token']);
      expect((await swap(token, { ...own, ...orders('read write') })).body['error']).toBe('invalid_scope');
      const echo = { resource: `${broker.url}/connections/echo`, scope: 'all' };
      expect((await swap(token, { ...own, ...echo })).body['error']).toBe('invalid_target');
      expect((await swap(token, own)).body['error']).toBe('invalid_target');
    });

    test('carries the subject of an agent token into a grant', async () => {
      const token = tokenIn(await swap(of('sam')));
      const { body } = must(await swap(token, { ...own, ...orders() }), 200);
      expect(decodeJwt(String(body['access_token'])).sub).toBe('corp:sam');
    });

    test('without a subject is the agent’s own', async () => {
      const token = await broker.agentToken(agent);
      const { body } = must(await swap(token, { ...own, ...orders() }), 200);
      expect(decodeJwt(String(body['access_token']))).toMatchObject({ sub: 'helper' });
      expect(decodeJwt(String(body['access_token'])).act).toBeUndefined();
    });

    test('is for its holder only', async () => {
      const token = tokenIn(await swap(of('sam')));
      const grant = must(await swap(of('sam'), orders()), 200).body['access_token'];
      for (const stolen of [token, String(grant), await broker.agentToken(agent)]) {
        expect((await swap(stolen, { ...own, ...orders() }, other)).text).toBe(refusal);
      }
    });

    test('is refused when it is dead: revoked, returned, expired, its agent or connection gone', async () => {
      const token = async (): Promise<string> => tokenIn(await swap(of('sam')));
      const grant = async () => must(await swap(of('sam'), orders()), 200).body;
      const tries = (text: string) => swap(text, { ...own, ...orders() });
      const revoked = await token();
      must(await post(`${broker.url}/revoke`, { token: revoked }, as()), 200);
      expect((await tries(revoked)).text).toBe(refusal);
      const returned = await grant();
      must(await post(`${broker.url}/revoke`, { token: String(returned['access_token']) }, as()), 200);
      expect((await tries(String(returned['access_token']))).text).toBe(refusal);
      const fenced = [await token(), String((await grant())['access_token'])];
      must(await broker.admin('POST', '/revocations', { selector: { subject: 'corp:sam' }, reason: 'test' }), 201);
      for (const text of fenced) {
        expect((await tries(text)).text).toBe(refusal);
        expect((await introspect(text)).text).toBe(inactive);
      }
      // A fence is about what was issued before it.
      const paused = [await token(), String((await grant())['access_token'])];
      must(await broker.admin('PATCH', '/connections/orders', { status: 'suspended' }), 200);
      expect((await tries(paused[1] ?? '')).text).toBe(refusal);
      must(await broker.admin('PATCH', '/connections/orders', { status: 'active' }), 200);
      must(await broker.admin('PATCH', '/agents/helper', { status: 'suspended' }), 200);
      for (const text of paused) expect((await tries(text)).text).toBe(refusal);
      must(await broker.admin('PATCH', '/agents/helper', { status: 'active' }), 200);
      must(await tries(paused[1] ?? ''), 200);
    });

    test('is of the type it is said to be', async () => {
      const opaque = tokenIn(await swap(of('sam')));
      const signed = String(must(await swap(of('sam'), orders()), 200).body['access_token']);
      const said = (text: string, type: string) => swap(text, { ...orders(), subject_token_type: tokenType(type) });
      for (const [text, type] of [
        [opaque, 'id_token'],
        [opaque, 'jwt'],
        [signed, 'id_token'],
      ] as const) {
        expect((await said(text, type)).text).toBe(refusal);
      }
      must(await said(opaque, 'access_token'), 200);
      must(await said(signed, 'access_token'), 200);
      must(await said(signed, 'jwt'), 200);
    });

    test('of other kinds, or of nobody, is refused', async () => {
      const { operator } = { operator: broker.adminToken };
      for (const text of [
        operator,
        agent.clientSecret,
        `wdr_at_${'0'.repeat(69)}`,
        `wdr_gw_${'a'.repeat(69)}`,
        'wdr_',
      ]) {
        expect((await swap(text, own)).text).toBe(refusal);
      }
    });
  });

  test.each([
    ['subject', { subject: 'corp:sam' }],
    ['issuer', { issuer: 'corp' }],
    ['agent', { agent: 'helper' }],
  ])('of a token of Warder, while its %s is revoked, leaves nothing alive', async (_what, selector) => {
    const token = tokenIn(await swap(of('sam')));
    const own = { subject_token_type: tokenType('access_token') };
    const burst = (): Promise<Answer>[] =>
      Array.from({ length: 30 }, (_one, i) => swap(token, i % 2 === 0 ? { ...own, ...orders() } : own));
    const before = burst();
    const revoking = broker.admin('POST', '/revocations', { selector, reason: 'test' });
    const answers = await Promise.all([...before, ...burst()]);
    must(await revoking, 201);
    const issued = answers.filter(({ status }) => status === 200).map(({ body }) => String(body['access_token']));
    for (const text of issued) expect((await introspect(text)).text).toBe(inactive);
    for (const { status } of await Promise.all(burst())) expect(status).toBe(400);
  });

  describe('with an actor token', () => {
    beforeAll(async () => {
      await workloadAgent(broker, 'pod', 'corp', { sub: 'system:pod' });
      must(await broker.entitle('pod', 'orders', ['read'], { on_behalf_of: ['corp:sam'] }), 201);
    });
    const workload = () => ({ actor_token: of('system:pod'), actor_token_type: tokenType('jwt') });

    test('a workload needs no other proof', async () => {
      const { body } = must(await exchange(broker, of('sam'), { ...workload(), ...orders() }), 200);
      expect(decodeJwt(String(body['access_token']))).toMatchObject({ sub: 'corp:sam', act: { sub: 'pod' } });
      const shown = must(await broker.admin('GET', `/grants/${body['grant_id']}`), 200).body;
      expect(shown).toMatchObject({ agent: 'pod', issuers: ['corp'] });
    });

    test('an agent token proves its agent', async () => {
      const actor_token = await broker.agentToken(agent);
      const actor = { actor_token, actor_token_type: tokenType('access_token') };
      const { body } = must(await exchange(broker, of('sam'), actor), 200);
      expect((await introspect(String(body['access_token']))).body['act']).toEqual({ sub: 'helper' });
      must(await swap(of('sam'), actor), 200);
      must(await exchange(broker, of('sam'), { ...actor, client_id: 'helper' }), 200);
      expect((await exchange(broker, of('sam'), { ...actor, client_id: 'other' })).text).toBe(refusal);
      expect((await swap(of('ann'), actor, other)).text).toBe(refusal);
    });

    test('of anything else, used before, dead, or acting for somebody itself, is refused', async () => {
      const once = workload();
      must(await exchange(broker, of('sam'), once), 200);
      expect((await exchange(broker, of('sam'), once)).text).toBe(refusal);
      const acting = tokenIn(await swap(of('sam')));
      const dead = await broker.agentToken(agent);
      must(await post(`${broker.url}/revoke`, { token: dead }, as()), 200);
      for (const actor of [
        { actor_token: of('nobody'), actor_token_type: tokenType('jwt') },
        { actor_token: acting, actor_token_type: tokenType('access_token') },
        { actor_token: dead, actor_token_type: tokenType('access_token') },
        { actor_token: of('system:pod'), actor_token_type: tokenType('id_token') },
        {
          actor_token: String(must(await swap(of('sam'), orders()), 200).body['access_token']),
          actor_token_type: tokenType('access_token'),
        },
        { actor_token: 'x', actor_token_type: tokenType('jwt') },
      ]) {
        expect((await exchange(broker, of('sam'), actor)).text).toBe(refusal);
      }
    });
  });

  test('leaves no credential behind an error', async () => {
    const counted = async () =>
      (must(await broker.admin('GET', '/audit?type=token.issued&limit=500'), 200).body['items'] as unknown[]).length;
    const before = await counted();
    await Promise.all(['x', of('ann'), issuer.token('https://other.example')].map((token) => swap(token)));
    expect(await counted()).toBe(before);
  });

  test('is recorded with whom it is for, and refusals with why, which the client is not told', async () => {
    await swap(of('sam'), orders());
    const issued = must(await broker.admin('GET', '/audit?type=grant.issued&agent=helper&limit=1'), 200).text;
    expect(issued).toContain('"subject":"corp:sam"');
    await swap(issuer.token('https://other.example'));
    const refused = must(await broker.admin('GET', '/audit?type=token.refused&agent=helper&limit=1'), 200).text;
    expect(refused).toMatch(/unexpected \\"aud\\"/);
    expect(troubleIn(broker.log())).toEqual([]);
  });

  describe('when the issuer is no longer trusted', () => {
    const tries = (text: string) => swap(text, { subject_token_type: tokenType('access_token'), ...orders() });

    test.each([
      [
        'suspended',
        () => broker.admin('PATCH', '/issuers/corp', { status: 'suspended' }),
        () => broker.admin('PATCH', '/issuers/corp', { status: 'active' }),
      ],
      [
        'changed',
        () => broker.admin('PATCH', '/issuers/corp', { claims: { tenant: 'x' } }),
        () => broker.admin('PATCH', '/issuers/corp', { claims: {} }),
      ],
      [
        'revoked',
        () => broker.admin('POST', '/revocations', { selector: { issuer: 'corp' }, reason: 'test' }),
        undefined,
      ],
    ])('%s: what it vouched for is dead at once, and stays so', async (_name, take, back) => {
      const token = tokenIn(await swap(of('sam')));
      const grant = String(must(await swap(of('sam'), orders()), 200).body['access_token']);
      const bystander = await broker.agentToken(agent);
      const { status } = await take();
      expect(status).toBeLessThan(300);
      const dead = async () => {
        for (const text of [token, grant]) {
          expect((await introspect(text)).text).toBe(inactive);
          expect((await tries(text)).text).toBe(refusal);
        }
        expect((await answerTo(`${broker.url}/v1/connections`, { headers: bearer(token) })).status).toBe(401);
      };
      await dead();
      if (back) expect((await swap(of('sam'))).text).toBe(refusal);
      expect((await introspect(bystander)).body['active']).toBe(true);
      if (back) must(await back(), 200);
      await dead();
      must(await swap(of('sam')), 200);
    });

    test('and the broker was restarted: no token comes back to life', async () => {
      const token = tokenIn(await swap(of('sam')));
      must(await broker.admin('POST', '/revocations', { selector: { subject: 'corp:sam' }, reason: 'test' }), 201);
      await broker.close();
      broker = await startProtocolBroker({ dataDir, port });
      expect((await tries(token)).text).toBe(refusal);
      const living = tokenIn(await swap(of('sam')));
      must(await tries(living), 200);
    });

    test('by time: an expired token is refused, wherever the clock goes then', async () => {
      const token = tokenIn(await swap(of('sam')));
      const foreign = of('sam');
      const now = Date.now;
      const clock = jest.spyOn(Date, 'now');
      try {
        clock.mockImplementation(() => now.call(Date) + 301_000);
        expect((await tries(token)).text).toBe(refusal);
        expect((await swap(foreign)).text).toBe(refusal);
        clock.mockImplementation(() => now.call(Date));
        expect((await tries(token)).text).toBe(refusal);
        expect((await swap(foreign)).text).toBe(refusal);
      } finally {
        clock.mockRestore();
      }
    });
  });
});

describe('a certified authorization server as the issuer', () => {
  let broker: Broker;
  let server: Server;
  let url: string;
  let agent: { clientId: string; clientSecret: string };

  beforeAll(async () => {
    // It says at length that it is not set up for production.
    for (const level of ['info', 'warn'] as const) jest.spyOn(console, level).mockImplementation(() => undefined);
    broker = await startProtocolBroker();
    server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    url = `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`;
    const key = makeKey('RS256', 'idp-1');
    const provider = new Provider(url, {
      clients: [
        {
          client_id: 'batch-job',
          client_secret: 'secret',
          grant_types: ['client_credentials'],
          redirect_uris: [],
          response_types: [],
        },
      ],
      jwks: { keys: [{ ...key.privateJwk, use: 'sig' }] },
      features: {
        devInteractions: { enabled: false },
        clientCredentials: { enabled: true },
        resourceIndicators: {
          enabled: true,
          getResourceServerInfo: () => ({ scope: '', accessTokenFormat: 'jwt' }),
        },
      },
    });
    server.on('request', provider.callback());
    agent = await broker.agent('helper');
    await jwtConnection(broker, 'orders', { audience: 'https://orders.example', scopes: ['read'] });
    must(await broker.entitle('helper', 'orders', ['read'], { on_behalf_of: ['idp:batch-*'] }), 201);
    const body = { name: 'idp', issuer: url, allow_private_network: true, uses: ['subject'] };
    must(await broker.admin('POST', '/issuers', body), 201);
  });
  afterAll(async () => {
    jest.restoreAllMocks();
    await broker.close();
    server.closeAllConnections();
    server.close();
  });

  const idpToken = async (resource = broker.url): Promise<string> => {
    const answer = await post(
      `${url}/token`,
      { grant_type: 'client_credentials', resource },
      { authorization: basic('batch-job', 'secret') },
    );
    return tokenIn(answer);
  };

  test('is discovered, and its access tokens exchanged, through openid-client', async () => {
    const config = await client.discovery(
      new URL(broker.url),
      agent.clientId,
      undefined,
      client.ClientSecretBasic(agent.clientSecret),
      { algorithm: 'oauth2', execute: [client.allowInsecureRequests] },
    );
    const tokens = await client.genericGrantRequest(config, grantTypes.exchange, {
      subject_token: await idpToken(),
      subject_token_type: tokenType('access_token'),
      resource: `${broker.url}/connections/orders`,
      scope: 'read',
    });
    expect(tokens['issued_token_type']).toBe(tokenType('access_token'));
    expect(decodeJwt(tokens.access_token)).toMatchObject({ sub: 'idp:batch-job', act: { sub: 'helper' } });
  });

  test('through oauth4webapi', async () => {
    const insecure = { [oauth.allowInsecureRequests]: true };
    const at = new URL(broker.url);
    const as = await oauth.processDiscoveryResponse(
      at,
      await oauth.discoveryRequest(at, { algorithm: 'oauth2', ...insecure }),
    );
    const who = { client_id: agent.clientId };
    const response = await oauth.genericTokenEndpointRequest(
      as,
      who,
      oauth.ClientSecretBasic(agent.clientSecret),
      grantTypes.exchange,
      { subject_token: await idpToken(), subject_token_type: tokenType('access_token') },
      insecure,
    );
    const tokens = await oauth.processGenericTokenEndpointResponse(as, who, response);
    expect(tokens).toMatchObject({ token_type: 'bearer', issued_token_type: tokenType('access_token') });
  });

  test('and a token of it for somebody else is not taken', async () => {
    const { text } = await exchange(
      broker,
      await idpToken('https://other.example'),
      { subject_token_type: tokenType('access_token') },
      { authorization: basic(agent.clientId, agent.clientSecret) },
    );
    expect(text).toBe(refusal);
  });
});
