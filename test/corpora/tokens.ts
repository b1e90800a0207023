/**
 * Bad tokens, made from good ones: each is refused wherever a token is taken. Names say what is wrong. What a good one
 * looks like is the business of the test; everything here starts from one that works.
 */
import { constants, createHash, createHmac, createPublicKey, type KeyObject, randomUUID, sign } from 'node:crypto';
import { deflateRawSync } from 'node:zlib';

export interface BadToken {
  readonly name: string;
  readonly token: string;
}

export interface Signer {
  alg: string;
  kid: string;
  key: KeyObject;
}

// ---- making a JWS by hand: libraries refuse to make what is needed here -------------------------------------------

export const base64url = (part: string | Uint8Array): string => Buffer.from(part).toString('base64url');

/** An object as JSON; a string as it is, so that JSON no serialiser would write can be signed. */
export const encoded = (part: unknown): string =>
  base64url(typeof part === 'string' || part instanceof Uint8Array ? part : JSON.stringify(part));

/** The bytes of a JWS signature (RFC 7518 section 3, RFC 8037). */
export const signatureOf = (alg: string, key: KeyObject, input: string): Buffer => {
  const data = Buffer.from(input);
  const pss = { key, padding: constants.RSA_PKCS1_PSS_PADDING };
  switch (alg) {
    case 'RS256':
    case 'RS384':
    case 'RS512':
      return sign(`sha${alg.slice(2)}`, data, key);
    case 'PS256':
    case 'PS384':
    case 'PS512':
      return sign(`sha${alg.slice(2)}`, data, { ...pss, saltLength: Number(alg.slice(2)) / 8 });
    case 'ES256':
    case 'ES384':
      return sign(`sha${alg.slice(2)}`, data, { key, dsaEncoding: 'ieee-p1363' });
    case 'Ed25519':
    case 'EdDSA':
      return sign(null, data, key);
    default:
      throw new Error(`no such algorithm here: ${alg}`);
  }
};

/** A compact JWS signed with the signer's own algorithm, whatever the header says. */
export const compact = (header: unknown, payload: unknown, signer: Signer): string => {
  const input = `${encoded(header)}.${encoded(payload)}`;
  return `${input}.${base64url(signatureOf(signer.alg, signer.key, input))}`;
};

export const withSecret = (header: object, payload: object, alg: string, secret: string | Uint8Array): string => {
  const input = `${encoded({ ...header, alg })}.${encoded(payload)}`;
  return `${input}.${createHmac(`sha${alg.slice(2)}`, secret)
    .update(input)
    .digest('base64url')}`;
};

export const parts = (jws: string): [string, string, string] => {
  const [header = '', payload = '', signature = ''] = jws.split('.');
  return [header, payload, signature];
};

/** SEQUENCE { INTEGER r, INTEGER s }: how everybody but JOSE writes an ECDSA signature. */
const derSignature = (raw: Buffer): Buffer => {
  const integer = (bytes: Buffer): Buffer => {
    let start = 0;
    while (start < bytes.length - 1 && bytes[start] === 0) start += 1;
    const short = bytes.subarray(start);
    const value = (short[0] ?? 0) > 127 ? Buffer.concat([Buffer.alloc(1), short]) : short;
    return Buffer.concat([Buffer.from([2, value.length]), value]);
  };
  const half = raw.length / 2;
  const both = Buffer.concat([integer(raw.subarray(0, half)), integer(raw.subarray(half))]);
  return Buffer.concat([Buffer.from([0x30, both.length]), both]);
};

const orderP256 = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

/** The other valid ECDSA signature of the same message: (r, n − s). */
export const malleated = (jws: string): string => {
  const [header, payload, signature] = parts(jws);
  const raw = Buffer.from(signature, 'base64url');
  const s = BigInt(`0x${raw.subarray(32).toString('hex')}`);
  const other = (orderP256 - s).toString(16).padStart(64, '0');
  return `${header}.${payload}.${base64url(Buffer.concat([raw.subarray(0, 32), Buffer.from(other, 'hex')]))}`;
};

const flipBit = (text: string, at: number): string => {
  const bytes = Buffer.from(text, 'base64url');
  const index = at < 0 ? bytes.length + at : at;
  bytes[index] = (bytes[index] ?? 0) ^ 1;
  return base64url(bytes);
};

const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

/** The same bytes with bits set that decoders drop; undefined where the length leaves none. */
export const looseTail = (part: string): string | undefined => {
  const spare = part.length % 4 === 2 ? 15 : part.length % 4 === 3 ? 3 : 0;
  if (spare === 0) return undefined;
  const last = alphabet.indexOf(part.at(-1) ?? '');
  return part.slice(0, -1) + alphabet[(last & ~spare) | ((last + 1) & spare)];
};

const swapCase = (text: string): string =>
  [...text].map((char) => (char === char.toLowerCase() ? char.toUpperCase() : char.toLowerCase())).join('');

const fullWidth = (char: string): string => String.fromCodePoint((char.codePointAt(0) ?? 0) + 0xfee0);

/** Names made unique, and whatever came out as a good token left out. */
export const distinct = (tokens: readonly BadToken[], good: readonly string[]): BadToken[] => {
  const seen = new Set(good);
  return tokens.filter(({ token }) => {
    if (seen.has(token)) return false;
    seen.add(token);
    return true;
  });
};

/** Nothing where the change found nothing to change: a signature may have no `_` in it. */
const changed = (name: string, good: string, change: (token: string) => string): BadToken[] => {
  const token = change(good);
  return token === good ? [] : [{ name, token }];
};

/** What can be done to any string that is a token. */
const mangled = (what: string, make: () => string): BadToken[] => {
  const one = (name: string, change: (token: string) => string): BadToken[] =>
    changed(`${what}: ${name}`, make(), change);
  const middle = (text: string, put: string): string => {
    const at = Math.floor(text.length / 2);
    return text.slice(0, at) + put + text.slice(at);
  };
  return [
    one('a character cut off the end', (token) => token.slice(0, -1)),
    one('a character cut off the beginning', (token) => token.slice(1)),
    one('half of it', (token) => token.slice(0, Math.floor(token.length / 2))),
    one('a character more', (token) => `${token}A`),
    one('twice', (token) => token + token),
    one('twice with a comma', (token) => `${token},${token}`),
    one('twice with a space', (token) => `${token} ${token}`),
    one('backwards', (token) => [...token].reverse().join('')),
    one('upper case', (token) => token.toUpperCase()),
    one('lower case', (token) => token.toLowerCase()),
    one('case swapped', swapCase),
    one('padding', (token) => `${token}=`),
    one('two paddings', (token) => `${token}==`),
    one('quoted', (token) => `"${token}"`),
    one('behind a scheme', (token) => `Bearer ${token}`),
    one('percent-encoded', (token) => token.replace(/^./, (char) => `%${char.charCodeAt(0).toString(16)}`)),
    one('base64 of it', (token) => Buffer.from(token).toString('base64')),
    one('its SHA-256', (token) => createHash('sha256').update(token).digest('hex')),
    one('a space inside', (token) => middle(token, ' ')),
    one('a tab inside', (token) => middle(token, '\t')),
    one('a line feed inside', (token) => middle(token, '\n')),
    one('CR LF inside', (token) => middle(token, '\r\n')),
    one('CR LF and a header', (token) => `${token}\r\nX-Injected: yes`),
    one('a line feed at the end', (token) => `${token}\n`),
    one('a space at the end', (token) => `${token} `),
    one('a space at the beginning', (token) => ` ${token}`),
    one('NUL at the end', (token) => `${token}\0`),
    one('NUL inside', (token) => middle(token, '\0')),
    one('NUL and more', (token) => `${token}\0admin`),
    one('a zero-width space inside', (token) => middle(token, '\u200b')),
    one('a soft hyphen inside', (token) => middle(token, '\u00ad')),
    one('a byte order mark before it', (token) => `\ufeff${token}`),
    one('its last character full-width', (token) => token.slice(0, -1) + fullWidth(token.at(-1) ?? '')),
    one('its first e Cyrillic', (token) => token.replace(/[eE]/, '\u0435')),
    one('its first a Cyrillic', (token) => token.replace(/[aA]/, '\u0430')),
    one('its first - a Unicode minus', (token) => token.replace('-', '\u2212')),
    one('its first _ a full-width one', (token) => token.replace('_', '\uff3f')),
    one('a dot at the end', (token) => `${token}.`),
    one('a dot at the beginning', (token) => `.${token}`),
    one('very long', (token) => token + 'A'.repeat(8000)),
  ].flat();
};

// ---- opaque tokens -----------------------------------------------------------------------------------------------

export interface GoodOpaque {
  agent: string;
  otherAgent: string;
  gateway: string;
  otherGateway: string;
  operator: string;
  clientSecret: string;
}

const prefixLength = 7;
const idEnd = prefixLength + 26;

export const badOpaqueTokens = (good: GoodOpaque): BadToken[] => {
  const { agent, otherAgent, gateway, otherGateway, operator, clientSecret } = good;
  const kinds = { agent, gateway, operator };
  const bad: BadToken[] = [];
  for (const [what, token] of Object.entries(kinds)) {
    const prefix = token.slice(0, prefixLength);
    const id = token.slice(prefixLength, idEnd);
    const secret = token.slice(idEnd);
    const add = (name: string, changed: string): void => {
      bad.push({ name: `${what} token: ${name}`, token: changed });
    };
    bad.push(...mangled(`${what} token`, () => token));
    add('the prefix in upper case', prefix.toUpperCase() + id + secret);
    add('the prefix with hyphens', prefix.replaceAll('_', '-') + id + secret);
    add('the id in upper case', prefix + id.toUpperCase() + secret);
    add('the id spelled with the letters Crockford folds', prefix + id.replace('1', 'i').replace('0', 'o') + secret);
    add('another last character of the id', `${prefix}${id.slice(0, -1)}${id.endsWith('0') ? '1' : '0'}${secret}`);
    add('another first character of the id', `${prefix}7${id.slice(1)}${secret}`);
    add('an id of nothing but zeros', prefix + '0'.repeat(26) + secret);
    add('the id alone', prefix + id);
    add('the secret alone', secret);
    add('no prefix', id + secret);
    add('other spare bits in the last character', prefix + id + (looseTail(secret) ?? ''));
    add('+ and / for - and _', prefix + id + secret.replaceAll('-', '+').replaceAll('_', '/'));
    add('the case of the secret swapped', prefix + id + swapCase(secret));
    add(
      'another first character of the secret',
      `${prefix}${id}${secret.startsWith('A') ? 'B' : 'A'}${secret.slice(1)}`,
    );
    add('a secret of zeros', prefix + id + 'A'.repeat(43));
    add('the secret in hexadecimal', prefix + id + Buffer.from(secret, 'base64url').toString('hex'));
    add('a dot between the halves', `${prefix}${id}.${secret}`);
    for (const other of ['wdr_at_', 'wdr_gw_', 'wdr_op_', 'wdr_cs_', 'wdr_xx_', 'wdr_', '']) {
      if (other !== prefix) add(`the prefix ${other || 'left out'}`, other + id + secret);
    }
  }
  const swapped = (what: string, a: string, b: string): void => {
    bad.push({ name: `${what}: the id of one, the secret of the other`, token: a.slice(0, idEnd) + b.slice(idEnd) });
    bad.push({ name: `${what}: the other way round`, token: b.slice(0, idEnd) + a.slice(idEnd) });
  };
  swapped('two agent tokens', agent, otherAgent);
  swapped('two gateway tokens', gateway, otherGateway);
  swapped('an agent token and a gateway token', agent, gateway);
  swapped('an agent token and an operator token', agent, operator);
  bad.push(
    { name: 'a client secret', token: clientSecret },
    { name: 'a word', token: 'token' },
    { name: 'a dash', token: '-' },
    { name: 'undefined', token: 'undefined' },
    { name: 'null', token: 'null' },
    { name: '__proto__', token: '__proto__' },
    { name: 'constructor', token: 'constructor' },
    { name: 'an agent token named __proto__', token: `wdr_at___proto__${'0'.repeat(60)}` },
    { name: 'SQL', token: "wdr_at_' OR '1'='1" },
    { name: 'two dots', token: '..' },
    { name: 'nothing but dots', token: '.....' },
    { name: 'nothing but padding', token: '====' },
  );
  return distinct(bad, [agent, otherAgent, gateway, otherGateway, operator]);
};

// ---- what can be done to any JWS ---------------------------------------------------------------------------------

/** @param make a good JWS signed with ES256, a new one each time where it can be used only once */
export const badSpellings = (what: string, make: () => string): BadToken[] => {
  const bad = mangled(what, make);
  const one = (name: string, change: (header: string, payload: string, signature: string) => string): void => {
    bad.push(...changed(`${what}: ${name}`, make(), (jws) => change(...parts(jws))));
  };
  const loose = (part: string): string => looseTail(part) ?? `${part.slice(0, -1)}*`;
  const slashes = (part: string): string => part.replaceAll('-', '+').replaceAll('_', '/');
  one('padding in the header', (h, p, s) => `${h}=.${p}.${s}`);
  one('padding in the payload', (h, p, s) => `${h}.${p}=.${s}`);
  one('full padding in all parts', (h, p, s) =>
    [h, p, s].map((part) => part.padEnd(Math.ceil(part.length / 4) * 4, '=')).join('.'),
  );
  one('full padding in the signature', (h, p, s) => `${h}.${p}.${s.padEnd(Math.ceil(s.length / 4) * 4, '=')}`);
  one('+ and / in all parts', (h, p, s) => [h, p, s].map(slashes).join('.'));
  one('+ and / in the signature', (h, p, s) => `${h}.${p}.${slashes(s)}`);
  one('spare bits set in the signature', (h, p, s) => `${h}.${p}.${loose(s)}`);
  one('spare bits set in the payload', (h, p, s) => `${h}.${loose(p)}.${s}`);
  one('spare bits set in the header', (h, p, s) => `${loose(h)}.${p}.${s}`);
  one('a space before the signature', (h, p, s) => `${h}.${p}. ${s}`);
  one('a space inside the signature', (h, p, s) => `${h}.${p}.${s.slice(0, 40)} ${s.slice(40)}`);
  one('a line feed inside the signature', (h, p, s) => `${h}.${p}.${s.slice(0, 40)}\n${s.slice(40)}`);
  one('a line feed inside the payload', (h, p, s) => `${h}.${p.slice(0, 40)}\n${p.slice(40)}.${s}`);
  one('a space inside the header', (h, p, s) => `${h.slice(0, 4)} ${h.slice(4)}.${p}.${s}`);
  one('full-width dots', (h, p, s) => `${h}\uff0e${p}\uff0e${s}`);
  one('percent-encoded dots', (h, p, s) => `${h}%2E${p}%2E${s}`);
  one('commas for dots', (h, p, s) => `${h},${p},${s}`);
  one('a dot too many between', (h, p, s) => `${h}..${p}.${s}`);
  one('no signature', (h, p) => `${h}.${p}.`);
  one('two parts', (h, p) => `${h}.${p}`);
  one('the header alone', (h) => h);
  one('no payload', (h, _p, s) => `${h}..${s}`);
  one('no header', (_h, p, s) => `.${p}.${s}`);
  one('four parts', (h, p, s) => `${h}.${p}.${s}.${s}`);
  one('five parts', (h, p, s) => `${h}.${p}.${s}.${p}.${s}`);
  one('five empty parts', () => '....');
  one('a JWE by its header', (_h, p, s) => `${encoded({ alg: 'RSA-OAEP-256', enc: 'A256GCM' })}.${s}.${s}.${p}.${s}`);
  one('a JWE encrypted directly', (_h, p, s) => `${encoded({ alg: 'dir', enc: 'A128CBC-HS256' })}..${s}.${p}.${s}`);
  one('header and payload exchanged', (h, p, s) => `${p}.${h}.${s}`);
  one('payload and signature exchanged', (h, p, s) => `${h}.${s}.${p}`);
  one('flattened JSON', (h, p, s) => JSON.stringify({ protected: h, payload: p, signature: s }));
  one('general JSON', (h, p, s) => JSON.stringify({ payload: p, signatures: [{ protected: h, signature: s }] }));
  one('a bit of the signature changed at its beginning', (h, p, s) => `${h}.${p}.${flipBit(s, 0)}`);
  one('a bit of the signature changed in its middle', (h, p, s) => `${h}.${p}.${flipBit(s, 32)}`);
  one('a bit of the signature changed at its end', (h, p, s) => `${h}.${p}.${flipBit(s, -1)}`);
  one('a bit of the payload changed', (h, p, s) => `${h}.${flipBit(p, 12)}.${s}`);
  one(
    'a byte cut off the signature',
    (h, p, s) => `${h}.${p}.${base64url(Buffer.from(s, 'base64url').subarray(0, 63))}`,
  );
  one('a byte more in the signature', (h, p, s) => `${h}.${p}.${base64url(Buffer.from(`${s}AA`, 'base64url'))}`);
  one('a signature in DER', (h, p, s) => `${h}.${p}.${base64url(derSignature(Buffer.from(s, 'base64url')))}`);
  one('a signature of zeros (CVE-2022-21449)', (h, p) => `${h}.${p}.${base64url(Buffer.alloc(64))}`);
  one('r = 0', (h, p, s) => {
    const raw = Buffer.from(s, 'base64url');
    return `${h}.${p}.${base64url(raw.fill(0, 0, 32))}`;
  });
  one('s = 0', (h, p, s) => `${h}.${p}.${base64url(Buffer.from(s, 'base64url').fill(0, 32))}`);
  one('r and s the order of the group', (h, p) => {
    const n = Buffer.from(orderP256.toString(16), 'hex');
    return `${h}.${p}.${base64url(Buffer.concat([n, n]))}`;
  });
  one('a signature of ones', (h, p) => `${h}.${p}.${base64url(Buffer.alloc(64, 255))}`);
  one('a DER signature of zeros', (h, p) => `${h}.${p}.${base64url(derSignature(Buffer.alloc(64)))}`);
  return bad;
};

// ---- JWT access tokens -------------------------------------------------------------------------------------------

/**
 * @param good a JWT access token of the broker; @param jwk the public key it verifies with
 * @param stranger a key of the same type that is not the broker's
 */
export const badAccessTokens = (good: string, jwk: Record<string, unknown>, stranger: Signer): BadToken[] => {
  const [header, payload, signature] = parts(good);
  const head: Record<string, unknown> = JSON.parse(Buffer.from(header, 'base64url').toString());
  const claims: Record<string, unknown> = JSON.parse(Buffer.from(payload, 'base64url').toString());
  const bad = badSpellings('JWT', () => good);
  const add = (name: string, token: string): void => {
    bad.push({ name: `JWT: ${name}`, token });
  };
  for (const alg of spellingsOfNone) add(`alg ${JSON.stringify(alg)}`, `${encoded({ ...head, alg })}.${payload}.`);
  add('alg none with the old signature', `${encoded({ ...head, alg: 'none' })}.${payload}.${signature}`);
  for (const [name, secret] of publicAsSecret(jwk))
    add(`HS256 with ${name}`, withSecret(head, claims, 'HS256', secret));
  add('signed by another key with the same kid', compact(head, claims, stranger));
  add('signed by the key in its header', compact({ ...head, jwk }, claims, stranger));
  add('a longer life', `${header}.${encoded({ ...claims, exp: Number(claims['exp']) + 3600 })}.${signature}`);
  add('more scope', `${header}.${encoded({ ...claims, scope: 'read write admin' })}.${signature}`);
  add('another subject', compact(head, { ...claims, sub: 'admin' }, stranger));
  add('the other signature ECDSA allows', malleated(good));
  add('only its jti', String(claims['jti']));
  add('its jti in an unsigned JWT', `${encoded({ alg: 'none' })}.${encoded({ jti: claims['jti'] })}.`);
  add('a jti that is no id', compact(head, { ...claims, jti: '../grants' }, stranger));
  add('a jti that is an object', compact(head, { ...claims, jti: { toString: 'grt_' } }, stranger));
  add('a payload of zip bomb', compact({ ...head, zip: 'DEF' }, deflateRawSync(Buffer.alloc(1 << 20, 32)), stranger));
  return distinct(bad, [good]);
};

// ---- client assertions -------------------------------------------------------------------------------------------

export const spellingsOfNone: readonly unknown[] = [
  'none',
  'None',
  'NONE',
  'nOnE',
  ' none',
  'none ',
  'none\0',
  'n\u043ene',
  '\uff4eone',
  '',
  null,
  0,
  false,
  [],
  ['none'],
  ['ES256'],
  {},
];

/** A public key in the forms it is passed around in: what an attacker signs HMAC with. */
export const publicAsSecret = (jwk: Record<string, unknown>): [string, string | Uint8Array][] => {
  const key = createPublicKey({ key: jwk, format: 'jwk' });
  const pem = key.export({ type: 'spki', format: 'pem' }).toString();
  return [
    ['the public key as PEM', pem],
    ['the public key as PEM without its last line feed', pem.trim()],
    ['the public key as PEM with CR LF', pem.replaceAll('\n', '\r\n')],
    ['the public key as DER', key.export({ type: 'spki', format: 'der' })],
    ['the public key as JWK', JSON.stringify(jwk)],
    ['the modulus or coordinate', Buffer.from(String(jwk['n'] ?? jwk['x']), 'base64url')],
    ['an empty secret', ''],
  ];
};

export interface AssertionTarget {
  issuer: string;
  tokenEndpoint: string;
  /** Registered with the ES256 key. */
  clientId: string;
  key: Signer & { publicJwk: Record<string, unknown> };
  /** Registered with the RSA key and PS256 only. */
  rsaClientId: string;
  rsaKey: Signer & { publicJwk: Record<string, unknown> };
  /** Registered with a client secret. */
  secretClientId: string;
  /** ES256, the same kid, another key. */
  stranger: Signer & { publicJwk: Record<string, unknown> };
  /** A server that must see no request. */
  trap: string;
  /** Seconds since the epoch. */
  now: number;
}

export const badAssertions = (target: AssertionTarget): BadToken[] => {
  const { issuer, tokenEndpoint, clientId, key, rsaClientId, rsaKey, secretClientId, stranger, trap, now } = target;
  const head = { alg: key.alg, kid: key.kid };
  const fresh = (client = clientId): Record<string, unknown> => ({
    iss: client,
    sub: client,
    aud: issuer,
    iat: now,
    exp: now + 280,
    jti: randomUUID(),
  });
  const bad = badSpellings('assertion', () => compact(head, fresh(), key));
  const add = (name: string, token: string): void => {
    bad.push({ name: `assertion: ${name}`, token });
  };

  // The algorithm.
  for (const alg of spellingsOfNone) {
    const input = `${encoded({ ...head, alg })}.${encoded(fresh())}`;
    add(`alg ${JSON.stringify(alg)}, no signature`, `${input}.`);
    add(`alg ${JSON.stringify(alg)}, signed`, compact({ ...head, alg }, fresh(), key));
  }
  add('no alg', compact({ kid: key.kid }, fresh(), key));
  for (const [alg, bits] of [
    ['HS256', 256],
    ['HS384', 384],
    ['HS512', 512],
  ] as const) {
    for (const [name, secret] of publicAsSecret(key.publicJwk)) {
      add(`HS${bits} with ${name} (EC)`, withSecret(head, fresh(), alg, secret));
    }
    for (const [name, secret] of publicAsSecret(rsaKey.publicJwk)) {
      add(`HS${bits} with ${name} (RSA)`, withSecret({ kid: rsaKey.kid }, fresh(rsaClientId), alg, secret));
    }
  }
  for (const alg of [
    'ES384',
    'ES512',
    'ES256K',
    'EdDSA',
    'Ed25519',
    'RS256',
    'PS256',
    'es256',
    'ES256 ',
    'A256KW',
    'dir',
  ]) {
    add(`alg ${JSON.stringify(alg)} over an ES256 signature`, compact({ ...head, alg }, fresh(), key));
  }
  for (const alg of ['RS256', 'RS384', 'RS512', 'PS384', 'PS512']) {
    const header = { alg, kid: rsaKey.kid };
    add(`${alg}, which this client did not register`, compact(header, fresh(rsaClientId), { ...rsaKey, alg }));
  }
  add(
    'RS256 signature under alg PS256',
    compact({ alg: 'PS256', kid: rsaKey.kid }, fresh(rsaClientId), { ...rsaKey, alg: 'RS256' }),
  );

  // The key.
  add('another key with the same kid', compact(head, fresh(), stranger));
  add('another key without kid', compact({ alg: key.alg }, fresh(), stranger));
  add('another client’s key', compact({ alg: 'PS256', kid: rsaKey.kid }, fresh(), rsaKey));
  add('an RSA signature with the kid of the EC key', compact({ alg: 'PS256', kid: key.kid }, fresh(), rsaKey));
  add('the key in the header', compact({ ...head, jwk: stranger.publicJwk }, fresh(), stranger));
  add('the key in the header, no kid', compact({ alg: key.alg, jwk: stranger.publicJwk }, fresh(), stranger));
  add('its own good key in the header', compact({ ...head, jwk: key.publicJwk }, fresh(), key));
  for (const member of ['jku', 'x5u']) {
    add(`${member}, signed by another key`, compact({ ...head, [member]: `${trap}/${member}` }, fresh(), stranger));
    add(`${member}, no kid`, compact({ alg: key.alg, [member]: `${trap}/${member}` }, fresh(), stranger));
    add(`${member}, signed by the good key`, compact({ ...head, [member]: `${trap}/${member}` }, fresh(), key));
  }
  add('x5c', compact({ ...head, x5c: ['MIIB'] }, fresh(), key));
  for (const kid of [
    '',
    'other',
    '../../dev/null',
    "' OR 1=1--",
    `${trap}/kid`,
    'k'.repeat(5000),
    1,
    null,
    [key.kid],
    {},
  ]) {
    add(`kid ${JSON.stringify(kid).slice(0, 20)}`, compact({ ...head, kid }, fresh(), key));
  }

  // The type.
  for (const typ of [
    'at+jwt',
    'AT+JWT',
    'application/at+jwt',
    'dpop+jwt',
    'secevent+jwt',
    'oauth-id-jag+jwt',
    'logout+jwt',
    'token-introspection+jwt',
    'application/secevent+jwt',
    'client-authentication+jwt ',
    'JWE',
    'JOSE',
    '',
    '\ud800',
    1,
    null,
    ['jwt'],
    {},
  ]) {
    add(`typ ${JSON.stringify(typ)}`, compact({ ...head, typ }, fresh(), key));
  }
  add('cty JWT, another JWT inside', compact({ ...head, cty: 'JWT' }, compact(head, fresh(), key), key));
  add('a JWT as the payload', compact(head, JSON.stringify(compact(head, fresh(), key)), key));

  // Extensions.
  for (const crit of [['exp'], ['alg'], ['urn:x'], [], 'b64', null, [1], {}, ['\ud800'], ['urn:x'.repeat(2000)]]) {
    const named = Array.isArray(crit) ? Object.fromEntries(crit.map((name) => [String(name), true])) : {};
    add(`crit ${JSON.stringify(crit).slice(0, 20)}`, compact({ ...named, ...head, crit }, fresh(), key));
  }
  const detached = (header: object): string => {
    const text = JSON.stringify(fresh());
    const input = `${encoded(header)}.${text}`;
    return `${encoded(header)}.${text}.${base64url(signatureOf(key.alg, key.key, input))}`;
  };
  add('b64 false, not encoded', detached({ ...head, b64: false, crit: ['b64'] }));
  add('b64 false, encoded', compact({ ...head, b64: false, crit: ['b64'] }, fresh(), key));
  add('b64 false without crit', compact({ ...head, b64: false }, fresh(), key));
  add('b64 that is no boolean', compact({ ...head, b64: 'false', crit: ['b64'] }, fresh(), key));
  const deflated = (): Buffer => deflateRawSync(JSON.stringify(fresh()));
  add('zip DEF, compressed', compact({ ...head, zip: 'DEF' }, deflated(), key));
  add('zip DEF, not compressed', compact({ ...head, zip: 'DEF' }, fresh(), key));
  add('zip DEF, a bomb', compact({ ...head, zip: 'DEF' }, deflateRawSync(Buffer.alloc(1 << 22, 32)), key));
  add('enc in the header', compact({ ...head, enc: 'A256GCM' }, fresh(), key));

  // The claims.
  const claim = (name: string, values: readonly unknown[]): void => {
    for (const value of values) {
      const shown = value === undefined ? 'missing' : JSON.stringify(value).slice(0, 40);
      add(`${name} ${shown}`, compact(head, { ...fresh(), [name]: value }, key));
    }
  };
  claim('aud', [
    undefined,
    null,
    '',
    'https://other.example',
    tokenEndpoint,
    [tokenEndpoint],
    [issuer, 'https://other.example'],
    ['https://other.example', issuer],
    [issuer, tokenEndpoint],
    [issuer, issuer],
    [],
    [[issuer]],
    [issuer, 1],
    { 0: issuer },
    1,
    true,
    `${issuer}/`,
    ` ${issuer}`,
    `${issuer}?`,
    `${issuer}#`,
    issuer.toUpperCase(),
    issuer.replace('http:', 'HTTP:'),
    `${issuer},https://other.example`,
    '*',
  ]);
  claim('iss', [
    undefined,
    null,
    '',
    rsaClientId,
    issuer,
    'nobody',
    1,
    [clientId],
    `${clientId} `,
    clientId.toUpperCase(),
  ]);
  claim('sub', [
    undefined,
    null,
    '',
    rsaClientId,
    secretClientId,
    'nobody',
    1,
    [clientId],
    `${clientId} `,
    '__proto__',
  ]);
  claim('exp', [
    undefined,
    null,
    0,
    -1,
    now - 31,
    now - 31.5,
    now - 3600,
    now + 700,
    now + 700.5,
    now * 1000,
    Number.MAX_SAFE_INTEGER,
    1e308,
    String(now + 60),
    new Date((now + 60) * 1000).toISOString(),
    true,
    [now + 60],
    {},
  ]);
  claim('iat', [now + 250, now * 1000, String(now), null, true, now - 86_400, 0]);
  claim('nbf', [now + 250, now * 1000, String(now), null, false]);
  claim('jti', [undefined, null, '', 1, 1e21, true, [randomUUID()], {}, 'j'.repeat(257), 'j'.repeat(10_000)]);
  const both = { ...fresh(), iss: secretClientId, sub: secretClientId };
  add('of a client that has a secret', compact(head, both, key));
  add('of a client there is not', compact(head, { ...fresh(), iss: 'nobody', sub: 'nobody' }, key));

  // JSON that parsers read differently.
  const raw = (name: string, change: (json: string) => string): void => {
    add(name, compact(head, change(JSON.stringify(fresh())), key));
  };
  const rawHeader = (name: string, header: string): void => add(name, compact(header, fresh(), key));
  rawHeader('alg twice, none first', `{"alg":"none","alg":"ES256","kid":"${key.kid}"}`);
  rawHeader('alg twice, none last', `{"alg":"ES256","kid":"${key.kid}","alg":"none"}`);
  rawHeader('kid twice', `{"alg":"ES256","kid":"other","kid":"${key.kid}"}`);
  rawHeader('alg twice, once escaped', `{"\\u0061lg":"HS256","alg":"ES256","kid":"${key.kid}"}`);
  rawHeader('a header that is an array', '["ES256"]');
  rawHeader('a header that is null', 'null');
  rawHeader('a header with a comment', `{"alg":"ES256"/**/,"kid":"${key.kid}"}`);
  rawHeader('a header with a byte order mark', `\ufeff{"alg":"ES256","kid":"${key.kid}"}`);
  rawHeader('a header with __proto__', `{"__proto__":{"alg":"ES256"},"kid":"${key.kid}"}`);
  for (const [name, first] of [
    ['iss', '"nobody"'],
    ['sub', `"${rsaClientId}"`],
    ['aud', '"https://other.example"'],
    ['exp', '1'],
    ['jti', '"first"'],
    ['\\u0065xp', '1'],
  ] as const) {
    raw(`${name} twice`, (json) => json.replace('{', `{"${name}":${first},`));
  }
  raw('a claim twice in an object inside', (json) => json.replace('{', '{"act":{"sub":"a","sub":"b"},'));
  raw('exp 1e999', (json) => json.replace(/"exp":\d+/, '"exp":1e999'));
  raw('iat 1e999', (json) => json.replace(/"iat":\d+/, '"iat":1e999'));
  raw('iat -1e999', (json) => json.replace(/"iat":\d+/, '"iat":-1e999'));
  raw('nbf 1e999', (json) => json.replace('{', '{"nbf":1e999,'));
  raw('exp NaN', (json) => json.replace(/"exp":\d+/, '"exp":NaN'));
  raw('exp with a leading zero', (json) => json.replace(/"exp":/, '"exp":0'));
  raw('exp in hexadecimal', (json) => json.replace(/"exp":\d+/, '"exp":0x7fffffff'));
  raw('claims in __proto__', (json) => `{"__proto__":${json}}`);
  raw('a byte order mark', (json) => `\ufeff${json}`);
  raw('something behind', (json) => `${json}{}`);
  raw('a comma behind the last claim', (json) => json.replace('}', ',}'));
  raw('a comment', (json) => json.replace('{', '{/* */'));
  raw('single quotes', (json) => json.replaceAll('"', "'"));
  raw('an array', (json) => `[${json}]`);
  raw('a string', (json) => JSON.stringify(json));
  raw('null', () => 'null');
  raw('nothing', () => '');
  add('UTF-16', compact(head, Buffer.from(JSON.stringify(fresh()), 'utf16le'), key));
  add(
    'not UTF-8',
    compact(head, Buffer.from(JSON.stringify({ ...fresh(), jti: 'xx' }).replace('xx', '\xff\xfe'), 'latin1'), key),
  );

  // Parts of two good ones.
  const [h1, p1, s1] = parts(compact(head, fresh(), key));
  const [, p2, s2] = parts(compact(head, fresh(), key));
  add('the signature of another assertion', `${h1}.${p1}.${s2}`);
  add('the payload of another assertion', `${h1}.${p2}.${s1}`);
  const [h3] = parts(compact({ ...head, typ: 'JWT' }, fresh(), key));
  add('the header of another assertion', `${h3}.${p1}.${s1}`);
  return distinct(bad, []);
};
