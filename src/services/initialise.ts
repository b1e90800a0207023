/** The first start: a key-encryption key, the signing keys, the first admin; one changeset, so a crash leaves all or none. */
import type { Operator } from '../domain/model.ts';
import type { SecretText } from '../domain/secret-text.ts';
import { tokenDigest, tokenRowId } from '../domain/tokens.ts';
import type { Clock, Entropy } from '../ports/clock.ts';
import type { KeyService } from '../ports/kms.ts';
import type { Ledger, LedgerSnapshot } from '../ports/ledger.ts';
import { makeOperator } from './access/manage-operators.ts';
import { type Caller, record } from './core.ts';
import { Keyring, makeKek } from './keys/keyring.ts';
import { makeSigningKey } from './keys/signing-keys.ts';

/** @returns whether this ledger was never initialised */
export const isUninitialised = (snapshot: LedgerSnapshot): boolean =>
  snapshot.size === 0 && snapshot.key_encryption_keys.length === 0 && snapshot.operators.length === 0;

/**
 * @param chosen an operator token picked in advance, instead of one made now
 * @returns the first admin's token, to be shown once; undefined when it was chosen in advance
 * @throws KmsUnavailable, KmsRefused, LedgerUnavailable: then nothing was initialised
 */
export const initialise = async (
  parts: { clock: Clock; entropy: Entropy; kms: KeyService; ledger: Ledger },
  chosen: SecretText | undefined,
): Promise<string | undefined> => {
  const { clock, kms, ledger } = parts;
  const now = clock.now();
  const kek = await makeKek(kms, { id: 'kek_1', number: 1, state: 'current', version: 1, created_at: now });
  const keyring = new Keyring(kms, clock, Number.POSITIVE_INFINITY);
  await keyring.unseal([kek]);
  const signing = [
    await makeSigningKey(keyring, 'jwt', 'current', now),
    await makeSigningKey(keyring, 'jwt', 'next', now),
    await makeSigningKey(keyring, 'checkpoint', 'current', now),
    await makeSigningKey(keyring, 'receipt', 'current', now),
  ];
  keyring.seal('initialised');
  const made = makeOperator(parts, { name: 'admin', roles: ['admin'] });
  const operator = chosen ? withToken(made.operator, chosen) : made.operator;
  const caller: Caller = { actor: { kind: 'system', name: 'init' }, requestId: 'init' };
  const result = await ledger.commit({
    writes: [
      { write: 'insert', table: 'key_encryption_keys', row: kek },
      ...signing.map((row) => ({ write: 'insert', table: 'signing_keys', row }) as const),
      { write: 'insert', table: 'operators', row: operator },
    ],
    audit: [
      record(parts, caller, {
        type: 'warder.initialised',
        data: { kms: kms.name, operator: operator.id, signing_keys: signing.map((key) => key.id) },
      }),
    ],
  });
  if (!result.ok) throw new Error('another process initialised this ledger at the same moment');
  return chosen ? undefined : made.token;
};

/**
 * A new admin for a ledger whose admins have lost their tokens. Whoever can do this can read and write the data
 * directory, and has everything already; the others see it in the record and in the list of operators.
 * @returns the new admin's name and token, to be shown once
 * @throws LedgerUnavailable
 */
export const recoverAdmin = async (
  parts: { clock: Clock; entropy: Entropy; ledger: Ledger },
  snapshot: LedgerSnapshot,
): Promise<{ name: string; token: string }> => {
  const { operator, token } = makeOperator(parts, { name: `recovered-admin-${snapshot.size}`, roles: ['admin'] });
  const caller: Caller = { actor: { kind: 'system', name: 'init' }, requestId: 'init' };
  const result = await parts.ledger.commit({
    writes: [{ write: 'insert', table: 'operators', row: operator }],
    audit: [
      record(parts, caller, { type: 'operator.recovered', data: { operator: operator.id, name: operator.name } }),
    ],
  });
  if (!result.ok) throw new Error(`there is an operator ${operator.name} already`);
  return { name: operator.name, token };
};

const withToken = (operator: Operator, token: SecretText): Operator => {
  const id = tokenRowId('operator', token.reveal());
  if (id === undefined) throw new Error('WARDER_BOOTSTRAP_TOKEN is not spelled like an operator token');
  return { ...operator, id, token_digest: tokenDigest(token.reveal()) };
};
