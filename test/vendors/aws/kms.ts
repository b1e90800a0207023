/** KMS as far as Warder and its agents call it: blobs are AES-GCM under the key, bound to the encryption context. */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { z } from 'zod';
import type { Account, Key, Principal } from './account.ts';
import { AwsError } from './answers.ts';

type Body = Record<string, unknown>;
export type KmsOperation = (account: Account, caller: Principal, body: Body) => object;

const nonceBytes = 12;
const tagBytes = 16;
const idBytes = 16;

const context = z.record(z.string().min(1), z.string()).default({});
const base64 = (most: number) =>
  z
    .base64()
    .min(1)
    .transform((text) => Buffer.from(text, 'base64'))
    .refine((bytes) => bytes.length >= 1 && bytes.length <= most);

const read = <T>(schema: z.ZodType<T>, body: Body): T => {
  const parsed = schema.safeParse(body);
  if (!parsed.success) throw new AwsError('ValidationException', 400, '1 validation error detected');
  return parsed.data;
};

const keyOf = (account: Account, keyId: string): Key => {
  const id = keyId.startsWith('arn:') ? keyId.slice(keyId.lastIndexOf('/') + 1) : keyId;
  const key = account.keys.get(id);
  if (!key || (keyId.startsWith('arn:') && key.arn !== keyId)) {
    throw new AwsError('NotFoundException', 400, `Key '${keyId}' does not exist`);
  }
  return key;
};

const denied = (account: Account, caller: Principal, action: string, key: Key, bound: Record<string, string>): void => {
  const keys = Object.fromEntries(
    Object.entries(bound).map(([name, value]) => [`kms:EncryptionContext:${name}`, value]),
  );
  if (account.may(caller, action, key.arn, keys)) return;
  const what = `User: ${caller.arn} is not authorized to perform: ${action} on resource: ${key.arn}`;
  throw new AwsError('AccessDeniedException', 400, what);
};

const usable = (key: Key): void => {
  if (key.state === 'Disabled') throw new AwsError('DisabledException', 400, `${key.arn} is disabled.`);
  if (key.state === 'PendingDeletion')
    throw new AwsError('KMSInvalidStateException', 400, `${key.arn} is pending deletion.`);
};

const aad = (key: Key, bound: Record<string, string>): Buffer =>
  Buffer.from(JSON.stringify([key.arn, Object.entries(bound).sort(([a], [b]) => (a < b ? -1 : 1))]));

export const sealBlob = (key: Key, plain: Buffer, bound: Record<string, string>): Buffer => {
  const nonce = randomBytes(nonceBytes);
  const cipher = createCipheriv('aes-256-gcm', key.material, nonce, { authTagLength: tagBytes });
  cipher.setAAD(aad(key, bound));
  const id = Buffer.from(key.id.replaceAll('-', ''), 'hex');
  return Buffer.concat([Buffer.from([1]), id, nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
};

const invalidCiphertext = (): AwsError => new AwsError('InvalidCiphertextException', 400, '');

const keyOfBlob = (account: Account, blob: Buffer): Key => {
  const hex = blob.subarray(1, 1 + idBytes).toString('hex');
  const id = hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  const key = account.keys.get(id);
  if (blob[0] !== 1 || blob.length < 1 + idBytes + nonceBytes + tagBytes || !key) throw invalidCiphertext();
  return key;
};

const openBlob = (key: Key, blob: Buffer, bound: Record<string, string>): Buffer => {
  const sealed = blob.subarray(1 + idBytes);
  try {
    const decipher = createDecipheriv('aes-256-gcm', key.material, sealed.subarray(0, nonceBytes), {
      authTagLength: tagBytes,
    });
    decipher.setAAD(aad(key, bound));
    decipher.setAuthTag(sealed.subarray(-tagBytes));
    return Buffer.concat([decipher.update(sealed.subarray(nonceBytes, -tagBytes)), decipher.final()]);
  } catch {
    throw invalidCiphertext();
  }
};

const encryptBody = z.object({ KeyId: z.string(), Plaintext: base64(4096), EncryptionContext: context });
const decryptBody = z.object({
  KeyId: z.string().optional(),
  CiphertextBlob: base64(6144),
  EncryptionContext: context,
});
const keyBody = z.object({ KeyId: z.string(), PendingWindowInDays: z.int().min(7).max(30).default(30) });

const metadata = (account: Account, key: Key) => ({
  AWSAccountId: account.id,
  KeyId: key.id,
  Arn: key.arn,
  Enabled: key.state === 'Enabled',
  KeyState: key.state,
  KeyUsage: 'ENCRYPT_DECRYPT',
  KeySpec: 'SYMMETRIC_DEFAULT',
});

const changing =
  (action: string, from: Key['state'][], to: Key['state']): KmsOperation =>
  (account, caller, body) => {
    const key = keyOf(account, read(keyBody, body).KeyId);
    denied(account, caller, `kms:${action}`, key, {});
    if (!from.includes(key.state)) throw new AwsError('KMSInvalidStateException', 400, `${key.arn} is ${key.state}.`);
    key.state = to;
    return action === 'ScheduleKeyDeletion' ? { KeyId: key.arn, KeyState: to } : {};
  };

export const kmsOperations: Record<string, KmsOperation> = {
  Encrypt: (account, caller, body) => {
    const { KeyId, Plaintext, EncryptionContext } = read(encryptBody, body);
    const key = keyOf(account, KeyId);
    denied(account, caller, 'kms:Encrypt', key, EncryptionContext);
    usable(key);
    return {
      CiphertextBlob: sealBlob(key, Plaintext, EncryptionContext).toString('base64'),
      KeyId: key.arn,
      EncryptionAlgorithm: 'SYMMETRIC_DEFAULT',
    };
  },
  Decrypt: (account, caller, body) => {
    const { KeyId, CiphertextBlob, EncryptionContext } = read(decryptBody, body);
    const named = KeyId === undefined ? undefined : keyOf(account, KeyId);
    if (named) denied(account, caller, 'kms:Decrypt', named, EncryptionContext);
    const key = keyOfBlob(account, CiphertextBlob);
    if (named && named !== key) {
      throw new AwsError(
        'IncorrectKeyException',
        400,
        'The key ID in the request does not identify a CMK that can perform this operation.',
      );
    }
    denied(account, caller, 'kms:Decrypt', key, EncryptionContext);
    usable(key);
    const plain = openBlob(key, CiphertextBlob, EncryptionContext);
    return { Plaintext: plain.toString('base64'), KeyId: key.arn, EncryptionAlgorithm: 'SYMMETRIC_DEFAULT' };
  },
  DescribeKey: (account, caller, body) => {
    const key = keyOf(account, read(keyBody, body).KeyId);
    denied(account, caller, 'kms:DescribeKey', key, {});
    return { KeyMetadata: metadata(account, key) };
  },
  CreateKey: (account, caller) => {
    account.authorise(caller, 'kms:CreateKey', '*');
    return { KeyMetadata: metadata(account, account.addKey()) };
  },
  DisableKey: changing('DisableKey', ['Enabled', 'Disabled'], 'Disabled'),
  EnableKey: changing('EnableKey', ['Enabled', 'Disabled'], 'Enabled'),
  ScheduleKeyDeletion: changing('ScheduleKeyDeletion', ['Enabled', 'Disabled'], 'PendingDeletion'),
};
