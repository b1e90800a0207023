/** Too much, too slow, too many: whoever does it is cut off, and everybody else is served. */
import { connect, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { Broker } from '../support/broker.ts';
import {
  auditOf,
  closeConnections,
  eachOf,
  type Furniture,
  formType,
  furnish,
  jsonType,
  newAddress,
  send,
  startEdgeBroker,
} from './support.ts';

let broker: Broker;
let furniture: Furniture;
const sockets: Socket[] = [];

beforeAll(async () => {
  broker = await startEdgeBroker();
  furniture = await furnish(broker);
});
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
});
afterAll(async () => {
  closeConnections();
  await broker.close();
});

interface Held {
  socket: Socket;
  /** How long the server kept it, in milliseconds. */
  closed: Promise<number>;
  heard(): string;
}

/** A connection that has said this much; `trickle` goes on with a byte now and then. */
const hold = (text: string, trickle = false): Held => {
  const { hostname, port } = new URL(broker.url);
  const started = performance.now();
  const socket = connect(Number(port), hostname);
  sockets.push(socket);
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => chunks.push(chunk));
  socket.on('error', () => undefined);
  socket.write(text);
  const timer = trickle ? setInterval(() => socket.write('a'), 500) : undefined;
  const closed = new Promise<number>((resolve) =>
    socket.on('close', () => {
      clearInterval(timer);
      resolve(performance.now() - started);
    }),
  );
  return { socket, closed, heard: () => Buffer.concat(chunks).toString() };
};

/** Somebody with honest work: the slowest of some grants, in milliseconds. */
const honestWork = async (count = 20): Promise<number> => {
  let slowest = 0;
  for (let i = 0; i < count; i += 1) {
    const started = performance.now();
    const { status } = await broker.grant(furniture.agentToken, { connection: 'stripe', scopes: ['read'] });
    expect(status).toBe(201);
    slowest = Math.max(slowest, performance.now() - started);
  }
  return slowest;
};

const head = (method: string, path: string, ...lines: string[]): string =>
  `${[`${method} ${path} HTTP/1.1`, 'Host: warder', `X-Forwarded-For: ${newAddress()}`, ...lines].join('\r\n')}\r\n`;

describe('slow callers', () => {
  test('who never come to the end of their headers or bodies are cut off in seconds, and nobody waits for them', async () => {
    const agent = `Authorization: Bearer ${furniture.agentToken}`;
    const admin = `Authorization: Bearer ${broker.adminToken}`;
    const json = 'Content-Type: application/json';
    const slow = [
      ...Array.from({ length: 150 }, () => hold('', false)),
      ...Array.from({ length: 100 }, () => hold(head('GET', '/healthz'), false)),
      ...Array.from({ length: 50 }, () => hold(head('POST', '/v1/grants', 'X-Slow: '), true)),
      ...Array.from({ length: 20 }, () =>
        hold(`${head('POST', '/v1/grants', agent, json, 'Content-Length: 900')}\r\n{"conn`, true),
      ),
      ...Array.from({ length: 20 }, () =>
        hold(`${head('POST', '/v1/grants', agent, json, 'Transfer-Encoding: chunked')}\r\n1\r\n{\r\n`, false),
      ),
      ...Array.from({ length: 20 }, () =>
        hold(`${head('PATCH', '/admin/v1/agents/reporter', admin, json, 'Content-Length: 900')}\r\n{`, true),
      ),
      ...Array.from({ length: 20 }, () =>
        hold(
          `${head('POST', '/token', `Content-Type: ${formType['content-type']}`, 'Content-Length: 900')}\r\ngrant_`,
          true,
        ),
      ),
      // Refused at the door, and still sending what nobody reads.
      ...Array.from({ length: 20 }, () =>
        hold(`${head('POST', '/admin/v1/apply', json, 'Content-Length: 9000000')}\r\n{`, true),
      ),
    ];
    expect(await honestWork()).toBeLessThan(1_500);
    const kept = await Promise.all(slow.map(({ closed }) => closed));
    expect(Math.max(...kept)).toBeLessThan(16_000);
    const refusedAtTheDoor = slow.slice(-20);
    for (const { heard } of refusedAtTheDoor) expect(heard()).toMatch(/^HTTP\/1\.1 401 /);
    expect(Math.max(...kept.slice(-20))).toBeLessThan(5_000);
  }, 25_000);

  test('who hold a thousand connections leave room for others', async () => {
    const idle = Array.from({ length: 1000 }, () => hold(head('GET', '/healthz')));
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(await honestWork()).toBeLessThan(1_500);
    expect(idle.filter(({ socket }) => socket.destroyed).length).toBe(0);
  });
});

describe('floods', () => {
  test('of headers are refused before they are a request', async () => {
    const floods = [
      `${head('GET', '/healthz', `X-Big: ${'x'.repeat(64_000)}`)}\r\n`,
      `${head('GET', '/healthz', ...Array.from({ length: 5000 }, (_, i) => `X-${i}: y`))}\r\n`,
      `GET /${'x'.repeat(64_000)} HTTP/1.1\r\nHost: warder\r\n\r\n`,
      `${head('GET', '/healthz', `Cookie: ${'a=b; '.repeat(20_000)}`)}\r\n`,
    ];
    for (const flood of floods) {
      const { closed, heard } = hold(flood);
      await closed;
      expect(heard()).toMatch(/^HTTP\/1\.1 431 /);
      expect(heard()).not.toMatch(/stack|node:|HPE_/);
    }
    expect(await honestWork(5)).toBeLessThan(1_500);
  });

  test('of enormous and of deep bodies neither stop nor slow the loop', async () => {
    const deep = '['.repeat(60_000);
    const wide = `{${Array.from({ length: 3000 }, (_, i) => `"${i}":0`).join(',')}}`;
    const escapes = `{"a":"${'\\u0041'.repeat(9_000)}"}`;
    const bodies = [deep, wide, escapes, 'x'.repeat(1_000_000), `{"name":"${'a'.repeat(60_000)}"}`];
    const flood = eachOf(
      Array.from({ length: 300 }, (_, i) => bodies[i % bodies.length] ?? ''),
      async (body) => {
        const sent = { method: 'POST', path: '/admin/v1/agents', token: broker.adminToken, body, headers: jsonType };
        // Who goes on sending after his answer may lose it with the connection (RFC 9112 section 9.6).
        const { status } = await send(broker.url, sent).catch((error: NodeJS.ErrnoException) => ({
          status: error.code === 'ECONNRESET' && body.length > 900_000 ? 413 : 0,
        }));
        expect([400, 413]).toContain(status);
      },
    );
    // While they arrive, and afterwards.
    const [served] = await Promise.all([honestWork(), flood]);
    expect(served).toBeLessThan(1_500);
    expect(await honestWork(5)).toBeLessThan(1_500);
  });

  test('of guesses from one address are slowed down, leave few records, and touch no other address', async () => {
    const address = newAddress();
    const started = performance.now();
    const guesses = await eachOf(
      Array.from({ length: 400 }, (_, i) => i),
      (i) =>
        send(broker.url, {
          method: 'DELETE',
          path: i % 2 === 0 ? '/admin/v1/agents/reporter' : `/v1/grants/${furniture.grantId}`,
          headers: { 'x-forwarded-for': address },
          token: `wdr_op_${i}`,
        }),
    );
    const seconds = Math.ceil((performance.now() - started) / 1000) + 1;
    const slowed = guesses.filter(({ status }) => status === 429);
    expect(guesses.filter(({ status }) => status !== 401 && status !== 429)).toEqual([]);
    expect(slowed.length).toBeGreaterThanOrEqual(400 - 20 * seconds);
    expect(slowed[0]?.headers['retry-after']).toBe('1');
    expect(slowed[0]?.json).toMatchObject({ code: 'rate_limited' });
    const left = (await auditOf(broker)).filter((entry) => JSON.stringify(entry).includes(`"${address}"`));
    expect(left.length).toBeGreaterThan(0);
    expect(left.length).toBeLessThanOrEqual(20 * seconds);
    // Who holds a token is not slowed down by who guesses, even from the same address.
    const known = { method: 'GET', path: '/v1/connections', token: furniture.agentToken };
    expect((await send(broker.url, { ...known, headers: { 'x-forwarded-for': address } })).status).toBe(200);
    expect((await send(broker.url, { ...known, token: 'x' })).status).toBe(401);
  });

  test('of requests from one address are refused above the limit, and others are served', async () => {
    const small = await startEdgeBroker({ env: { WARDER_RATE_LIMIT_PER_SECOND: '50' } });
    try {
      const address = newAddress();
      const sent = { method: 'GET', path: '/healthz', headers: { 'x-forwarded-for': address } };
      const statuses = await eachOf(
        Array.from({ length: 300 }, () => sent),
        async (one) => (await send(small.url, one)).status,
      );
      expect(statuses.filter((status) => status === 429).length).toBeGreaterThan(100);
      expect(statuses.filter((status) => status === 200).length).toBeGreaterThanOrEqual(50);
      expect((await send(small.url, { method: 'GET', path: '/healthz' })).status).toBe(200);
    } finally {
      await small.close();
    }
  });

  test('behind a proxy cannot pass for others with addresses that are none', async () => {
    const strange = [
      'unknown',
      '=cmd|x',
      '<script>',
      '10.0.0.1:99',
      'a'.repeat(4000),
      '127.0.0.1, x',
      '::ffff:zz',
      '\u00a0',
    ];
    for (const address of strange) {
      await send(broker.url, {
        method: 'POST',
        path: '/admin/v1/agents',
        headers: { 'x-forwarded-for': address },
        token: 'x',
      });
    }
    const addresses = (await auditOf(broker)).map(({ actor }) => actor.address).filter((one) => one !== undefined);
    expect(addresses.length).toBeGreaterThan(0);
    for (const address of addresses) expect(address).toMatch(/^[0-9a-f.:]+$/);
  });
});
