/**
 * Secrets at rest. Three layers: the key service's root key wraps key-encryption keys; a key-encryption key wraps one
 * data key a box; the data key encrypts. AES-256-GCM throughout, and the additional data binds what a box is for, so
 * that a row moved to another place does not open.
 *
 * Unsealing is unwrapping the key-encryption keys. They are believed for `maxAgeMs` after the key service last
 * confirmed them; then everything that needs a secret is refused until it answers again.
 *
 * One of them, the one of the highest number, is current and seals what is new; the others open what was sealed before.
 * Each is unwrapped by the key service its row names, so that a migration to another service (migrate-keys.ts) is
 * complete with the commit of the rows.
 */
import { createCipheriv, createDecipheriv, randomBytes, timingSafeEqual } from 'node:crypto';
import { canonicalJson } from '../../domain/canonical-json.ts';
import type { KeyEncryptionKey, SealedBox } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import type { Clock } from '../../ports/clock.ts';
import { type KeyService, KmsRefused, KmsUnavailable } from '../../ports/kms.ts';

const keyBytes = 32;
/** 96 bits: what GCM wants (NIST SP 800-38D section 8.2.2); a data key encrypts once; a key-encryption key wraps far fewer than 2^32 data keys, so random nonces will not repeat. */
const nonceBytes = 12;
const tagBytes = 16;

/** What a box is for: `purpose` and the ids it belongs to. Bound as additional data. */
export type BoxContext = {
  purpose:
    | 'connection-secret'
    | 'signing-key'
    | 'authorization'
    | 'authorization-flow'
    | 'grant-keep'
    | 'webhook'
    | 'signal-stream';
} & Record<string, string>;

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

/** Wraps a key and has it given back. @throws KmsUnavailable, KmsRefused */
const confirmedWrap = async (kms: KeyService, key: Buffer, context: Record<string, string>): Promise<string> => {
  const wrapped = await kms.wrap(key, context);
  const back = Buffer.from(await kms.unwrap(wrapped, context));
  try {
    if (back.length === key.length && timingSafeEqual(back, key)) return wrapped;
    throw new KmsRefused('it does not give back what it wrapped');
  } finally {
    back.fill(0);
  }
};

/** Makes the first key-encryption key and wraps it; the caller commits the row, then calls {@link Keyring.unseal}. */
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

/** `local`, of `local:/var/lib/warder/root.key`: what may be told to anybody. */
export const kindOfService = (name: string): string => name.split(':', 1)[0] ?? '';
/** The key service of a kind, as it is called in messages. */
const called = (name: string): string => `the ${kindOfService(name)} key service`;

/** A key that was made and opened again, and is used by nobody before `adopt`. */
export interface NextKey {
  row: KeyEncryptionKey;
  /** From now on it seals what is new; the row is committed. */
  adopt(): void;
  discard(): void;
}

export class Keyring {
  /** What seals: the configured service, or the one the keys were migrated to since. */
  #kms: KeyService;
  readonly #configured: KeyService;
  /** Those that rows may name, by name. */
  readonly #services = new Map<string, KeyService>();
  /** Counts the changes of `#kms`: what the one before said of the keys does not matter any more. */
  #migrations = 0;
  readonly #clock: Clock;
  readonly #maxAgeMs: number;
  readonly #keys = new Map<number, Buffer>();
  readonly #sealListeners = new Set<() => void>();
  #current = 0;
  #confirmedAt = 0;
  #why = 'the keys have not been unwrapped yet';

  constructor(kms: KeyService, clock: Clock, maxAgeMs: number) {
    this.#kms = kms;
    this.#configured = kms;
    this.#services.set(kms.name, kms);
    this.#clock = clock;
    this.#maxAgeMs = maxAgeMs;
  }

  get kmsName(): string {
    return this.#kms.name;
  }

  /** The one that the configuration names, and that the next start begins with. */
  get configuredKmsName(): string {
    return this.#configured.name;
  }

  get #kind(): string {
    return called(this.#kms.name);
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
    const migrations = this.#migrations;
    const wanted = rows.filter((row) => row.state !== 'retired');
    try {
      const unwrapped = await Promise.all(
        wanted.map(
          async (row) =>
            [row, Buffer.from(await this.#serviceOf(row).unwrap(row.wrapped, kekContext(row.number)))] as const,
        ),
      );
      if (unwrapped.length === 0) throw new KmsRefused('there is no key-encryption key');
      for (const [row, key] of unwrapped) {
        this.#keys.get(row.number)?.fill(0);
        this.#keys.set(row.number, key);
        // Rows that were read before a rotation, and heard of after it, do not bring the old key back.
        if (row.state === 'current') this.#current = Math.max(this.#current, row.number);
      }
      const current = wanted.find((row) => row.number === this.#current);
      if (current && migrations === this.#migrations) this.follow(current);
      this.#confirmedAt = askedAt;
    } catch (error) {
      // What a service says that the keys have left meanwhile is no matter.
      if (migrations !== this.#migrations) return this.state();
      const known = error instanceof KmsRefused || error instanceof KmsUnavailable;
      const elsewhere = error instanceof KmsRefused && wanted.some((row) => !this.#services.has(row.kms));
      const hint = elsewhere ? ' (it is not the key that they were last wrapped with; see WARDER_KMS)' : '';
      const why = `${this.#kind}: ${known ? error.message : 'it failed'}${hint}`;
      if (error instanceof KmsRefused) this.seal(why);
      else if (this.#keys.size === 0) this.#why = why;
    }
    return this.state();
  }

  /** Whether a key is missing that was committed, by another process, since these rows' keys were unwrapped. */
  lacks(rows: readonly KeyEncryptionKey[]): boolean {
    return rows.some((row) => row.state !== 'retired' && !this.#keys.has(row.number));
  }

  /**
   * Makes a key-encryption key and has the key service give it back, before anything depends on that.
   * @throws Refused `sealed`, KmsUnavailable, KmsRefused
   */
  async makeNext(row: Pick<KeyEncryptionKey, 'number' | 'created_at'>): Promise<NextKey> {
    this.requireUnsealed();
    const kms = this.#kms;
    const key = randomBytes(keyBytes);
    const wrapped = await confirmedWrap(kms, key, kekContext(row.number)).catch((error: unknown) => {
      key.fill(0);
      throw error;
    });
    return {
      row: { ...row, id: `kek_${row.number}`, kms: kms.name, wrapped, state: 'current', version: 1 },
      adopt: () => {
        // Sealed meanwhile: it is unwrapped with the others.
        if (this.#keys.size === 0) return void key.fill(0);
        this.#keys.set(row.number, key);
        this.#current = Math.max(this.#current, row.number);
      },
      discard: () => void key.fill(0),
    };
  }

  /**
   * Wraps every key by another service, and has each given back by it. The rows are the caller's to commit.
   * @returns what each row would hold, by number
   * @throws Refused `sealed`, KmsUnavailable, KmsRefused
   */
  async wrapAllBy(kms: KeyService, rows: readonly KeyEncryptionKey[]): Promise<Map<number, string>> {
    const wrapped = new Map<number, string>();
    for (const { number } of rows) {
      // Each time: the service takes a while, and Warder may be sealed meanwhile.
      this.requireUnsealed();
      const key = Buffer.from(this.#key(number));
      try {
        wrapped.set(number, await confirmedWrap(kms, key, kekContext(number)));
      } finally {
        key.fill(0);
      }
    }
    return wrapped;
  }

  /**
   * Wraps a key that is kept outside the ledger, by the service itself: it opens without any key-encryption key.
   * @throws Refused `sealed`, KmsUnavailable, KmsRefused
   */
  wrapByService(key: Buffer, context: Record<string, string>): Promise<string> {
    this.requireUnsealed();
    return confirmedWrap(this.#kms, key, context);
  }

  /** Knows a service by its name, before rows are committed that name it. @returns how to forget it again */
  know(kms: KeyService): () => void {
    const before = this.#services.get(kms.name);
    this.#services.set(kms.name, kms);
    return () => {
      if (before) this.#services.set(kms.name, before);
      else this.#services.delete(kms.name);
    };
  }

  /** A migration whose commit nobody saw succeed may have taken place after all: the current key's row says where it is. */
  follow(current: KeyEncryptionKey): void {
    this.#kms = this.#services.get(current.kms) ?? this.#kms;
  }

  /** The rows name this service: it wraps what is new, and it confirms. */
  moveTo(kms: KeyService): void {
    this.#migrations += 1;
    this.#services.clear();
    this.#services.set(kms.name, kms);
    this.#kms = kms;
  }

  /** Forgets every key. Whoever keeps something opened forgets it too. */
  seal(why: string): void {
    for (const key of this.#keys.values()) key.fill(0);
    this.#keys.clear();
    this.#current = 0;
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

  /**
   * The same box under the current key-encryption key and a new data key.
   * @throws as `decrypt` does
   */
  reseal(context: BoxContext, box: SealedBox): SealedBox {
    const plain = this.decrypt(context, box);
    try {
      return this.encrypt(context, plain);
    } finally {
      plain.fill(0);
    }
  }

  /** @throws KmsUnavailable when the keys are kept by a kind of service that is not configured */
  #serviceOf(row: KeyEncryptionKey): KeyService {
    const named = this.#services.get(row.kms);
    if (named) return named;
    // A root key that was moved to another path, or a key under another name, is still the key.
    if (kindOfService(row.kms) === kindOfService(this.#kms.name)) return this.#kms;
    throw new KmsUnavailable(`the keys were migrated to ${called(row.kms)}; set WARDER_KMS to that`);
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
