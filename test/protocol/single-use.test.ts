/** A client assertion is used once: under any concurrency, in any spelling, at any endpoint, over a restart. */
import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { compact, malleated } from '../corpora/tokens.ts';
import { type Answer, type Broker, freePort, temporaryDir } from '../support/broker.ts';
import {
  assertion,
  assertionClaims,
  type ClientKey,
  jwtAgent,
  type Listener,
  listen,
  makeKey,
  must,
  post,
  seconds,
  startProtocolBroker,
  withAssertion,
} from './support.ts';

const times = <T>(count: number, work: () => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: count }, work));

describe('a client assertion', () => {
  let broker: Broker;
  let published: Listener;
  let dataDir: string;
  let port: number;
  let key: ClientKey;
  let twin: ClientKey;

  beforeAll(async () => {
    dataDir = temporaryDir();
    port = await freePort();
    key = makeKey('ES256', 'one');
    twin = makeKey('Ed25519', 'two');
    published = await listen(() => ({ keys: [key.publicJwk] }));
    broker = await startProtocolBroker({ dataDir, port });
    await jwtAgent(broker, 'robot', { jwks: { keys: [key.publicJwk, twin.publicJwk] } });
    await jwtAgent(broker, 'other', { jwks: { keys: [key.publicJwk] } });
    await jwtAgent(broker, 'publisher', { jwks_uri: `${published.url}/jwks`, allow_private_network: true });
  });
  afterAll(async () => {
    await broker.close();
    await published.close();
    rmSync(dataDir, { recursive: true, force: true });
  });

  const use = (jwt: string, path = '/token'): Promise<Answer> =>
    post(`${broker.url}${path}`, withAssertion(jwt, path === '/token' ? {} : { token: 'x' }));
  const good = (answers: Answer[]): number => answers.filter(({ status }) => status === 200).length;
  const tokensIssuedTo = async (agent: string): Promise<number> => {
    const { body } = must(await broker.admin('GET', `/audit?agent=${agent}&type=token.issued&limit=500`), 200);
    return (body['items'] as unknown[]).length;
  };

  test('used one hundred times at once gives exactly one token', async () => {
    for (let round = 0; round < 3; round += 1) {
      const before = await tokensIssuedTo('robot');
      const jwt = assertion(broker.url, 'robot', key);
      const answers = await times(100, () => use(jwt));
      expect(good(answers)).toBe(1);
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200, 401]));
      expect(await tokensIssuedTo('robot')).toBe(before + 1);
      expect((await use(jwt)).status).toBe(401);
    }
  });

  test('used one hundred times at once gives one token where the keys must be fetched first', async () => {
    const jwt = assertion(broker.url, 'publisher', key);
    expect(good(await times(100, () => use(jwt)))).toBe(1);
    expect(await tokensIssuedTo('publisher')).toBe(1);
    expect(published.requests).toHaveLength(1);
  });

  test('used at all endpoints at once is used at one', async () => {
    const jwt = assertion(broker.url, 'robot', key);
    const answers = await Promise.all(
      Array.from({ length: 99 }, (_, index) => use(jwt, ['/token', '/introspect', '/revoke'][index % 3])),
    );
    expect(good(answers)).toBe(1);
  });

  test('is spent by its jti, however often it is signed, by whichever key and with whatever else in it', async () => {
    const claims = { ...assertionClaims(broker.url, 'robot'), jti: randomUUID() };
    const first = compact({ alg: key.alg, kid: key.kid }, claims, key);
    must(await use(first), 200);
    for (const again of [
      malleated(first),
      compact({ alg: key.alg, kid: key.kid }, claims, key),
      compact({ kid: key.kid, typ: 'JWT', alg: key.alg }, claims, key),
      compact({ alg: key.alg, kid: key.kid }, { ...claims, exp: seconds() + 299 }, key),
      compact({ alg: key.alg, kid: key.kid }, { ...claims, aud: [broker.url] }, key),
      compact({ alg: twin.alg, kid: twin.kid }, claims, twin),
    ]) {
      expect((await use(again)).status).toBe(401);
    }
  });

  test('is the same client’s under its name and its id', async () => {
    const { body } = must(await broker.admin('GET', '/agents/robot'), 200);
    const id = String(body['id']);
    const jti = randomUUID();
    const answers = [
      await use(assertion(broker.url, 'robot', key, { jti })),
      await use(assertion(broker.url, id, key, { jti })),
    ];
    expect(answers.map(({ status }) => status)).toEqual([200, 401]);
  });

  test('does not spend the same jti of another client', async () => {
    const jti = 'shared';
    must(await use(assertion(broker.url, 'robot', key, { jti })), 200);
    must(await use(assertion(broker.url, 'other', key, { jti })), 200);
    // Nor by a jti that spells another client's.
    expect((await use(assertion(broker.url, 'other', key, { jti }))).status).toBe(401);
  });

  test('is spent when it was good, whatever became of the request', async () => {
    const jwt = assertion(broker.url, 'robot', key);
    const fields = { ...withAssertion(jwt), grant_type: 'password' };
    expect((await post(`${broker.url}/token`, fields)).status).toBe(400);
    expect((await use(jwt)).status).toBe(401);
  });

  test('is not spent by one that is not good: nobody can burn the jti of another', async () => {
    const jti = randomUUID();
    const stranger = makeKey('ES256', 'one');
    expect((await use(assertion(broker.url, 'robot', stranger, { jti }))).status).toBe(401);
    expect((await use(assertion(broker.url, 'robot', key, { jti, aud: 'https://other.example' }))).status).toBe(401);
    must(await use(assertion(broker.url, 'robot', key, { jti })), 200);
  });

  test('that was used before a restart is refused after it, and one that was not is accepted once', async () => {
    const used = assertion(broker.url, 'robot', key, { exp: seconds() + 299 });
    const unused = assertion(broker.url, 'robot', key, { exp: seconds() + 299 });
    expect(good(await times(50, () => use(used)))).toBe(1);
    await broker.close();
    broker = await startProtocolBroker({ dataDir, port });
    expect(good(await times(50, () => use(used)))).toBe(0);
    expect(good(await times(50, () => use(unused)))).toBe(1);
  });

  test('that is under way when the broker stops gives at most one token in both lives together', async () => {
    const jwts = Array.from({ length: 20 }, () => assertion(broker.url, 'robot', key, { exp: seconds() + 299 }));
    const before = await tokensIssuedTo('robot');
    const under = Promise.allSettled(jwts.map((jwt) => use(jwt)));
    await broker.close();
    const first = await under;
    broker = await startProtocolBroker({ dataDir, port });
    const second = await Promise.all(jwts.map((jwt) => use(jwt)));
    const successes = jwts.map(
      (_, index) =>
        Number(first[index]?.status === 'fulfilled' && first[index].value.status === 200) +
        Number(second[index]?.status === 200),
    );
    expect(Math.max(...successes)).toBe(1);
    expect((await tokensIssuedTo('robot')) - before).toBeLessThanOrEqual(jwts.length);
  });
});
