/** The key of receipts: there is one, and only one in force, also in a ledger that was made without. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { type Caller, commit, record } from '../../../src/services/core.ts';
import type { CoreWithSecrets } from '../../../src/services/issuing/provider-context.ts';
import { ensureReceiptKey } from '../../../src/services/keys/receipt-key.ts';
import { removeTemporaryDirs } from '../../support/broker.ts';
import { openServices } from '../../support/services.ts';

const caller: Caller = { actor: { kind: 'system', name: 'test' }, requestId: 'req_test' };
let core: CoreWithSecrets;
let close: () => Promise<void>;
beforeEach(async () => {
  ({ core, close } = await openServices());
});
afterEach(async () => {
  await close();
  removeTemporaryDirs();
});

const keys = () => core.state.signingKeys.all().filter((key) => key.purpose === 'receipt');
/** As a ledger of an earlier version is. */
const withoutKey = async (): Promise<void> => {
  await commit(core, {
    writes: keys().map(({ id }) => ({ write: 'delete', table: 'signing_keys', id }) as const),
    audit: [record(core, caller, { type: 'test.deleted' })],
  });
  expect(core.signingKeys.hasReceiptKey).toBe(false);
};
const published = (): unknown[] => core.signingKeys.jwks().keys.map((key) => key['kid']);

test('a new ledger has one, published behind the keys of JWTs', () => {
  expect(keys()).toHaveLength(1);
  expect(published()).toHaveLength(3);
  expect(published().at(-1)).toBe(keys()[0]?.id);
  expect(core.signingKeys.jwks().keys.at(-1)).toMatchObject({ kty: 'OKP', crv: 'Ed25519', alg: 'EdDSA', use: 'sig' });
});

test('one is made where there is none, once, however many try at once', async () => {
  await withoutKey();
  await Promise.all(Array.from({ length: 5 }, () => ensureReceiptKey(core)));
  await ensureReceiptKey(core);
  expect(keys().map(({ state }) => state)).toEqual(['current']);
});

test('none is made while Warder is sealed, and nothing is signed then', async () => {
  const [key] = keys();
  core.keyring.seal('test');
  expect(() => core.signingKeys.signReceipt('{}')).toThrow('sealed');
  await withoutKey();
  await ensureReceiptKey(core);
  expect(keys()).toEqual([]);
  await core.keyring.unseal(core.state.keyEncryptionKeys.all());
  await ensureReceiptKey(core);
  expect(keys()).toHaveLength(1);
  expect(keys()[0]?.id).not.toBe(key?.id);
});

test('what it replaced stays published, and no rotation of the key of JWTs touches it', async () => {
  const [first] = keys();
  for (const rotation of [core.signingKeys.receiptRotation(), core.signingKeys.rotation()]) {
    const { writes } = await rotation;
    await commit(core, { writes, audit: [record(core, caller, { type: 'signing_key.rotated' })] });
  }
  expect(
    keys()
      .map(({ state }) => state)
      .sort(),
  ).toEqual(['current', 'previous']);
  expect(keys().every(({ retire_at: end }) => end === null)).toBe(true);
  expect(published()).toContain(first?.id);
  const header = JSON.parse(
    Buffer.from(core.signingKeys.signReceipt('{}').split('.')[0] ?? '', 'base64url').toString(),
  );
  expect(header).toMatchObject({ kid: keys().find(({ state }) => state === 'current')?.id, alg: 'EdDSA' });
});
