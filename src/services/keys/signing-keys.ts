/**
 * The broker's own keys: ES256 for the JWTs it issues, Ed25519 for checkpoints of the audit log. Private halves are
 * sealed boxes; opened ones are forgotten when Warder seals.
 *
 * A JWT key lives as `next` (published, not used) -> `current` (signs) -> `previous` (published until nothing it signed
 * can be alive). So a verifier that cached `/jwks` yesterday knows the key that starts to sign today.
 */
import { createPrivateKey, type KeyObject, sign } from 'node:crypto';
import { calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, type JWK, SignJWT } from 'jose';
import { longestGrantSeconds } from '../../domain/decide.ts';
import type { SigningKey } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Write } from '../../ports/ledger.ts';
import type { State } from '../state.ts';
import type { BoxContext, Keyring } from './keyring.ts';

const algorithms = { jwt: 'ES256', checkpoint: 'Ed25519' } as const;
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
    public_jwk: { ...publicJwk, kid: id, alg: algorithms[purpose], use: 'sig' },
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

  constructor(keyring: Keyring, state: State, clock: Clock) {
    this.#keyring = keyring;
    this.#state = state;
    this.#clock = clock;
    keyring.onSealed(() => {
      this.#jwt = undefined;
      this.#checkpoint = undefined;
    });
  }

  /** RFC 7517: the keys a verifier may meet, the one that signs first. */
  jwks(): { keys: Record<string, unknown>[] } {
    const now = this.#clock.now();
    const order = { current: 0, next: 1, previous: 2 };
    const keys = this.#state.signingKeys
      .all()
      .filter((key) => key.purpose === 'jwt' && (key.retire_at === null || key.retire_at > now))
      .sort((a, b) => order[a.state] - order[b.state]);
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
  async signJwt(claims: Record<string, unknown>): Promise<string> {
    const row = this.#row('jwt');
    this.#keyring.requireUnsealed();
    let held = this.#jwt;
    if (held?.id !== row.id) {
      held = { id: row.id, key: await importJWK(this.#open(row), row.algorithm) };
      // Sealed while it was opened: then it is not kept.
      this.#keyring.requireUnsealed();
      this.#jwt = held;
    }
    return new SignJWT(claims).setProtectedHeader({ alg: row.algorithm, typ: 'at+jwt', kid: row.id }).sign(held.key);
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

  /**
   * The writes that make `next` the signing key and bring a new `next`.
   * @throws Refused `sealed`
   */
  async rotation(): Promise<{ writes: Write[]; from: string; to: string }> {
    const now = this.#clock.now();
    const current = this.#row('jwt');
    const next = this.#state.signingKeys.all().find((key) => key.purpose === 'jwt' && key.state === 'next');
    if (!next) throw new Error('there is no next signing key');
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
