/** What goes upstream: the bytes that were judged, and nothing of Warder's own. */
import { connect } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import {
  type Access,
  eventually,
  httpUpstream,
  type Rig,
  raw,
  SECRET,
  sleep,
  startRig,
  type Upstream,
  valuesOf,
} from './rig.ts';

interface Seen {
  method: string;
  url: string;
  rawHeaders: string[];
  body: Buffer;
}

let rig: Rig;
let upstream: Upstream;
let access: Access;
let seen: Seen[] = [];

const last = (): Seen => {
  const found = seen.at(-1);
  if (!found) throw new Error('nothing went upstream');
  return found;
};

/** What a chunked body says. @throws Error where it does not end exactly with its last chunk */
const unchunked = (body: string): string => {
  let rest = body;
  let text = '';
  for (;;) {
    const [line = '', digits = ''] = /^([0-9a-f]+)\r\n/.exec(rest) ?? [];
    const size = Number.parseInt(digits, 16);
    if (size === 0 && rest === '0\r\n\r\n') return text;
    const end = line.length + size;
    if (!(size > 0) || rest.slice(end, end + 2) !== '\r\n') throw new Error(`not chunks: ${JSON.stringify(body)}`);
    text += rest.slice(line.length, end);
    rest = rest.slice(end + 2);
  }
};

beforeAll(async () => {
  upstream = await httpUpstream((req, res) => {
    const chunks: Buffer[] = [];
    req.on('data', (chunk: Buffer) => chunks.push(chunk));
    req.on('end', () => {
      seen.push({
        method: req.method ?? '',
        url: req.url ?? '',
        rawHeaders: req.rawHeaders,
        body: Buffer.concat(chunks),
      });
      const path = (req.url ?? '').split('?')[0] ?? '';
      if (path === '/204') res.writeHead(204, { ETag: '"1"' }).end();
      else if (path === '/304') res.writeHead(304, { ETag: '"1"' }).end();
      else if (path === '/empty') res.writeHead(200, { 'Content-Length': '0' }).end();
      else if (path === '/redirect') {
        res.writeHead(307, { Location: `/next?key=${SECRET}&back=${encodeURIComponent(`a ${SECRET}`)}` }).end('moved');
      } else res.end(req.method === 'HEAD' ? undefined : 'hello');
    });
  });
  rig = await startRig();
  access = await rig.access(upstream.url);
});
beforeEach(() => {
  seen = [];
});
afterAll(async () => {
  await rig.close();
  await upstream.close();
});

describe('the path and query', () => {
  test.each([
    '/v1/charges',
    '/v1/charges/',
    '/',
    '/a/b;v=1/c',
    '/caf%C3%A9/%E2%82%AC',
    '/%e2%82%ac',
    '/a%20b',
    "/!$&'()*+,;=:@-._~",
    '/v1?a=b&a=c',
    '/v1?',
    '/v1?a',
    '/v1?a=%20+%2B&b[]=1&b[]=2',
    '/v1?q=%C3%A9&next=https://x.example/y?z=1',
    '/v1?%61=1',
    '/v1?a=1;b=2',
    '/**',
  ])('%s goes up byte for byte', async (path) => {
    expect((await access.use(path)).status).toBe(200);
    expect(last().url).toBe(path);
  });

  test('the connection alone means its root', async () => {
    expect((await access.use('')).status).toBe(200);
    expect(last().url).toBe('/');
    expect((await access.use('?x=1')).status).toBe(200);
    expect(last().url).toBe('/?x=1');
  });

  test.each([
    ['/api/v2', '/api/v2/charges/?x=1'],
    ['/api/v2/', '/api/v2/charges/?x=1'],
    ['/caf%C3%A9', '/caf%C3%A9/charges/?x=1'],
  ])('a base path %s stands before it', async (base, expected) => {
    const based = await rig.access(`${upstream.url}${base}`);
    expect((await based.use('/charges/?x=1')).status).toBe(200);
    expect(last().url).toBe(expected);
  });

  test('a token of ours in path or query is refused, encoded or not, and does not go up', async () => {
    const encoded = access.token.replace('wdr', '%77dr');
    const refused = [
      `/x/${access.token}`,
      `/x?t=${access.token}`,
      `/x?t=${encoded}`,
      `/x?t=${access.token.slice(0, 40)}`,
    ];
    for (const path of refused) {
      const reply = await access.use(path);
      expect([reply.status, reply.headers['warder-error']]).toEqual([400, 'invalid_request']);
    }
    expect(seen).toEqual([]);
  });

  test.each([
    ...[
      '_method=DELETE',
      'a=b&_method=delete',
      '_METHOD=PUT',
      '%5Fmethod=DELETE',
      '_method%3DDELETE',
      '_method[]=DELETE',
    ],
    ...['$httpMethod=DELETE', '%24httpMethod=POST', '%2524httpMethod=POST', 'a=b;$httpmethod=DELETE'],
    ...['$httpHeaders=X-HTTP-Method-Override:DELETE', '_HttpMethod=PATCH', 'X-HTTP-Method-Override=DELETE'],
  ])('a query that names another method, ?%s, is refused and does not go up', async (query) => {
    const reply = await access.use(`/x?${query}`);
    expect([reply.status, reply.headers['warder-error']]).toEqual([400, 'invalid_request']);
    expect(seen).toEqual([]);
  });

  test('a query that only sounds like it goes up', async () => {
    for (const query of ['method=DELETE', 'httpMethod=x', 'q=_method', 'payment_method=card', 'q=a=_method']) {
      expect([query, (await access.use(`/x?${query}`)).status]).toEqual([query, 200]);
    }
  });
});

describe('the headers', () => {
  test('exactly one Host, the upstream’s; none of Warder’s authorization, tokens or hop-by-hop fields', async () => {
    const { token } = access;
    await raw(
      rig.port,
      [
        'GET /gateway/con-1/x HTTP/1.1',
        'Host: warder.example',
        `authorization: Bearer ${token}`,
        `Cookie: a=1; t=${token}; b=2`,
        `X-Token: ${token}`,
        `X-Nested: {"t":"${token.toUpperCase()}"}`,
        'Connection: keep-alive, X-Listed, close',
        'X-Listed: 1',
        'Keep-Alive: timeout=5',
        'Proxy-Authorization: Basic eDp5',
        'Proxy-Connection: keep-alive',
        'TE: trailers',
        'Trailer: X-T',
        'Upgrade: websocket',
        'Expect: 100-continue',
        'Warder-Grant: grt_1',
        'X-Forwarded-For: 1.2.3.4',
        'Forwarded: for=1.2.3.4',
        'Accept-Encoding: gzip',
        'Accept-Charset: utf-16',
        'Accept: text/plain',
        'X-Twice: 1',
        'x-twice: 2',
        'X-Latin: \xe9',
        '',
        '',
      ].join('\r\n'),
    );
    const { rawHeaders } = last();
    expect(valuesOf(rawHeaders, 'host')).toEqual([`127.0.0.1:${upstream.port}`]);
    expect(valuesOf(rawHeaders, 'authorization')).toEqual([`Bearer ${SECRET}`]);
    expect(rawHeaders.join('\n').toLowerCase()).not.toContain('wdr_');
    expect(rawHeaders.join('\n').toLowerCase()).not.toContain(token.slice(7).toLowerCase());
    const names = rawHeaders.filter((_, index) => index % 2 === 0).map((name) => name.toLowerCase());
    // `connection: keep-alive` is the gateway's own, for its own connection.
    expect(names.sort()).toEqual(
      ['accept', 'accept-encoding', 'authorization', 'connection', 'host', 'x-latin', 'x-twice', 'x-twice'].sort(),
    );
    expect(valuesOf(rawHeaders, 'connection')).toEqual(['keep-alive']);
    expect(valuesOf(rawHeaders, 'accept-encoding')).toEqual(['identity']);
    expect(valuesOf(rawHeaders, 'x-twice')).toEqual(['1', '2']);
    expect(valuesOf(rawHeaders, 'x-latin')).toEqual(['\xe9']);
  });
});

describe('the body', () => {
  test('a body with a length keeps its length', async () => {
    const body = Buffer.from(Array.from({ length: 300 }, (_, index) => index % 256));
    expect((await access.use('/x', { method: 'POST', body })).status).toBe(200);
    expect(last().body.equals(body)).toBe(true);
    expect(valuesOf(last().rawHeaders, 'content-length')).toEqual(['300']);
    expect(valuesOf(last().rawHeaders, 'transfer-encoding')).toEqual([]);
  });

  test('a body in chunks arrives whole, whatever the chunks', async () => {
    const { text } = await raw(
      rig.port,
      `POST /gateway/con-1/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${access.token}\r\nConnection: close\r\n` +
        'Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n5;ext=1\r\nbcdef\r\n00A\r\n0123456789\r\n0\r\nX-Trailer: t\r\n\r\n',
    );
    expect(text).toContain('HTTP/1.1 200');
    expect(last().body.toString()).toBe('abcdef0123456789');
    expect(last().rawHeaders.join()).not.toContain('X-Trailer');
  });

  test.each(['POST', 'PUT', 'PATCH'])('an empty %s is told to be empty', async (method) => {
    const reply = await access.use('/x', { method, headers: { 'content-length': '0' } });
    expect(reply.status).toBe(200);
    expect(last().body).toHaveLength(0);
    expect(valuesOf(last().rawHeaders, 'content-length')).toEqual(['0']);
  });

  test.each(['GET', 'DELETE', 'OPTIONS', 'QUERY'])('a body of %s goes up, too', async (method) => {
    expect((await access.use('/x', { method, headers: { 'content-length': '3' }, body: 'abc' })).status).toBe(200);
    expect([last().method, last().body.toString()]).toEqual([method, 'abc']);
  });

  test('Expect: 100-continue is answered by the gateway, and the body follows', async () => {
    const head = `POST /gateway/con-1/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${access.token}\r\n`;
    const { text } = await raw(
      rig.port,
      `${head}Expect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody`,
    );
    expect(text).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK/);
    expect(last().body.toString()).toBe('body');
  });
});

describe('methods', () => {
  test.each(['GET', 'PUT', 'POST', 'PATCH', 'DELETE', 'OPTIONS', 'QUERY', 'PROPFIND', 'REPORT', 'MKCOL', 'LOCK'])(
    '%s passes',
    async (method) => {
      const reply = await access.use('/x', { method });
      expect([reply.status, reply.text, last().method]).toEqual([200, 'hello', method]);
    },
  );

  test('HEAD passes, and its answer has no body', async () => {
    const reply = await access.use('/x', { method: 'HEAD' });
    expect([reply.status, reply.text, reply.complete, last().method]).toEqual([200, '', true, 'HEAD']);
  });

  test.each(['TRACE', 'PURGE', 'M-SEARCH', 'SUBSCRIBE'])(
    '%s does not pass, also where everything may',
    async (method) => {
      const reply = await access.use('/x', { method });
      expect([reply.status, reply.headers['warder-error']]).toEqual([403, 'scope_not_allowed']);
      expect(seen).toEqual([]);
    },
  );
});

describe('the answer', () => {
  test.each([
    ['/204', 204],
    ['/304', 304],
  ])('%s has no body, and the connection goes on', async (path, status) => {
    const head = `HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${access.token}\r\n`;
    const { text } = await raw(
      rig.port,
      `GET /gateway/con-1${path} ${head}\r\nGET /gateway/con-1/empty ${head}Connection: close\r\n\r\n`,
    );
    const answers = text.split(/(?=HTTP\/1\.1 \d{3})/);
    expect(answers).toHaveLength(2);
    expect(answers[0]).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(answers[0]).toMatch(/\r\n\r\n$/);
    expect(answers[0]).not.toMatch(/transfer-encoding/i);
    expect(answers[0]).toContain('ETag: "1"');
    expect(answers[1]).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('a redirect is handed back unfollowed, with the secret masked in its Location', async () => {
    const reply = await access.use('/redirect');
    expect([reply.status, reply.text, seen.length]).toEqual([307, 'moved', 1]);
    const stars = '*'.repeat(SECRET.length);
    expect(reply.headers.location).toBe(`/next?key=${stars}&back=a%20${stars}`);
  });

  test('is one well-formed message, however few pieces it comes in, in one packet where it is short', async () => {
    // Ends like the secret begins, so that the mask holds a part of it back until the end.
    const texts = ['', 's', 'hello', `ends in ${SECRET.slice(0, 9)}`];
    let text = '';
    let framed = false;
    const echo = await httpUpstream((_req, res) => {
      if (framed) res.setHeader('Content-Length', text.length);
      else res.flushHeaders();
      res.end(text);
    });
    const short = await rig.access(echo.url);
    for (framed of [false, true]) {
      for (text of texts) {
        const packets: string[] = [];
        const socket = connect(rig.port, '127.0.0.1');
        socket.on('data', (chunk: Buffer) => packets.push(chunk.toString()));
        socket.write(
          `GET /gateway/${short.connection}/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${short.token}\r\n\r\n`,
        );
        await eventually(() => packets.join('').endsWith(framed ? `\r\n\r\n${text}` : '\r\n0\r\n\r\n'));
        await sleep(20);
        socket.destroy();
        const [head = '', body = ''] = packets.join('').split(/\r\n\r\n([\s\S]*)/);
        expect(head).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
        if (framed) expect([body, packets.length]).toEqual([text, 1]);
        else expect(unchunked(body)).toBe(text);
      }
    }
    await echo.close();
  });

  test('says which request it was, in Warder’s own words only', async () => {
    const reply = await access.use('/x');
    expect(reply.headers['warder-request-id']).toMatch(/^req_/);
    expect(reply.headers['warder-error']).toBeUndefined();
  });
});

describe('requests over one connection', () => {
  test('run one after the other, and are answered in their order', async () => {
    let running = 0;
    let most = 0;
    const order: string[] = [];
    const slow = await httpUpstream((req, res) => {
      order.push(req.url ?? '');
      running += 1;
      most = Math.max(most, running);
      setTimeout(() => {
        running -= 1;
        res.end(req.url);
      }, 30);
    });
    const piped = await rig.access(slow.url);
    const one = (path: string, more = '') =>
      `POST /gateway/${piped.connection}${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${piped.token}\r\n${more}Content-Length: 2\r\n\r\nhi`;
    const { text } = await raw(
      rig.port,
      [one('/1'), one('/2'), 'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n', one('/3', 'Connection: close\r\n')].join(''),
      { quietMs: 2_000 },
    );
    expect(order).toEqual(['/1', '/2', '/3']);
    expect(most).toBe(1);
    expect(text.match(/HTTP\/1\.1 200/g)).toHaveLength(4);
    expect(text.indexOf('/1')).toBeLessThan(text.indexOf('/2'));
    await slow.close();
  });
});
