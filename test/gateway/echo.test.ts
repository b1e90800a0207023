/** Upstreams that repeat what they were sent: the secret does not come back, however it is dressed. */
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Access, answering, httpUpstream, type Reply, type Rig, SECRET, startRig, type Upstream } from './rig.ts';

/** With every character that some encoder changes. */
const AWKWARD = 'k+/=&<>"\'\\~ é?%{}'.replace('é', 'e') + SECRET;

let rig: Rig;
const upstreams: Upstream[] = [];

const echoing = async (
  handle: Parameters<typeof httpUpstream>[0],
  options: Parameters<Rig['access']>[1] = {},
): Promise<Access> => {
  const upstream = await httpUpstream(handle);
  upstreams.push(upstream);
  return rig.access(upstream.url, options);
};

const answeringRaw = async (answer: Parameters<typeof answering>[0]): Promise<Access> => {
  const upstream = await answering(answer);
  upstreams.push(upstream);
  return rig.access(upstream.url);
};

const everything = (reply: Reply): string =>
  `${reply.reason}\n${reply.rawHeaders.join('\n')}\n${JSON.stringify(reply.trailers)}\n${reply.body.toString('latin1')}`;

beforeAll(async () => {
  rig = await startRig();
});
afterAll(async () => {
  await rig.close();
  await Promise.all(upstreams.map((upstream) => upstream.close()));
});

const forms: [string, (secret: string) => string][] = [
  ['as it is', (secret) => secret],
  ['in base64', (secret) => Buffer.from(`user:${secret}`).toString('base64')],
  ['in base64 after one more character', (secret) => Buffer.from(`users:${secret}`).toString('base64')],
  ['in base64 after two more characters', (secret) => Buffer.from(`users2:${secret}`).toString('base64')],
  ['in base64url', (secret) => Buffer.from(`{"k":"${secret}"}`).toString('base64url')],
  ['percent-encoded', (secret) => encodeURIComponent(secret)],
  ['percent-encoded in lower case', (secret) => encodeURIComponent(secret).replace(/%../g, (hex) => hex.toLowerCase())],
  ['form-encoded', (secret) => new URLSearchParams({ a: secret }).toString()],
  ['in JSON', (secret) => JSON.stringify({ secret })],
  ['in JSON with escaped slashes', (secret) => JSON.stringify({ secret }).replaceAll('/', '\\/')],
  ['in HTML', (secret) => secret.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)],
  [
    'in HTML by names',
    (secret) =>
      secret
        .replaceAll('&', '&amp;')
        .replaceAll('<', '&lt;')
        .replaceAll('>', '&gt;')
        .replaceAll('"', '&quot;')
        .replaceAll("'", '&#x27;'),
  ],
  ['in hexadecimal', (secret) => Buffer.from(secret).toString('hex')],
];

describe('a secret in the body', () => {
  let access: Access;
  let dress: (secret: string) => string = (secret) => secret;
  beforeAll(async () => {
    access = await echoing(
      (req, res) => {
        const text = `<<${dress(String(req.headers['x-key']))}>>`;
        res.setHeader('Content-Length', Buffer.byteLength(text));
        res.end(text);
      },
      { secret: AWKWARD, settings: { inject: { header: 'X-Key' } } },
    );
  });

  test.each(forms.filter(([name]) => name !== 'in HTML'))('%s does not come back', async (_name, form) => {
    dress = form;
    const sent = `<<${form(AWKWARD)}>>`;
    const reply = await access.use('/x');
    expect(reply.body).toHaveLength(Buffer.byteLength(sent));
    expect(reply.headers['content-length']).toBe(String(Buffer.byteLength(sent)));
    expect(reply.text.startsWith('<<')).toBe(true);
    expect(reply.text.endsWith('>>')).toBe(true);
    expect(reply.text).toContain('*'.repeat(SECRET.length));
    // No piece of it that is worth anything: eight characters of the secret's own form.
    const own = form(AWKWARD).slice(-30, -4);
    for (let at = 0; at + 8 <= own.length; at++) expect(reply.text).not.toContain(own.slice(at, at + 8));
  });

  test('on an error page, with any status', async () => {
    for (const status of [400, 401, 403, 404, 418, 429, 500, 502, 503, 504, 599]) {
      const failing = await echoing((req, res) => {
        res.writeHead(status, { 'Content-Type': 'text/html' });
        res.end(`<pre>${req.headers.authorization}</pre>`);
      });
      const reply = await failing.use('/x');
      expect([reply.status, reply.text]).toEqual([status, `<pre>Bearer ${'*'.repeat(SECRET.length)}</pre>`]);
      expect(reply.headers['warder-error']).toBeUndefined();
    }
  });

  test('the composed value of basic authentication does not come back, nor the secret out of it', async () => {
    const basic = await echoing(
      (req, res) => {
        const header = String(req.headers.authorization);
        res.end(`${header} ${Buffer.from(header.slice(6), 'base64').toString()}`);
      },
      { settings: { inject: { basic: { username: 'me' } } } },
    );
    const { text } = await basic.use('/x');
    expect(text).not.toContain(SECRET.slice(4, 14));
    expect(text).not.toContain(Buffer.from(`me:${SECRET}`).toString('base64').slice(6, 20));
    expect(text).toMatch(/^Basic \*+ me:\*+$/);
  });

  test('a secret that travels in the query does not come back out of the URL', async () => {
    const query = await echoing((req, res) => res.end(req.url), {
      secret: AWKWARD,
      settings: { inject: { query: 'key' } },
    });
    const { text } = await query.use('/x?a=b');
    expect(text).toMatch(/^\/x\?a=b&key=\*+$/);
  });
});

describe('split over chunks', () => {
  test('at each byte, with the rest intact', async () => {
    const text = `before ${SECRET} after ${SECRET.slice(0, 10)} and ${Buffer.from(SECRET).toString('base64')} end`;
    let cut = 0;
    const access = await echoing((_req, res) => {
      res.write(text.slice(0, cut));
      setImmediate(() => res.end(text.slice(cut)));
    });
    const whole = await access.use('/x');
    expect(whole.text).not.toContain(SECRET);
    expect(whole.text.startsWith('before *')).toBe(true);
    expect(whole.text).toContain(`* after ${SECRET.slice(0, 10)} and *`);
    expect(whole.text.endsWith(' end')).toBe(true);
    for (cut = 1; cut < text.length; cut++) expect((await access.use('/x')).text).toBe(whole.text);
  });

  test('one byte at a time', async () => {
    const access = await echoing((_req, res) => {
      const bytes = [...`x${SECRET}y`];
      const next = (): void => {
        const byte = bytes.shift();
        if (byte === undefined) res.end();
        else {
          res.write(byte);
          setImmediate(next);
        }
      };
      next();
    });
    expect((await access.use('/x')).text).toBe(`x${'*'.repeat(SECRET.length)}y`);
  });
});

describe('compressed although plain was asked for', () => {
  const encoders: [string, (data: Buffer) => Buffer][] = [
    ['gzip', gzipSync],
    ['x-gzip', gzipSync],
    ['GZIP', gzipSync],
    ['deflate', deflateSync],
    ['br', brotliCompressSync],
    ['zstd', (data) => zstdCompressSync(data)],
  ];
  const plain = Buffer.from(`${'x'.repeat(50_000)}${SECRET}${'y'.repeat(50_000)}`);
  const masked = plain.toString().replace(SECRET, '*'.repeat(SECRET.length));

  test.each(encoders)('%s is decoded, masked and given plain', async (encoding, encode) => {
    const data = encode(plain);
    const access = await echoing((_req, res) => {
      res.writeHead(200, {
        'Content-Encoding': encoding,
        'Content-Length': data.length,
        'Content-MD5': 'x',
        Vary: 'Accept-Encoding',
      });
      for (let at = 0; at < data.length; at += 7) res.write(data.subarray(at, at + 7));
      res.end();
    });
    const reply = await access.use('/x');
    expect(reply.text).toBe(masked);
    expect(reply.complete).toBe(true);
    expect(reply.headers['content-encoding']).toBeUndefined();
    expect(reply.headers['content-length']).toBeUndefined();
    expect(reply.headers['content-md5']).toBeUndefined();
    expect(reply.headers.vary).toBe('Accept-Encoding');
  });

  test.each(encoders)('an empty body that is called %s is an empty body', async (encoding) => {
    const access = await echoing((_req, res) => res.writeHead(200, { 'Content-Encoding': encoding }).end());
    const reply = await access.use('/x');
    expect([reply.status, reply.text, reply.complete]).toEqual([200, '', true]);
  });

  test.each(encoders)('%s that breaks off or goes on behind its end never ends well', async (encoding, encode) => {
    const data = encode(plain);
    const bad = [
      data.subarray(0, data.length - 5),
      Buffer.concat([data, Buffer.from('garbage')]),
      Buffer.from(`<html>${SECRET}</html>`),
      ...(encoding.toLowerCase().endsWith('gzip') ? [] : [Buffer.concat([data, data])]),
    ];
    for (const body of bad) {
      const access = await echoing((_req, res) => res.writeHead(200, { 'Content-Encoding': encoding }).end(body));
      const reply = await access.use('/x').catch(() => undefined);
      expect(reply?.complete ?? false).toBe(false);
      expect(reply?.text ?? '').not.toContain(SECRET);
    }
  });

  test.each([
    ...['compress', 'unknown', 'gzip, gzip', 'gzip, br', 'aws-chunked', 'dcb', 'constructor', '__proto__', 'exi'],
  ])('an encoding that cannot be looked into (%s) is refused', async (encoding) => {
    const access = await echoing((_req, res) => {
      res.writeHead(200, { 'Content-Encoding': encoding }).end(gzipSync(gzipSync(plain)));
    });
    const reply = await access.use('/x');
    expect([reply.status, reply.headers['warder-error']]).toEqual([502, 'upstream_refused']);
  });

  test('deflate without its wrapper, as some servers send it, is not passed on', async () => {
    const access = await echoing((_req, res) => {
      res.writeHead(200, { 'Content-Encoding': 'deflate' }).end(deflateRawSync(plain));
    });
    const reply = await access.use('/x').catch(() => undefined);
    expect(reply?.complete ?? false).toBe(false);
    expect(reply?.text ?? '').not.toContain(SECRET);
  });

  test('a transfer coding besides chunked is refused: its bytes would pass unseen', async () => {
    const body = gzipSync(plain);
    const access = await answeringRaw((_head, socket) => {
      socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n');
      socket.write(`${body.length.toString(16)}\r\n`);
      socket.end(Buffer.concat([body, Buffer.from('\r\n0\r\n\r\n')]));
    });
    const reply = await access.use('/x');
    expect([reply.status, reply.headers['warder-error']]).toEqual([502, 'upstream_refused']);
  });

  test('HEAD, 204 and 304 may speak of an encoding: there is no body to look into', async () => {
    const access = await echoing((req, res) => {
      const status = Number(req.url?.slice(1));
      res.writeHead(status, { 'Content-Encoding': 'gzip', 'X-Key': String(req.headers.authorization) }).end();
    });
    for (const [path, method] of [
      ['/200', 'HEAD'],
      ['/204', 'GET'],
      ['/304', 'GET'],
    ] as const) {
      const reply = await access.use(path, { method });
      expect([reply.status, reply.complete, reply.headers['content-encoding']]).toEqual([
        Number(path.slice(1)),
        true,
        'gzip',
      ]);
      expect(everything(reply)).not.toContain(SECRET);
    }
  });
});

describe('around the body', () => {
  test('in any header: value, name, Location, Set-Cookie, several lines', async () => {
    const access = await echoing((_req, res) => {
      res.writeHead(302, [
        ...['Location', `https://x.example/?k=${encodeURIComponent(SECRET)}`],
        ...['Set-Cookie', `s=${SECRET}; Path=/`, 'Set-Cookie', `b=${Buffer.from(SECRET).toString('base64')}`],
        ...['X-Plain', SECRET, SECRET, 'as a name', 'Link', `<https://x.example/${SECRET}>; rel="next"`],
        ...['WWW-Authenticate', `Bearer error="${SECRET}"`, 'ETag', `"${SECRET}"`],
      ]);
      res.end();
    });
    const reply = await access.use('/x');
    expect(reply.status).toBe(302);
    const all = everything(reply);
    expect(all).not.toContain(SECRET);
    expect(all.toLowerCase()).not.toContain(SECRET.toLowerCase().slice(3, 20));
    expect(all).not.toContain(Buffer.from(SECRET).toString('base64').slice(4, 20));
    expect(reply.headers.location).toBe(`https://x.example/?k=${'*'.repeat(SECRET.length)}`);
    expect(reply.headers['set-cookie']).toHaveLength(2);
  });

  test('in the reason of the status line', async () => {
    const access = await answeringRaw((_head, socket) => {
      socket.write(`HTTP/1.1 200 ${SECRET}\r\nContent-Length: 2\r\n\r\nok`);
    });
    const reply = await access.use('/x');
    expect([reply.status, reply.reason, reply.text]).toEqual([200, 'OK', 'ok']);
  });

  test('in trailers and chunk extensions', async () => {
    const access = await answeringRaw((_head, socket) => {
      socket.write(
        `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Key\r\n\r\n2;k=${SECRET}\r\nok\r\n0\r\nX-Key: ${SECRET}\r\n\r\n`,
      );
    });
    const reply = await access.use('/x');
    expect([reply.status, reply.text, reply.complete]).toEqual([200, 'ok', true]);
    expect(everything(reply)).not.toContain(SECRET);
  });

  test('in informational answers before the real one', async () => {
    const access = await answeringRaw((_head, socket) => {
      socket.write(
        `HTTP/1.1 103 Early Hints\r\nLink: <${SECRET}>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok`,
      );
    });
    const reply = await access.use('/x');
    expect([reply.status, reply.text]).toEqual([200, 'ok']);
    expect(everything(reply)).not.toContain(SECRET);
  });

  test('fields that speak for the whole origin, for Warder or for one hop are dropped', async () => {
    const access = await echoing((_req, res) => {
      res.writeHead(200, [
        ...['Strict-Transport-Security', 'max-age=1', 'Alt-Svc', 'h3=":443"', 'Clear-Site-Data', '"*"'],
        ...['Public-Key-Pins', 'x', 'Public-Key-Pins-Report-Only', 'x', 'Warder-Error', 'internal'],
        ...['Warder-Request-Id', 'req_mine', 'Connection', 'close, X-Hop', 'X-Hop', '1', 'Keep-Alive', 'timeout=1'],
        ...['Proxy-Authenticate', 'Basic', 'Upgrade', 'h2c', 'Trailer', 'X-T', 'X-Kept', '1'],
      ]);
      res.end('ok');
    });
    const reply = await access.use('/x');
    const names = Object.keys(reply.headers).sort();
    expect(names).toEqual(['connection', 'date', 'request-id', 'transfer-encoding', 'warder-request-id', 'x-kept']);
    expect(reply.headers['warder-request-id']).toMatch(/^req_[0-9a-z]{26}$/);
  });

  test('nothing of it is in the log', () => {
    expect(rig.broker.log()).not.toContain(SECRET.slice(8, 24));
    expect(rig.broker.log()).not.toContain(AWKWARD.slice(0, 12));
  });
});
