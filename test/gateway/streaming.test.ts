/** Answers and requests as streams: nothing waits, nothing piles up, and a part is never taken for the whole. */
import { once } from 'node:events';
import { type ClientRequest, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { createBrotliCompress, createGzip, createZstdCompress, constants as zlib } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import {
  type Access,
  eventually,
  httpUpstream,
  type Rig,
  raw,
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

/** Begins a request and hands over both its ends. */
const begin = (
  access: Access,
  path: string,
  options: { method?: string; headers?: Record<string, string> } = {},
): { req: ClientRequest; res: Promise<IncomingMessage> } => {
  const req = request(`${access.baseUrl}${path}`, {
    method: options.method ?? 'GET',
    headers: { authorization: `Bearer ${access.token}`, ...options.headers },
    agent: false,
  });
  const res = new Promise<IncomingMessage>((resolve, reject) => {
    req.on('response', resolve);
    req.on('error', reject);
  });
  res.catch(() => undefined);
  return { req, res };
};

describe('server-sent events', () => {
  const event = (n: number): string => `id: ${n}\ndata: {"n":${n},"s":"${SECRET}"}\n\n`;
  const masked = (n: number): string => event(n).replace(SECRET, '*'.repeat(SECRET.length));

  const follow = async (access: Access, send: () => (text: string) => void): Promise<void> => {
    const { req, res } = begin(access, '/events');
    req.end();
    const answer = await res;
    let text = '';
    answer.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    const write = send();
    const delays: number[] = [];
    for (let n = 1; n <= 31; n++) {
      const from = performance.now();
      write(event(n));
      await eventually(() => text.endsWith(masked(n)));
      delays.push(performance.now() - from);
    }
    // The one in the middle: a busy machine may be late now and then, a timer that gathers pieces always is.
    expect(delays.sort((a, b) => a - b)[15]).toBeLessThan(150);
    req.destroy();
  };

  test('arrive one by one, without delay, the secret in them masked', async () => {
    let response: ServerResponse | undefined;
    const upstream = keep(
      await httpUpstream((_req, res) => {
        res.writeHead(200, { 'Content-Type': 'text/event-stream' });
        res.flushHeaders();
        response = res;
      }),
    );
    // The head arrives before the first event does: `follow` waits for it.
    await follow(await rig.access(upstream.url), () => (text) => response?.write(text));
  });

  test.each([
    ['gzip', () => createGzip(), zlib.Z_SYNC_FLUSH],
    ['br', () => createBrotliCompress(), zlib.BROTLI_OPERATION_FLUSH],
    ['zstd', () => createZstdCompress(), zlib.ZSTD_e_flush],
  ] as const)('arrive one by one out of %s, too', async (encoding, make, flush) => {
    const encoder = make();
    const upstream = keep(
      await httpUpstream((_req, res) => {
        res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Content-Encoding': encoding });
        res.flushHeaders();
        encoder.pipe(res);
      }),
    );
    await follow(await rig.access(upstream.url), () => (text) => {
      encoder.write(text);
      encoder.flush(flush);
    });
  });

  test('an upload and its answer run side by side', async () => {
    const upstream = keep(await httpUpstream((req, res) => req.pipe(res)));
    const access = await rig.access(upstream.url);
    const { req, res } = begin(access, '/duplex', { method: 'POST' });
    req.write('ping 0\n');
    const answer = await res;
    let text = '';
    answer.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    for (let n = 1; n <= 10; n++) {
      req.write(`ping ${n}\n`);
      await eventually(() => text.endsWith(`ping ${n}\n`));
    }
    req.end('end');
    await once(answer, 'end');
    expect(answer.complete).toBe(true);
    expect(text.endsWith('end')).toBe(true);
  });
});

describe('back-pressure', () => {
  test('an agent that does not read stops the upstream, and reading on brings the rest', async () => {
    const chunk = Buffer.alloc(64 * 1024, 'x');
    const total = 600;
    let written = 0;
    const upstream = keep(
      await httpUpstream((_req, res) => {
        const more = (): void => {
          while (written < total) {
            written += 1;
            if (!res.write(chunk)) {
              res.once('drain', more);
              return;
            }
          }
          res.end();
        };
        more();
      }),
    );
    const access = await rig.access(upstream.url);
    const { req, res } = begin(access, '/much');
    req.end();
    const answer = await res;
    // Nobody reads: what is under way fills the buffers of the kernel and stops.
    await sleep(300);
    const stuck = written;
    await sleep(300);
    expect(written).toBe(stuck);
    expect(stuck).toBeLessThan(total);
    let size = 0;
    answer.on('data', (data: Buffer) => {
      size += data.length;
    });
    await once(answer, 'end');
    expect([size, answer.complete]).toEqual([total * chunk.length, true]);
  });

  test('an upstream that does not read stops the agent, and reading on brings the rest', async () => {
    let received = 0;
    let go: () => void = () => undefined;
    const upstream = keep(
      await httpUpstream((req, res) => {
        go = () => {
          req.on('data', (data: Buffer) => {
            received += data.length;
          });
          req.on('end', () => res.end(String(received)));
        };
      }),
    );
    const access = await rig.access(upstream.url);
    const { req, res } = begin(access, '/up', { method: 'PUT' });
    const chunk = Buffer.alloc(64 * 1024, 'x');
    const total = 600;
    let written = 0;
    const more = (): void => {
      while (written < total) {
        written += 1;
        if (!req.write(chunk)) {
          req.once('drain', more);
          return;
        }
      }
      req.end();
    };
    more();
    await sleep(300);
    const stuck = written;
    await sleep(300);
    expect(written).toBe(stuck);
    expect(stuck).toBeLessThan(total);
    go();
    const answer = await res;
    answer.resume();
    await once(answer, 'end');
    expect(received).toBe(total * chunk.length);
  });
});

describe('an agent that leaves', () => {
  test('cancels the upstream request, before and within the answer', async () => {
    let closed = 0;
    const upstream = keep(
      await httpUpstream((req, res) => {
        res.on('close', () => {
          if (!res.writableFinished) closed += 1;
        });
        if (req.url === '/within') res.write('some');
      }),
    );
    const access = await rig.access(upstream.url);
    const before = begin(access, '/before');
    before.req.end();
    await eventually(() => upstream.open() === 1);
    before.req.destroy();
    await eventually(() => closed === 1);

    const within = begin(access, '/within');
    within.req.end();
    await once(await within.res, 'data');
    within.req.destroy();
    await eventually(() => closed === 2);
    for (const data of await rig.completed(access, 2))
      expect(data).toMatchObject({ outcome: 'cut', why: 'agent_left' });
  });

  test.each([
    ['with a length', { 'content-length': '1000' }],
    ['in chunks', {}],
  ])('within its upload %s does not make the upstream take the part for the whole', async (_name, headers) => {
    let ended = 0;
    let broken = 0;
    const upstream = keep(
      await httpUpstream((req) => {
        req.resume();
        req.on('end', () => {
          ended += 1;
        });
        req.on('error', () => {
          broken += 1;
        });
      }),
    );
    const access = await rig.access(upstream.url);
    const { req } = begin(access, '/x', { method: 'POST', headers: { ...headers } });
    req.write('a part');
    await eventually(() => upstream.open() === 1);
    await sleep(50);
    req.destroy();
    await eventually(() => broken === 1);
    expect(ended).toBe(0);
    expect((await rig.completed(access, 1))[0]).toMatchObject({
      outcome: 'cut',
      why: 'agent_left',
      status: null,
      bytes_in: 6,
    });
  });

  test('while its call is being recorded or waits for its turn, nothing more goes upstream', async () => {
    let received = 0;
    const upstream = keep(
      await httpUpstream((_req, res) => {
        received += 1;
        res.write('never ending');
      }),
    );
    const access = await rig.access(upstream.url);
    const one = `GET /gateway/${access.connection}/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${access.token}\r\n\r\n`;
    // Gone before the record is written.
    for (let n = 0; n < 20; n++) {
      const socket = connect(rig.port, '127.0.0.1');
      socket.on('error', () => undefined);
      await once(socket, 'connect');
      socket.write(one, () => socket.resetAndDestroy());
    }
    const allEnded = async (): Promise<boolean> => {
      const types = (await rig.audit(access.connection)).map(({ type }) => type);
      const count = (wanted: string) => types.filter((type) => type === wanted).length;
      return count('gateway.call') === count('gateway.completed');
    };
    await sleep(200);
    await eventually(allEnded);
    await eventually(() => upstream.open() === 0);
    const before = received;
    // Two that wait behind one that never ends.
    await raw(rig.port, one + one + one, { quietMs: 1_000 });
    await eventually(() => received > before && upstream.open() === 0);
    await sleep(200);
    await eventually(allEnded);
    expect(received).toBe(before + 1);
  });
});

describe('an upstream that breaks off', () => {
  const breaks: [string, string, boolean][] = [
    ['within a length', 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart', false],
    ['within a length, by a reset', 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart', true],
    ['between chunks', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n', false],
    ['between chunks, by a reset', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n', true],
    ['within a chunk', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\npart', false],
    ['before the last chunk’s end', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n0\r\n', false],
    ['in a broken chunk', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\nzz\r\n', false],
    ['in a body without framing, by a reset', 'HTTP/1.1 200 OK\r\n\r\npart', true],
    [
      'in a body without framing on a closing connection, by a reset',
      'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\npart',
      true,
    ],
  ];

  test.each(breaks)('%s breaks the agent’s answer', async (_name, bytes, reset) => {
    const upstream = keep(
      await rawUpstream((socket) => {
        socket.once('data', () => {
          socket.write(bytes);
          setTimeout(() => (reset ? socket.resetAndDestroy() : socket.end()), 100);
        });
      }),
    );
    const access = await rig.access(upstream.url);
    const reply = await access.use('/x');
    expect([reply.status, reply.text, reply.complete]).toEqual([200, 'part', false]);

    // HTTP/1.0 has no other mark for a broken body than a broken connection.
    const head = `GET /gateway/${access.connection}/x HTTP/1.0\r\nAuthorization: Bearer ${access.token}\r\n\r\n`;
    const socket = connect(rig.port, '127.0.0.1');
    const errors: (string | undefined)[] = [];
    socket.on('error', (error: NodeJS.ErrnoException) => errors.push(error.code));
    socket.resume();
    socket.write(head);
    await new Promise((resolve) => socket.on('close', resolve));
    expect(errors).toEqual(['ECONNRESET']);

    for (const data of await rig.completed(access, 2)) {
      expect(data).toMatchObject({ outcome: 'failed', status: 200, bytes_out: 4, why: 'upstream_unavailable' });
    }
  });

  test('a body that ends with its connection, as it says, ends well', async () => {
    const upstream = keep(
      await rawUpstream((socket) => {
        socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nthe whole'));
      }),
    );
    const reply = await (await rig.access(upstream.url)).use('/x');
    expect([reply.status, reply.text, reply.complete]).toEqual([200, 'the whole', true]);
  });

  test('an upload that is answered before it ended is not waited for, and its connection goes on', async () => {
    let connections = 0;
    const upstream = keep(
      await rawUpstream((socket) => {
        connections += 1;
        const answer = connections === 1 ? 'HTTP/1.1 413 Too Large' : 'HTTP/1.1 200 OK';
        socket.once('data', () => socket.write(`${answer}\r\nContent-Length: 3\r\n\r\nbig`));
      }),
    );
    const access = await rig.access(upstream.url);
    const head = `Host: x\r\nAuthorization: Bearer ${access.token}\r\n`;
    const socket = connect(rig.port, '127.0.0.1');
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    socket.write(`POST /gateway/${access.connection}/x HTTP/1.1\r\n${head}Content-Length: 300000\r\n\r\nsome`);
    await eventually(() => /^HTTP\/1\.1 413 [\s\S]*\r\n\r\nbig$/.test(text));
    text = '';
    socket.write(Buffer.alloc(299_996));
    socket.write(`GET /gateway/${access.connection}/x HTTP/1.1\r\n${head}\r\n`);
    await eventually(() => /^HTTP\/1\.1 200 [\s\S]*\r\n\r\nbig$/.test(text));
    socket.destroy();
    expect((await rig.completed(access, 2))[0]).toMatchObject({ outcome: 'done', status: 413, bytes_out: 3 });
  });
});
