/** One request in is at most one out, and what goes out leaves nothing to a second reading. */
import type { Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { SMUGGLING } from '../corpora/smuggling.ts';
import { type Access, type Rig, raw, rawUpstream, SECRET, startRig, type Upstream } from './rig.ts';

const line = /^[A-Z]+ (\/[\x21-\x7e]*) HTTP\/1\.1$/;
const field = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\t\x20-\x7e\x80-\xff]*)$/;
const framing = new Set(['content-length', 'transfer-encoding', 'host', 'authorization', 'connection']);

/** A head, read as strictly as RFC 9112 allows. @throws Error naming what is wrong */
const readHead = (head: string): { target: string; length: number; chunked: boolean } => {
  const [first = '', ...rest] = head.split('\r\n');
  const target = line.exec(first)?.[1];
  if (target === undefined) throw new Error(`request line: ${first}`);
  const found = new Map<string, string[]>();
  for (const each of rest) {
    const [, name = '', value = ''] = field.exec(each) ?? [];
    if (name === '') throw new Error(`field: ${each}`);
    // As CGI would name it.
    const folded = name.toLowerCase().replaceAll('_', '-');
    if (folded !== name.toLowerCase() && framing.has(folded)) throw new Error(`a second spelling: ${each}`);
    found.set(folded, [...(found.get(folded) ?? []), value.trim()]);
  }
  for (const name of framing) if ((found.get(name)?.length ?? 0) > 1) throw new Error(`twice: ${name}`);
  if (found.get('host')?.length !== 1) throw new Error('no Host');
  if (found.get('authorization')?.[0] !== `Bearer ${SECRET}`) throw new Error('not the secret');
  if (/wdr_/i.test(head)) throw new Error('a token of Warder');
  for (const name of ['upgrade', 'te', 'trailer', 'http2-settings', 'expect', 'x-original-url']) {
    if (found.has(name)) throw new Error(`passed on: ${name}`);
  }
  const [length] = found.get('content-length') ?? [];
  const [coding] = found.get('transfer-encoding') ?? [];
  if (length !== undefined && (coding !== undefined || !/^(0|[1-9]\d*)$/.test(length))) throw new Error('length');
  if (coding !== undefined && coding !== 'chunked') throw new Error(`coding: ${coding}`);
  return { target, length: Number(length ?? 0), chunked: coding !== undefined };
};

/** Where a chunked body ends, or undefined while it has not. @throws Error naming what is wrong */
const chunkedEnd = (text: string): number | undefined => {
  for (let at = 0; ; ) {
    const end = text.indexOf('\r\n', at);
    if (end < 0) return undefined;
    const digits = text.slice(at, end);
    if (!/^[0-9a-f]{1,8}$/i.test(digits)) throw new Error(`chunk size: ${JSON.stringify(digits)}`);
    const size = Number.parseInt(digits, 16);
    if (text.length < end + 2 + size + 2) return undefined;
    if (text.slice(end + 2 + size, end + 4 + size) !== '\r\n') throw new Error('chunk end');
    at = end + 4 + size;
    if (size === 0) return at;
  }
};

let rig: Rig;
let upstream: Upstream;
let access: Access;
/** Paths of whole requests, and of those that broke off within their body; and what a strict reader objects to. */
const whole: string[] = [];
const begun: string[] = [];
const objections: string[] = [];

/** Reads requests, and repeats each head in its answer, the secret included. */
const serve = (socket: Socket): void => {
  let text = '';
  let reading: ReturnType<typeof readHead> | undefined;
  let head = '';
  const step = (): boolean => {
    if (!reading) {
      const end = text.indexOf('\r\n\r\n');
      if (end < 0) return false;
      head = text.slice(0, end);
      reading = readHead(head);
      begun.push(reading.target);
      text = text.slice(end + 4);
    }
    const end = reading.chunked ? chunkedEnd(text) : text.length < reading.length ? undefined : reading.length;
    if (end === undefined) return false;
    text = text.slice(end);
    whole.push(reading.target);
    reading = undefined;
    const bodyless = head.startsWith('HEAD');
    const length = Buffer.byteLength(head, 'latin1');
    socket.write(Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${length}\r\n\r\n${bodyless ? '' : head}`, 'latin1'));
    return true;
  };
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
    try {
      while (step());
    } catch (error) {
      objections.push(`${String(error)} in ${JSON.stringify(`${head}\r\n\r\n${text}`.slice(0, 500))}`);
      socket.destroy();
    }
  });
};

const results = new Map<string, { replies: string; up: number; smuggled: number; closed: boolean }>();

beforeAll(async () => {
  upstream = await rawUpstream(serve);
  rig = await startRig();
  access = await rig.access(upstream.url);
  const send = async (index: number): Promise<void> => {
    const { name, bytes } = SMUGGLING[index] ?? { name: '', bytes: '' };
    const { text, closed } = await raw(
      rig.port,
      bytes
        .replaceAll('{P}', `/gateway/${access.connection}/meant-${index}`)
        .replaceAll('{S}', `/gateway/${access.connection}/smuggled-${index}`)
        .replaceAll('{A}', `Authorization: Bearer ${access.token}`),
      { quietMs: 700 },
    );
    const mine = (paths: string[], kind: string) =>
      paths.filter((path) => path.split(/[?/]/)[1] === `${kind}-${index}`);
    results.set(name, {
      replies: text,
      closed,
      up: mine(begun, 'meant').length + mine(begun, 'smuggled').length,
      smuggled: mine(begun, 'smuggled').length,
    });
  };
  // Many at a time: each waits for silence.
  let next = 0;
  await Promise.all(
    Array.from({ length: 24 }, async () => {
      while (next < SMUGGLING.length) await send(next++);
    }),
  );
}, 60_000);
afterAll(async () => {
  await rig.close();
  await upstream.close();
});

const statuses = (text: string): number[] =>
  [...text.matchAll(/HTTP\/1\.[01] (\d{3}) [^\r\n]*\r\n/g)].map((found) => Number(found[1]));

describe('the corpus', () => {
  test('has at least 150 requests, each under its own name', () => {
    expect(SMUGGLING.length).toBeGreaterThanOrEqual(150);
    expect(new Set(SMUGGLING.map(({ name }) => name)).size).toBe(SMUGGLING.length);
  });
});

describe('of a request with', () => {
  test.each(SMUGGLING.map((each) => [each.name, each] as const))('%s', (name, { up, exactly }) => {
    const result = results.get(name);
    if (!result) throw new Error('not sent');
    if (exactly) expect([result.up, result.replies.slice(0, 300)]).toEqual([up, expect.anything()]);
    else expect(result.up).toBeLessThanOrEqual(up);
    expect(result.smuggled).toBeLessThanOrEqual(Math.max(0, up - 1));
    // Answered or hung up on; never a failure of Warder's own.
    const codes = statuses(result.replies);
    expect(codes.filter((code) => code >= 500)).toEqual([]);
    if (exactly) expect(codes.length > 0 || result.closed).toBe(true);
    expect(result.replies).not.toContain(SECRET);
    // Not more answers than requests: 100 Continue is not one.
    expect(codes.filter((code) => code >= 200).length).toBeLessThanOrEqual(Math.max(1, up) + 1);
  });
});

describe('after all of it', () => {
  test('a strict reader upstream found nothing to object to', () => {
    expect(objections).toEqual([]);
  });

  test('the broker lives, and nothing of the secret is in its log', async () => {
    const reply = await access.use('/meant-end');
    expect([reply.status, whole.at(-1)]).toEqual([200, '/meant-end']);
    expect(rig.broker.log()).not.toContain(SECRET);
    expect(rig.broker.log()).not.toContain('"level":50');
  });

  test('a request that is not understood is recorded with its reason, and without its target', async () => {
    const refused = (await rig.audit()).filter(({ type, data }) => type === 'gateway.refused' && 'why' in data);
    expect(refused.length).toBeGreaterThan(10);
    for (const { data } of refused) {
      expect(data).toEqual({ code: 'invalid_request', method: expect.any(String), why: expect.any(String) });
    }
  });
});
