/** Keys that nobody signs with: what proves nothing is verified all the same, so that its answer takes as long as any. */
import { generateKeyPairSync, hash } from 'node:crypto';
import { compactVerify, createLocalJWKSet, type JWK } from 'jose';
import { assertionAlgorithms } from '../../domain/model.ts';

/** Verifying costs the same whether or not somebody knows its factors; making a real one would take a while. */
const modulus = (): string => {
  const bytes = Buffer.concat(Array.from({ length: 8 }, (_one, i) => hash('sha256', `nobody ${i}`, 'buffer')));
  // 2048 bits, above whatever a signature of such a key holds, and odd.
  bytes[0] = 0xff;
  bytes[255] = (bytes[255] ?? 0) | 1;
  return bytes.toString('base64url');
};

const curve = (namedCurve: string): JWK =>
  generateKeyPairSync('ec', { namedCurve }).publicKey.export({ format: 'jwk' });

const keys: readonly JWK[] = [
  { kty: 'RSA', n: modulus(), e: 'AQAB' },
  curve('P-256'),
  curve('P-384'),
  generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }),
];

/** Verifies a signature with nobody's key, whatever key it asks for. It never holds, and nothing is told of it. */
export const verifyInVain = async (jws: string, kid: unknown): Promise<void> => {
  const set = createLocalJWKSet({ keys: keys.map((key) => (typeof kid === 'string' ? { ...key, kid } : key)) });
  await compactVerify(jws, set, { algorithms: [...assertionAlgorithms] }).catch(() => undefined);
};
