import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { requestHeaders, responseHeaders } from '../../src/domain/gateway-headers.ts';
import { secretNeedles } from '../../src/domain/secret-mask.ts';

const SECRET = 'sk_live_51HqLyjWDarjtT1zdp7dcGGkZ9aQ4mXw';
const INJECT = { name: 'Authorization', value: `Bearer ${SECRET}` };
const ADDED = ['Accept-Encoding', 'identity', 'Authorization', `Bearer ${SECRET}`];
const TOKEN = 'wdr_gw_Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFy';
const needles = secretNeedles([SECRET]);

/** What is left of these fields, without what is always added. */
function kept(raw: readonly string[], inject = INJECT): string[] {
  const sent = requestHeaders(raw, inject);
  expect(sent.slice(-4)).toEqual(['Accept-Encoding', 'identity', inject.name, inject.value]);
  return sent.slice(0, -4);
}

function valuesOf(flat: readonly string[], name: string): string[] {
  return flat.filter((_, index) => index % 2 === 1 && flat[index - 1]?.toLowerCase() === name.toLowerCase());
}

describe('headers to the upstream', () => {
  test('ordinary fields pass in order, as spelt, duplicates kept', () => {
    const raw = ['User-Agent', 'agent/1', 'ACCEPT', '*/*', 'x-tag', 'a', 'X-Tag', 'b', 'Content-Type', 'text/plain'];
    expect(requestHeaders(raw, INJECT)).toEqual([...raw, ...ADDED]);
  });

  test('the input is left as it was', () => {
    const raw = Object.freeze(['Host', 'x', 'Accept', '*/*']);
    expect(() => requestHeaders(raw, INJECT)).not.toThrow();
  });

  test('without a field to inject only the encoding is added', () => {
    expect(requestHeaders(['Accept', '*/*'], undefined)).toEqual(['Accept', '*/*', 'Accept-Encoding', 'identity']);
    expect(requestHeaders(['Authorization', `Bearer ${TOKEN}`], undefined)).toEqual(['Accept-Encoding', 'identity']);
  });

  test.each([
    'Connection',
    'Keep-Alive',
    'Proxy-Authorization',
    'Proxy-Authenticate',
    'Proxy-Connection',
    'Proxy-Anything',
    'Proxy',
    'TE',
    'Trailer',
    'Transfer-Encoding',
    'Upgrade',
    'HTTP2-Settings',
    'Expect',
    'Host',
    'Content-Length',
    'Authorization',
    'Accept-Encoding',
    'Forwarded',
    'X-Forwarded-For',
    'X-Forwarded-Host',
    'X-Forwarded-Proto',
    'X-Forwarded-Anything',
    'Via',
    'X-Real-IP',
    'X-Client-IP',
    'True-Client-IP',
    'CF-Connecting-IP',
    'X-Original-URL',
    'X-Rewrite-URL',
    'X-HTTP-Method-Override',
    'X-HTTP-Method',
    'X-Method-Override',
    'Warder-Grant',
    'Warder-Anything',
  ])('%s is dropped in every spelling that an upstream may take for it', (name) => {
    const spellings = [name, name.toLowerCase(), name.toUpperCase(), name.replaceAll('-', '_')];
    expect(kept(spellings.flatMap((each) => [each, 'x']))).toEqual([]);
  });

  test('every field that Connection lists is dropped, over several lines and odd spacing', () => {
    const raw = ['Connection', 'close, X-Hop ,\tx-second', 'X-Hop', '1', 'x-SECOND', '2', 'connection', 'X_Third,,'];
    expect(kept([...raw, 'X-Third', '3', 'X-Stays', '4'])).toEqual(['X-Stays', '4']);
  });

  test.each([
    'authorization',
    'Authorization, accept-encoding',
    'close, authorization, authorization',
    'AUTHORIZATION',
    '*',
  ])('Connection: %s cannot take the injected field away', (value) => {
    expect(requestHeaders(['Connection', value, 'Authorization', `Bearer ${TOKEN}`], INJECT)).toEqual(ADDED);
  });

  test.each(['X-Api-Key', 'x-api-key', 'X-API-KEY', 'X_Api_Key', 'x_api-key'])(
    'the field %s of the agent gives way to the injected X-Api-Key',
    (name) => {
      expect(kept([name, 'mine', 'X-Api-Key2', 'stays'], { name: 'X-Api-Key', value: SECRET })).toEqual([
        'X-Api-Key2',
        'stays',
      ]);
    },
  );

  test('an injected field that is otherwise always dropped is sent all the same', () => {
    const inject = { name: 'Proxy-Authorization', value: SECRET };
    expect(valuesOf(requestHeaders(['proxy-authorization', 'mine'], inject), inject.name)).toEqual([SECRET]);
  });

  test.each(['wdr_at_', 'wdr_gw_', 'wdr_op_'])('a field with a %s token anywhere in it is dropped whole', (prefix) => {
    const token = `${prefix}Zm9vYmFyYmF6cXV4`;
    const raw = [
      ...['X-Token', token, 'Cookie', `a=b; session=${token}; c=d`, 'Referer', `https://x/?t=${token}`],
      ...['X-Basic', `Bearer ${token}`, `X-${token}`, '1', 'X-Upper', token.toUpperCase()],
    ];
    expect(kept(raw)).toEqual([]);
  });

  test('cookies without a Warder token pass', () => {
    expect(kept(['Cookie', 'a=b; c=d'])).toEqual(['Cookie', 'a=b; c=d']);
  });

  test('the caller can drop further fields', () => {
    const sent = requestHeaders(['X-Extra', '1', 'x_extra', '2', 'X-Other', '3'], undefined, { drop: ['x-extra'] });
    expect(sent).toEqual(['X-Other', '3', 'Accept-Encoding', 'identity']);
  });

  test('whatever the agent sends, one injected field goes up, and no token or hop-by-hop field', () => {
    const name = fc.constantFrom(
      ...['Authorization', 'authorization', 'Connection', 'Cookie', 'X-A', 'x-b', 'TE', 'Accept-Encoding', 'Host'],
    );
    const value = fc.constantFrom('x', 'authorization', 'X-A, x-b', `t=${TOKEN}`, 'close', 'gzip', '');
    fc.assert(
      fc.property(fc.array(fc.tuple(name, value)), (fields) => {
        const sent = requestHeaders(fields.flat(), INJECT);
        expect(valuesOf(sent, 'authorization')).toEqual([INJECT.value]);
        expect(valuesOf(sent, 'accept-encoding')).toEqual(['identity']);
        expect(sent.join('\n')).not.toContain('wdr_');
        for (const hop of ['connection', 'te', 'host']) expect(valuesOf(sent, hop)).toEqual([]);
      }),
    );
  });
});

describe('headers from the upstream', () => {
  test('ordinary fields pass, from a flat list or by name', () => {
    const flat = ['Content-Type', 'text/plain', 'Content-Length', '5', 'Set-Cookie', 'a=1', 'Set-Cookie', 'b=2'];
    expect(responseHeaders(flat, needles)).toEqual(flat);
    const record = {
      'content-type': 'text/plain',
      'content-length': '5',
      'set-cookie': ['a=1', 'b=2'],
      etag: undefined,
    };
    expect(responseHeaders(record, needles)).toEqual(
      flat.map((each, at) => (at % 2 === 0 ? each.toLowerCase() : each)),
    );
  });

  test('hop-by-hop fields, those that Connection lists, and Warder’s own names are dropped', () => {
    const raw = [
      ...['Connection', 'keep-alive, X-Hop', 'Keep-Alive', 'timeout=5', 'X-Hop', '1', 'Transfer-Encoding', 'chunked'],
      ...['Trailer', 'X-T', 'Upgrade', 'h2c', 'TE', 'x', 'Proxy-Authenticate', 'Basic', 'Warder-Grant', 'grt_x'],
      ...['warder_request_id', 'x', 'Via', '1.1 upstream', 'Date', 'now'],
    ];
    expect(responseHeaders(raw, needles)).toEqual(['Via', '1.1 upstream', 'Date', 'now']);
  });

  test('an echoed secret is masked, in Location, Set-Cookie, base64 and names, at the same length', () => {
    const stars = '*'.repeat(SECRET.length);
    const basic = Buffer.from(`user:${SECRET}`).toString('base64');
    const masked = responseHeaders(
      [
        ...['Location', `https://x/?key=${SECRET}#f`, 'Set-Cookie', `k=${SECRET}; Secure`],
        ...['X-Echo', `Basic ${basic}`, `X-${SECRET}`, 'x'],
      ],
      needles,
    );
    expect(masked.slice(0, 4)).toEqual(['Location', `https://x/?key=${stars}#f`, 'Set-Cookie', `k=${stars}; Secure`]);
    expect(masked[5]).toHaveLength(`Basic ${basic}`.length);
    expect(Buffer.from(masked[5] ?? '', 'base64').toString('latin1')).not.toContain(SECRET.slice(2, -2));
    expect(masked[5]).toMatch(/^Basic dXNlcjp\*{50,}/);
    expect(masked.slice(6)).toEqual([`X-${stars}`, 'x']);
  });
});
