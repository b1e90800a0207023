/** openid-client 6, as it is, against a running broker: its users must not need to know that this is Warder. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { createLocalJWKSet, createRemoteJWKSet, jwtVerify } from 'jose';
import * as client from 'openid-client';
import type { Broker } from '../support/broker.ts';
import {
  type Algorithm,
  algorithms,
  answerTo,
  type ClientKey,
  jwtAgent,
  jwtConnection,
  type Listener,
  listen,
  makeKey,
  must,
  startProtocolBroker,
} from './support.ts';

const overHttp = { execute: [client.allowInsecureRequests], algorithm: 'oauth2' as const };

/** A key of ours as openid-client wants it. */
const privateKey = async (key: ClientKey): Promise<client.CryptoKey> => {
  const named: Record<Algorithm, Parameters<typeof crypto.subtle.importKey>[2]> = {
    RS256: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' },
    PS256: { name: 'RSA-PSS', hash: 'SHA-256' },
    ES256: { name: 'ECDSA', namedCurve: 'P-256' },
    ES384: { name: 'ECDSA', namedCurve: 'P-384' },
    Ed25519: { name: 'Ed25519' },
    EdDSA: { name: 'Ed25519' },
  };
  const { alg: _, ...jwk } = key.privateJwk;
  return crypto.subtle.importKey('jwk', jwk, named[key.alg as Algorithm], false, ['sign']);
};

/** The old spelling has to be asked for: openid-client writes `Ed25519`. */
const signedBy = async (key: ClientKey): Promise<client.ClientAuth> =>
  client.PrivateKeyJwt(
    { key: await privateKey(key), kid: key.kid },
    key.alg === 'EdDSA'
      ? {
          [client.modifyAssertion]: (header) => {
            header['alg'] = 'EdDSA';
          },
        }
      : undefined,
  );

describe('openid-client', () => {
  let broker: Broker;
  let upstream: Listener;
  let published: Listener;
  let secret: { clientId: string; clientSecret: string };
  const keys = new Map<string, ClientKey>();
  const resource = (name: string): string => `${broker.url}/connections/${name}`;

  const discovered = (clientId: string, auth: client.ClientAuth): Promise<client.Configuration> =>
    client.discovery(new URL(broker.url), clientId, undefined, auth, overHttp);

  beforeAll(async () => {
    for (const alg of algorithms) keys.set(alg, makeKey(alg));
    upstream = await listen((req) => ({ path: req.url, authorization: req.headers.authorization }));
    published = await listen((req) => ({ keys: [keys.get(String(req.url).slice(1))?.publicJwk] }));
    broker = await startProtocolBroker();
    secret = await broker.agent('reporter');
    must(await broker.connection('stripe', upstream.url, { secret: 'sk_live_4242' }), 201);
    await jwtConnection(broker, 'orders', { audience: 'https://orders.example', scopes: ['read', 'write'] });
    must(await broker.entitle('reporter', 'stripe', ['all']), 201);
    must(await broker.entitle('reporter', 'orders', ['read', 'write']), 201);
  });
  afterAll(async () => {
    await broker.close();
    await upstream.close();
    await published.close();
  });

  test('discovers the broker and finds in its metadata what works', async () => {
    const config = await discovered(secret.clientId, client.ClientSecretBasic(secret.clientSecret));
    const metadata = config.serverMetadata();
    expect(metadata.issuer).toBe(broker.url);
    expect(metadata.token_endpoint).toBe(`${broker.url}/token`);
    expect(metadata.authorization_endpoint).toBeUndefined();
    expect(metadata.token_endpoint_auth_methods_supported).toEqual([
      'client_secret_basic',
      'client_secret_post',
      'private_key_jwt',
    ]);
  });

  test('obtains an agent token with client_secret_basic and uses the agents’ API', async () => {
    const config = await discovered(secret.clientId, client.ClientSecretBasic(secret.clientSecret));
    const tokens = await client.clientCredentialsGrant(config);
    expect(tokens.token_type).toBe('bearer');
    expect(tokens.expiresIn()).toBeGreaterThan(290);
    expect(tokens.refresh_token).toBeUndefined();
    const url = new URL(`${broker.url}/v1/connections`);
    const response = await client.fetchProtectedResource(config, tokens.access_token, url, 'GET');
    expect(response.status).toBe(200);
  });

  test('obtains an agent token with client_secret_post', async () => {
    const made = must(
      await broker.admin('POST', '/agents', {
        name: 'poster',
        owner: 'team@example.com',
        auth: { method: 'client_secret_post' },
      }),
      201,
    );
    const config = await discovered('poster', client.ClientSecretPost(String(made.body['client_secret'])));
    expect((await client.clientCredentialsGrant(config)).access_token).toMatch(/^wdr_at_/);
  });

  test.each(algorithms)('obtains an agent token with private_key_jwt and %s, its key registered', async (alg) => {
    const key = keys.get(alg) ?? makeKey(alg);
    const name = `signer-${alg.toLowerCase()}`;
    await jwtAgent(broker, name, { jwks: { keys: [key.publicJwk] }, algorithms: [alg] });
    const config = await discovered(name, await signedBy(key));
    expect((await client.clientCredentialsGrant(config)).access_token).toMatch(/^wdr_at_/);
    expect((await client.clientCredentialsGrant(config)).access_token).toMatch(/^wdr_at_/);
  });

  test.each(algorithms)('obtains an agent token with private_key_jwt and %s, its key published', async (alg) => {
    const key = keys.get(alg) ?? makeKey(alg);
    const name = `publisher-${alg.toLowerCase()}`;
    await jwtAgent(broker, name, { jwks_uri: `${published.url}/${alg}`, allow_private_network: true });
    const config = await discovered(name, await signedBy(key));
    expect((await client.clientCredentialsGrant(config)).access_token).toMatch(/^wdr_at_/);
    const fetched = published.requests.filter(({ url }) => url === `/${alg}`).length;
    expect((await client.clientCredentialsGrant(config)).access_token).toMatch(/^wdr_at_/);
    expect([fetched, published.requests.filter(({ url }) => url === `/${alg}`).length]).toEqual([1, 1]);
  });

  test('is told invalid_client when its secret is wrong', async () => {
    const config = await discovered(secret.clientId, client.ClientSecretBasic('wrong'));
    // With a challenge in the answer the library speaks of the challenge, without one of the error in the body.
    await expect(client.clientCredentialsGrant(config)).rejects.toMatchObject({ status: 401 });
    const posting = await discovered(secret.clientId, client.ClientSecretPost('wrong'));
    await expect(client.clientCredentialsGrant(posting)).rejects.toMatchObject({
      error: 'invalid_client',
      status: 401,
    });
  });

  test('obtains a gateway token for a resource and a scope, and calls the upstream with it', async () => {
    const config = await discovered(secret.clientId, client.ClientSecretBasic(secret.clientSecret));
    const tokens = await client.clientCredentialsGrant(config, { resource: resource('stripe'), scope: 'all' });
    expect(tokens.access_token).toMatch(/^wdr_gw_/);
    expect(tokens['grant_id']).toMatch(/^grt_/);
    expect(tokens.scope).toBeUndefined();
    const url = new URL(`${broker.url}/gateway/stripe/v1/charges`);
    const response = await client.fetchProtectedResource(config, tokens.access_token, url, 'GET');
    expect(response.status).toBe(200);
    expect(upstream.requests.at(-1)?.headers.authorization).toBe('Bearer sk_live_4242');
  });

  test('is told invalid_target and invalid_scope', async () => {
    const config = await discovered(secret.clientId, client.ClientSecretBasic(secret.clientSecret));
    const asking = (name: string, scope: string) =>
      client.clientCredentialsGrant(config, { resource: resource(name), scope });
    await expect(asking('nothing', 'all')).rejects.toMatchObject({ error: 'invalid_target', status: 400 });
    await expect(asking('stripe', 'refunds')).rejects.toMatchObject({ error: 'invalid_scope', status: 400 });
  });

  test('asks for a grant through a generic grant request as well', async () => {
    const config = await discovered(secret.clientId, client.ClientSecretBasic(secret.clientSecret));
    const parameters = { resource: resource('orders'), scope: 'read' };
    const tokens = await client.genericGrantRequest(config, 'client_credentials', parameters);
    expect(tokens.access_token.split('.')).toHaveLength(3);
  });

  test('introspects and revokes what it obtained', async () => {
    const config = await discovered(secret.clientId, client.ClientSecretBasic(secret.clientSecret));
    const agent = await client.clientCredentialsGrant(config);
    const gateway = await client.clientCredentialsGrant(config, { resource: resource('stripe'), scope: 'all' });
    const jwt = await client.clientCredentialsGrant(config, { resource: resource('orders'), scope: 'read write' });
    expect(await client.tokenIntrospection(config, agent.access_token)).toMatchObject({
      active: true,
      client_id: 'reporter',
    });
    expect(await client.tokenIntrospection(config, gateway.access_token)).toMatchObject({
      active: true,
      aud: resource('stripe'),
      scope: 'all',
    });
    expect(await client.tokenIntrospection(config, jwt.access_token)).toMatchObject({
      active: true,
      aud: 'https://orders.example',
      scope: 'read write',
    });
    for (const { access_token } of [agent, gateway, jwt]) {
      await client.tokenRevocation(config, access_token);
      expect(await client.tokenIntrospection(config, access_token)).toEqual({ active: false });
      await client.tokenRevocation(config, access_token, { token_type_hint: 'access_token' });
    }
  });

  test('introspects with private_key_jwt, for a service a connection names as introspector', async () => {
    const key = makeKey('ES256');
    await jwtAgent(broker, 'orders-service', { jwks: { keys: [key.publicJwk] } });
    const settings = { audience: 'https://named.example', scopes: ['read'], introspectors: ['orders-service'] };
    await jwtConnection(broker, 'named', settings);
    must(await broker.entitle('reporter', 'named', ['read']), 201);
    const config = await discovered(secret.clientId, client.ClientSecretBasic(secret.clientSecret));
    const { access_token } = await client.clientCredentialsGrant(config, {
      resource: resource('named'),
      scope: 'read',
    });
    const service = await discovered('orders-service', await signedBy(key));
    const live = await client.tokenIntrospection(service, access_token);
    expect(live).toMatchObject({ active: true, client_id: 'reporter', sub: 'reporter', scope: 'read' });
    must(await broker.admin('POST', '/revocations', { selector: { agent: 'reporter' }, reason: 'test' }), 201);
    expect(await client.tokenIntrospection(service, access_token)).toEqual({ active: false });
  });

  describe('when the broker rotates its signing key', () => {
    interface Jwks {
      keys: { kid: string; kty: string }[];
    }
    const jwks = async (): Promise<Jwks> => must(await answerTo(`${broker.url}/jwks`), 200).body as unknown as Jwks;

    test('still verifies old tokens, new ones with a cached key set, and both after fetching it anew', async () => {
      const config = await discovered(secret.clientId, client.ClientSecretBasic(secret.clientSecret));
      const orders = async (): Promise<string> =>
        (await client.clientCredentialsGrant(config, { resource: resource('orders'), scope: 'read' })).access_token;
      const before = await jwks();
      const [current, next] = before.keys;
      const cached = createLocalJWKSet(before);
      const expected = {
        issuer: broker.url,
        audience: 'https://orders.example',
        typ: 'at+jwt',
        algorithms: ['ES256'],
        requiredClaims: ['iss', 'exp', 'aud', 'sub', 'client_id', 'iat', 'jti'],
      };
      const old = await orders();
      expect((await jwtVerify(old, cached, expected)).protectedHeader.kid).toBe(current?.kid);

      const rotated = must(await broker.admin('POST', '/keys/signing/rotate'), 201);
      expect(rotated.body).toEqual({ from: current?.kid, to: next?.kid });

      const fresh = await orders();
      expect((await jwtVerify(fresh, cached, expected)).protectedHeader.kid).toBe(next?.kid);
      expect((await jwtVerify(old, cached, expected)).protectedHeader.kid).toBe(current?.kid);
      const remote = createRemoteJWKSet(new URL(`${broker.url}/jwks`));
      for (const token of [old, fresh]) expect((await jwtVerify(token, remote, expected)).payload.sub).toBe('reporter');
      expect(await client.tokenIntrospection(config, old)).toMatchObject({ active: true });

      const after = await jwks();
      // Those of JWTs first; behind them the one of receipts, which was and stays there.
      const receipts = before.keys.at(-1)?.kid;
      expect(after.keys.map(({ kid }) => kid)).toEqual([next?.kid, expect.any(String), current?.kid, receipts]);
      expect(new Set(after.keys.map(({ kid }) => kid)).size).toBe(4);
    });

    test('never sees the private half of a key, and the same alg in key and token', async () => {
      const { keys } = await jwks();
      for (const key of keys.slice(0, -1)) {
        expect(Object.keys(key).sort()).toEqual(['alg', 'crv', 'kid', 'kty', 'use', 'x', 'y']);
        expect(key).toMatchObject({ alg: 'ES256', crv: 'P-256', kty: 'EC', use: 'sig' });
      }
      // Receipts are signed with a key of another kind, which no verifier of ES256 tokens considers (RFC 7517 section 5).
      const receipts = keys.at(-1);
      expect(Object.keys(receipts ?? {}).sort()).toEqual(['alg', 'crv', 'kid', 'kty', 'use', 'x']);
      expect(receipts).toMatchObject({ alg: 'EdDSA', crv: 'Ed25519', kty: 'OKP', use: 'sig' });
    });
  });
});
