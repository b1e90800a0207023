/** What comes out of the broker is never longer, and never more, than what was asked for and allowed. */
import { createServer, type Server } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { decodeJwt } from 'jose';
import type { Broker } from '../support/broker.ts';
import { closeConnections, eachOf, type Received, send, startEdgeBroker } from './support.ts';

let broker: Broker;
let upstream: Server;
let agentToken: string;

beforeAll(async () => {
  upstream = createServer((_req, res) => res.end('ok'));
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
  const address = upstream.address();
  broker = await startEdgeBroker();
  const agent = await broker.agent('reporter');
  await broker.connection('stripe', `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`);
  await broker.admin('POST', '/connections', {
    name: 'orders',
    provider: 'internal-jwt',
    settings: { audience: 'https://orders.example.com', scopes: ['a', 'b', 'c', 'd'] },
  });
  agentToken = await broker.agentToken(agent);
});
afterAll(async () => {
  closeConnections();
  await broker.close();
  upstream.close();
});

interface Shown {
  grant: { id: string; scopes: string[]; issued_at: string; expires_at: string };
  credential: { token: string };
}
const shownIn = ({ json, text }: Received): Shown => {
  if (!json) throw new Error(text);
  return json as unknown as Shown;
};
const msOf = (text: unknown): number => Date.parse(String(text));
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe('a grant', () => {
  test('ends with its longest life, however often and late it is renewed', async () => {
    await broker.entitle('reporter', 'stripe', ['all'], { max_ttl_seconds: 2 });
    const issued = await broker.grant(agentToken, { connection: 'stripe', scopes: ['all'], ttl_seconds: 1 });
    const started = performance.now();
    const { grant, credential } = issued.body as { grant: Record<string, string>; credential: { token: string } };
    const end = msOf(grant['issued_at']) + 2000;
    expect(msOf(grant['expires_at'])).toBe(msOf(grant['issued_at']) + 1000);
    const renew = async (body: object) => {
      const path = `/v1/grants/${grant['id']}/renew`;
      const headers = { 'content-type': 'application/json' };
      return send(broker.url, { method: 'POST', path, token: agentToken, body: JSON.stringify(body), headers });
    };
    const use = async () =>
      (await send(broker.url, { method: 'GET', path: '/gateway/stripe/x', token: credential.token })).status;

    expect((await renew({ ttl_seconds: 2 })).json).toMatchObject({ code: 'ttl_too_long' });
    expect((await renew({ ttl_seconds: 86_400 })).json).toMatchObject({ code: 'ttl_too_long' });
    expect(await use()).toBe(200);
    const ends: number[] = [];
    while (performance.now() - started < 2_300) {
      const renewed = await renew({});
      if (renewed.status === 200) ends.push(msOf(shownIn(renewed).grant.expires_at));
      else expect(['expired', 'conflict', 'ttl_too_long']).toContain(renewed.json?.['code']);
      const before = performance.now() - started;
      const status = await use();
      if (performance.now() - started < 1_900) expect(status).toBe(200);
      if (before > 2_010) expect(status).toBe(401);
      await pause(40);
    }
    expect(ends.length).toBeGreaterThan(5);
    expect(Math.max(...ends)).toBe(end);
    // Never shortened, either.
    expect(ends).toEqual([...ends].sort((a, b) => a - b));
    expect(await use()).toBe(401);
    expect((await renew({ ttl_seconds: 1 })).json).toMatchObject({ code: 'expired' });
  });

  test('renewed by many at once is still within its longest life', async () => {
    await broker.entitle('reporter', 'stripe', ['all'], { max_ttl_seconds: 60 });
    const issued = await broker.grant(agentToken, { connection: 'stripe', scopes: ['all'], ttl_seconds: 3 });
    const { grant } = issued.body as { grant: Record<string, string> };
    const path = `/v1/grants/${grant['id']}/renew`;
    const answers = await eachOf(
      Array.from({ length: 60 }, (_, i) => ({ ttl_seconds: 1 + (i % 59) })),
      (body) =>
        send(broker.url, {
          method: 'POST',
          path,
          token: agentToken,
          body: JSON.stringify(body),
          headers: { 'content-type': 'application/json' },
        }),
    );
    const done = answers.filter(({ status }) => status === 200);
    expect(done.length).toBeGreaterThan(0);
    for (const { status } of answers) expect([200, 409]).toContain(status);
    for (const answer of done) {
      expect(msOf(shownIn(answer).grant.expires_at)).toBeLessThanOrEqual(msOf(grant['issued_at']) + 60_000);
    }
  });

  test('has exactly the scopes asked for, when all are entitled and offered; otherwise there is none', async () => {
    const entitled = ['a', 'b', 'c'];
    await broker.entitle('reporter', 'orders', entitled);
    const asked = fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'A', 'e', 'a:b', 'ab'), {
      minLength: 1,
      maxLength: 5,
    });
    await fc.assert(
      fc.asyncProperty(asked, async (scopes) => {
        const issued = await broker.grant(agentToken, { connection: 'orders', scopes });
        const allowed = scopes.every((scope) => entitled.includes(scope));
        expect([scopes, issued.status]).toEqual([scopes, allowed ? 201 : 403]);
        if (!allowed) return expect(issued.body).toMatchObject({ code: 'scope_not_allowed' });
        const { grant, credential } = issued.body as { grant: { scopes: string[] }; credential: { token: string } };
        expect(grant.scopes).toEqual(scopes);
        expect(decodeJwt(credential.token)['scope']).toBe(scopes.join(' '));
      }),
      { numRuns: 60 },
    );
  });

  test('has no scope that the connection no longer offers, whatever the entitlement says', async () => {
    const settings = { audience: 'https://orders.example.com', scopes: ['a', 'd'] };
    expect((await broker.admin('PATCH', '/connections/orders', { settings })).status).toBe(200);
    const ask = async (...scopes: string[]) =>
      (await broker.grant(agentToken, { connection: 'orders', scopes })).status;
    expect([await ask('a'), await ask('b'), await ask('a', 'b'), await ask('d')]).toEqual([201, 403, 403, 403]);
    const { text } = await send(broker.url, { method: 'GET', path: '/v1/connections', token: agentToken });
    const { items }: { items: { connection: string; scopes: string[] }[] } = JSON.parse(text);
    const orders = items.filter(({ connection }) => connection === 'orders');
    expect(orders.map(({ scopes }) => scopes)).toEqual([['a']]);
  });
});
