/** DPoP proofs made by hand: libraries refuse to make the bad ones. */
import { randomUUID } from 'node:crypto';
import { calculateJwkThumbprint } from 'jose';
import { tokenHash } from '../../src/domain/dpop.ts';
import { compact } from '../corpora/tokens.ts';
import { type Algorithm, type ClientKey, makeKey } from './support.ts';

export interface ProofKey extends ClientKey {
  jkt: string;
  /** The public members and nothing else, as clients send them. */
  bare: Record<string, unknown>;
}

export const makeProofKey = async (alg: Algorithm = 'ES256'): Promise<ProofKey> => {
  const key = makeKey(alg);
  const { kid: _kid, alg: _alg, use: _use, ...bare } = key.publicJwk;
  return { ...key, bare, jkt: await calculateJwkThumbprint(bare) };
};

/** A good proof, unless claims or header say otherwise. */
export const proofOf = (
  key: ProofKey,
  method: string,
  url: string,
  token?: string,
  claims: Record<string, unknown> = {},
  header: Record<string, unknown> = {},
): string =>
  compact(
    { typ: 'dpop+jwt', alg: key.alg, jwk: key.bare, ...header },
    {
      jti: randomUUID(),
      htm: method,
      htu: url,
      iat: Date.now() / 1000,
      ...(token === undefined ? {} : { ath: tokenHash(token) }),
      ...claims,
    },
    key,
  );
