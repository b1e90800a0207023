import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { comparableUrl, proofWindowSeconds, readProof, tokenHash } from '../../src/domain/dpop.ts';

const now = Date.UTC(2026, 10, 22, 12);
const publicJwk = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' });
const target = { method: 'POST', url: 'https://warder.example/token' };
const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
const proof = (claims: object = {}, header: object = {}): string =>
  `${part({ typ: 'dpop+jwt', alg: 'ES256', jwk: publicJwk, ...header })}.${part({
    jti: 'one',
    htm: 'POST',
    htu: target.url,
    iat: now / 1000,
    ...claims,
  })}.AAAA`;
const read = (text: string, at = target, when = now) => readProof(text, at, when, ['ES256', 'RS256']);

describe('two spellings of an address', () => {
  test.each([
    ['https://warder.example/token', 'https://warder.example/token'],
    ['HTTPS://WARDER.example/token', 'https://warder.example/token'],
    ['https://warder.example:443/token', 'https://warder.example/token'],
    ['https://warder.example', 'https://warder.example/'],
    ['https://warder.example/token?x=1', 'https://warder.example/token'],
    ['https://warder.example/token#x', 'https://warder.example/token'],
    ['https://warder.example/a%2fb', 'https://warder.example/a%2Fb'],
    ['https://warder.example/%7euser', 'https://warder.example/~user'],
    ['https://warder.example/a/../token', 'https://warder.example/token'],
  ])('are one (RFC 3986 section 6.2): %s', (one, other) => {
    expect(comparableUrl(one)).toBe(comparableUrl(other));
    expect(comparableUrl(one)).toBeDefined();
  });

  test.each([
    ['http://warder.example/token'],
    ['https://warder.example/token/'],
    ['https://warder.example/Token'],
    ['https://warder.example:8443/token'],
    ['https://evil.example/token'],
    ['https://warder.example.evil/token'],
    ['https://warder.example/a/token'],
    ['https://warder.example/tok%2Fen'],
    ['https://warder.example//token'],
  ])('are two: %s', (one) => {
    expect(comparableUrl(one)).not.toBe(comparableUrl(target.url));
  });

  test.each([
    ['https://user@warder.example/token'],
    ['https://user:x@warder.example/token'],
    ['https:\\\\warder.example\\token'],
    ['https://warder.example/to\nken'],
    [' https://warder.example/token'],
    ['ftp://warder.example/token'],
    ['javascript:alert(1)'],
    ['/token'],
    [''],
  ])('where one is no address at all: %j', (one) => {
    expect(comparableUrl(one)).toBeUndefined();
  });
});

describe('a proof', () => {
  test('is read', () => {
    expect(read(proof())).toMatchObject({ ok: true, proof: { jti: 'one', algorithm: 'ES256' } });
  });

  test('is good for the window around its iat, and not a second more', () => {
    const window = proofWindowSeconds * 1000;
    fc.assert(
      fc.property(fc.integer({ min: -2 * window, max: 2 * window }), (offset) => {
        expect(read(proof(), target, now + offset).ok).toBe(Math.abs(offset) <= window);
      }),
    );
  });

  test('is remembered for as long as it is good', () => {
    for (const iat of [now / 1000 - 60, now / 1000, now / 1000 + 59.5]) {
      const found = read(proof({ iat }));
      expect(found.ok && found.proof.forgetAt).toBeGreaterThan((iat + proofWindowSeconds) * 1000);
      expect(found.ok && Number.isInteger(found.proof.forgetAt)).toBe(true);
    }
  });

  test('at a resource names the token by its hash', () => {
    const at = { ...target, accessToken: 'wdr_at_x' };
    expect(read(proof({ ath: tokenHash('wdr_at_x') }), at).ok).toBe(true);
    expect(read(proof({ ath: tokenHash('wdr_at_y') }), at)).toMatchObject({ why: 'ath is not of this token' });
    expect(read(proof(), at)).toMatchObject({ why: 'ath is not of this token' });
    // RFC 9449 section 7, its example.
    expect(tokenHash('Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU')).toBe(
      'fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo',
    );
  });
});
