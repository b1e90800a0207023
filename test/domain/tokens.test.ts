import { hash } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type IdPrefix, makeId } from '../../src/domain/ids.ts';
import {
  makeToken,
  mentionsToken,
  sameDigest,
  type TokenKind,
  tokenDigest,
  tokenPattern,
  tokenRowId,
} from '../../src/domain/tokens.ts';

const idPrefixes: Record<TokenKind, IdPrefix> = {
  agent: 'tok',
  gateway: 'grt',
  operator: 'op',
  flow: 'flw',
  receiver: 'ssf',
};
const kinds = Object.keys(idPrefixes) as TokenKind[];
const kind = fc.constantFrom(...kinds);
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });

const minted = fc
  .record({ kind, at: fc.integer({ min: 0, max: 2 ** 48 - 1 }), id: bytes(10), secret: bytes(32) })
  .map((given) => {
    const id = makeId(idPrefixes[given.kind], given.at, given.id);
    return { kind: given.kind, id, token: makeToken(given.kind, id, given.secret) };
  });

describe('a token', () => {
  test('leads to its row as the kind it was minted as, and as no other', () => {
    fc.assert(
      fc.property(minted, ({ kind: made, id, token }) => {
        expect(token).toMatch(/^wdr_(at|gw|op|fl|ssf)_[0-9a-z]{26}[A-Za-z0-9_-]{43}$/);
        for (const asked of kinds) expect(tokenRowId(asked, token)).toBe(asked === made ? id : undefined);
      }),
    );
  });

  test('with one character changed is another token: no row, another row, or another digest', () => {
    fc.assert(
      fc.property(
        minted,
        fc.nat({ max: 75 }),
        fc.string({ unit: 'binary', minLength: 1, maxLength: 2 }),
        (made, at, by) => {
          const changed = made.token.slice(0, at) + by + made.token.slice(at + 1);
          fc.pre(changed !== made.token);
          const row = tokenRowId(made.kind, changed);
          expect(row === made.id && sameDigest(tokenDigest(changed), tokenDigest(made.token))).toBe(false);
        },
      ),
    );
  });

  test.each(['\n', ' ', '\u0000', '=', '%0a', '.', 'A', '-'])('with %j before or after it is not one', (extra) => {
    const token = makeToken('agent', makeId('tok', 1, new Uint8Array(10)), new Uint8Array(32));
    expect(tokenRowId('agent', token + extra)).toBeUndefined();
    expect(tokenRowId('agent', extra + token)).toBeUndefined();
    expect(tokenRowId('agent', token.slice(extra.length) + extra)).toBeUndefined();
  });

  test('in another spelling of the same base64url bits has another digest', () => {
    const token = makeToken('gateway', makeId('grt', 1, new Uint8Array(10)), new Uint8Array(32));
    // 43 characters are 258 bits for 256: the last one has four spellings for a careless decoder.
    const twin = `${token.slice(0, -1)}B`;
    expect(Buffer.from(twin.slice(33), 'base64url')).toEqual(Buffer.from(token.slice(33), 'base64url'));
    expect(sameDigest(tokenDigest(twin), tokenDigest(token))).toBe(false);
  });

  test('is parsed only when it is spelled as minted, whatever is tried', () => {
    fc.assert(
      fc.property(kind, fc.string({ unit: 'binary', maxLength: 100 }), (asked, given) => {
        expect(tokenRowId(asked, given)).toBeUndefined();
      }),
    );
  });

  test('is stored as SHA-256 of the whole of it', () => {
    fc.assert(
      fc.property(minted, ({ token }) => {
        expect(tokenDigest(token)).toBe(hash('sha256', token, 'hex'));
        expect(sameDigest(tokenDigest(token), tokenDigest(token))).toBe(true);
      }),
    );
  });

  test('is recognised anywhere in a text, and so is a client secret', () => {
    const clientSecret = bytes(32).map((secret) => `wdr_cs_${Buffer.from(secret).toString('base64url')}`);
    const any = fc.oneof(
      minted.map(({ token }) => token),
      clientSecret,
    );
    fc.assert(
      fc.property(any, fc.string({ maxLength: 20 }), fc.string({ maxLength: 20 }), (token, before, after) => {
        const found = `${before}${token} ${after}`.replace(tokenPattern, '[redacted]');
        expect(found).not.toContain(token);
        expect(mentionsToken(`${before}${token}${after}`)).toBe(true);
        expect(mentionsToken(token.slice(0, 24))).toBe(true);
      }),
    );
  });
});

describe('comparing digests', () => {
  test('says no to anything that is not two equal digests', () => {
    const digest = tokenDigest('x');
    for (const other of ['', 'x', digest.slice(1), `${digest}0`, digest.toUpperCase(), 'é'.repeat(64)]) {
      expect(sameDigest(digest, other)).toBe(false);
      expect(sameDigest(other, digest)).toBe(false);
    }
    expect(sameDigest('', '')).toBe(false);
  });
});
