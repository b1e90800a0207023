/** POST /token, as raw as the RFCs are exact. */
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { internalJwtProvider } from '../../adapters/providers/internal-jwt.ts';
import { type Provider, ProviderFailure } from '../../src/ports/provider.ts';
import type { Answer, Broker } from '../support/broker.ts';
import {
  answerTo,
  assertion,
  assertionType,
  basic,
  bearer,
  type ClientKey,
  type Fields,
  formOf,
  jwtAgent,
  jwtConnection,
  type Listener,
  listen,
  makeKey,
  must,
  newAddress,
  post,
  rawRequest,
  startProtocolBroker,
  withAssertion,
} from './support.ts';

const grantType = { grant_type: 'client_credentials' };
const invalidClient = '{"error":"invalid_client","error_description":"client authentication failed"}';

describe('the token endpoint', () => {
  let broker: Broker;
  let upstream: Listener;
  let reporter: { clientId: string; clientSecret: string };
  let poster: { clientId: string; clientSecret: string };
  let key: ClientKey;
  const resource = (name: string): string => `${broker.url}/connections/${name}`;
  const credentials = (): { authorization: string } => ({
    authorization: basic(reporter.clientId, reporter.clientSecret),
  });
  const posted = (): Record<string, string> => ({ client_id: poster.clientId, client_secret: poster.clientSecret });

  const token = (fields: Fields | string, headers: Record<string, string> = {}): Promise<Answer> =>
    post(`${broker.url}/token`, fields, headers);
  /** As the client with a secret in the header. */
  const asReporter = (fields: Fields): Promise<Answer> => token(fields, credentials());

  /** An error as section 5.2 wants it; every one of this file goes through here. */
  const expectError = (answer: Answer, error: string, status = 400): void => {
    expect([answer.status, answer.body['error']]).toEqual([status, error]);
    expect(Object.keys(answer.body).sort()).toEqual(['error', 'error_description']);
    expect(answer.body['error_description']).toMatch(/^[\x20\x21\x23-\x5b\x5d-\x7e]+$/);
    expect(answer.headers.get('content-type')).toBe('application/json');
    expect(answer.headers.get('cache-control')).toBe('no-store');
    expect(answer.headers.get('pragma')).toBe('no-cache');
    if (status !== 401) expect(answer.headers.has('www-authenticate')).toBe(false);
  };

  beforeAll(async () => {
    upstream = await listen(() => ({ ok: true }));
    const quoting: Provider = {
      ...internalJwtProvider,
      type: 'quoting',
      mint: async () => {
        throw new ProviderFailure('unavailable', 'the upstream’s “quota” is "used up" – for now');
      },
    };
    broker = await startProtocolBroker({ extraProviders: [quoting] });
    reporter = await broker.agent('reporter');
    const made = must(
      await broker.admin('POST', '/agents', {
        name: 'poster',
        owner: 'team@example.com',
        auth: { method: 'client_secret_post' },
      }),
      201,
    );
    poster = { clientId: 'poster', clientSecret: String(made.body['client_secret']) };
    key = makeKey('ES256');
    await jwtAgent(broker, 'robot', { jwks: { keys: [key.publicJwk] } });
    must(await broker.connection('stripe', upstream.url), 201);
    await jwtConnection(broker, 'orders', { audience: 'https://orders.example', scopes: ['read', 'write'] });
    await jwtConnection(broker, 'foreign', { audience: 'https://foreign.example', scopes: ['read'] });
    must(await broker.entitle('reporter', 'stripe', ['all']), 201);
    must(await broker.entitle('reporter', 'orders', ['read', 'write']), 201);
  });
  afterAll(async () => {
    await broker.close();
    await upstream.close();
  });

  describe('answers a good request', () => {
    test('with exactly the members RFC 6749 section 5.1 names, uncached, and no refresh token', async () => {
      const { status, headers, body } = await asReporter(grantType);
      expect(status).toBe(200);
      expect(body).toEqual({
        access_token: expect.stringMatching(/^wdr_at_[0-9a-z]{26}[\w-]{43}$/),
        token_type: 'Bearer',
        expires_in: 300,
      });
      expect(headers.get('content-type')).toBe('application/json');
      expect(headers.get('cache-control')).toBe('no-store');
      expect(headers.get('pragma')).toBe('no-cache');
      expect(headers.has('www-authenticate')).toBe(false);
    });

    test('with a grant, and its id beside the standard members, where a resource is named', async () => {
      const gateway = await asReporter({ ...grantType, resource: resource('stripe'), scope: 'all' });
      expect(must(gateway, 200).body).toEqual({
        access_token: expect.stringMatching(/^wdr_gw_/),
        token_type: 'Bearer',
        expires_in: 900,
        grant_id: expect.stringMatching(/^grt_/),
      });
      const jwt = await asReporter({ ...grantType, resource: resource('orders'), scope: 'read' });
      expect(must(jwt, 200).body).toEqual({
        access_token: expect.stringMatching(/^eyJ[\w-]+\.[\w-]+\.[\w-]{86}$/),
        token_type: 'Bearer',
        expires_in: 900,
        grant_id: expect.stringMatching(/^grt_/),
      });
    });

    test('without the scope when it is what was asked for, with it when it is not (section 3.3)', async () => {
      const asking = async (scope: string): Promise<unknown> =>
        must(await asReporter({ ...grantType, resource: resource('orders'), scope }), 200).body['scope'];
      expect(await asking('read')).toBeUndefined();
      expect(await asking('read write')).toBeUndefined();
      expect(await asking('write read')).toBeUndefined();
      expect(await asking('read read')).toBe('read');
      expect(await asking('read write read')).toBe('read write');
    });

    test('whatever parameters it does not know, and with an audience twice', async () => {
      const unknown = await asReporter({ ...grantType, foo: 'bar', client_info: '1', code: 'x', refresh_token: 'x' });
      must(unknown, 200);
      const { grant_type } = grantType;
      must(
        await asReporter([
          ['grant_type', grant_type],
          ['audience', 'a'],
          ['audience', 'b'],
        ]),
        200,
      );
    });

    test('taking a parameter without a value as left out (section 3.2)', async () => {
      must(await asReporter({ ...grantType, scope: '', resource: '', client_secret: '', client_assertion: '' }), 200);
      expectError(await asReporter({ grant_type: '' }), 'invalid_request');
      expectError(await token({ ...grantType, ...posted(), client_secret: '' }), 'invalid_client', 401);
    });

    test('with the type of the body in any case, and with the one charset it has', async () => {
      for (const type of [
        'application/x-www-form-urlencoded;charset=UTF-8',
        'application/x-www-form-urlencoded; charset="utf-8"',
        'APPLICATION/X-WWW-FORM-URLENCODED',
      ]) {
        must(await token(grantType, { ...credentials(), 'content-type': type }), 200);
      }
    });
  });

  describe('refuses as invalid_request', () => {
    test('another type of body', async () => {
      for (const type of ['application/json', 'text/plain', 'multipart/form-data; boundary=x', '']) {
        expectError(await token(formOf(grantType), { ...credentials(), 'content-type': type }), 'invalid_request');
      }
      const json = { ...credentials(), 'content-type': 'application/json' };
      expectError(await token(JSON.stringify(grantType), json), 'invalid_request');
      const latin = { ...credentials(), 'content-type': 'application/x-www-form-urlencoded; charset=iso-8859-1' };
      expectError(await token(grantType, latin), 'invalid_request');
    });

    test('no body at all, parameters in the query, and a compressed body', async () => {
      expectError(await answerTo(`${broker.url}/token`, { method: 'POST', headers: credentials() }), 'invalid_request');
      const query = `${broker.url}/token?${formOf({ ...grantType, ...posted() })}`;
      expectError(await post(query, '', credentials()), 'invalid_request');
      expectError(await post(query, ''), 'invalid_client', 401);
      expectError(await token(grantType, { ...credentials(), 'content-encoding': 'gzip' }), 'invalid_request');
    });

    test.each([
      ['grant_type', 'client_credentials'],
      ['client_id', 'reporter'],
      ['client_secret', 'x'],
      ['client_assertion', 'x'],
      ['client_assertion_type', assertionType],
      ['scope', 'read'],
      ['grant_type', ''],
      ['a parameter nobody knows', 'x'],
      ['__proto__', 'x'],
    ])('%s, given twice (section 3.2)', async (name, value) => {
      const { grant_type } = grantType;
      const rest: [string, string][] = name === 'grant_type' ? [] : [['grant_type', grant_type]];
      expectError(await asReporter([...rest, [name, value], [name, value]]), 'invalid_request');
      expectError(await asReporter([...rest, [name, value], [name, 'other']]), 'invalid_request');
    });

    test('no grant type', async () => {
      expectError(await asReporter({}), 'invalid_request');
      expectError(await asReporter({ scope: 'read' }), 'invalid_request');
    });

    test('more than one way of client authentication, also when each is right (section 2.3)', async () => {
      const secret = { client_id: reporter.clientId, client_secret: reporter.clientSecret };
      const jwt = (): Record<string, string> => withAssertion(assertion(broker.url, 'robot', key));
      expectError(await asReporter({ ...grantType, ...secret }), 'invalid_request');
      expectError(await asReporter({ ...grantType, ...posted() }), 'invalid_request');
      expectError(await asReporter(jwt()), 'invalid_request');
      expectError(await token({ ...jwt(), ...posted() }), 'invalid_request');
      expectError(await token({ ...jwt(), ...posted() }, credentials()), 'invalid_request');
      expectError(await token({ ...grantType, ...posted() }, bearer('wdr_at_x')), 'invalid_request');
    });

    test('an assertion without its type', async () => {
      const { client_assertion_type: _, ...rest } = withAssertion(assertion(broker.url, 'robot', key));
      expectError(await token(rest), 'invalid_request');
    });

    test('a body that is too large, with the status for it', async () => {
      expectError(await asReporter({ ...grantType, x: 'x'.repeat(40_000) }), 'invalid_request', 413);
    });
  });

  describe('refuses as invalid_client with 401', () => {
    test('a client without any authentication', async () => {
      for (const fields of [grantType, { ...grantType, client_id: 'reporter' }, { ...grantType, client_secret: 'x' }]) {
        const answer = await token(fields);
        expectError(answer, 'invalid_client', 401);
        expect(answer.headers.has('www-authenticate')).toBe(false);
      }
    });

    test('with a challenge if and only if the client used the Authorization header (section 5.2)', async () => {
      const challenge = 'Basic realm="warder", charset="UTF-8"';
      const wrong = await token(grantType, { authorization: basic('reporter', 'wrong') });
      expectError(wrong, 'invalid_client', 401);
      expect(wrong.headers.get('www-authenticate')).toBe(challenge);
      for (const authorization of [
        'Basic',
        'Basic ',
        'Basic !!!',
        `Bearer ${'x'.repeat(20)}`,
        'Digest username="x"',
        'x',
      ]) {
        const answer = await token(grantType, { authorization });
        expectError(answer, 'invalid_client', 401);
        expect(answer.headers.get('www-authenticate')).toBe(challenge);
      }
      const unchallenged = [{ ...grantType, ...posted(), client_secret: 'wrong' }, withAssertion('x.y.z')];
      for (const fields of unchallenged) {
        const answer = await token(fields);
        expectError(answer, 'invalid_client', 401);
        expect(answer.headers.has('www-authenticate')).toBe(false);
      }
    });

    test('an assertion of a type it does not support (section 5.2, RFC 7521 section 4.2)', async () => {
      for (const type of ['urn:ietf:params:oauth:client-assertion-type:saml2-bearer', 'jwt', `${assertionType} `]) {
        const fields = { ...withAssertion(assertion(broker.url, 'robot', key)), client_assertion_type: type };
        expectError(await token(fields), 'invalid_client', 401);
      }
    });

    test('a secret given in another way than the client registered', async () => {
      const { clientId, clientSecret } = reporter;
      const inBody = { ...grantType, client_id: clientId, client_secret: clientSecret };
      expectError(await token(inBody), 'invalid_client', 401);
      const inHeader = { authorization: basic(poster.clientId, poster.clientSecret) };
      expectError(await token(grantType, inHeader), 'invalid_client', 401);
      expectError(await token(withAssertion(assertion(broker.url, 'reporter', key))), 'invalid_client', 401);
      expectError(await token(grantType, { authorization: basic('robot', 'x') }), 'invalid_client', 401);
      expectError(await token({ ...grantType, client_id: 'robot', client_secret: 'x' }), 'invalid_client', 401);
    });

    test('a client_id that is not the one that authenticates', async () => {
      must(await asReporter({ ...grantType, client_id: 'reporter' }), 200);
      expectError(await asReporter({ ...grantType, client_id: 'poster' }), 'invalid_client', 401);
      const jwt = (): string => assertion(broker.url, 'robot', key);
      must(await token(withAssertion(jwt(), { client_id: 'robot' })), 200);
      expectError(await token(withAssertion(jwt(), { client_id: 'reporter' })), 'invalid_client', 401);
      expectError(await token(withAssertion(jwt(), { client_id: 'nobody' })), 'invalid_client', 401);
    });

    test('before it looks at anything else that may be wrong', async () => {
      const authorization = basic('reporter', 'wrong');
      expectError(await token({ grant_type: 'password' }, { authorization }), 'invalid_client', 401);
      expectError(await token({ resource: 'x', scope: 'y' }, { authorization }), 'invalid_client', 401);
    });
  });

  describe('reads the Basic header as section 2.3.1 writes it', () => {
    const percent = (text: string): string =>
      [...text].map((char) => `%${char.charCodeAt(0).toString(16).padStart(2, '0')}`).join('');
    const status = async (authorization: string): Promise<number> => (await token(grantType, { authorization })).status;

    test('form-decoding both halves', async () => {
      const { clientId, clientSecret } = reporter;
      expect(await status(basic(percent(clientId), percent(clientSecret)))).toBe(200);
      expect(await status(basic(percent(clientId).toUpperCase(), clientSecret))).toBe(200);
      expect(await status(basic(clientId, percent(clientSecret)))).toBe(200);
      expect(await status(basic(clientId, clientSecret))).toBe(200);
    });

    test('once, not twice', async () => {
      const { clientId, clientSecret } = reporter;
      expect(await status(basic(percent(percent(clientId)), clientSecret))).toBe(401);
      expect(await status(basic(clientId, percent(percent(clientSecret))))).toBe(401);
    });

    test('with the scheme in any case and with or without padding', async () => {
      const { clientId, clientSecret } = reporter;
      const encoded = basic(clientId, clientSecret).slice('Basic '.length);
      expect(await status(`basic ${encoded}`)).toBe(200);
      expect(await status(`BASIC   ${encoded}`)).toBe(200);
      expect(await status(`Basic ${encoded.replace(/=+$/, '')}`)).toBe(200);
    });

    test('and refuses what it cannot decode', async () => {
      const { clientId, clientSecret } = reporter;
      const bare = (pair: string): string => `Basic ${Buffer.from(pair).toString('base64')}`;
      for (const header of [
        basic('%zz', clientSecret),
        basic(clientId, `${clientSecret}%`),
        basic(clientId, `${clientSecret}%c3`),
        basic(clientId, `+${clientSecret}`),
        basic(`${clientId}+`, clientSecret),
        basic(`${clientId}%00`, clientSecret),
        bare(clientId),
        bare(`:${clientSecret}`),
        bare(`${clientId}:`),
        bare(':'),
        bare(`${clientId}:${clientSecret}\n`),
        bare(` ${clientId}:${clientSecret}`),
        bare(`${clientId.toUpperCase()}:${clientSecret}`),
      ]) {
        expect([header, await status(header)]).toEqual([header, 401]);
      }
    });
  });

  describe('refuses a grant type', () => {
    test.each([
      'authorization_code',
      'refresh_token',
      'password',
      'implicit',
      'urn:ietf:params:oauth:grant-type:saml2-bearer',
      'urn:ietf:params:oauth:grant-type:device_code',
      'Client_Credentials',
      'client_credentials ',
      'client_credentials client_credentials',
      'constructor',
    ])('%s as unsupported_grant_type', async (grant_type) => {
      expectError(await asReporter({ grant_type }), 'unsupported_grant_type');
    });
  });

  describe('for a resource', () => {
    const asking = (target: string, scope: string): Promise<Answer> =>
      asReporter({ ...grantType, resource: target, scope });

    test('answers invalid_target when it is not a connection this agent may use, known or not (RFC 8707)', async () => {
      const bytes = new Set<string>();
      for (const name of [
        'foreign',
        'nothing',
        'Orders',
        'orders/',
        'orders#x',
        'orders?x',
        '../orders',
        '',
        '__proto__',
      ]) {
        const answer = await asking(resource(name), 'read');
        expectError(answer, 'invalid_target');
        bytes.add(answer.text);
      }
      expect(bytes.size).toBe(1);
    });

    test('answers invalid_target when it is not of this issuer', async () => {
      for (const target of [
        'https://other.example/connections/orders',
        `${broker.url}.other.example/connections/orders`,
        `${broker.url}/v1/`,
        `${broker.url}/connections`,
        `${broker.url}//connections/orders`,
        broker.url.toUpperCase(),
        'orders',
        '/connections/orders',
        'urn:x',
      ]) {
        expectError(await asking(target, 'read'), 'invalid_target');
      }
    });

    test('answers invalid_target for two, also for the same twice', async () => {
      const two = (first: string, second: string): Fields => [
        ['grant_type', 'client_credentials'],
        ['resource', resource(first)],
        ['resource', resource(second)],
        ['scope', 'read'],
      ];
      expectError(await asReporter(two('orders', 'stripe')), 'invalid_target');
      expectError(await asReporter(two('orders', 'orders')), 'invalid_target');
    });

    test('answers invalid_scope for a scope it does not have, is not entitled to, or none', async () => {
      for (const scope of ['delete', 'read delete', 'READ', 'read,write', 'read\twrite', '*', '__proto__', '"read"']) {
        expectError(await asking(resource('orders'), scope), 'invalid_scope');
      }
      expectError(await asReporter({ ...grantType, resource: resource('orders') }), 'invalid_scope');
      expectError(await asking(resource('orders'), ' '), 'invalid_scope');
    });

    test('answers invalid_scope for a scope without a resource', async () => {
      expectError(await asReporter({ ...grantType, scope: 'read' }), 'invalid_scope');
    });

    test('answers invalid_target, not an internal error, however long and strange it is', async () => {
      for (const char of ['x', '\u0001', '\u2028', '😀']) {
        const long = char.repeat(Math.floor(32_620 / encodeURIComponent(char).length));
        expectError(await asking(resource(long), 'read'), 'invalid_target');
        expectError(await asking(resource('orders'), long), 'invalid_scope');
        const half = long.slice(0, Math.floor(long.length / 4) * 2 - 100);
        expectError(await asking(resource(half), half), 'invalid_target');
      }
      expectError(await asking(resource('orders'), 'a '.repeat(10_000)), 'invalid_scope');
    });

    test('answers invalid_target where the connection is suspended, and serves it again afterwards', async () => {
      must(await broker.admin('PATCH', '/connections/stripe', { status: 'suspended' }), 200);
      expectError(await asking(resource('stripe'), 'all'), 'invalid_target');
      must(await broker.admin('PATCH', '/connections/stripe', { status: 'active' }), 200);
      must(await asking(resource('stripe'), 'all'), 200);
    });

    test('leaves no grant behind that was not delivered', async () => {
      const { body } = must(await broker.admin('GET', '/grants?connection=foreign'), 200);
      expect(body['items']).toEqual([]);
    });
  });

  test('says what a provider said in the characters section 5.2 allows', async () => {
    const settings = { audience: 'https://orders.example', scopes: ['read'] };
    must(await broker.admin('POST', '/connections', { name: 'quoting', provider: 'quoting', settings }), 201);
    must(await broker.entitle('reporter', 'quoting', ['read']), 201);
    const answer = await asReporter({ ...grantType, resource: resource('quoting'), scope: 'read' });
    expectError(answer, 'temporarily_unavailable', 502);
    expect(answer.body['error_description']).toBe("the upstream's 'quota' is 'used up' ? for now");
  });

  describe('for a suspended agent', () => {
    test('answers unauthorized_client when the secret is right, and as for anybody when it is not', async () => {
      const sleeper = await broker.agent('sleeper');
      must(await broker.admin('PATCH', '/agents/sleeper', { status: 'suspended' }), 200);
      const right = { authorization: basic(sleeper.clientId, sleeper.clientSecret) };
      expectError(await token(grantType, right), 'unauthorized_client');
      expectError(
        await token({ ...grantType, resource: resource('orders'), scope: 'read' }, right),
        'unauthorized_client',
      );
      const wrong = await token(grantType, { authorization: basic(sleeper.clientId, 'wrong') });
      expectError(wrong, 'invalid_client', 401);
      expect(wrong.text).toBe(invalidClient);
    });
  });

  describe('tells nobody which clients there are', () => {
    const varying = new Set(['date', 'request-id']);
    const seen = (answer: Answer): string =>
      JSON.stringify([
        answer.status,
        [...answer.headers].filter(([name]) => !varying.has(name)),
        answer.text,
        // Of the same length and form at least.
        answer.headers.get('request-id')?.replace(/[0-9a-z]{26}$/, ''),
      ]);

    test('by its bytes', async () => {
      must(await broker.admin('POST', '/agents', { name: 'dormant', owner: 'team@example.com' }), 201);
      must(await broker.admin('PATCH', '/agents/dormant', { status: 'suspended' }), 200);
      const names = [
        'reporter',
        'poster',
        'robot',
        'dormant',
        'nobody',
        'agt_00000000000000000000000000',
        '__proto__',
        '',
      ];
      const inHeader = await Promise.all(
        names.map((name) => token(grantType, { authorization: basic(name, 'wrong') })),
      );
      expect(new Set(inHeader.map(seen)).size).toBe(1);
      const inBody = await Promise.all(
        names.map((client_id) => token({ ...grantType, client_id, client_secret: 'wrong' })),
      );
      expect(new Set(inBody.map(seen)).size).toBe(1);
      const stranger = makeKey('ES256');
      const assertions = await Promise.all(
        names.map((name) => token(withAssertion(assertion(broker.url, name, stranger)))),
      );
      expect(new Set(assertions.map(seen)).size).toBe(1);
    });

    test('by the work an assertion makes', async () => {
      const verifying = jest.spyOn(crypto.subtle, 'verify');
      const worked = async (fields: Record<string, string>): Promise<number> => {
        verifying.mockClear();
        expectError(await token(fields), 'invalid_client', 401);
        return verifying.mock.calls.length;
      };
      try {
        for (const name of ['robot', 'reporter', 'nobody']) {
          for (const stranger of [makeKey('ES256'), makeKey('ES256', 'other'), makeKey('RS256'), makeKey('Ed25519')]) {
            const jwt = assertion(broker.url, name, stranger);
            expect([name, stranger.kid, await worked(withAssertion(jwt))]).toEqual([name, stranger.kid, 1]);
          }
          const other = withAssertion(assertion(broker.url, name, makeKey('ES256')), { client_id: 'poster' });
          expect([name, await worked(other)]).toEqual([name, 1]);
        }
      } finally {
        verifying.mockRestore();
      }
    });

    test('by its time', async () => {
      const samples = 80;
      const times = new Map<string, number[]>([
        ['nobody', []],
        ['reporter', []],
        ['poster', []],
        ['robot', []],
      ]);
      for (let round = 0; round < samples; round += 1) {
        // In another order each round, so that no name pays for its place.
        const names = [...times.keys()];
        for (const name of [...names.slice(round % 4), ...names.slice(0, round % 4)]) {
          const started = performance.now();
          await token(grantType, { authorization: basic(name, 'wrong') });
          times.get(name)?.push(performance.now() - started);
        }
      }
      const medians = [...times.values()].map((list) => list.sort((a, b) => a - b)[samples / 2] ?? 0);
      const least = Math.min(...medians);
      const most = Math.max(...medians);
      // What leaks names is a factor of ten (a password hash that is skipped); what a busy machine does is less.
      expect(most / least < 3 || most - least < 2).toBe(true);
    });
  });

  describe('takes nothing but POST', () => {
    test.each(['/token', '/introspect', '/revoke'])('at %s: 405 with Allow', async (path) => {
      for (const method of ['GET', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS']) {
        const answer = await answerTo(`${broker.url}${path}`, { method, headers: credentials() });
        expect([method, answer.status, answer.headers.get('allow')]).toEqual([method, 405, 'POST']);
        expect(answer.headers.has('www-authenticate')).toBe(false);
        if (method !== 'HEAD') expectError(answer, 'invalid_request', 405);
      }
      const query = formOf({ ...grantType, ...posted(), token: 'x' });
      expectError(await answerTo(`${broker.url}${path}?${query}`), 'invalid_request', 405);
    });

    test('under that very path', async () => {
      for (const path of ['/Token', '/token/', '//token', '/token/x', '/oauth/token']) {
        const answer = await post(`${broker.url}${path}`, grantType, credentials());
        expect([path, answer.status]).toEqual([path, 404]);
      }
    });
  });

  test('refuses two Authorization headers', async () => {
    const body = formOf(grantType);
    const good = credentials().authorization;
    const lines = (...authorizations: string[]): string[] => [
      'POST /token HTTP/1.1',
      'Host: broker',
      `X-Forwarded-For: ${newAddress()}`,
      'Content-Type: application/x-www-form-urlencoded',
      `Content-Length: ${body.length}`,
      ...authorizations.map((one) => `Authorization: ${one}`),
    ];
    expect((await rawRequest(broker.url, lines(good), body)).status).toBe(200);
    const wrong = basic('reporter', 'wrong');
    for (const two of [lines(good, wrong), lines(wrong, good), lines(good, good)]) {
      const { status, text } = await rawRequest(broker.url, two, body);
      expect([status, /"error":"\w+"/.exec(text)?.[0]]).toEqual([400, '"error":"invalid_request"']);
    }
  });

  test('answers in OAuth’s own form when there are too many requests', async () => {
    const busy = await startProtocolBroker({ env: { WARDER_RATE_LIMIT_PER_SECOND: '1' } });
    try {
      const ask = (): Promise<Answer> =>
        post(`${busy.url}/token`, grantType, { authorization: basic('nobody', 'x') }).then((answer) => answer);
      const lines = [
        'POST /token HTTP/1.1',
        'Host: broker',
        'X-Forwarded-For: 10.200.0.1',
        'Content-Type: application/x-www-form-urlencoded',
        'Content-Length: 0',
      ];
      const answers = [await rawRequest(busy.url, lines), await rawRequest(busy.url, lines)];
      expect(answers.map(({ status }) => status)).toEqual([401, 429]);
      const { text } = answers[1] ?? { text: '' };
      expect(text).toMatch(/^content-type: application\/json\r$/im);
      expect(text).toMatch(/^retry-after: 1\r$/im);
      expect(text).toMatch(/^cache-control: no-store\r$/im);
      expect(text).toContain('{"error":"temporarily_unavailable","error_description":"');
      expectError(await ask(), 'invalid_client', 401);
    } finally {
      await busy.close();
    }
  });
});
