/**
 * Secrets at rest. Three layers: the key service's root key wraps key-encryption keys; a key-encryption key wraps one
 * data key a box; the data key encrypts. AES-256-GCM throughout, and the additional data binds what a box is for, so
 * that a row moved to another place does not open.
 *
 * Unsealing is unwrapping the key-encryption keys. They are believed for `maxAgeMs` after the key service last
 * confirmed them; then everything that needs a secret is refused until it answers again.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { canonicalJson } from '../domain/canonical-json.ts';
import type { KeyEncryptionKey, SealedBox } from '../domain/model.ts';
import { Refused } from '../domain/refusals.ts';
import type { Clock } from '../ports/clock.ts';
import { type KeyService, KmsRefused, KmsUnavailable } from '../ports/kms.ts';

const keyBytes = 32;
/** 96 bits: what GCM wants (NIST SP 800-38D section 8.2.2); a data key encrypts once; a key-encryption key wraps far fewer than 2^32 data keys, so random nonces will not repeat. */
const nonceBytes = 12;
const tagBytes = 16;

/** What a box is for: `purpose` and the ids it belongs to. Bound as additional data. */
export type BoxContext = { purpose: 'connection-secret' | 'signing-key' } & Record<string, string>;

/** `why` is public: it names the kind of key service and what it said, never where it is. */
export type SealState = { sealed: false } | { sealed: true; why: string };

const encrypt = (key: Uint8Array, nonce: Uint8Array, plain: Uint8Array, aad: string): Buffer => {
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: tagBytes });
  cipher.setAAD(Buffer.from(aad));
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
};

const decrypt = (key: Uint8Array, nonce: Uint8Array, sealed: Buffer, aad: string): Buffer => {
  if (sealed.length < tagBytes) throw new Error('a sealed box is cut off');
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: tagBytes });
  decipher.setAAD(Buffer.from(aad));
  decipher.setAuthTag(sealed.subarray(-tagBytes));
  return Buffer.concat([decipher.update(sealed.subarray(0, -tagBytes)), decipher.final()]);
};

const kekContext = (number: number): Record<string, string> => ({
  'warder:purpose': 'key-encryption-key',
  'warder:number': String(number),
});

/** Makes a new key-encryption key and wraps it; the caller commits the row, then calls {@link Keyring.unseal}. */
export const makeKek = async (
  kms: KeyService,
  row: Omit<KeyEncryptionKey, 'wrapped' | 'kms'>,
): Promise<KeyEncryptionKey> => {
  const key = randomBytes(keyBytes);
  try {
    return { ...row, kms: kms.name, wrapped: await kms.wrap(key, kekContext(row.number)) };
  } finally {
    key.fill(0);
  }
};

export class Keyring {
  readonly #kms: KeyService;
  readonly #clock: Clock;
  readonly #maxAgeMs: number;
  readonly #keys = new Map<number, Buffer>();
  readonly #sealListeners = new Set<() => void>();
  #current = 0;
  #confirmedAt = 0;
  #why = 'the keys have not been unwrapped yet';

  constructor(kms: KeyService, clock: Clock, maxAgeMs: number) {
    this.#kms = kms;
    this.#clock = clock;
    this.#maxAgeMs = maxAgeMs;
  }

  get kmsName(): string {
    return this.#kms.name;
  }

  /** `the local key service`, of `local:/var/lib/warder/root.key`: what may be told to anybody. */
  get #kind(): string {
    return `the ${this.#kms.name.split(':', 1)[0]} key service`;
  }

  state(): SealState {
    if (this.#keys.size === 0) return { sealed: true, why: this.#why };
    if (this.#clock.now() - this.#confirmedAt > this.#maxAgeMs) {
      this.seal(`${this.#kind} has not confirmed the keys for ${this.#maxAgeMs / 1000} seconds`);
      return { sealed: true, why: this.#why };
    }
    return { sealed: false };
  }

  /**
   * Unwraps all key-encryption keys; also confirms them again later. On failure: a refusal of the key service seals at
   * once, an outage leaves what is believed until its age is over.
   * @returns the state afterwards
   */
  async unseal(rows: readonly KeyEncryptionKey[]): Promise<SealState> {
    // The answer may take a while: the keys are known to have been good when it was asked for.
    const askedAt = this.#clock.now();
    try {
      const unwrapped = await Promise.all(
        rows.map(
          async (row) => [row, Buffer.from(await this.#kms.unwrap(row.wrapped, kekContext(row.number)))] as const,
        ),
      );
      if (unwrapped.length === 0) throw new KmsRefused('there is no key-encryption key');
      for (const [row, key] of unwrapped) {
        this.#keys.get(row.number)?.fill(0);
        this.#keys.set(row.number, key);
        if (row.state === 'current') this.#current = row.number;
      }
      this.#confirmedAt = askedAt;
    } catch (error) {
      const known = error instanceof KmsRefused || error instanceof KmsUnavailable;
      const why = `${this.#kind}: ${known ? error.message : 'it failed'}`;
      if (error instanceof KmsRefused) this.seal(why);
      else if (this.#keys.size === 0) this.#why = why;
    }
    return this.state();
  }

  /** Forgets every key. Whoever keeps something opened forgets it too. */
  seal(why: string): void {
    for (const key of this.#keys.values()) key.fill(0);
    this.#keys.clear();
    this.#why = why;
    for (const listener of this.#sealListeners) listener();
  }

  onSealed(listener: () => void): void {
    this.#sealListeners.add(listener);
  }

  /** @throws Refused `sealed` */
  requireUnsealed(): void {
    if (this.state().sealed) {
      // The reason may name the key service: it is for /readyz and the log, not for an agent.
      throw new Refused('sealed', 'Warder is sealed: its key service has not opened the keys', {
        retryAfterSeconds: 5,
      });
    }
  }

  /** @throws Refused `sealed` */
  encrypt(context: BoxContext, plain: Uint8Array): SealedBox {
    this.requireUnsealed();
    const kek = this.#key(this.#current);
    const dataKey = randomBytes(keyBytes);
    const nonce = randomBytes(nonceBytes);
    const keyNonce = randomBytes(nonceBytes);
    const aad = this.#aad(context, this.#current);
    const box = {
      kek: this.#current,
      key_nonce: keyNonce.toString('base64'),
      key: encrypt(kek, keyNonce, dataKey, aad).toString('base64'),
      nonce: nonce.toString('base64'),
      text: encrypt(dataKey, nonce, plain, aad).toString('base64'),
    };
    dataKey.fill(0);
    return box;
  }

  /**
   * @throws Refused `sealed`
   * @throws Error when the box is not what this context sealed: it was moved, changed, or the key is another
   */
  decrypt(context: BoxContext, box: SealedBox): Buffer {
    this.requireUnsealed();
    const aad = this.#aad(context, box.kek);
    const bytes = (text: string): Buffer => Buffer.from(text, 'base64');
    const dataKey = decrypt(this.#key(box.kek), bytes(box.key_nonce), bytes(box.key), aad);
    try {
      return decrypt(dataKey, bytes(box.nonce), bytes(box.text), aad);
    } finally {
      dataKey.fill(0);
    }
  }

  #key(number: number): Buffer {
    const key = this.#keys.get(number);
    if (!key) throw new Error(`there is no key-encryption key ${number}`);
    return key;
  }

  #aad(context: BoxContext, kek: number): string {
    return canonicalJson({ ...context, kek: String(kek) });
  }
}
