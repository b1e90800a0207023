/** Upstreams that fail: what the agent is told, how soon, and how it tells Warder's word from the upstream's. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { freePort } from '../support/broker.ts';
import {
  answering,
  eventually,
  httpUpstream,
  type Reply,
  type Rig,
  rawUpstream,
  SECRET,
  sleep,
  startRig,
  type Upstream,
} from './rig.ts';

let rig: Rig;
const upstreams: Upstream[] = [];
const keep = (upstream: Upstream): Upstream => {
  upstreams.push(upstream);
  return upstream;
};

beforeAll(async () => {
  rig = await startRig();
});
afterAll(async () => {
  await rig.close();
  await Promise.all(upstreams.map((upstream) => upstream.close()));
});

const timeouts = (ms: { connect?: number; headers?: number; idle?: number }) => ({ settings: { timeouts_ms: ms } });

/** undici's clock ticks every half second, and fires up to one tick and a half late. */
const lateMs = 1_600;

const isProblem = (reply: Reply, status: number, code: string): void => {
  expect([reply.status, reply.headers['warder-error']]).toEqual([status, code]);
  expect(reply.headers['content-type']).toBe('application/problem+json');
  expect(JSON.parse(reply.text)).toMatchObject({ type: `urn:warder:error:${code}`, status, code });
  expect(reply.text).not.toContain(SECRET);
};

describe('an upstream that cannot be reached or understood', () => {
  test('a closed port is upstream_unavailable, at once', async () => {
    const access = await rig.access(`http://127.0.0.1:${await freePort()}`);
    const from = performance.now();
    isProblem(await access.use('/x'), 502, 'upstream_unavailable');
    expect(performance.now() - from).toBeLessThan(1_000);
    // Also with a body under way, which the connection survives.
    isProblem(await access.use('/x', { method: 'POST', body: 'x'.repeat(100_000) }), 502, 'upstream_unavailable');
  });

  test('a name that does not exist is upstream_unavailable', async () => {
    const access = await rig.access('http://no-such-host.invalid');
    isProblem(await access.use('/x'), 502, 'upstream_unavailable');
  });

  const headers = (text: string): string => `HTTP/1.1 200 OK\r\n${text}\r\nContent-Length: 2\r\n\r\nok`;
  test.each([
    ['closes at once', ''],
    ['speaks no HTTP', 'SSH-2.0-OpenSSH_9.9\r\n'],
    ['speaks HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ['is a TLS server', '\x15\x03\x01\x00\x02\x02\x46'],
    ['answers with a status of two digits', 'HTTP/1.1 20 OK\r\n\r\n'],
    ['breaks off within the head', 'HTTP/1.1 200 OK\r\nContent-Le'],
    ['gives two lengths', headers('Content-Length: 3')],
    ['gives a length and chunks', headers('Transfer-Encoding: chunked')],
    ['gives a length that is none', 'HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok'],
    ['folds a header', headers('X-A: 1\r\n 2')],
    ['puts a blank before a colon', headers('X-A : 1')],
    ['puts a NUL into a header', headers('X-A: a\0b')],
    ['puts a bare CR into a header', headers('X-A: a\rSet-Cookie: x=1')],
    ['sends 100 KB of headers', headers(`X-A: ${'a'.repeat(100_000)}`)],
    ['switches protocols unasked', 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n'],
  ])('one that %s is upstream_unavailable', async (_name, bytes) => {
    const upstream = keep(await answering((_head, socket) => socket.end(Buffer.from(bytes, 'latin1'))));
    const access = await rig.access(upstream.url);
    isProblem(await access.use('/x'), 502, 'upstream_unavailable');
    expect(await rig.completed(access, 1)).toMatchObject([
      { outcome: 'failed', status: null, bytes_out: 0, why: 'upstream_unavailable' },
    ]);
  });

  test('a broken upstream is not asked twice', async () => {
    let heads = 0;
    const upstream = keep(
      await answering((_head, socket) => {
        heads += 1;
        socket.destroy();
      }),
    );
    const access = await rig.access(upstream.url);
    for (const method of ['GET', 'HEAD', 'PUT', 'DELETE', 'POST']) {
      const reply = await access.use('/x', { method });
      expect([reply.status, reply.headers['warder-error']]).toEqual([502, 'upstream_unavailable']);
    }
    expect(heads).toBe(5);
  });
});

describe('an upstream’s own words', () => {
  test.each([401, 403, 404, 429, 500, 502, 503, 504])(
    'its %i passes as it is, without Warder-Error',
    async (status) => {
      const upstream = keep(
        await httpUpstream((_req, res) => {
          const challenge = {
            'WWW-Authenticate': 'Basic realm="upstream"',
            'Retry-After': '7',
            'Warder-Error': 'sealed',
          };
          res.writeHead(status, { 'Content-Type': 'application/problem+json', ...challenge });
          res.end('{"code":"upstream_unavailable"}');
        }),
      );
      const reply = await (await rig.access(upstream.url)).use('/x');
      expect([reply.status, reply.text]).toEqual([status, '{"code":"upstream_unavailable"}']);
      expect(reply.headers['warder-error']).toBeUndefined();
      expect(reply.headers['www-authenticate']).toBe('Basic realm="upstream"');
      expect(reply.headers['retry-after']).toBe('7');
    },
  );
});

describe('the time an upstream is given', () => {
  test('one that is silent is upstream_timeout after timeouts_ms.headers', async () => {
    const upstream = keep(await rawUpstream((socket) => socket.resume()));
    const access = await rig.access(upstream.url, timeouts({ headers: 300 }));
    for (const options of [{}, { method: 'POST', body: 'x' }]) {
      const from = performance.now();
      isProblem(await access.use('/x', options), 504, 'upstream_timeout');
      const ms = performance.now() - from;
      expect(ms).toBeGreaterThan(290);
      expect(ms).toBeLessThan(300 + lateMs);
    }
    await eventually(() => upstream.open() === 0);
    expect(await rig.completed(access, 2)).toMatchObject([
      { outcome: 'failed', status: null, why: 'upstream_timeout' },
      { outcome: 'failed', status: null, bytes_in: 1, why: 'upstream_timeout' },
    ]);
  });

  test('a head that trickles in does not prolong it', async () => {
    const upstream = keep(
      await answering((_head, socket) => {
        socket.write('HTTP/1.1 200 OK\r\n');
        const timer = setInterval(() => socket.write('X-A: 1\r\n'), 50);
        socket.on('close', () => clearInterval(timer));
      }),
    );
    const access = await rig.access(upstream.url, timeouts({ headers: 300 }));
    const from = performance.now();
    isProblem(await access.use('/x'), 504, 'upstream_timeout');
    expect(performance.now() - from).toBeLessThan(300 + lateMs);
  });

  test('an upload that takes longer than the head may is not cut, and silence after it is', async () => {
    const upstream = keep(await rawUpstream((socket) => socket.resume()));
    const access = await rig.access(upstream.url, timeouts({ headers: 300 }));
    const from = performance.now();
    const reply = await new Promise<number | undefined>((resolve, reject) => {
      const req = request(`${access.baseUrl}/x`, {
        method: 'POST',
        headers: { authorization: `Bearer ${access.token}` },
        agent: false,
      });
      req.on('response', (res) => {
        res.resume();
        resolve(res.statusCode);
      });
      req.on('error', reject);
      const timer = setInterval(() => req.write('x'), 100);
      setTimeout(() => {
        clearInterval(timer);
        req.end();
      }, 2_500);
    });
    const ms = performance.now() - from;
    expect(reply).toBe(504);
    expect(ms).toBeGreaterThan(2_500);
    expect(ms).toBeLessThan(2_500 + 300 + lateMs);
  });

  test('one that falls silent within the body breaks the answer after timeouts_ms.idle', async () => {
    const upstream = keep(await httpUpstream((_req, res) => res.write('part')));
    const access = await rig.access(upstream.url, timeouts({ idle: 400 }));
    const from = performance.now();
    const reply = await access.use('/x');
    expect([reply.status, reply.text, reply.complete]).toEqual([200, 'part', false]);
    expect(performance.now() - from).toBeLessThan(400 + lateMs);
    expect(await rig.completed(access, 1)).toMatchObject([{ outcome: 'failed', status: 200, why: 'upstream_timeout' }]);
  });

  test('one that keeps sending may take as long as it likes', async () => {
    const upstream = keep(
      await httpUpstream((_req, res) => {
        let n = 0;
        const timer = setInterval(() => {
          res.write('x');
          n += 1;
          if (n < 25) return;
          clearInterval(timer);
          res.end();
        }, 100);
      }),
    );
    const access = await rig.access(upstream.url, timeouts({ headers: 300, idle: 500 }));
    const reply = await access.use('/x');
    expect([reply.text.length, reply.complete]).toEqual([25, true]);
  });
});

describe('an upstream that does not accept', () => {
  let child: ChildProcess;
  let port: number;
  const fill: Socket[] = [];

  beforeAll(async () => {
    // A process that sleeps accepts nothing: when its backlog is full, the kernel leaves the next SYN unanswered.
    child = spawn(
      process.execPath,
      [
        '-e',
        `const server = require('node:net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
           require('node:fs').writeSync(1, String(server.address().port));
           Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60000);
         });`,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    if (!child.stdout) throw new Error('no pipe');
    const [data] = await once(child.stdout, 'data');
    port = Number(String(data));
    for (let n = 0; n < 8; n++) {
      const socket = connect(port, '127.0.0.1');
      socket.on('error', () => undefined);
      fill.push(socket);
    }
    await sleep(200);
  });
  afterAll(() => {
    for (const socket of fill) socket.destroy();
    child.kill('SIGKILL');
  });

  test('is upstream_timeout after timeouts_ms.connect', async () => {
    const access = await rig.access(`http://127.0.0.1:${port}`, timeouts({ connect: 300 }));
    const from = performance.now();
    isProblem(await access.use('/x', { method: 'POST', body: 'x' }), 504, 'upstream_timeout');
    const ms = performance.now() - from;
    expect(ms).toBeGreaterThan(290);
    expect(ms).toBeLessThan(300 + lateMs);
  });
});

describe('connections to an upstream', () => {
  test('are kept and used again', async () => {
    const upstream = keep(await httpUpstream((_req, res) => res.end('ok')));
    const access = await rig.access(upstream.url);
    for (let n = 0; n < 20; n++) expect((await access.use(`/${n}`)).text).toBe('ok');
    expect(upstream.connections()).toBe(1);
    for (let n = 0; n < 5; n++) {
      expect((await access.use('/up', { method: 'POST', body: 'x'.repeat(200_000) })).text).toBe('ok');
    }
    expect(upstream.connections()).toBe(1);
  });

  test('that the upstream has closed meanwhile are not used again', async () => {
    const upstream = keep(await httpUpstream((_req, res) => res.end('ok'), { keepAliveTimeoutMs: 50 }));
    const quiet = keep(
      await answering((_head, socket) => {
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
        setTimeout(() => socket.end(), 50);
      }),
    );
    for (const one of [upstream, quiet]) {
      const access = await rig.access(one.url);
      for (let n = 0; n < 3; n++) {
        expect((await access.use('/x')).text).toBe('ok');
        await sleep(150);
      }
    }
  });

  test('that die under a request are its failure, and not the next one’s', async () => {
    let count = 0;
    const upstream = keep(
      await answering((_head, socket) => {
        count += 1;
        if (count === 2) socket.resetAndDestroy();
        else socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      }),
    );
    const access = await rig.access(upstream.url);
    expect((await access.use('/1')).text).toBe('ok');
    isProblem(await access.use('/2'), 502, 'upstream_unavailable');
    expect((await access.use('/3')).text).toBe('ok');
    expect(count).toBe(3);
  });

  test('an answer that nobody asked for is nobody’s answer', async () => {
    const two = (text: string): string => `HTTP/1.1 200 OK\r\nContent-Length: ${text.length}\r\n\r\n${text}`;
    const upstream = keep(await answering((_head, socket) => socket.write(two('mine') + two('stray'))));
    const late = keep(
      await answering((_head, socket) => {
        socket.write(two('mine'));
        setTimeout(() => socket.write(two('stray')), 30);
      }),
    );
    for (const one of [upstream, late]) {
      const access = await rig.access(one.url);
      const other = await rig.share(access);
      for (const who of [access, other, access, other]) {
        expect((await who.use('/x')).text).toBe('mine');
        // The connection that said it is not trusted any more.
        await eventually(() => one.open() === 0);
      }
    }
  });

  test('a body where none may be (HEAD, 204, 304) is nobody’s answer', async () => {
    const upstream = keep(
      await answering((head, socket) => {
        const status = head.startsWith('HEAD') ? 200 : Number(/^GET \/(\d+)/.exec(head)?.[1]);
        socket.write(
          `HTTP/1.1 ${status} X\r\nContent-Length: 44\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray!`,
        );
      }),
    );
    const access = await rig.access(upstream.url);
    for (const [path, method] of [
      ['/200', 'HEAD'],
      ['/204', 'GET'],
      ['/304', 'GET'],
      ['/204', 'GET'],
    ] as const) {
      const reply = await access.use(path, { method });
      expect([reply.status, reply.text]).toEqual([Number(path.slice(1)), '']);
    }
  });

  test('a call that waits too long for one of them is upstream_timeout, and leaves no trace upstream', async () => {
    const upstream = keep(await httpUpstream((req, res) => res.write(req.url)));
    const access = await rig.access(upstream.url, timeouts({ connect: 500 }));
    const streams = Array.from({ length: 128 }, () => {
      const req = request(`${access.baseUrl}/stream`, {
        headers: { authorization: `Bearer ${access.token}` },
        agent: false,
      });
      req.on('error', () => undefined);
      req.end();
      return req;
    });
    await Promise.all(streams.map((req) => once(req, 'response')));
    const from = performance.now();
    isProblem(await access.use('/late'), 504, 'upstream_timeout');
    expect(performance.now() - from).toBeLessThan(500 + lateMs);
    for (const req of streams) req.destroy();
    await eventually(() => upstream.open() === 0);
    const free = await new Promise((resolve, reject) => {
      const req = request(
        `${access.baseUrl}/free`,
        { headers: { authorization: `Bearer ${access.token}` }, agent: false },
        (res) => {
          res.once('data', (data) => {
            resolve(String(data));
            req.destroy();
          });
        },
      );
      req.on('error', reject);
      req.end();
    });
    expect(free).toBe('/free');
  });
});

describe('an agent that stalls', () => {
  test('within its upload is cut after timeouts_ms.idle', async () => {
    const upstream = keep(await httpUpstream((req) => req.resume()));
    const access = await rig.access(upstream.url, timeouts({ idle: 300 }));
    const req = request(`${access.baseUrl}/x`, {
      method: 'POST',
      headers: { authorization: `Bearer ${access.token}` },
      agent: false,
    });
    req.write('x');
    const from = performance.now();
    const [error] = await once(req, 'error').catch((thrown) => [thrown]);
    expect(error).toMatchObject({ code: 'ECONNRESET' });
    expect(performance.now() - from).toBeLessThan(1_500);
    await eventually(() => upstream.open() === 0);
    expect((await rig.completed(access, 1))[0]).toMatchObject({ outcome: 'cut', why: 'agent_stalled', bytes_in: 1 });
  });

  test('and does not read is cut after timeouts_ms.idle', async () => {
    const upstream = keep(await httpUpstream((_req, res) => res.end(Buffer.alloc(64 * 1024 * 1024))));
    const access = await rig.access(upstream.url, timeouts({ idle: 300 }));
    const req = request(`${access.baseUrl}/x`, { headers: { authorization: `Bearer ${access.token}` }, agent: false });
    req.on('error', () => undefined);
    req.end();
    await once(req, 'response');
    await eventually(() => upstream.open() === 0);
    expect((await rig.completed(access, 1))[0]).toMatchObject({ outcome: 'cut', why: 'agent_stalled', status: 200 });
    req.destroy();
  });

  test('is given the time an upstream takes', async () => {
    const upstream = keep(
      await httpUpstream((req, res) => {
        req.resume();
        req.on('end', () => setTimeout(() => res.end('late'), 1_000));
      }),
    );
    const access = await rig.access(upstream.url, timeouts({ idle: 200 }));
    expect((await access.use('/x', { method: 'POST', body: 'x' })).text).toBe('late');
  });
});
