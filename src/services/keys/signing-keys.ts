/**
 * The broker's own keys: ES256 for the JWTs it issues, Ed25519 for checkpoints of the audit log and for receipts. Private
 * halves are sealed boxes; opened ones are forgotten when Warder seals.
 *
 * A JWT key lives as `next` (published, not used) -> `current` (signs) -> `previous` (published until nothing it signed
 * can be alive). So a verifier that cached `/jwks` yesterday knows the key that starts to sign today.
 *
 * A receipt is evidence for years: the keys that sign receipts are of another purpose, and once published they stay.
 */
import { createPrivateKey, type KeyObject, sign } from 'node:crypto';
import { calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, type JWK, SignJWT } from 'jose';
import { longestGrantSeconds } from '../../domain/decide.ts';
import type { SigningKey } from '../../domain/model.ts';
import { receiptType } from '../../domain/receipt-file.ts';
import { Refused } from '../../domain/refusals.ts';
import { setType } from '../../domain/signals.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Write } from '../../ports/ledger.ts';
import type { State } from '../state.ts';
import type { BoxContext, Keyring } from './keyring.ts';

/** How long whoever verifies may use `/jwks` without asking again. */
export const jwksMaxAgeSeconds = 300;

const algorithms = { jwt: 'ES256', checkpoint: 'Ed25519', receipt: 'Ed25519' } as const;
/** As `alg` of a JWK and a JWS: more verifiers know Ed25519 by the name of RFC 8037 than by that of RFC 9864. */
const joseNames = { ES256: 'ES256', Ed25519: 'EdDSA' } as const;
type Purpose = SigningKey['purpose'];

export const boxOf = (kid: string): BoxContext => ({ purpose: 'signing-key', kid });

/** Makes a key pair, seals its private half, and gives the row to commit. Its id is the RFC 7638 thumbprint. */
export const makeSigningKey = async (
  keyring: Keyring,
  purpose: Purpose,
  state: SigningKey['state'],
  now: number,
): Promise<SigningKey> => {
  const pair = await generateKeyPair(algorithms[purpose], { extractable: true });
  const publicJwk = await exportJWK(pair.publicKey);
  const id = await calculateJwkThumbprint(publicJwk);
  const privateJwk = await exportJWK(pair.privateKey);
  return {
    id,
    purpose,
    algorithm: algorithms[purpose],
    public_jwk: { ...publicJwk, kid: id, alg: joseNames[algorithms[purpose]], use: 'sig' },
    sealed: keyring.encrypt(boxOf(id), Buffer.from(JSON.stringify(privateJwk))),
    state,
    retire_at: null,
    version: 1,
    created_at: now,
  };
};

export class SigningKeys {
  readonly #keyring: Keyring;
  readonly #state: State;
  readonly #clock: Clock;
  #jwt: { id: string; key: Awaited<ReturnType<typeof importJWK>> } | undefined;
  #checkpoint: { id: string; key: KeyObject } | undefined;
  #receipt: { id: string; key: KeyObject } | undefined;

  constructor(keyring: Keyring, state: State, clock: Clock) {
    this.#keyring = keyring;
    this.#state = state;
    this.#clock = clock;
    keyring.onSealed(() => {
      this.#jwt = undefined;
      this.#checkpoint = undefined;
      this.#receipt = undefined;
    });
  }

  /** RFC 7517: the keys a verifier may meet, those of JWTs first, and of each kind the one that signs. */
  jwks(): { keys: Record<string, unknown>[] } {
    const now = this.#clock.now();
    const order = { current: 0, next: 1, previous: 2 };
    const keys = this.#state.signingKeys
      .all()
      .filter((key) => key.purpose !== 'checkpoint' && (key.retire_at === null || key.retire_at > now))
      .sort(
        (a, b) => Number(a.purpose === 'receipt') - Number(b.purpose === 'receipt') || order[a.state] - order[b.state],
      );
    return { keys: keys.map((key) => key.public_jwk) };
  }

  /** The raw 32-byte Ed25519 key checkpoints are verified with. */
  checkpointPublicKey(): Uint8Array {
    return Buffer.from(String(this.#row('checkpoint').public_jwk['x']), 'base64url');
  }

  /**
   * Signs an RFC 9068 access token (`typ: at+jwt`).
   * @throws Refused `sealed`
   */
  signJwt(claims: Record<string, unknown>): Promise<string> {
    return this.#signAs('at+jwt', claims);
  }

  /**
   * Signs a security event token (RFC 8417 section 2.3, `typ: secevent+jwt`): no verifier of access tokens takes it.
   * @throws Refused `sealed`
   */
  signSecurityEvent(claims: Record<string, unknown>): Promise<string> {
    return this.#signAs(setType, claims);
  }

  async #signAs(typ: string, claims: Record<string, unknown>): Promise<string> {
    const row = this.#row('jwt');
    this.#keyring.requireUnsealed();
    let held = this.#jwt;
    if (held?.id !== row.id) {
      held = { id: row.id, key: await importJWK(this.#open(row), row.algorithm) };
      // Sealed while it was opened: then it is not kept.
      this.#keyring.requireUnsealed();
      this.#jwt = held;
    }
    return new SignJWT(claims).setProtectedHeader({ alg: row.algorithm, typ, kid: row.id }).sign(held.key);
  }

  /**
   * Signs with the checkpoint key (Ed25519, 64 bytes).
   * @throws Refused `sealed`
   */
  signCheckpoint(body: Uint8Array): Uint8Array {
    const row = this.#row('checkpoint');
    this.#keyring.requireUnsealed();
    if (this.#checkpoint?.id !== row.id) {
      const jwk = this.#open(row) as Record<string, string>;
      this.#checkpoint = { id: row.id, key: createPrivateKey({ key: jwk, format: 'jwk' }) };
    }
    return sign(null, body, this.#checkpoint.key);
  }

  /** Whether there is a key for receipts: ledgers of earlier versions have none until one is made. */
  get hasReceiptKey(): boolean {
    return this.#state.signingKeys.all().some((key) => key.purpose === 'receipt' && key.state === 'current');
  }

  /** The public half of the key that signs receipts. @throws Refused `sealed` while there is none */
  receiptJwk(): Record<string, unknown> {
    return this.#row('receipt').public_jwk;
  }

  /**
   * Signs what a receipt says, as a compact JWS of a type of its own: nobody takes it for an access token (RFC 8725
   * section 3.11).
   * @param payload JSON
   * @throws Refused `sealed`
   */
  signReceipt(payload: string): string {
    const row = this.#row('receipt');
    this.#keyring.requireUnsealed();
    if (this.#receipt?.id !== row.id) {
      const jwk = this.#open(row) as Record<string, string>;
      this.#receipt = { id: row.id, key: createPrivateKey({ key: jwk, format: 'jwk' }) };
    }
    const header = { alg: joseNames.Ed25519, jwk: row.public_jwk, kid: row.id, typ: receiptType };
    const signed = [JSON.stringify(header), payload].map((part) => Buffer.from(part).toString('base64url')).join('.');
    return `${signed}.${sign(null, Buffer.from(signed), this.#receipt.key).toString('base64url')}`;
  }

  /** A new key for receipts, and the writes that put it in force; what it replaces stays published. @throws Refused `sealed` */
  async receiptRotation(): Promise<{ writes: Write[]; from: string | null; to: string }> {
    this.#keyring.requireUnsealed();
    const current = this.#state.signingKeys.all().find((key) => key.purpose === 'receipt' && key.state === 'current');
    const next = await makeSigningKey(this.#keyring, 'receipt', 'current', this.#clock.now());
    const retire: Write[] = current
      ? [
          {
            write: 'update',
            table: 'signing_keys',
            id: current.id,
            set: { state: 'previous', version: current.version + 1 },
            from: { version: current.version },
          },
        ]
      : [];
    return {
      from: current?.id ?? null,
      to: next.id,
      writes: [...retire, { write: 'insert', table: 'signing_keys', row: next }],
    };
  }

  /**
   * The writes that make `next` the signing key and bring a new `next`.
   * @throws Refused `sealed`, or `conflict` while a verifier may hold a key set without `next`
   */
  async rotation(): Promise<{ writes: Write[]; from: string; to: string }> {
    const now = this.#clock.now();
    const current = this.#row('jwt');
    const next = this.#state.signingKeys.all().find((key) => key.purpose === 'jwt' && key.state === 'next');
    if (!next) throw new Error('there is no next signing key');
    // The first two were published together; a later `next` has to be known before it signs.
    const knownAt = next.created_at === current.created_at ? 0 : next.created_at + jwksMaxAgeSeconds * 1000;
    if (now < knownAt) {
      const retryAfterSeconds = Math.ceil((knownAt - now) / 1000);
      throw new Refused(
        'conflict',
        `the next signing key was published a moment ago, and verifiers may not have seen it; repeat in ${retryAfterSeconds} seconds`,
        { retryAfterSeconds },
      );
    }
    const coming = await makeSigningKey(this.#keyring, 'jwt', 'next', now);
    const retireAt = now + longestGrantSeconds * 1000;
    return {
      from: current.id,
      to: next.id,
      writes: [
        {
          write: 'update',
          table: 'signing_keys',
          id: current.id,
          set: { state: 'previous', retire_at: retireAt, version: current.version + 1 },
          from: { version: current.version },
        },
        {
          write: 'update',
          table: 'signing_keys',
          id: next.id,
          set: { state: 'current', version: next.version + 1 },
          from: { version: next.version },
        },
        { write: 'insert', table: 'signing_keys', row: coming },
      ],
    };
  }

  #row(purpose: Purpose): SigningKey {
    const row = this.#state.signingKeys.all().find((key) => key.purpose === purpose && key.state === 'current');
    // Only an uninitialised ledger has none, and that cannot be served from.
    if (!row) throw new Refused('sealed', `there is no ${purpose} signing key`);
    return row;
  }

  #open(row: SigningKey): JWK {
    const jwk: JWK = JSON.parse(this.#keyring.decrypt(boxOf(row.id), row.sealed).toString());
    return jwk;
  }
}
