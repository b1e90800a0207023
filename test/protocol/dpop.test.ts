/** Tokens bound to a key (RFC 9449): at the token endpoint, the agent API, the gateway, in JWTs and introspection. */
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { decodeJwt } from 'jose';
import * as oauth from 'oauth4webapi';
import * as client from 'openid-client';
import { type Answer, type Broker, freePort, temporaryDir } from '../support/broker.ts';
import { exchange, type LocalIssuer, startIssuer, tokenType, trust } from './issuers.ts';
import { makeProofKey, type ProofKey, proofOf } from './proofs.ts';
import {
  answerTo,
  basic,
  grantTokenIn,
  jwtConnection,
  type Listener,
  listen,
  must,
  post,
  startProtocolBroker,
  tokenIn,
  troubleIn,
} from './support.ts';

const algs = 'algs="RS256 PS256 ES256 ES384 Ed25519 EdDSA"';

describe('a token bound to a key', () => {
  let broker: Broker;
  let upstream: Listener;
  let issuer: LocalIssuer;
  let agent: { clientId: string; clientSecret: string };
  let key: ProofKey;
  let thief: ProofKey;
  let dataDir: string;
  let port: number;

  beforeAll(async () => {
    dataDir = temporaryDir();
    upstream = await listen(() => ({ ok: true }));
    issuer = await startIssuer();
    // Last, so that none of the servers above is given it.
    port = await freePort();
    broker = await startProtocolBroker({ dataDir, port });
    agent = await broker.agent('reporter');
    await trust(broker, 'corp', issuer);
    must(await broker.connection('echo', upstream.url), 201);
    await jwtConnection(broker, 'orders', { audience: 'https://orders.example', scopes: ['read'] });
    must(await broker.entitle('reporter', 'echo', ['all'], { on_behalf_of: ['corp:sam'] }), 201);
    must(await broker.entitle('reporter', 'orders', ['read'], { on_behalf_of: ['corp:sam'] }), 201);
    key = await makeProofKey();
    thief = await makeProofKey();
  });
  afterAll(async () => {
    await broker.close();
    await Promise.all([upstream.close(), issuer.close()]);
    rmSync(dataDir, { recursive: true, force: true });
  });

  const as = () => ({ authorization: basic(agent.clientId, agent.clientSecret) });
  const at = (path: string): string => `${broker.url}${path}`;
  const ask = (dpop: string | undefined, more: Record<string, string> = {}): Promise<Answer> =>
    post(
      at('/token'),
      { grant_type: 'client_credentials', ...more },
      { ...as(), ...(dpop === undefined ? {} : { dpop }) },
    );
  const bound = async (more: Record<string, string> = {}, with_ = key): Promise<string> =>
    tokenIn(await ask(proofOf(with_, 'POST', at('/token')), more));
  const echo = () => ({ resource: at('/connections/echo'), scope: 'all' });
  const orders = () => ({ resource: at('/connections/orders'), scope: 'read' });
  const call = (
    path: string,
    token: string,
    {
      proof,
      scheme = 'DPoP',
      method = 'GET',
      body,
    }: { proof?: string; scheme?: string; method?: string; body?: string } = {},
  ): Promise<Answer> =>
    answerTo(at(path), {
      method,
      headers: {
        authorization: `${scheme} ${token}`,
        ...(proof === undefined ? {} : { dpop: proof }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body }),
    });
  const good = (path: string, token: string, method = 'GET', with_ = key): string =>
    proofOf(with_, method, at(path), token);
  const introspect = (token: string): Promise<Answer> => post(at('/introspect'), { token }, as());

  test('is given for a proof, and says so', async () => {
    const { body } = must(await ask(proofOf(key, 'POST', at('/token'))), 200);
    expect(body).toEqual({ access_token: expect.stringMatching(/^wdr_at_/), token_type: 'DPoP', expires_in: 300 });
    expect((await introspect(String(body['access_token']))).body).toMatchObject({
      active: true,
      token_type: 'DPoP',
      cnf: { jkt: key.jkt },
    });
  });

  test.each(['RS256', 'PS256', 'ES256', 'ES384', 'Ed25519', 'EdDSA'] as const)('works with %s', async (alg) => {
    const mine = await makeProofKey(alg);
    const token = await bound({}, mine);
    must(await call('/v1/connections', token, { proof: good('/v1/connections', token, 'GET', mine) }), 200);
  });

  test('opens the agent API with a proof for each call, and with none twice', async () => {
    const token = await bound();
    const proof = good('/v1/connections', token);
    must(await call('/v1/connections', token, { proof }), 200);
    const again = await call('/v1/connections', token, { proof });
    expect([again.status, again.body['code']]).toEqual([401, 'invalid_dpop_proof']);
    expect(again.headers.get('www-authenticate')).toBe(
      `DPoP error="invalid_dpop_proof", resource_metadata="${at('/.well-known/oauth-protected-resource/v1')}", ${algs}`,
    );
  });

  test('sent as Bearer is refused, at every resource, also with a proof', async () => {
    const token = await bound();
    const gateway = await bound(echo());
    const before = upstream.requests.length;
    for (const [path, one] of [
      ['/v1/connections', token],
      ['/gateway/echo/x', gateway],
    ] as const) {
      for (const proof of [undefined, good(path, one)]) {
        const answer = await call(path, one, { scheme: 'Bearer', ...(proof === undefined ? {} : { proof }) });
        expect([answer.status, answer.body['code']]).toEqual([401, 'invalid_dpop_proof']);
        expect(answer.headers.get('www-authenticate')).toMatch(/^DPoP error="invalid_token", .*algs="/);
      }
    }
    expect(upstream.requests).toHaveLength(before);
  });

  test('is no token without a proof, and with another key’s, another token’s, or another request’s proof', async () => {
    const [token, other] = [await bound(), await bound()];
    const gateway = await bound(echo());
    const before = upstream.requests.length;
    const path = '/gateway/echo/x';
    const bad: [string, string, string | undefined][] = [
      ['/v1/connections', token, undefined],
      ['/v1/connections', token, good('/v1/connections', token, 'GET', thief)],
      ['/v1/connections', token, good('/v1/connections', other)],
      ['/v1/connections', token, proofOf(key, 'GET', at('/v1/connections'))],
      ['/v1/connections', token, good('/v1/grants', token)],
      ['/v1/connections', token, good('/v1/connections', token, 'POST')],
      ['/v1/connections', token, good('/v1/connections', token, 'get')],
      [path, gateway, undefined],
      [path, gateway, good(path, gateway, 'GET', thief)],
      [path, gateway, good(path, token)],
      [path, gateway, good('/gateway/echo/y', gateway)],
      [path, gateway, good('/gateway/other/x', gateway)],
      [path, gateway, good(path, gateway, 'POST')],
      [path, gateway, proofOf(key, 'GET', `https://evil.example${path}`, gateway)],
      [path, gateway, proofOf(key, 'GET', at(path), gateway, { iat: Date.now() / 1000 - 90 })],
      [path, gateway, `${good(path, gateway)}, ${good(path, gateway)}`],
    ];
    for (const [where, one, proof] of bad) {
      const answer = await call(where, one, proof === undefined ? {} : { proof });
      expect([where, answer.status, answer.body['code']]).toEqual([where, 401, 'invalid_dpop_proof']);
    }
    expect(upstream.requests).toHaveLength(before);
  });

  test('that is bound to none is refused in the scheme DPoP, with a proof too', async () => {
    const token = await broker.agentToken(agent);
    for (const proof of [undefined, good('/v1/connections', token)]) {
      const answer = await call('/v1/connections', token, proof === undefined ? {} : { proof });
      expect([answer.status, answer.body['code']]).toEqual([401, 'unauthenticated']);
      expect(answer.headers.get('www-authenticate')).toMatch(/^DPoP error="invalid_token"/);
    }
    const gateway = tokenIn(await ask(undefined, echo()));
    expect((await call('/gateway/echo/x', gateway, { proof: good('/gateway/echo/x', gateway) })).status).toBe(401);
    expect((await call('/gateway/echo/x', gateway, { scheme: 'Bearer', proof: 'whatever' })).status).toBe(200);
  });

  test('passes what it is bound to on to what is obtained with it', async () => {
    const token = await bound();
    const request = (connection: string, scope: string) =>
      call('/v1/grants', token, {
        method: 'POST',
        body: JSON.stringify({ connection, scopes: [scope] }),
        proof: good('/v1/grants', token, 'POST'),
      });
    const granted = await request('echo', 'all');
    const gateway = grantTokenIn(granted);
    expect(granted.body['credential']).toMatchObject({ type: 'gateway', token_type: 'DPoP' });
    expect((await call('/gateway/echo/x', gateway, { scheme: 'Bearer' })).status).toBe(401);
    must(await call('/gateway/echo/x', gateway, { proof: good('/gateway/echo/x', gateway) }), 200);
    const jwt = grantTokenIn(await request('orders', 'read'));
    expect(decodeJwt(jwt)['cnf']).toEqual({ jkt: key.jkt });
    expect((await introspect(jwt)).body).toMatchObject({ token_type: 'DPoP', cnf: { jkt: key.jkt } });
  });

  test('reaches the upstream without its proof, whatever the query', async () => {
    const gateway = await bound(echo());
    const path = '/gateway/echo/items/1';
    const proof = good(path, gateway);
    must(await call(`${path}?page=2`, gateway, { proof }), 200);
    const seen = upstream.requests.at(-1);
    expect(seen?.url).toBe('/items/1?page=2');
    expect(seen?.headers['dpop']).toBeUndefined();
    expect(JSON.stringify(seen?.rawHeaders)).not.toContain(proof.slice(0, 40));
  });

  test('one proof used a hundred times at once goes through the gateway, or into the API, once', async () => {
    const gateway = await bound(echo());
    const proof = good('/gateway/echo/once', gateway);
    const before = upstream.requests.length;
    const answers = await Promise.all(
      Array.from({ length: 100 }, () => call('/gateway/echo/once', gateway, { proof })),
    );
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
    expect(upstream.requests).toHaveLength(before + 1);
    const token = await bound();
    const second = good('/v1/connections', token);
    const calls = await Promise.all(
      Array.from({ length: 100 }, () => call('/v1/connections', token, { proof: second })),
    );
    expect(calls.filter(({ status }) => status === 200)).toHaveLength(1);
    const third = proofOf(key, 'POST', at('/token'));
    const tokens = await Promise.all(Array.from({ length: 100 }, () => ask(third)));
    expect(tokens.filter(({ status }) => status === 200)).toHaveLength(1);
    expect(new Set(tokens.map(({ status, body }) => `${status} ${body['error'] ?? ''}`))).toEqual(
      new Set(['200 ', '400 invalid_dpop_proof']),
    );
  });

  test('a proof that was used is used after a restart, too, and the token lives on', async () => {
    const token = await bound();
    const proof = good('/v1/connections', token);
    must(await call('/v1/connections', token, { proof }), 200);
    await broker.close();
    broker = await startProtocolBroker({ dataDir, port });
    expect((await call('/v1/connections', token, { proof })).status).toBe(401);
    must(await call('/v1/connections', token, { proof: good('/v1/connections', token) }), 200);
  });

  test('without its key is a stranger’s: what is tried with it is recorded by address, not as the agent’s doing', async () => {
    const newest = async (type: string): Promise<Record<string, unknown>> => {
      const { items } = must(await broker.admin('GET', `/audit?type=${type}&limit=1`), 200).body;
      return (items as Record<string, unknown>[])[0] ?? {};
    };
    const stranger = { actor: { kind: 'anonymous', address: expect.any(String) }, agent: { name: 'reporter' } };
    const gateway = await bound(echo());
    const replayed = good('/gateway/echo/x', gateway);
    must(await call('/gateway/echo/x', gateway, { proof: replayed }), 200);
    for (const stolen of [
      { scheme: 'Bearer' },
      {},
      { proof: replayed },
      { proof: good('/gateway/echo/x', gateway, 'GET', thief) },
    ]) {
      const { headers } = must(await call('/gateway/echo/x', gateway, stolen), 401);
      const entry = await newest('gateway.refused');
      expect(entry).toMatchObject({ ...stranger, request_id: headers.get('request-id') });
    }
    const actor = { actor_token: await bound(), actor_token_type: tokenType('access_token') };
    const spent = proofOf(key, 'POST', at('/token'));
    tokenIn(await ask(spent));
    for (const proof of [undefined, 'garbage', spent, proofOf(thief, 'POST', at('/token'))]) {
      const answer = await exchange(
        broker,
        issuer.token(broker.url),
        actor,
        proof === undefined ? {} : { dpop: proof },
      );
      expect(must(answer, 400).body['error']).toBe('invalid_dpop_proof');
      const entry = await newest('agent.authentication_failed');
      expect(entry).toMatchObject({ ...stranger, request_id: answer.headers.get('request-id') });
      expect((await newest('token.refused'))['request_id']).not.toBe(answer.headers.get('request-id'));
    }
    expect(JSON.stringify(await newest('agent.proved_possession'))).not.toContain(thief.jkt);
  });

  test('is dead when it was revoked, whatever the proof', async () => {
    const token = await bound();
    must(await broker.admin('POST', '/revocations', { selector: { agent: 'reporter' }, reason: 'test' }), 201);
    const answer = await call('/v1/connections', token, { proof: good('/v1/connections', token) });
    expect([answer.status, answer.body['code']]).toEqual([401, 'revoked']);
  });

  test('is exchanged with a proof of its key only', async () => {
    const token = await bound();
    const own = { subject_token_type: tokenType('access_token'), ...orders() };
    const swap = (dpop: string | undefined) =>
      exchange(broker, token, own, { ...as(), ...(dpop === undefined ? {} : { dpop }) });
    expect((await swap(undefined)).body['error']).toBe('invalid_dpop_proof');
    expect((await swap(proofOf(thief, 'POST', at('/token')))).body['error']).toBe('invalid_dpop_proof');
    const { body } = must(await swap(proofOf(key, 'POST', at('/token'))), 200);
    expect(body['token_type']).toBe('DPoP');
    expect(decodeJwt(String(body['access_token']))['cnf']).toEqual({ jkt: key.jkt });
    const sam = issuer.token(broker.url, { cnf: { jkt: key.jkt } });
    const dpop = proofOf(key, 'POST', at('/token'));
    must(await exchange(broker, sam, orders(), { ...as(), dpop }), 200);
    const actor = { actor_token: token, actor_token_type: tokenType('access_token') };
    expect((await exchange(broker, issuer.token(broker.url), actor)).body['error']).toBe('invalid_dpop_proof');
    const proven = await exchange(broker, issuer.token(broker.url), actor, {
      dpop: proofOf(key, 'POST', at('/token')),
    });
    expect(must(proven, 200).body['token_type']).toBe('DPoP');
  });

  test('can be demanded of an agent: then it gets no other, and what it had is dead', async () => {
    const strict = await broker.agent('strict');
    must(await broker.entitle('strict', 'echo', ['all']), 201);
    const before = await broker.agentToken(strict);
    expect(must(await broker.admin('PATCH', '/agents/strict', { dpop: 'required' }), 200).body['dpop']).toBe(
      'required',
    );
    expect((await call('/v1/connections', before, { scheme: 'Bearer' })).body['code']).toBe('revoked');
    const authorization = basic(strict.clientId, strict.clientSecret);
    for (const more of [{}, echo()]) {
      const { status, body } = await post(
        at('/token'),
        { grant_type: 'client_credentials', ...more },
        { authorization },
      );
      expect([status, body['error']]).toEqual([400, 'invalid_dpop_proof']);
    }
    const dpop = proofOf(key, 'POST', at('/token'));
    const token = tokenIn(await post(at('/token'), { grant_type: 'client_credentials' }, { authorization, dpop }));
    must(await call('/v1/connections', token, { proof: good('/v1/connections', token) }), 200);
    must(await broker.admin('PATCH', '/agents/strict', { dpop: 'optional' }), 200);
    must(await call('/v1/connections', token, { proof: good('/v1/connections', token) }), 200);
  });

  test('is for the address that clients know, where the issuer has a path', async () => {
    const below = await freePort();
    const issuerUrl = `http://127.0.0.1:${below}/base`;
    const other = await startProtocolBroker({ port: below, env: { WARDER_PUBLIC_URL: issuerUrl } });
    try {
      const { clientId, clientSecret } = await other.agent('reporter');
      const authorization = basic(clientId, clientSecret);
      const tokenAt = (htu: string) =>
        post(
          `${issuerUrl}/token`,
          { grant_type: 'client_credentials' },
          { authorization, dpop: proofOf(key, 'POST', htu) },
        );
      expect((await tokenAt(`http://127.0.0.1:${below}/token`)).body['error']).toBe('invalid_dpop_proof');
      const token = tokenIn(await tokenAt(`${issuerUrl}/token`));
      const url = `${issuerUrl}/v1/connections`;
      const dpop = proofOf(key, 'GET', url, token);
      must(await answerTo(url, { headers: { authorization: `DPoP ${token}`, dpop } }), 200);
    } finally {
      await other.close();
    }
  });

  test('through oauth4webapi: token endpoint and resource', async () => {
    const insecure = { [oauth.allowInsecureRequests]: true };
    const url = new URL(broker.url);
    const as_ = await oauth.processDiscoveryResponse(
      url,
      await oauth.discoveryRequest(url, { algorithm: 'oauth2', ...insecure }),
    );
    expect(as_.dpop_signing_alg_values_supported).toContain('ES256');
    const who = { client_id: agent.clientId };
    const handle = oauth.DPoP({}, await oauth.generateKeyPair('ES256'));
    const response = await oauth.clientCredentialsGrantRequest(
      as_,
      who,
      oauth.ClientSecretBasic(agent.clientSecret),
      {},
      { DPoP: handle, ...insecure },
    );
    const tokens = await oauth.processClientCredentialsResponse(as_, who, response);
    expect(tokens.token_type).toBe('dpop');
    for (let time = 0; time < 3; time += 1) {
      const found = await oauth.protectedResourceRequest(
        tokens.access_token,
        'GET',
        new URL(at('/v1/connections?')),
        undefined,
        undefined,
        { DPoP: handle, ...insecure },
      );
      expect(found.status).toBe(200);
    }
  });

  test('through openid-client: token endpoint, gateway, and a service that verifies the JWT with its proof', async () => {
    const config = await client.discovery(
      new URL(broker.url),
      agent.clientId,
      undefined,
      client.ClientSecretBasic(agent.clientSecret),
      {
        algorithm: 'oauth2',
        execute: [client.allowInsecureRequests],
      },
    );
    const handle = client.getDPoPHandle(config, await client.randomDPoPKeyPair('Ed25519'));
    const options = { DPoP: handle };
    const gateway = await client.clientCredentialsGrant(config, echo(), options);
    expect(gateway.token_type).toBe('dpop');
    const reached = await client.fetchProtectedResource(
      config,
      gateway.access_token,
      new URL(at('/gateway/echo/a%20b')),
      'GET',
      null,
      undefined,
      options,
    );
    expect(reached.status).toBe(200);

    const jwt = await client.clientCredentialsGrant(config, orders(), options);
    const seen: Promise<oauth.JWTAccessTokenClaims>[] = [];
    const insecure = { [oauth.allowInsecureRequests]: true };
    const as_ = config.serverMetadata() as oauth.AuthorizationServer;
    const service = await listen((req) => {
      const request = new Request(`http://${req.headers.host}${req.url}`, {
        headers: req.headers as Record<string, string>,
      });
      seen.push(oauth.validateJwtAccessToken(as_, request, 'https://orders.example', insecure));
      return {};
    });
    await client.fetchProtectedResource(
      config,
      jwt.access_token,
      new URL(`${service.url}/list`),
      'GET',
      null,
      undefined,
      options,
    );
    expect(await seen[0]).toMatchObject({ client_id: 'reporter', cnf: { jkt: expect.any(String) } });
    await service.close();
  });

  test('leaves no trouble in the log, and no proof in the audit log', async () => {
    expect(troubleIn(broker.log())).toEqual([]);
    const { text } = await broker.admin('GET', '/audit?limit=1000');
    expect(text).not.toContain('eyJ');
  });
});
