/**
 * Proof of possession (RFC 9449): whoever presents a token that is bound to a key shows, request by request, that he
 * holds it. A server nonce (section 8) would be one more thing for `readProof` to compare; none is given out today.
 */
import { calculateJwkThumbprint, compactVerify, importJWK } from 'jose';
import { LRUCache } from 'lru-cache';
import { type ProofTarget, readProof } from '../../domain/dpop.ts';
import { assertionAlgorithms } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { tokenDigest } from '../../domain/tokens.ts';
import type { Write } from '../../ports/ledger.ts';
import { type Caller, type Core, commit, record } from '../core.ts';

/** The same as for client assertions: asymmetric only. */
export const proofAlgorithms = assertionAlgorithms;

export interface VerifiedProof {
  /** RFC 7638 thumbprint of the key it was made with. */
  jkt: string;
  /** Spends its `jti`: to be committed with what the proof allows, or before it. A second one is refused. */
  use: Write;
}

const refused = (why: string): Refused => new Refused('invalid_dpop_proof', `the DPoP proof was not accepted: ${why}`);

export const proofUsedBefore = (): Refused => refused('its jti was used before');

/** Keys that proofs were made with lately, by their JWK: importing one costs as much as verifying with it. */
const imported = new LRUCache<string, { jkt: string; key: Awaited<ReturnType<typeof importJWK>> }>({ max: 1000 });

/**
 * All checks of section 4.3 but the last: whoever acts on it spends `use`.
 * @throws Refused `invalid_dpop_proof`, in words of ours
 */
export const verifyProof = async (
  core: Pick<Core, 'clock'>,
  text: string,
  target: ProofTarget,
): Promise<VerifiedProof> => {
  const read = readProof(text, target, core.clock.now(), proofAlgorithms);
  if (!read.ok) throw refused(read.why);
  const { jwk, algorithm, jti, forgetAt } = read.proof;
  const name = `${algorithm} ${JSON.stringify(jwk)}`;
  let held = imported.get(name);
  try {
    held ??= { jkt: await calculateJwkThumbprint(jwk), key: await importJWK(jwk, algorithm) };
    await compactVerify(text, held.key, { algorithms: [algorithm] });
  } catch {
    throw refused('its signature is not of the key in it');
  }
  imported.set(name, held);
  const row = { id: tokenDigest(`dpop ${held.jkt} ${jti}`), expires_at: forgetAt };
  return { jkt: held.jkt, use: { write: 'insert', table: 'used_once', row } };
};

/** Spends a proof by itself. @throws Refused `invalid_dpop_proof` for one that was used before */
export const spendProof = async (core: Core, { use, jkt }: VerifiedProof, caller: Caller): Promise<void> => {
  const { actor } = caller;
  const agent = actor.kind === 'agent' ? { id: actor.id, name: actor.name } : undefined;
  const used = await commit(core, {
    writes: [use],
    audit: [record(core, caller, { type: 'agent.proved_possession', agent, data: { jkt } })],
  });
  if (!used.ok) throw proofUsedBefore();
};

/**
 * That a token and the way it was presented fit: a bound one with a proof of its key, an unbound one without.
 * @param jkt of the token; @param proof of the request
 * @throws Refused `invalid_dpop_proof` or `unauthenticated`
 */
export const requireBinding = (
  jkt: string | null,
  scheme: 'Bearer' | 'DPoP',
  proof: VerifiedProof | undefined,
): void => {
  if (jkt === null) {
    // Section 7.1: the scheme says that the token is bound, and this one is not.
    if (scheme === 'DPoP')
      throw new Refused('unauthenticated', 'this token is not bound to a key; present it as Bearer');
    return;
  }
  // Section 7.2: a downgrade to Bearer is what a thief would try.
  if (scheme === 'Bearer' || !proof) throw refused('this token is bound to a key; present it as DPoP, with a proof');
  if (proof.jkt !== jkt) throw refused('it was made with another key than the token is bound to');
};
