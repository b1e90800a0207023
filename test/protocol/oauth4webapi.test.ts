/** oauth4webapi 3 against a running broker: the strictest reader of these RFCs there is for JavaScript. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import * as oauth from 'oauth4webapi';
import type { Broker } from '../support/broker.ts';
import {
  answerTo,
  bearer,
  jwtAgent,
  jwtConnection,
  type Listener,
  listen,
  must,
  newAddress,
  startProtocolBroker,
} from './support.ts';

const insecure = { [oauth.allowInsecureRequests]: true };

describe('oauth4webapi', () => {
  let broker: Broker;
  let upstream: Listener;
  let published: Listener;
  let as: oauth.AuthorizationServer;
  let client: oauth.Client;
  let auth: oauth.ClientAuth;
  const served: Record<string, unknown> = {};

  const discover = async (issuer: URL): Promise<oauth.AuthorizationServer> =>
    oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...insecure }));

  const tokensFor = async (
    parameters: Record<string, string> = {},
    who: oauth.Client = client,
    how: oauth.ClientAuth = auth,
  ): Promise<oauth.TokenEndpointResponse> =>
    oauth.processClientCredentialsResponse(
      as,
      who,
      await oauth.clientCredentialsGrantRequest(as, who, how, parameters, insecure),
    );

  const ordersToken = async (scope = 'read'): Promise<string> =>
    (await tokensFor({ resource: `${broker.url}/connections/orders`, scope })).access_token;

  const introspect = async (token: string): Promise<oauth.IntrospectionResponse> =>
    oauth.processIntrospectionResponse(as, client, await oauth.introspectionRequest(as, client, auth, token, insecure));

  /** What a service does with a request it receives. */
  const validate = (
    token: string,
    audience = 'https://orders.example',
    options: Partial<oauth.ValidateJWTAccessTokenOptions> = {},
  ): Promise<oauth.JWTAccessTokenClaims> =>
    oauth.validateJwtAccessToken(as, new Request('https://orders.example/list', { headers: bearer(token) }), audience, {
      ...insecure,
      ...options,
    });

  beforeAll(async () => {
    upstream = await listen(() => ({ ok: true }));
    published = await listen((req) => served[String(req.url)]);
    broker = await startProtocolBroker();
    const { clientId, clientSecret } = await broker.agent('reporter');
    must(await broker.connection('stripe', upstream.url), 201);
    await jwtConnection(broker, 'orders', { audience: 'https://orders.example', scopes: ['read', 'write'] });
    await jwtConnection(broker, 'several', { audience: ['https://a.example', 'https://b.example'], scopes: ['read'] });
    must(await broker.entitle('reporter', 'stripe', ['all']), 201);
    must(await broker.entitle('reporter', 'orders', ['read', 'write']), 201);
    must(await broker.entitle('reporter', 'several', ['read']), 201);
    as = await discover(new URL(broker.url));
    client = { client_id: clientId };
    auth = oauth.ClientSecretBasic(clientSecret);
  });
  afterAll(async () => {
    await broker.close();
    await upstream.close();
    await published.close();
  });

  test('discovers the broker', () => {
    expect(as).toMatchObject({
      issuer: broker.url,
      grant_types_supported: [
        'client_credentials',
        'urn:ietf:params:oauth:grant-type:jwt-bearer',
        'urn:ietf:params:oauth:grant-type:token-exchange',
      ],
      introspection_endpoint: `${broker.url}/introspect`,
      revocation_endpoint: `${broker.url}/revoke`,
      jwks_uri: `${broker.url}/jwks`,
    });
  });

  test('obtains an agent token with client_secret_basic', async () => {
    const tokens = await tokensFor();
    expect(tokens).toEqual({ access_token: expect.stringMatching(/^wdr_at_/), token_type: 'bearer', expires_in: 300 });
  });

  test('obtains an agent token with client_secret_post', async () => {
    const post = { name: 'poster', owner: 'team@example.com', auth: { method: 'client_secret_post' } };
    const { body } = must(await broker.admin('POST', '/agents', post), 201);
    const how = oauth.ClientSecretPost(String(body['client_secret']));
    expect((await tokensFor({}, { client_id: 'poster' }, how)).access_token).toMatch(/^wdr_at_/);
  });

  test.each(['RS256', 'PS256', 'ES256', 'ES384', 'Ed25519', 'EdDSA'])(
    'obtains an agent token with private_key_jwt and %s, its key made here, registered and published',
    async (alg) => {
      const { publicKey, privateKey } = await oauth.generateKeyPair(alg === 'EdDSA' ? 'Ed25519' : alg, {
        extractable: true,
      });
      const { alg: _, key_ops: __, ext: ___, ...jwk } = await crypto.subtle.exportKey('jwk', publicKey);
      const keys = [{ ...jwk, kid: 'one' }];
      served[`/${alg}`] = { keys };
      const how = oauth.PrivateKeyJwt(
        { key: privateKey, kid: 'one' },
        {
          [oauth.modifyAssertion]: (header) => {
            header['alg'] = alg;
          },
        },
      );
      const registered = `registered-${alg.toLowerCase()}`;
      await jwtAgent(broker, registered, { jwks: { keys } });
      expect((await tokensFor({}, { client_id: registered }, how)).access_token).toMatch(/^wdr_at_/);
      const publisher = `published-${alg.toLowerCase()}`;
      await jwtAgent(broker, publisher, { jwks_uri: `${published.url}/${alg}`, allow_private_network: true });
      expect((await tokensFor({}, { client_id: publisher }, how)).access_token).toMatch(/^wdr_at_/);
    },
  );

  test('is told of an error by its code', async () => {
    const refused = async (parameters: Record<string, string>): Promise<unknown> =>
      tokensFor(parameters).catch((error: unknown) => (error instanceof oauth.ResponseBodyError ? error.error : error));
    const resource = `${broker.url}/connections/orders`;
    expect(await refused({ resource: `${broker.url}/connections/none`, scope: 'read' })).toBe('invalid_target');
    expect(await refused({ resource, scope: 'delete' })).toBe('invalid_scope');
    const wrong = oauth.ClientSecretPost('wrong');
    await expect(tokensFor({}, client, wrong)).rejects.toMatchObject({ error: 'invalid_client', status: 401 });
    // The challenge of a 401 after client_secret_basic is one it can parse.
    await expect(tokensFor({}, client, oauth.ClientSecretBasic('wrong'))).rejects.toMatchObject({
      code: oauth.WWW_AUTHENTICATE_CHALLENGE,
      cause: [{ scheme: 'basic', parameters: { realm: 'warder', charset: 'UTF-8' } }],
    });
  });

  test('validates a JWT access token as RFC 9068 says', async () => {
    const token = await ordersToken('read write');
    const claims = await validate(token);
    expect(claims).toEqual({
      iss: broker.url,
      aud: 'https://orders.example',
      sub: 'reporter',
      client_id: 'reporter',
      scope: 'read write',
      jti: expect.stringMatching(/^grt_/),
      iat: expect.any(Number),
      exp: claims.iat + 900,
    });
    const [header] = token.split('.');
    expect(JSON.parse(Buffer.from(header ?? '', 'base64url').toString())).toEqual({
      alg: 'ES256',
      kid: expect.any(String),
      typ: 'at+jwt',
    });
    await expect(validate(token, 'https://other.example')).rejects.toThrow();
    await expect(validate(`${token.slice(0, -4)}AAAA`)).rejects.toThrow();
  });

  test('validates a JWT for a connection of several audiences at each of them', async () => {
    const resource = `${broker.url}/connections/several`;
    const { access_token } = await tokensFor({ resource, scope: 'read' });
    for (const audience of ['https://a.example', 'https://b.example']) {
      expect((await validate(access_token, audience)).aud).toEqual(['https://a.example', 'https://b.example']);
    }
    expect(await introspect(access_token)).toMatchObject({ aud: ['https://a.example', 'https://b.example'] });
  });

  test('validates with a key set it cached before a rotation, without asking again', async () => {
    // The library remembers the keys of each metadata object it saw.
    as = await discover(new URL(broker.url));
    let asked = 0;
    const options = {
      [oauth.jwksCache]: {},
      [oauth.customFetch]: (url: string, init: oauth.CustomFetchOptions<'GET'>) => {
        asked += 1;
        return fetch(url, { method: init.method });
      },
    };
    const old = await ordersToken();
    await validate(old, undefined, options);
    must(await broker.admin('POST', '/keys/signing/rotate'), 201);
    const fresh = await ordersToken();
    const kid = (jwt: string): unknown => JSON.parse(Buffer.from(jwt.split('.')[0] ?? '', 'base64url').toString()).kid;
    expect(kid(fresh)).not.toBe(kid(old));
    await validate(fresh, undefined, options);
    await validate(old, undefined, options);
    expect(asked).toBe(1);
  });

  test('introspects and revokes', async () => {
    const { access_token } = await tokensFor();
    expect(await introspect(access_token)).toMatchObject({ active: true, token_type: 'Bearer', client_id: 'reporter' });
    const revoked = await oauth.revocationRequest(as, client, auth, access_token, insecure);
    await oauth.processRevocationResponse(revoked);
    expect(await introspect(access_token)).toEqual({ active: false });
    expect(await introspect('unknown')).toEqual({ active: false });
  });

  test.each([
    ['/v1', '/v1/connections'],
    ['/v1', '/v1/grants/grt_00000000000000000000000000'],
    ['/gateway', '/gateway/stripe/v1/charges'],
  ])('finds the authorization server of %s from the challenge of a 401 of %s', async (resource, path) => {
    const denied = await fetch(`${broker.url}${path}`, { headers: { 'x-forwarded-for': newAddress() } });
    expect(denied.status).toBe(401);
    const [, address = ''] =
      /^Bearer resource_metadata="([^"]+)"$/.exec(denied.headers.get('www-authenticate') ?? '') ?? [];
    const identifier = new URL(`${broker.url}${resource}`);
    const response = await oauth.resourceDiscoveryRequest(identifier, insecure);
    expect(response.url).toBe(address);
    const metadata = await oauth.processResourceDiscoveryResponse(identifier, response);
    expect(metadata.bearer_methods_supported).toEqual(['header']);
    const [server = ''] = metadata.authorization_servers ?? [];
    expect((await discover(new URL(server))).issuer).toBe(broker.url);
    expect(as['protected_resources']).toContain(metadata.resource);
  });

  test('reads the challenge of a bad token', async () => {
    const url = new URL(`${broker.url}/v1/connections`);
    await expect(
      oauth.protectedResourceRequest('bad', 'GET', url, undefined, undefined, insecure),
    ).rejects.toMatchObject({
      status: 401,
      cause: [
        {
          scheme: 'bearer',
          parameters: {
            error: 'invalid_token',
            resource_metadata: `${broker.url}/.well-known/oauth-protected-resource/v1`,
          },
        },
      ],
    });
  });

  test('goes from a 401 to a working call with nothing but what the answers say', async () => {
    const denied = await answerTo(`${broker.url}/v1/connections`);
    const [, address = ''] = /resource_metadata="([^"]+)"/.exec(denied.headers.get('www-authenticate') ?? '') ?? [];
    const { body } = must(await answerTo(address), 200);
    const [server] = body['authorization_servers'] as string[];
    as = await discover(new URL(String(server)));
    const { access_token } = await tokensFor();
    must(await answerTo(`${broker.url}/v1/connections`, { headers: bearer(access_token) }), 200);
  });
});
