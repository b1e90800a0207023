/** Keys a client publishes under its jwks_uri: fetched when needed, seldom, and only what verifies a signature is used. */
import { createHmac, generateKeyPairSync } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { compact } from '../corpora/tokens.ts';
import type { Answer, Broker } from '../support/broker.ts';
import {
  assertion,
  assertionClaims,
  type ClientKey,
  jwtAgent,
  type Listener,
  listen,
  makeKey,
  post,
  startProtocolBroker,
  withAssertion,
} from './support.ts';

describe('a client that publishes its keys', () => {
  let broker: Broker;
  let server: Listener;
  let key: ClientKey;
  let second: ClientKey;
  const served: Record<string, unknown> = {};

  beforeAll(async () => {
    key = makeKey('ES256', 'one');
    second = makeKey('ES256', 'two');
    server = await listen((req) => served[String(req.url)]);
    broker = await startProtocolBroker();
  });
  afterAll(async () => {
    await broker.close();
    await server.close();
  });

  const publisher = (name: string, more: object = {}): Promise<void> =>
    jwtAgent(broker, name, { jwks_uri: `${server.url}/${name}`, allow_private_network: true, ...more });
  const use = (jwt: string): Promise<Answer> => post(`${broker.url}/token`, withAssertion(jwt));
  const status = async (name: string, by: ClientKey = key): Promise<number> =>
    (await use(assertion(broker.url, name, by))).status;
  const fetches = (name: string): number => server.requests.filter(({ url }) => url === `/${name}`).length;

  test('is served with keys fetched once, however many ask at once', async () => {
    served['/busy'] = { keys: [key.publicJwk] };
    await publisher('busy');
    const answers = await Promise.all(Array.from({ length: 30 }, () => status('busy')));
    expect(new Set(answers)).toEqual(new Set([200]));
    expect(fetches('busy')).toBe(1);
  });

  test('does not have its keys fetched by strangers again and again', async () => {
    served['/named'] = { keys: [key.publicJwk] };
    await publisher('named');
    expect(await status('named')).toBe(200);
    for (let i = 0; i < 10; i += 1) expect(await status('named', makeKey('ES256', `unknown-${i}`))).toBe(401);
    expect(fetches('named')).toBe(1);
  });

  test('is refused while its keys cannot be had, with few attempts, and served soon after', async () => {
    await publisher('down');
    for (let i = 0; i < 10; i += 1) expect(await status('down')).toBe(401);
    expect(fetches('down')).toBeLessThanOrEqual(3);
    served['/down'] = { keys: [key.publicJwk] };
    await new Promise((resolve) => setTimeout(resolve, 2100));
    expect(await status('down')).toBe(200);
  });

  test('is served with the keys that are known while a stranger’s key id is looked for in vain', async () => {
    served['/blip'] = { keys: [key.publicJwk] };
    await publisher('blip');
    expect(await status('blip')).toBe(200);
    const now = Date.now;
    const clock = jest.spyOn(Date, 'now');
    try {
      served['/blip'] = undefined;
      clock.mockImplementation(() => now.call(Date) + 31_000);
      expect(await status('blip', makeKey('ES256', 'unknown'))).toBe(401);
      expect(fetches('blip')).toBe(2);
      expect(await status('blip')).toBe(200);
    } finally {
      clock.mockRestore();
    }
  });

  test('is refused where what it publishes is no key set', async () => {
    const documents = [[], 'keys', null, {}, { keys: {} }, { keys: [] }, { keys: [null, 1, 'x', [], {}] }];
    for (const [index, document] of documents.entries()) {
      served[`/odd-${index}`] = document;
      await publisher(`odd-${index}`);
      expect([index, await status(`odd-${index}`)]).toEqual([index, 401]);
    }
  });

  test('never authenticates with a symmetric key from its set', async () => {
    const k = Buffer.from('0123456789abcdef0123456789abcdef').toString('base64url');
    served['/symmetric'] = { keys: [{ kty: 'oct', kid: 'hmac', alg: 'HS256', k }, key.publicJwk] };
    await publisher('symmetric');
    const encode = (part: object): string => Buffer.from(JSON.stringify(part)).toString('base64url');
    const input = `${encode({ alg: 'HS256', kid: 'hmac' })}.${encode(assertionClaims(broker.url, 'symmetric'))}`;
    const mac = createHmac('sha256', Buffer.from(k, 'base64url')).update(input).digest('base64url');
    expect((await use(`${input}.${mac}`)).status).toBe(401);
    expect(await status('symmetric')).toBe(200);
  });

  test('is served with each key of its set, chosen by kid, and not with a key that is for something else', async () => {
    const encryption = makeKey('ES256', 'enc');
    served['/several'] = { keys: [key.publicJwk, second.publicJwk, { ...encryption.publicJwk, use: 'enc' }] };
    await publisher('several');
    expect(await status('several', key)).toBe(200);
    expect(await status('several', second)).toBe(200);
    expect(await status('several', encryption)).toBe(401);
    expect(await status('several', { ...key, kid: 'two' })).toBe(401);
  });

  test('is served without a kid where its set has one key that fits', async () => {
    const rsa = makeKey('RS256', 'rsa');
    served['/one-of-each'] = { keys: [key.publicJwk, rsa.publicJwk] };
    await publisher('one-of-each');
    for (const one of [key, rsa]) {
      const jwt = compact({ alg: one.alg }, assertionClaims(broker.url, 'one-of-each'), one);
      expect((await use(jwt)).status).toBe(200);
    }
  });

  test('is held to the algorithms it registered', async () => {
    const rsa = makeKey('RS256', 'rsa');
    const { alg: _, ...any } = rsa.publicJwk;
    served['/held'] = { keys: [any] };
    await publisher('held', { algorithms: ['PS256'] });
    expect(await status('held', { ...rsa, alg: 'PS256' })).toBe(200);
    expect(await status('held', { ...rsa, alg: 'RS256' })).toBe(401);
  });

  test('is refused with a key that is too short to trust', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 1024 });
    const jwk = { ...publicKey.export({ format: 'jwk' }), kid: 'short', alg: 'RS256', use: 'sig' };
    served['/short'] = { keys: [jwk] };
    await publisher('short');
    const short = { ...key, alg: 'RS256', kid: 'short', key: privateKey };
    expect(await status('short', short)).toBe(401);
  });

  test('needs leave to have them on a private network, and https everywhere else', async () => {
    const create = (auth: object): Promise<Answer> =>
      broker.admin('POST', '/agents', {
        name: 'private',
        owner: 'team@example.com',
        auth: { method: 'private_key_jwt', ...auth },
      });
    expect((await create({ jwks_uri: `${server.url}/private` })).status).toBe(400);
    expect((await create({ jwks_uri: `file:///etc/passwd`, allow_private_network: true })).status).toBe(400);
    expect((await create({ jwks_uri: server.url.replace('http:', 'https:') })).status).toBe(201);
    expect(await status('private')).toBe(401);
    expect(server.requests.filter(({ url }) => url === '/private')).toEqual([]);
  });

  test('cannot register a private or a symmetric key', async () => {
    for (const keys of [[key.privateJwk], [{ kty: 'oct', k: 'AAAA' }], [], [{}]]) {
      const auth = { method: 'private_key_jwt', jwks: { keys } };
      const { status: refused, text } = await broker.admin('POST', '/agents', {
        name: 'leaky',
        owner: 'team@example.com',
        auth,
      });
      expect(refused).toBe(400);
      expect(text).not.toContain(String(key.privateJwk['d']));
    }
    expect(broker.log()).not.toContain(String(key.privateJwk['d']));
  });
});
