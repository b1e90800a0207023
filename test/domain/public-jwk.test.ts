import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { maxKeys, publicJwkOf, readJwks } from '../../src/domain/public-jwk.ts';

const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const jwk = { ...pair.publicKey.export({ format: 'jwk' }), kid: 'one', alg: 'ES256', use: 'sig' };
const small = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({ format: 'jwk' });
const { y: _, ...half } = jwk;

describe('a JWK set', () => {
  test('is read: keys that could verify, with the members that takes', () => {
    expect(readJwks({ keys: [{ ...jwk, x5c: ['MIIB'], key_ops: ['verify'] }] })).toMatchObject({
      ok: true,
      keys: [{ kty: 'EC', crv: 'P-256', kid: 'one', alg: 'ES256' }],
    });
  });

  test('may hold what is for something else: it is left out', () => {
    const { d: _d, ...x25519 } = generateKeyPairSync('x25519').privateKey.export({ format: 'jwk' });
    const others = [{ ...jwk, kid: 'enc', use: 'enc' }, small, { kty: 'unknown' }, half, { ...x25519, use: 'enc' }];
    const read = readJwks({ keys: [...others, jwk] });
    expect(read.ok && read.keys.map(({ kid }) => kid)).toEqual(['one']);
  });

  test('of a SPIFFE bundle: keys for JWT-SVIDs are taken, those for X.509 are not', () => {
    const read = readJwks({
      keys: [
        { ...jwk, use: 'jwt-svid' },
        { ...jwk, kid: 'two', use: 'x509-svid' },
      ],
    });
    expect(read.ok && read.keys.map(({ kid }) => kid)).toEqual(['one']);
  });

  test.each([
    ['nothing', undefined],
    ['null', null],
    ['a text', 'keys'],
    ['an array', [jwk]],
    ['no keys', {}],
    ['keys that are no array', { keys: { 0: jwk } }],
    ['an empty list', { keys: [] }],
    ['only keys for something else', { keys: [{ ...jwk, use: 'enc' }] }],
    ['a symmetric key', { keys: [jwk, { kty: 'oct', k: 'AAAA' }] }],
    ['a private key', { keys: [{ ...pair.privateKey.export({ format: 'jwk' }), kid: 'p' }] }],
    ['a member of a private key', { keys: [{ ...jwk, d: '' }] }],
    ['two keys of one kid', { keys: [jwk, jwk] }],
    ['a key that is null', { keys: [jwk, null] }],
    ['a key that is an array', { keys: [[jwk]] }],
    ['too many', { keys: Array.from({ length: maxKeys + 1 }, (_one, i) => ({ ...jwk, kid: String(i) })) }],
  ])('is refused whole: %s', (_name, document) => {
    expect(readJwks(document).ok).toBe(false);
  });
});

describe('a public key', () => {
  test.each([
    ['with a huge member', { ...jwk, x: 'A'.repeat(5000) }],
    ['with a member that is no text', { ...jwk, kid: 1 }],
    ['of few bits', small],
    ['not on its curve', { ...jwk, y: jwk.x }],
    ['without half of it', half],
    ['that is private', pair.privateKey.export({ format: 'jwk' })],
    ['that is symmetric', { kty: 'oct', k: 'AAAA' }],
    ['that is no object', 'key'],
  ])('is none: %s', (_name, value) => {
    expect(publicJwkOf(value)).toBeUndefined();
  });
});
