/** Far more than the broker may hold, each way: whole, and in constant memory. The broker runs in a process of its own. */
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import type { Readable, Writable } from 'node:stream';
import { crc32 } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { freePort, temporaryDir } from '../support/broker.ts';
import { type ChildBroker, startChildBroker } from '../support/child-broker.ts';
import { shortOrLong } from '../support/length.ts';
import { httpUpstream, SECRET, type Upstream } from './rig.ts';

const MB = 1024 * 1024;
const sizeBytes = shortOrLong(256, 1024) * MB;
/** What a broker may grow by while all that passes: buffers on both sides of it, and what waits for the collector. */
const growthBytes = 80 * MB;

/** Bytes that never repeat, so that a lost, doubled or misplaced piece shows. */
const block = Buffer.alloc(256 * 1024, 'the quick brown fox jumps over the lazy dog; ');
const stamp = (n: number): Buffer => {
  const stamped = Buffer.from(block);
  for (let at = 0; at < stamped.length; at += 4096) stamped.writeUInt32LE(n, at);
  return stamped;
};

const send = (to: Writable, bytes: number): { crc: number } => {
  const sent = { crc: 0 };
  const count = bytes / block.length;
  let n = 0;
  const more = (): void => {
    while (n < count) {
      const piece = stamp(n);
      n += 1;
      sent.crc = crc32(piece, sent.crc);
      if (!to.write(piece)) {
        to.once('drain', more);
        return;
      }
    }
    to.end();
  };
  more();
  return sent;
};

const receive = async (from: Readable): Promise<{ bytes: number; crc: number }> => {
  const got = { bytes: 0, crc: 0 };
  from.on('data', (piece: Buffer) => {
    got.bytes += piece.length;
    got.crc = crc32(piece, got.crc);
  });
  await once(from, 'end');
  return got;
};

const dataDir = temporaryDir();
let broker: ChildBroker;
let upstream: Upstream;
let baseUrl: string;
let token: string;
let sentDown: { crc: number };
let gotUp: { bytes: number; crc: number } | undefined;

/** What the broker's process occupies now (proc_pid_status(5), VmRSS, in units of 1024 bytes). */
const residentBytes = (): number => {
  const status = readFileSync(`/proc/${broker.greeting.pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? Number.NaN) * 1024;
};

/** One request; its answer, whose body is still to be read. */
const begin = (method: string, path: string): { req: Writable; res: Promise<IncomingMessage> } => {
  const req = request(`${baseUrl}${path}`, { method, headers: { authorization: `Bearer ${token}` }, agent: false });
  const res = once(req, 'response').then(([answer]) => answer as IncomingMessage);
  return { req, res };
};

const download = async (bytes: number): Promise<{ bytes: number; crc: number; complete: boolean }> => {
  const { req, res } = begin('GET', `/${bytes}`);
  req.end();
  const answer = await res;
  const got = await receive(answer);
  return { ...got, complete: answer.complete };
};

const upload = async (bytes: number): Promise<{ sent: number; status: number | undefined }> => {
  const { req, res } = begin('PUT', '/up');
  const sent = send(req, bytes);
  const answer = await res;
  await receive(answer);
  return { sent: sent.crc, status: answer.statusCode };
};

beforeAll(async () => {
  upstream = await httpUpstream((req, res) => {
    if (req.method === 'PUT') {
      receive(req).then((got) => {
        gotUp = got;
        res.end('ok');
      });
    } else sentDown = send(res, Number(req.url?.slice(1)));
  });
  broker = await startChildBroker({ dataDir, port: await freePort(), env: { WARDER_LOG_LEVEL: 'error' } });
  const agent = await broker.agent('mover');
  await broker.connection('store', upstream.url, { secret: SECRET });
  await broker.entitle('mover', 'store', ['all']);
  const issued = await broker.grant(await broker.agentToken(agent), { connection: 'store', scopes: ['all'] });
  ({ token, base_url: baseUrl } = issued.body['credential'] as { token: string; base_url: string });
  // What passing anything at all costs once.
  await download(32 * MB);
  await upload(32 * MB);
}, 30_000);
afterAll(async () => {
  await broker.stop();
  rmSync(dataDir, { recursive: true, force: true });
  await upstream.close();
});

/** Runs it, and tells by how much the broker grew at most. */
const growth = async <T>(work: () => Promise<T>): Promise<{ result: T; grewBytes: number; mbPerSecond: number }> => {
  const before = residentBytes();
  let peak = before;
  const timer = setInterval(() => {
    peak = Math.max(peak, residentBytes());
  }, 20);
  const from = performance.now();
  const result = await work();
  const seconds = (performance.now() - from) / 1_000;
  clearInterval(timer);
  return { result, grewBytes: peak - before, mbPerSecond: Math.round(sizeBytes / MB / seconds) };
};

/** For a person who asks: `WARDER_TEST_FIGURES=1`. */
const figures = (what: string, grewBytes: number, mbPerSecond: number): void => {
  if (process.env['WARDER_TEST_FIGURES'] === undefined) return;
  process.stderr.write(`${what}: ${mbPerSecond} MB/s, ${Math.round(grewBytes / MB)} MB more memory\n`);
};

describe(`${sizeBytes / MB} megabytes`, () => {
  test('come down whole, and the broker does not grow', async () => {
    const { result, grewBytes, mbPerSecond } = await growth(() => download(sizeBytes));
    expect(result).toEqual({ bytes: sizeBytes, crc: sentDown.crc, complete: true });
    expect(grewBytes).toBeLessThan(growthBytes);
    figures('down', grewBytes, mbPerSecond);
  }, 120_000);

  test('go up whole, and the broker does not grow', async () => {
    const { result, grewBytes, mbPerSecond } = await growth(() => upload(sizeBytes));
    expect(result.status).toBe(200);
    expect(gotUp).toEqual({ bytes: sizeBytes, crc: result.sent });
    expect(grewBytes).toBeLessThan(growthBytes);
    figures('up', grewBytes, mbPerSecond);
  }, 120_000);
});
