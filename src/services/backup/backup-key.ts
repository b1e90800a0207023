/**
 * The key of a backup: an age identity made for it alone, which the key service wraps. The context binds it to the whole
 * header, so that the key service itself refuses a header in which anything was changed.
 */
import { type BackupHeader, BadBackup, headerDigest } from '../../domain/backup.ts';
import { type KeyService, KmsRefused, KmsUnavailable } from '../../ports/kms.ts';
import { type Keyring, kindOfService } from '../keys/keyring.ts';

/** A dozen files of cryptography: only for those who make a backup. */
const loadAge = () => import('age-encryption');

/** Beside `key-encryption-key`, what a policy of the key service has to allow (docs/key-services.md). */
const contextOf = (header: Omit<BackupHeader, 'key'> & { key: { kms: string } }): Record<string, string> => ({
  'warder:purpose': 'backup',
  'warder:backup': header.id,
  'warder:header': headerDigest(header),
});

/**
 * @returns the header with its key, and the recipient to encrypt to. The recipient is nowhere in the file: whoever knew
 * it could encrypt another database to it (the digest in the header would tell, but only after it was unpacked).
 * @throws Refused `sealed`, KmsUnavailable, KmsRefused
 */
export const keyedHeader = async (
  keyring: Keyring,
  facts: Omit<BackupHeader, 'key'>,
): Promise<{ header: BackupHeader; recipient: string }> => {
  const age = await loadAge();
  const identity = await age.generateX25519Identity();
  const kms = kindOfService(keyring.kmsName);
  const plain = Buffer.from(identity);
  try {
    const wrapped = await keyring.wrapByService(plain, contextOf({ ...facts, key: { kms } }));
    return { header: { ...facts, key: { kms, wrapped } }, recipient: await age.identityToRecipient(identity) };
  } finally {
    plain.fill(0);
  }
};

/**
 * @returns the age identity
 * @throws BadBackup when the key service is another one, does not answer, or has not wrapped this key for this header
 */
export const unwrapIdentity = async (kms: KeyService, header: BackupHeader): Promise<string> => {
  const configured = kindOfService(kms.name);
  if (configured !== header.key.kms) {
    throw new BadBackup(
      `this backup was encrypted to the key service ${header.key.kms}, and WARDER_KMS names ${configured}: set it to what it was when the backup was made`,
    );
  }
  try {
    return Buffer.from(await kms.unwrap(header.key.wrapped, contextOf(header))).toString();
  } catch (error) {
    if (error instanceof KmsUnavailable) {
      throw new BadBackup(
        `the ${configured} key service does not answer: ${error.message}. The root key is not in a backup: it must be where WARDER_KMS says`,
        { cause: error },
      );
    }
    if (error instanceof KmsRefused) {
      throw new BadBackup(
        `the ${configured} key service refuses this backup: ${error.message}. It is of another broker, its header was changed, or WARDER_KMS names another key than the one it was made with`,
        { cause: error },
      );
    }
    throw error;
  }
};
