/**
 * DPoP proofs (RFC 9449): everything section 4.3 asks of one but its signature and whether it was seen before. Pure:
 * `now` is passed in, failures are words for the audit log.
 */
import { hash } from 'node:crypto';
import { type PublicJwk, publicJwkOf } from './public-jwk.ts';
import { readStrictJws } from './strict-jws.ts';

/** How far `iat` may be from now, either way. */
export const proofWindowSeconds = 60;
/** A proof of an RSA key of 4096 bits has 2 KiB; the whole header of a request may have 16. */
export const maxProofLength = 8192;
const maxJtiLength = 256;

/** Header parameters that ask the reader to fetch, trust, skip or transform something, or belong to a JWE. */
const refusedHeaders = ['jku', 'x5u', 'x5c', 'crit', 'b64', 'zip', 'enc'];

/** What a proof is held against. */
export interface ProofTarget {
  /** `htm`: case counts (RFC 9110 section 9.1). */
  method: string;
  /** Of the request, as clients know it: the public URL, without query and fragment. */
  url: string;
  /** The token it comes with, at a resource; undefined at the token endpoint, where there is none yet. */
  accessToken?: string | undefined;
}

export interface Proof {
  jwk: PublicJwk;
  algorithm: string;
  jti: string;
  /** When nobody needs to remember its `jti` any more, in milliseconds since the epoch. */
  forgetAt: number;
}

export type ReadProof = { ok: true; proof: Proof } | { ok: false; why: string };

const unreserved = /%(?:2D|2E|5F|7E|3\d|4[1-9A-F]|5[0-9A]|6[1-9A-F]|7[0-9A])/g;

/**
 * A URL in the form in which two spellings of one address are the same (RFC 3986 sections 6.2.2 and 6.2.3): scheme and
 * host in lower case, no default port, percent-encoding in capitals and only where needed, no dot segments.
 * @returns undefined for what is no http URL, or carries credentials
 */
export const comparableUrl = (text: string): string | undefined => {
  // Parsers of URLs drop and change what does not belong there; here it does not pass at all.
  const url = /^[\x21-\x5b\x5d-\x7e]+$/.test(text) ? URL.parse(text) : null;
  if (!url || !['http:', 'https:'].includes(url.protocol) || url.username !== '' || url.password !== '')
    return undefined;
  const path = url.pathname
    .replace(/%[0-9a-f]{2}/gi, (code) => code.toUpperCase())
    .replace(unreserved, (code) => decodeURIComponent(code));
  return `${url.origin}${path}`;
};

const no = (why: string): ReadProof => ({ ok: false, why });

/** base64url of the SHA-256 of a token: the claim `ath` (section 4.2). */
export const tokenHash = (token: string): string => hash('sha256', token, 'base64url');

/**
 * Reads a proof and checks all but its signature.
 * @param now milliseconds since the epoch; @param algorithms that are accepted
 */
export const readProof = (text: string, target: ProofTarget, now: number, algorithms: readonly string[]): ReadProof => {
  if (text.length > maxProofLength) return no('the proof is too long');
  const parts = readStrictJws(text);
  if (!parts) return no('the proof is not a JWT in its one spelling');
  const { header, payload } = parts;
  if (header['typ'] !== 'dpop+jwt') return no('typ is not dpop+jwt');
  const algorithm = header['alg'];
  if (typeof algorithm !== 'string' || !algorithms.includes(algorithm)) return no('alg is not one that is accepted');
  const refused = refusedHeaders.find((name) => Object.hasOwn(header, name));
  if (refused !== undefined) return no(`${refused} in the header is not accepted`);
  const jwk = publicJwkOf(header['jwk']);
  if (!jwk) return no('jwk in the header is not a public key that is accepted');
  if (jwk['alg'] !== undefined && jwk['alg'] !== algorithm) return no('jwk is for another algorithm');

  const { jti, htm, htu, iat, ath } = payload;
  if (typeof jti !== 'string' || jti.length === 0 || jti.length > maxJtiLength) return no('jti is missing or too long');
  if (htm !== target.method) return no('htm is another method');
  // Section 4.3, step 9: query and fragment are ignored, on both sides.
  const meant = typeof htu === 'string' && htu.length <= maxProofLength ? comparableUrl(htu) : undefined;
  if (meant === undefined || meant !== comparableUrl(target.url)) return no('htu is another address');
  if (typeof iat !== 'number' || !Number.isFinite(iat)) return no('iat is missing');
  if (Math.abs(now / 1000 - iat) > proofWindowSeconds) return no('iat is too far from now');
  for (const name of ['exp', 'nbf']) {
    const time = payload[name];
    if (time === undefined) continue;
    if (
      typeof time !== 'number' ||
      (name === 'exp' ? time * 1000 <= now : time * 1000 > now + proofWindowSeconds * 1000)
    ) {
      return no(`${name} says that it is not valid now`);
    }
  }
  if (target.accessToken !== undefined && ath !== tokenHash(target.accessToken)) return no('ath is not of this token');
  const forgetAt = Math.ceil((iat + proofWindowSeconds + 1) * 1000);
  return { ok: true, proof: { jwk, algorithm, jti, forgetAt } };
};
