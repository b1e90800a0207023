/** Receipts that no honest broker makes. What happens to the bytes of an honest one: scenarios/receipts.test.ts. */
import { hash } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { canonicalJson } from '../../src/domain/canonical-json.ts';
import type { ReceiptPayload } from '../../src/domain/receipt-file.ts';
import { type TrustedKey, verifyReceipt } from '../../src/domain/verify-receipt.ts';
import { bodies, chunked, makeKey, noteFor } from '../services/audit/audit-log-fixture.ts';
import { listedGrant, logKey, type MadeOptions, madeReceipt, makeReceiptKey } from '../support/made-receipt.ts';

const key = makeReceiptKey();
const jwks: TrustedKey = { jwks: [key.jwk] };
const grants = [
  listedGrant(1, { state: 'revoked', at: '2026-11-22T10:00:01.000Z' }),
  listedGrant(2, { state: 'ends_by_itself', until: '2026-11-22T10:30:00.000Z' }),
  listedGrant(3, { state: 'unrevocable', at: null, why: 'no', by_hand: 'DROP ROLE x' }),
];
const check = (options: MadeOptions = {}, trusted: TrustedKey = jwks) =>
  verifyReceipt(chunked(madeReceipt(grants, { key, ...options }), 97), { trusted });
const changed =
  (change: (payload: ReceiptPayload) => object): NonNullable<MadeOptions['payload']> =>
  (payload) => ({ ...payload, ...change(payload) });

test('an honest one verifies, in chunks of any size', async () => {
  const text = madeReceipt(grants, { key });
  for (const size of [1, 13, 100_000]) {
    expect(await verifyReceipt(chunked(text, size), { trusted: jwks })).toMatchObject({
      ok: true,
      kid: key.jwk.kid,
      entryType: 'revocation.created',
      payload: { counts: { killed: { revoked: 1, lives_on: 1, unrevocable: 1 } } },
      logKeyKnown: false,
    });
  }
  expect(await verifyReceipt(chunked(text), { trusted: jwks, logKey: logKey.verifier })).toMatchObject({
    ok: true,
    logKeyKnown: true,
  });
  expect(await verifyReceipt(chunked(text), { trusted: jwks, logKey: makeKey('other').verifier })).toEqual({
    ok: false,
    fault: 'unknown_log',
  });
});

describe('a receipt is refused', () => {
  test.each<[string, MadeOptions, string]>([
    ['that says of itself that it is an access token', { header: { typ: 'at+jwt' } }, 'bad_token'],
    ['without a signature', { header: { alg: 'none' } }, 'bad_token'],
    ['of another key', { key: makeReceiptKey() }, 'unknown_key'],
    ['whose key id is not that of its key', { header: { kid: 'x' } }, 'unknown_key'],
    [
      'with other counts than its list has',
      { payload: changed(({ counts }) => ({ counts: { ...counts, killed: {} } })) },
      'wrong_counts',
    ],
    [
      'with a list of another length',
      { payload: changed(({ grants: list }) => ({ grants: { ...list, count: 2 } })) },
      'wrong_list',
    ],
    ['with other names', { payload: changed(({ grants: list }) => ({ names: list })) }, 'wrong_names'],
    [
      'whose fence is not where the log has it',
      { payload: changed(({ revocation }) => ({ revocation: { ...revocation, fence: 2 } })) },
      'not_in_log',
    ],
    ['whose entry is about another revocation', { entry: { revocation: 'rev_2' } }, 'other_entry'],
    [
      'whose entry is not in the log',
      { payload: changed(({ log }) => ({ log: { ...log, entry: bodies(1)[0] } })) },
      'not_in_log',
    ],
    [
      'with the checkpoint of a log that does not have it',
      { payload: changed(({ log }) => ({ log: { ...log, checkpoint: noteFor(bodies(6), logKey) } })) },
      'not_in_log',
    ],
    [
      'with a checkpoint nobody signed',
      { payload: changed(({ log }) => ({ log: { ...log, key: makeKey('x').text } })) },
      'bad_checkpoint',
    ],
  ])('%s', async (_what, options, fault) => {
    expect(await check(options)).toMatchObject({ ok: false, fault });
  });

  test('by a thumbprint, when the key inside is another one', async () => {
    const forger = makeReceiptKey();
    const trusted = { thumbprint: key.jwk.kid };
    expect(await check({}, trusted)).toMatchObject({ ok: true });
    expect(await check({ key: forger }, trusted)).toMatchObject({ fault: 'unknown_key' });
    expect(await check({ key: forger, header: { jwk: key.jwk, kid: key.jwk.kid } }, trusted)).toMatchObject({
      fault: 'bad_signature',
    });
  });

  test('when the key that counts is none', async () => {
    const kid = hash('sha256', canonicalJson({ crv: 'Ed25519', kty: 'OKP', x: 'AAAA' }), 'base64url');
    const trusted = { jwks: [{ ...key.jwk, x: 'AAAA', kid }] };
    expect(await check({ header: { kid } }, trusted)).toMatchObject({ fault: 'unknown_key', kid });
  });

  test('when it is no receipt at all', async () => {
    for (const text of ['', '{}', '{}\n', 'x'.repeat(100), '[\n]\n', '\n\n\n']) {
      expect((await verifyReceipt(chunked(text), { trusted: jwks })).ok).toBe(false);
    }
  });
});
