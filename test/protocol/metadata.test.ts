/** Where the metadata lies and what it says (RFC 8414, RFC 9728, RFC 7517), also for an issuer with a path. */
import { createServer, request, type Server } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import * as client from 'openid-client';
import { type Broker, freePort } from '../support/broker.ts';
import {
  answerTo,
  assertion,
  basic,
  bearer,
  grantTokenIn,
  jwtAgent,
  jwtConnection,
  type Listener,
  listen,
  makeKey,
  must,
  post,
  startProtocolBroker,
  tokenIn,
  withAssertion,
} from './support.ts';

describe('the metadata of the authorization server', () => {
  let broker: Broker;

  beforeAll(async () => {
    broker = await startProtocolBroker();
  });
  afterAll(() => broker.close());

  const metadata = async (): Promise<Record<string, unknown>> =>
    must(await answerTo(`${broker.url}/.well-known/oauth-authorization-server`), 200).body;

  test('is exactly this', async () => {
    const methods = ['client_secret_basic', 'client_secret_post', 'private_key_jwt'];
    const algorithms = ['RS256', 'PS256', 'ES256', 'ES384', 'Ed25519', 'EdDSA'];
    const answer = await answerTo(`${broker.url}/.well-known/oauth-authorization-server`);
    expect(answer.headers.get('content-type')).toBe('application/json');
    expect(answer.body).toEqual({
      issuer: broker.url,
      token_endpoint: `${broker.url}/token`,
      introspection_endpoint: `${broker.url}/introspect`,
      revocation_endpoint: `${broker.url}/revoke`,
      jwks_uri: `${broker.url}/jwks`,
      grant_types_supported: [
        'client_credentials',
        'urn:ietf:params:oauth:grant-type:jwt-bearer',
        'urn:ietf:params:oauth:grant-type:token-exchange',
      ],
      response_types_supported: [],
      token_endpoint_auth_methods_supported: methods,
      token_endpoint_auth_signing_alg_values_supported: algorithms,
      introspection_endpoint_auth_methods_supported: methods,
      introspection_endpoint_auth_signing_alg_values_supported: algorithms,
      revocation_endpoint_auth_methods_supported: methods,
      revocation_endpoint_auth_signing_alg_values_supported: algorithms,
      authorization_details_types_supported: ['warder_connection'],
      dpop_signing_alg_values_supported: algorithms,
      protected_resources: [`${broker.url}/v1`, `${broker.url}/gateway`],
    });
  });

  test('advertises only what works: every grant type, method and algorithm of it is tried', async () => {
    const found = await metadata();
    for (const grant_type of found['grant_types_supported'] as string[]) {
      const { body } = await post(`${broker.url}/token`, { grant_type }, { authorization: basic('x', 'y') });
      expect(body['error']).toBe('invalid_client');
    }
    for (const alg of found['token_endpoint_auth_signing_alg_values_supported'] as Parameters<typeof makeKey>[0][]) {
      const key = makeKey(alg);
      await jwtAgent(broker, `robot-${alg.toLowerCase()}`, { jwks: { keys: [key.publicJwk] } });
      const jwt = (): string => assertion(broker.url, `robot-${alg.toLowerCase()}`, key);
      const token = tokenIn(await post(String(found['token_endpoint']), withAssertion(jwt())));
      const { body } = await post(String(found['introspection_endpoint']), withAssertion(jwt(), { token }));
      expect(body['active']).toBe(true);
      must(await post(String(found['revocation_endpoint']), withAssertion(jwt(), { token })), 200);
    }
    for (const method of ['client_secret_basic', 'client_secret_post']) {
      const name = method.replaceAll('_', '-');
      const agent = { name, owner: 'team@example.com', auth: { method } };
      const secret = String(must(await broker.admin('POST', '/agents', agent), 201).body['client_secret']);
      const inHeader = method === 'client_secret_basic';
      const fields = inHeader ? {} : { client_id: name, client_secret: secret };
      const headers: Record<string, string> = inHeader ? { authorization: basic(name, secret) } : {};
      const grant_type = 'client_credentials';
      const token = tokenIn(await post(`${broker.url}/token`, { grant_type, ...fields }, headers));
      const { body } = await post(`${broker.url}/introspect`, { token, ...fields }, headers);
      expect(body['active']).toBe(true);
      must(await post(`${broker.url}/revoke`, { token, ...fields }, headers), 200);
    }
  });

  test('lies at that path alone', async () => {
    for (const path of [
      '/.well-known/openid-configuration',
      '/.well-known/oauth-authorization-server/',
      '/.well-known/oauth-authorization-server/base',
      '/base/.well-known/oauth-authorization-server',
      '/.well-known/oauth-protected-resource',
      '/.well-known/oauth-protected-resource/admin/v1',
    ]) {
      expect([path, (await answerTo(`${broker.url}${path}`)).status]).toEqual([path, 404]);
    }
  });

  test('does not depend on what the request says about its host', async () => {
    const headers = {
      'x-forwarded-host': 'evil.example',
      'x-forwarded-proto': 'https',
      forwarded: 'host=evil.example',
    };
    const { text } = await answerTo(`${broker.url}/.well-known/oauth-authorization-server`, { headers });
    expect(text).not.toContain('evil');
    expect(JSON.parse(text).issuer).toBe(broker.url);
  });

  test('of the protected resources is exactly this', async () => {
    for (const [path, resource_name] of [
      ['/v1', 'Warder agent API'],
      ['/gateway', 'Warder gateway'],
    ]) {
      expect((await answerTo(`${broker.url}/.well-known/oauth-protected-resource${path}`)).body).toEqual({
        resource: `${broker.url}${path}`,
        authorization_servers: [broker.url],
        bearer_methods_supported: ['header'],
        authorization_details_types_supported: ['warder_connection'],
        dpop_signing_alg_values_supported: ['RS256', 'PS256', 'ES256', 'ES384', 'Ed25519', 'EdDSA'],
        resource_name,
      });
    }
  });

  test('of the keys has public halves only, each with the alg it is used with, and may be cached', async () => {
    const { headers, body } = must(await answerTo(`${broker.url}/jwks`), 200);
    expect(headers.get('cache-control')).toMatch(/^public, max-age=\d+$/);
    const { keys } = body as unknown as { keys: object[] };
    expect(keys).toHaveLength(3);
    // Behind the keys of JWTs the one of receipts, which stays.
    expect(keys[2]).toEqual({
      kty: 'OKP',
      crv: 'Ed25519',
      alg: 'EdDSA',
      use: 'sig',
      kid: expect.stringMatching(/^[\w-]{43}$/),
      x: expect.stringMatching(/^[\w-]{43}$/),
    });
    for (const key of keys.slice(0, 2)) {
      expect(key).toEqual({
        kty: 'EC',
        crv: 'P-256',
        alg: 'ES256',
        use: 'sig',
        kid: expect.stringMatching(/^[\w-]{43}$/),
        x: expect.stringMatching(/^[\w-]{43}$/),
        y: expect.stringMatching(/^[\w-]{43}$/),
      });
    }
  });
});

describe('an issuer with a path', () => {
  let broker: Broker;
  let proxy: Server;
  let upstream: Listener;
  let issuer: string;
  let origin: string;

  /** What stands in front of a broker under a path: cuts the path off, and hands the well-known documents through. */
  const startProxy = async (port: number, target: string): Promise<Server> => {
    const server = createServer((req, res) => {
      const path = String(req.url);
      const inside = path.startsWith('/base/') ? path.slice('/base'.length) : path;
      if (inside === path && !path.startsWith('/.well-known/')) {
        res.writeHead(404).end();
        return;
      }
      const onwards = request(`${target}${inside}`, { method: req.method, headers: req.headers }, (answer) => {
        res.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(res);
      });
      req.pipe(onwards);
    });
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
    return server;
  };

  beforeAll(async () => {
    const port = await freePort();
    origin = `http://127.0.0.1:${port}`;
    issuer = `${origin}/base`;
    upstream = await listen((req) => ({ path: req.url }));
    broker = await startProtocolBroker({ env: { WARDER_PUBLIC_URL: issuer } });
    proxy = await startProxy(port, broker.url);
  });
  afterAll(async () => {
    proxy.closeAllConnections();
    await new Promise((resolve) => proxy.close(resolve));
    await broker.close();
    await upstream.close();
  });

  test('has its metadata between the host and the path (RFC 8414 section 3)', async () => {
    const { body } = must(await answerTo(`${origin}/.well-known/oauth-authorization-server/base`), 200);
    expect(body).toMatchObject({ issuer, token_endpoint: `${issuer}/token`, jwks_uri: `${issuer}/jwks` });
    for (const path of ['/.well-known/oauth-authorization-server', '/base/.well-known/oauth-authorization-server']) {
      expect([path, (await answerTo(`${origin}${path}`)).status]).toEqual([path, 404]);
    }
  });

  test('has that of its resources there, too, and says so in its challenges (RFC 9728 section 3)', async () => {
    for (const [resource, path] of [
      ['/v1', '/v1/connections'],
      ['/gateway', '/gateway/x/y'],
    ]) {
      const { status, headers } = await answerTo(`${issuer}${path}`);
      const address = `${origin}/.well-known/oauth-protected-resource/base${resource}`;
      expect([status, headers.get('www-authenticate')]).toEqual([401, `Bearer resource_metadata="${address}"`]);
      expect(must(await answerTo(address), 200).body).toMatchObject({
        resource: `${issuer}${resource}`,
        authorization_servers: [issuer],
      });
    }
  });

  test('serves a client that knows nothing but the issuer', async () => {
    const { clientId, clientSecret } = await broker.agent('reporter');
    must(await broker.connection('echo', upstream.url), 201);
    await jwtConnection(broker, 'orders', { audience: 'https://orders.example', scopes: ['read'] });
    must(await broker.entitle('reporter', 'echo', ['all']), 201);
    must(await broker.entitle('reporter', 'orders', ['read']), 201);
    const config = await client.discovery(
      new URL(issuer),
      clientId,
      undefined,
      client.ClientSecretBasic(clientSecret),
      { execute: [client.allowInsecureRequests], algorithm: 'oauth2' },
    );
    const agent = await client.clientCredentialsGrant(config);
    const listed = must(await answerTo(`${issuer}/v1/connections`, { headers: bearer(agent.access_token) }), 200);
    const [first] = listed.body['items'] as { resource: string }[];
    expect(first?.resource).toBe(`${issuer}/connections/echo`);

    const gateway = must(
      await answerTo(`${issuer}/v1/grants`, {
        method: 'POST',
        headers: { ...bearer(agent.access_token), 'content-type': 'application/json' },
        body: JSON.stringify({ connection: 'echo', scopes: ['all'] }),
      }),
      201,
    );
    const { base_url } = gateway.body['credential'] as { base_url: string };
    expect(base_url).toBe(`${issuer}/gateway/echo`);
    const used = must(await answerTo(`${base_url}/a/b?c`, { headers: bearer(grantTokenIn(gateway)) }), 200);
    expect(used.body).toEqual({ path: '/a/b?c' });

    const jwt = await client.clientCredentialsGrant(config, {
      resource: `${issuer}/connections/orders`,
      scope: 'read',
    });
    const keys = createRemoteJWKSet(new URL(String(config.serverMetadata().jwks_uri)));
    const { payload } = await jwtVerify(jwt.access_token, keys, { issuer, audience: 'https://orders.example' });
    expect(payload.sub).toBe('reporter');
    expect(await client.tokenIntrospection(config, jwt.access_token)).toMatchObject({ active: true, iss: issuer });
  });

  test('is the only audience of an assertion: neither its origin nor where the broker listens', async () => {
    const key = makeKey('ES256');
    await jwtAgent(broker, 'robot', { jwks: { keys: [key.publicJwk] } });
    const status = async (aud: string): Promise<number> =>
      (await post(`${issuer}/token`, withAssertion(assertion(aud, 'robot', key)))).status;
    expect(await status(issuer)).toBe(200);
    for (const aud of [origin, `${issuer}/`, `${issuer}/token`, broker.url, `${broker.url}/base`]) {
      expect([aud, await status(aud)]).toEqual([aud, 401]);
    }
  });
});
