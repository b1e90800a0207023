import { randomBytes } from 'node:crypto';
import { escape as queryEscape } from 'node:querystring';
import { inspect } from 'node:util';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { BodyMask, MIN_SECRET_BYTES, maskText, type Needles, secretNeedles } from '../../src/domain/secret-mask.ts';

const SECRET = 'sk_live_51HqLyjWDarjtT1zdp7dcGGkZ9aQ4mXw';
/** Has everything that encoders escape, and its base64 has `+` and `/`. */
const AWKWARD = 'p/ä>>?~ "q\'+=&<\\`%\u{1f511}\n\u2028 z';

/** Masks a body that arrives as these chunks, after copying them, so that the originals can be compared. */
function masked(needles: Needles, chunks: readonly Buffer[]): Buffer {
  const mask = new BodyMask(needles);
  return Buffer.concat([...chunks.map((chunk) => mask.push(chunk)), mask.end()]);
}

function maskedText(needles: Needles, text: string): string {
  return masked(needles, [Buffer.from(text)]).toString();
}

/** Cuts where the numbers say, modulo what is left; a zero makes an empty chunk. */
function cut(body: Buffer, sizes: readonly number[]): Buffer[] {
  const chunks: Buffer[] = [];
  let at = 0;
  for (const size of sizes) {
    chunks.push(body.subarray(at, at + size));
    at = Math.min(body.length, at + size);
  }
  return [...chunks, body.subarray(at)];
}

/** The definition: every byte of every occurrence, found one by one. */
function reference(secrets: readonly string[], text: string): string {
  const stars = Array.from(text);
  for (const secret of secrets) {
    for (let at = text.indexOf(secret); at >= 0; at = text.indexOf(secret, at + 1)) {
      stars.fill('*', at, at + secret.length);
    }
  }
  return stars.join('');
}

const sizes = fc.array(fc.nat({ max: 12 }), { maxLength: 60 });

describe('masking a body', () => {
  test('an echoed secret becomes as many stars, wherever it stands', () => {
    const needles = secretNeedles([SECRET]);
    const stars = '*'.repeat(SECRET.length);
    expect(maskedText(needles, SECRET)).toBe(stars);
    expect(maskedText(needles, `${SECRET}${SECRET}`)).toBe(stars + stars);
    expect(maskedText(needles, `{"key":"${SECRET}"}`)).toBe(`{"key":"${stars}"}`);
    expect(maskedText(needles, `x${SECRET.slice(0, -1)}`)).toBe(`x${SECRET.slice(0, -1)}`);
    expect(maskedText(needles, SECRET.toLowerCase())).toBe(SECRET.toLowerCase());
  });

  test('overlapping occurrences of several secrets are masked to the last byte', () => {
    const secrets = ['aabaab', 'baabaaa', 'aaaaaa', 'abababababab', 'xaabaabxx'];
    const needles = secretNeedles(secrets);
    const text = fc
      .array(fc.constantFrom('a', 'b', 'aab', 'abab', 'x', 'xaabaabx'), { maxLength: 60 })
      .map((parts) => parts.join(''));
    fc.assert(
      fc.property(text, sizes, (body, at) => {
        expect(masked(needles, cut(Buffer.from(body), at)).toString()).toBe(reference(secrets, body));
      }),
      { numRuns: 5000 },
    );
  });

  test('every way of cutting the body into chunks gives the same output', () => {
    const needles = secretNeedles([SECRET, AWKWARD, 'hunter2', 'aaaaaaaa']);
    const base64 = Buffer.from(`u:${SECRET}`).toString('base64');
    const pieces = fc.constantFrom(
      ...[SECRET, SECRET.slice(0, 20), SECRET.slice(20), AWKWARD, encodeURIComponent(AWKWARD), base64, 'hunter2'],
      ...[JSON.stringify(AWKWARD), 'aaaa', 'aaaaa', 'h', 'hunter', '\n\n', 's', Buffer.from(SECRET).toString('hex')],
    );
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 10 }), sizes, (parts, at) => {
        const body = Buffer.from(parts.join(''));
        const whole = masked(needles, [body]);
        expect(masked(needles, cut(body, at)).toString('latin1')).toBe(whole.toString('latin1'));
        expect(whole).toHaveLength(body.length);
      }),
      { numRuns: 2000 },
    );
  });

  test('a secret that arrives byte by byte is masked', () => {
    const needles = secretNeedles([SECRET]);
    const body = Buffer.from(`a${SECRET}b${SECRET}`);
    const stars = '*'.repeat(SECRET.length);
    expect(masked(needles, cut(body, Array(body.length).fill(1))).toString()).toBe(`a${stars}b${stars}`);
  });

  test('the first hit after a very long clean stretch, and at every offset, is found', () => {
    const needles = secretNeedles([SECRET]);
    const stars = '*'.repeat(SECRET.length);
    for (let before = 0; before < 200; before++) {
      const text = `${'s'.repeat(before)}${SECRET}${'k'.repeat(before % 7)}`;
      expect(maskedText(needles, text)).toBe(text.replace(SECRET, stars));
    }
  });

  test('chunks are never written to, and a clean one comes back itself', () => {
    const needles = secretNeedles([SECRET]);
    const clean = Buffer.from('nothing to see\n');
    expect(new BodyMask(needles).push(clean)).toBe(clean);
    const dirty = Buffer.from(`a ${SECRET} b\n`);
    const before = Buffer.from(dirty);
    new BodyMask(needles).push(dirty);
    expect(dirty.equals(before)).toBe(true);
  });

  test('what is held back survives the reuse of the chunk by the caller', () => {
    const mask = new BodyMask(secretNeedles([SECRET]));
    const chunk = Buffer.from(`x${SECRET.slice(0, 10)}`);
    expect(mask.push(chunk).toString()).toBe('x');
    chunk.fill(0);
    expect(mask.push(Buffer.from(`${SECRET.slice(10)}y`)).toString()).toBe(`${'*'.repeat(SECRET.length)}y`);
  });

  test('a server-sent event is passed on at once', () => {
    const mask = new BodyMask(secretNeedles([SECRET, 'data: 1234']));
    for (const event of ['data: {"x":1}\n\n', ': ping\n\n', `data: ${SECRET}\n\n`, 'event: s\ndata: sk_live_\n\n']) {
      expect(mask.push(Buffer.from(event))).toHaveLength(event.length);
    }
    expect(mask.end()).toHaveLength(0);
  });

  test('only the bytes that may begin a secret wait, and they come when it turns out otherwise', () => {
    const mask = new BodyMask(secretNeedles([SECRET]));
    expect(mask.push(Buffer.from('tokens: sk_live_')).toString()).toBe('tokens: ');
    expect(mask.push(Buffer.from('none here')).toString()).toBe('sk_live_none here');
    expect(mask.push(Buffer.from('end s')).toString()).toBe('end ');
    expect(mask.end().toString()).toBe('s');
    expect(mask.end()).toHaveLength(0);
  });

  test('a whole secret is not given out because it may also begin a longer one', () => {
    const needles = secretNeedles(['secret-one', 'secret-one-and-two']);
    const mask = new BodyMask(needles);
    expect(mask.push(Buffer.from('a secret-one')).toString()).toBe('a ');
    expect(mask.push(Buffer.from('-and-')).toString()).toBe('');
    expect(mask.push(Buffer.from('three')).toString()).toBe('**********-and-three');
    expect(mask.push(Buffer.from('secret-one')).toString()).toBe('');
    expect(mask.end().toString()).toBe('**********');
  });

  test('a hit inside what may begin a longer secret does not spread over its neighbours', () => {
    const mask = new BodyMask(secretNeedles(['ab-secret-zz', 'secret']));
    expect(mask.push(Buffer.from('ab-secret'))).toHaveLength(0);
    expect(mask.push(Buffer.from('!ab-secret')).toString()).toBe('ab-******!');
    expect(Buffer.concat([mask.push(Buffer.from('-zz')), mask.end()]).toString()).toBe('*'.repeat(12));
  });

  test('a whole secret at the end of a chunk does not wait for the next', () => {
    const mask = new BodyMask(secretNeedles([SECRET]));
    expect(mask.push(Buffer.from(`x${SECRET}`)).toString()).toBe(`x${'*'.repeat(SECRET.length)}`);
  });

  test('no more is held back than the longest form, whatever the body', () => {
    const mask = new BodyMask(secretNeedles([SECRET]));
    const longest = SECRET.length * 2;
    let [pushed, released] = [0, 0];
    for (let round = 0; round < 3000; round++) {
      const chunk = Buffer.from(round % 3 === 0 ? SECRET.slice(0, 39) : SECRET.slice(round % 40));
      pushed += chunk.length;
      released += mask.push(chunk).length;
      expect(pushed - released).toBeLessThan(longest);
    }
    expect(released + mask.end().length).toBe(pushed);
  });

  test('without secrets, or with too short ones only, everything passes untouched', () => {
    for (const secrets of [[], [''], ['12345'], ['éé']]) {
      const needles = secretNeedles(secrets);
      const chunk = Buffer.from('12345 éé');
      expect(needles).toMatchObject({ forms: 0, ignored: secrets.length });
      expect(new BodyMask(needles).push(chunk)).toBe(chunk);
      expect(maskText(needles, '12345')).toBe('12345');
    }
  });

  test('the shortest secret that is masked has the stated number of bytes, not characters', () => {
    expect(maskedText(secretNeedles(['abcdef']), 'xabcdefx')).toBe('x******x');
    expect(maskedText(secretNeedles(['ééé']), 'xééé')).toBe(`x${'*'.repeat(MIN_SECRET_BYTES)}`);
  });

  test('a body that is not text is searched by its bytes', () => {
    const needles = secretNeedles([SECRET]);
    const noise = randomBytes(100_000);
    const body = Buffer.concat([noise, Buffer.from(SECRET), noise]);
    const expected = Buffer.concat([noise, Buffer.alloc(SECRET.length, '*'), noise]);
    expect(masked(needles, cut(body, [65_536, 34_470])).equals(expected)).toBe(true);
  });

  test('a secret of random bytes at random places is found at full speed', () => {
    const needles = secretNeedles([SECRET]);
    const chunk = randomBytes(1 << 20);
    let best = 0;
    for (let round = 0; round < 30; round++) {
      const mask = new BodyMask(needles);
      const start = performance.now();
      mask.push(chunk);
      best = Math.max(best, chunk.length / 1e6 / ((performance.now() - start) / 1e3));
    }
    // Megabytes a second; measured at several thousand.
    expect(best).toBeGreaterThan(500);
  });
});

describe('the forms of a secret', () => {
  const jsonEscape = (text: string) => JSON.stringify(text).slice(1, -1);
  const unicodeEscape = (text: string, pattern: RegExp, upper: boolean) =>
    jsonEscape(text).replace(pattern, (unit) => {
      const hex = unit.charCodeAt(0).toString(16).padStart(4, '0');
      return `\\u${upper ? hex.toUpperCase() : hex}`;
    });
  const lower = (text: string) => text.replace(/%[0-9A-F]{2}/g, (octet) => octet.toLowerCase());
  const replaceAll = (text: string, table: Record<string, string>) =>
    Array.from(text, (character) => table[character] ?? character).join('');

  /** Encoders written here anew, from what each software does. */
  const ENCODERS: Record<string, (text: string) => string> = {
    'as it is': (text) => text,
    encodeURIComponent,
    'encodeURIComponent in lower case': (text) => lower(encodeURIComponent(text)),
    encodeURI,
    querystring: queryEscape,
    'RFC 3986': (text) =>
      encodeURIComponent(text).replace(/[!'()*]/g, (each) => `%${each.charCodeAt(0).toString(16).toUpperCase()}`),
    URLSearchParams: (text) => new URLSearchParams([['', text]]).toString().slice(1),
    'URLSearchParams in lower case': (text) => lower(new URLSearchParams([['', text]]).toString().slice(1)),
    'JSON.stringify': jsonEscape,
    'JSON of PHP': (text) => unicodeEscape(text, /[\u0080-\uffff]/g, false).replaceAll('/', '\\/'),
    'JSON with slashes escaped': (text) => jsonEscape(text).replaceAll('/', '\\/'),
    'JSON with slashes as numbers': (text) => jsonEscape(text).replaceAll('/', '\\u002f'),
    'JSON with slashes as numbers, upper case': (text) => jsonEscape(text).replaceAll('/', '\\u002F'),
    'JSON of Python': (text) => unicodeEscape(text, /[\u0080-\uffff]/g, false),
    'JSON of Go': (text) => unicodeEscape(text, /[<>&\u2028\u2029]/g, false),
    'JSON of .NET': (text) => unicodeEscape(text, /[<>&'+`\u0080-\uffff]/g, true).replaceAll('\\"', '\\u0022'),
    'HTML text': (text) => replaceAll(text, { '&': '&amp;', '<': '&lt;', '>': '&gt;' }),
    'HTML of PHP': (text) => replaceAll(text, { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#039;' }),
    'HTML of Python': (text) =>
      replaceAll(text, { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#x27;' }),
    'HTML of Go': (text) => replaceAll(text, { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&#34;', "'": '&#39;' }),
    XML: (text) => replaceAll(text, { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&apos;' }),
    'hex, lower case': (text) => Buffer.from(text).toString('hex'),
    'hex, upper case': (text) => Buffer.from(text).toString('hex').toUpperCase(),
  };

  const secret = fc
    .oneof(
      fc.string({ unit: 'grapheme', minLength: 6, maxLength: 40 }),
      fc.string({ unit: fc.constantFrom(...'ab/+=&<>"\'\\% ~!()*`é\n'), minLength: 6, maxLength: 40 }),
      fc.base64String({ minLength: 8, maxLength: 80 }),
    )
    .filter((text) => Buffer.byteLength(text) >= MIN_SECRET_BYTES && text.isWellFormed() && !text.includes('*'));

  test.each(Object.keys(ENCODERS))('%s is masked to the last byte', (name) => {
    const encode = ENCODERS[name] ?? String;
    for (const each of [SECRET, AWKWARD]) {
      const form = encode(each);
      expect(maskedText(secretNeedles([each]), `[${form}]`)).toBe(`[${'*'.repeat(Buffer.byteLength(form))}]`);
    }
    fc.assert(
      fc.property(secret, (each) => {
        const form = encode(each);
        expect(maskedText(secretNeedles([each]), `[${form}]`)).toBe(`[${'*'.repeat(Buffer.byteLength(form))}]`);
      }),
      { numRuns: 150 },
    );
  });

  test('every form is masked when a chunk ends anywhere inside it', () => {
    for (const each of [SECRET, AWKWARD]) {
      const needles = secretNeedles([each]);
      for (const encode of Object.values(ENCODERS)) {
        const form = Buffer.from(encode(each));
        for (let at = 1; at < form.length; at++) {
          const output = masked(needles, [form.subarray(0, at), form.subarray(at)]);
          expect(output.toString('latin1')).toBe('*'.repeat(form.length));
        }
      }
    }
  });

  test.each(['base64', 'base64url'] as const)('%s is masked at every alignment, but for the edges', (encoding) => {
    fc.assert(
      fc.property(secret, fc.nat({ max: 5 }), fc.nat({ max: 5 }), (each, before, after) => {
        const whole = Buffer.concat([Buffer.alloc(before, 'b'), Buffer.from(each), Buffer.alloc(after, 'a')]);
        const output = maskedText(secretNeedles([each]), whole.toString(encoding));
        // Every character that holds only bits of the secret.
        const from = Math.ceil((before * 8) / 6);
        const to = Math.floor(((before + Buffer.byteLength(each)) * 8) / 6);
        expect(output.slice(from, to)).toBe('*'.repeat(to - from));
        expect(output).toHaveLength(whole.toString(encoding).length);
      }),
    );
  });

  test('base64 that was escaped in its turn is masked', () => {
    const each = '>>>???>>>???>>>???';
    const base64 = Buffer.from(each).toString('base64');
    expect(base64).toMatch(/[+/]/);
    for (const form of [base64, encodeURIComponent(base64), base64.replaceAll('/', '\\/')]) {
      expect(maskedText(secretNeedles([each]), form)).toBe('*'.repeat(form.length));
    }
  });

  test('a secret with é is also masked where it was sent in Latin-1', () => {
    const needles = secretNeedles(['passé-composé']);
    expect(masked(needles, [Buffer.from('<passé-composé>', 'latin1')]).toString('latin1')).toBe(`<${'*'.repeat(13)}>`);
  });

  test('forms are counted once, and a plain secret has few', () => {
    expect(secretNeedles([SECRET]).forms).toBe(secretNeedles([SECRET, SECRET]).forms);
    expect(secretNeedles([SECRET]).forms).toBeLessThanOrEqual(9);
  });

  test('nothing shows a secret: not JSON, not inspection of the needles or of a mask that holds a part', () => {
    const needles = secretNeedles([SECRET]);
    const mask = new BodyMask(needles);
    mask.push(Buffer.from(SECRET.slice(0, 30)));
    const shown = [needles, mask]
      .map((each) => JSON.stringify(each) + inspect(each, { depth: null, showHidden: true, maxArrayLength: null }))
      .join('');
    expect(shown).not.toContain('sk_live');
    expect(shown).not.toContain('736b5f6c697665');
    expect(shown).not.toContain('73 6b 5f 6c');
  });
});

describe('masking text', () => {
  const needles = secretNeedles([SECRET, AWKWARD, 'пароль']);

  test('text without a hit comes back itself', () => {
    for (const text of ['', 'x', 'no-cache', 'naïve', '日本語 text of some length', '\ud800 alone']) {
      expect(maskText(needles, text)).toBe(text);
    }
  });

  test('a hit is masked at the same length', () => {
    expect(maskText(needles, `Bearer ${SECRET};`)).toBe(`Bearer ${'*'.repeat(SECRET.length)};`);
    expect(maskText(needles, `é ${SECRET}`)).toBe(`é ${'*'.repeat(SECRET.length)}`);
    expect(maskText(needles, `日 ${SECRET}`)).toBe(`日 ${'*'.repeat(SECRET.length)}`);
  });

  test('a secret beyond ASCII is found in text read as UTF-8 and in text read as Latin-1', () => {
    const stars = '*'.repeat(12);
    expect(maskText(needles, '<пароль>')).toBe(`<${stars}>`);
    expect(maskText(needles, Buffer.from('<пароль>').toString('latin1'))).toBe(`<${stars}>`);
  });
});
