/**
 * Bad JWTs of every kind that is signed: what an issuer, or a client with a key of its own, could send and nobody may
 * take. What a good one looks like is the caller's to say; everything here starts from one that works.
 */
import { deflateRawSync } from 'node:zlib';
import {
  type BadToken,
  badSpellings,
  base64url,
  compact,
  distinct,
  encoded,
  parts,
  publicAsSecret,
  type Signer,
  signatureOf,
  spellingsOfNone,
  withSecret,
} from './tokens.ts';

export interface GoodToken {
  what: string;
  /** ES256. */
  key: Signer & { publicJwk: Record<string, unknown> };
  /** ES256, the same kid, another key. */
  stranger: Signer & { publicJwk: Record<string, unknown> };
  header: Record<string, unknown>;
  /** Fresh ones each time. */
  claims(): Record<string, unknown>;
  /** A server that must see no request. */
  trap: string;
}

const typesOfOthers = [
  'dpop+jwt',
  'at+jwt',
  'AT+JWT',
  'application/at+jwt',
  'secevent+jwt',
  'oauth-id-jag+jwt',
  'logout+jwt',
  'token-introspection+jwt',
  'client-authentication+jwt',
  'JWE',
  '',
  '\ud800',
  1,
  null,
  ['jwt'],
  {},
];

/** Whatever the token is for. @param taken spellings of `typ` that are good here */
export const badSigned = (
  { what, key, stranger, header, claims, trap }: GoodToken,
  taken: readonly string[],
): BadToken[] => {
  const bad = badSpellings(what, () => compact(header, claims(), key));
  const add = (name: string, token: string): void => {
    bad.push({ name: `${what}: ${name}`, token });
  };
  const signed = (name: string, more: object, by: Signer = key): void =>
    add(name, compact({ ...header, ...more }, claims(), by));

  for (const alg of spellingsOfNone) {
    add(`alg ${JSON.stringify(alg)}, no signature`, `${encoded({ ...header, alg })}.${encoded(claims())}.`);
    signed(`alg ${JSON.stringify(alg)}, signed`, { alg });
  }
  for (const alg of ['HS256', 'HS384', 'HS512']) {
    for (const [name, secret] of publicAsSecret(key.publicJwk))
      add(`${alg} with ${name}`, withSecret(header, claims(), alg, secret));
  }
  for (const alg of ['ES384', 'ES512', 'ES256K', 'EdDSA', 'Ed25519', 'RS256', 'PS256', 'es256', 'ES256 ', 'dir']) {
    signed(`alg ${JSON.stringify(alg)} over an ES256 signature`, { alg });
  }
  add('no alg', compact({ ...header, alg: undefined }, claims(), key));
  signed('another key', {}, stranger);
  for (const member of ['jku', 'x5u']) {
    signed(`${member}, by another key`, { [member]: `${trap}/${member}` }, stranger);
    signed(`${member}, by the good key`, { [member]: `${trap}/${member}` });
  }
  signed('x5c', { x5c: ['MIIB'] });
  for (const typ of typesOfOthers) {
    if (!taken.includes(String(typ))) signed(`typ ${JSON.stringify(typ)}`, { typ });
  }
  for (const crit of [['exp'], ['alg'], ['urn:x'], [], 'b64', null, {}])
    signed(`crit ${JSON.stringify(crit)}`, { crit });
  signed('b64 false', { b64: false, crit: ['b64'] });
  signed('b64 false without crit', { b64: false });
  add('zip DEF, compressed', compact({ ...header, zip: 'DEF' }, deflateRawSync(JSON.stringify(claims())), key));
  add('zip DEF, a bomb', compact({ ...header, zip: 'DEF' }, deflateRawSync(Buffer.alloc(1 << 20, 32)), key));
  signed('enc', { enc: 'A256GCM' });
  const text = JSON.stringify(claims());
  const detached = encoded({ ...header, b64: false, crit: ['b64'] });
  add('not encoded', `${detached}.${text}.${base64url(signatureOf(key.alg, key.key, `${detached}.${text}`))}`);

  const raw = (name: string, change: (json: string) => string): void =>
    add(name, compact(header, change(JSON.stringify(claims())), key));
  for (const name of Object.keys(claims())) raw(`${name} twice`, (json) => json.replace('{', `{"${name}":"x",`));
  raw('a claim twice in an object inside', (json) => json.replace('{', '{"act":{"sub":"a","sub":"b"},'));
  raw('iat 1e999', (json) => json.replace(/"iat":[\d.]+/, '"iat":1e999'));
  raw('iat -1e999', (json) => json.replace(/"iat":[\d.]+/, '"iat":-1e999'));
  raw('iat with a leading zero', (json) => json.replace(/"iat":/, '"iat":0'));
  raw('claims in __proto__', (json) => `{"__proto__":${json}}`);
  raw('a byte order mark', (json) => `\ufeff${json}`);
  raw('something behind', (json) => `${json}{}`);
  raw('a comma behind the last claim', (json) => json.replace(/}$/, ',}'));
  raw('a comment', (json) => json.replace('{', '{/* */'));
  raw('single quotes', (json) => json.replaceAll('"', "'"));
  raw('an array', (json) => `[${json}]`);
  raw('a string', (json) => JSON.stringify(json));
  raw('null', () => 'null');
  raw('nothing', () => '');
  raw('too deep', (json) => json.replace('{', `{"deep":${'['.repeat(64)}${']'.repeat(64)},`));
  add('UTF-16', compact(header, Buffer.from(JSON.stringify(claims()), 'utf16le'), key));
  add(
    'not UTF-8',
    compact(header, Buffer.from(JSON.stringify({ ...claims(), x: 'xx' }).replace('xx', '\xff\xfe'), 'latin1'), key),
  );
  add('a header that is an array', compact('["ES256"]', claims(), key));
  add('a header that is null', compact('null', claims(), key));
  add('a header with __proto__', compact(JSON.stringify(header).replace('{', '{"__proto__":{},'), claims(), key));
  add('alg twice', compact(JSON.stringify(header).replace('{', '{"alg":"none",'), claims(), key));
  const [h1, p1] = parts(compact(header, claims(), key));
  const [, , s2] = parts(compact(header, claims(), key));
  add('the signature of another', `${h1}.${p1}.${s2}`);
  return bad;
};

const changes = (good: GoodToken, name: string, values: readonly unknown[]): BadToken[] =>
  values.map((value) => ({
    name: `${good.what}: ${name} ${value === undefined ? 'missing' : JSON.stringify(value).slice(0, 40)}`,
    token: compact(good.header, { ...good.claims(), [name]: value }, good.key),
  }));

/** Tokens of a trusted issuer, as an assertion or a subject token. @param now seconds since the epoch */
export const badForeignTokens = (good: GoodToken, audience: string, now: number): BadToken[] => {
  const { what, key, header, claims } = good;
  const signed = (name: string, more: object): BadToken => ({
    name: `${what}: ${name}`,
    token: compact({ ...header, ...more }, claims(), key),
  });
  const issuer = String(claims()['iss']);
  return distinct(
    [
      ...badSigned(good, []),
      signed('the key in the header', { jwk: key.publicJwk }),
      ...['other', '../../dev/null', "' OR 1=1--", 'k'.repeat(5000), 1, null, [key.kid], {}].map((kid) =>
        signed(`kid ${JSON.stringify(kid).slice(0, 20)}`, { kid }),
      ),
      ...changes(good, 'iss', [
        undefined,
        null,
        '',
        `${issuer}/`,
        ` ${issuer}`,
        issuer.toUpperCase(),
        'https://nobody.example',
        1,
        [issuer],
        {},
        audience,
      ]),
      ...changes(good, 'aud', [
        undefined,
        null,
        '',
        'https://other.example',
        `${audience}/token`,
        [audience, 'https://other.example'],
        ['https://other.example', audience],
        [audience, audience],
        [],
        [[audience]],
        { 0: audience },
        1,
        true,
        `${audience}/`,
        ` ${audience}`,
        audience.toUpperCase(),
        '*',
      ]),
      ...changes(good, 'exp', [
        undefined,
        null,
        0,
        -1,
        now - 31,
        now - 3600,
        now * 1000,
        1e308,
        String(now + 60),
        true,
        [now + 60],
        {},
      ]),
      ...changes(good, 'nbf', [now + 250, now * 1000, String(now), null, false]),
      ...changes(good, 'iat', [now + 250, now * 1000, String(now), null, true, now - 86_400, 0]),
      ...changes(good, 'sub', [
        undefined,
        null,
        '',
        'nobody',
        1,
        ['sam'],
        {},
        'sam ',
        'SAM',
        '__proto__',
        'sam\0',
        's\u200bam',
        'x'.repeat(300),
      ]),
      { name: `${what}: far too long`, token: compact(header, { ...claims(), more: 'x'.repeat(20_000) }, key) },
    ],
    [],
  );
};

/** DPoP proofs for one request. @param now seconds since the epoch; @param ath of the token it comes with */
export const badProofs = (good: GoodToken, at: { method: string; url: string }, now: number): BadToken[] => {
  const { what, key, stranger, header, claims } = good;
  const jwk = header['jwk'] as Record<string, unknown>;
  const signed = (name: string, more: object, by: Signer = key): BadToken => ({
    name: `${what}: ${name}`,
    token: compact({ ...header, ...more }, claims(), by),
  });
  const privateKey = key.key.export({ format: 'jwk' });
  const keys: [string, unknown][] = [
    ['missing', undefined],
    ['null', null],
    ['a text', JSON.stringify(jwk)],
    ['an array', [jwk]],
    ['empty', {}],
    ['private', { ...privateKey }],
    ['with d', { ...jwk, d: '' }],
    ['symmetric', { kty: 'oct', k: 'AAAA' }],
    ['symmetric in disguise', { ...jwk, k: 'AAAA' }],
    ['of another kty', { ...jwk, kty: 'RSA' }],
    ['of another curve', { ...jwk, crv: 'P-384' }],
    ['of secp256k1', { ...jwk, crv: 'secp256k1' }],
    ['not on its curve', { ...jwk, y: jwk['x'] }],
    ['without x', { ...jwk, x: undefined }],
    ['with a huge member', { ...jwk, x: 'A'.repeat(5000) }],
    ['for another algorithm', { ...jwk, alg: 'ES384' }],
    ['with alg none', { ...jwk, alg: 'none' }],
    ['a small RSA key', { kty: 'RSA', e: 'AQAB', n: 'A'.repeat(171) }],
  ];
  return distinct(
    [
      ...badSigned(good, ['dpop+jwt']),
      ...['JWT', 'DPOP+JWT', 'dpop', 'application/dpop+jwt', 'dpop+jwt ', undefined].map((typ) =>
        signed(`typ ${JSON.stringify(typ)} for its own`, { typ }),
      ),
      ...keys.map(([name, value]) => signed(`a jwk ${name}`, { jwk: value })),
      signed('the key of somebody else, signed by the good one', { jwk: stranger.publicJwk }),
      ...changes(good, 'htm', [undefined, null, '', at.method.toLowerCase(), 'PUT', [at.method], `${at.method} `, 1]),
      ...changes(good, 'htu', [
        undefined,
        null,
        '',
        '/',
        new URL(at.url).pathname,
        `${at.url}/`,
        `${at.url}x`,
        at.url.replace('http:', 'https:'),
        at.url.replace('127.0.0.1', 'localhost'),
        at.url.replace('127.0.0.1', 'evil.example'),
        at.url.replace('//', '//user@'),
        at.url.replace(/:\d+\//, ':1/'),
        at.url.replaceAll('/', '\\'),
        ` ${at.url}`,
        `${at.url}\n`,
        [at.url],
        1,
        'x'.repeat(9000),
      ]),
      ...changes(good, 'iat', [undefined, null, 0, now - 90, now + 90, now * 1000, String(now), [now], true, -now]),
      ...changes(good, 'jti', [undefined, null, '', 1, true, ['x'], {}, 'j'.repeat(257)]),
      ...changes(good, 'exp', [now - 1, 0, String(now + 60), null]),
      ...changes(good, 'nbf', [now + 600, 'x']),
    ],
    [],
  );
};
