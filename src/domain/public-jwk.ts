/** Public keys as others publish them (RFC 7517): which may be used at all, and in which form. */
import { createPublicKey } from 'node:crypto';

/** Members of private and symmetric keys (RFC 7518 section 6): a key that has one is not public. */
const privateMembers = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'];
/** RFC 7517 section 4, RFC 7518 section 6. */
const publicMembers = ['kty', 'crv', 'x', 'y', 'n', 'e', 'kid', 'alg', 'use'];
/** RFC 7518 section 3.3 asks for 2048 bits or more. */
export const minRsaBits = 2048;
/** The modulus of an RSA key of 16 384 bits has 2731 characters. */
export const maxMemberLength = 4096;
/** More keys than any issuer publishes: a set that goes past it is refused whole, not cut. */
export const maxKeys = 100;

export type PublicJwk = Record<string, string>;

export const hasPrivateMember = (jwk: Record<string, unknown>): boolean =>
  privateMembers.some((member) => Object.hasOwn(jwk, member));

/** @returns the members a verifier needs, whatever they hold; members nobody knows are left out (RFC 7517 section 5) */
export const publicMembersOf = (jwk: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(jwk).filter(([member]) => publicMembers.includes(member)));

/** @returns the key with the members a verifier needs, or undefined when it is not an asymmetric public key */
export const publicJwkOf = (value: unknown): PublicJwk | undefined => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const all = new Map<string, unknown>(Object.entries(value));
  if (privateMembers.some((member) => all.has(member))) return undefined;
  const members: PublicJwk = {};
  for (const name of publicMembers) {
    const member = all.get(name);
    if (member === undefined) continue;
    if (typeof member !== 'string' || member.length > maxMemberLength) return undefined;
    members[name] = member;
  }
  if (!['RSA', 'EC', 'OKP'].includes(members['kty'] ?? '')) return undefined;
  try {
    const key = createPublicKey({ key: members, format: 'jwk' });
    const bits = key.asymmetricKeyDetails?.modulusLength;
    return key.asymmetricKeyType === 'rsa' && (bits ?? 0) < minRsaBits ? undefined : members;
  } catch {
    return undefined;
  }
};

/** `jwt-svid` is how a SPIFFE bundle marks them (SPIFFE Trust Domain and Bundle, section 4.2.2). */
const signingUses = new Set(['sig', 'jwt-svid']);

export type ReadJwks = { ok: true; keys: PublicJwk[] } | { ok: false; why: string };

/**
 * Reads a published JWK set. Keys that are for something else (encryption, a curve nobody here verifies) are left out,
 * as RFC 7517 section 5 says; what could be an attack is refused whole.
 */
export const readJwks = (document: unknown): ReadJwks => {
  const keys: unknown =
    typeof document === 'object' && document !== null && 'keys' in document ? document.keys : undefined;
  if (!Array.isArray(keys)) return { ok: false, why: 'no JWK set' };
  if (keys.length > maxKeys) return { ok: false, why: `more than ${maxKeys} keys` };
  const found: PublicJwk[] = [];
  for (const jwk of keys as unknown[]) {
    if (typeof jwk !== 'object' || jwk === null || Array.isArray(jwk))
      return { ok: false, why: 'a key that is no object' };
    const members: Record<string, unknown> = { ...jwk };
    // Whoever publishes these has published a secret, and everybody can sign as him (RFC 8725 section 3.1).
    if (members['kty'] === 'oct' || hasPrivateMember(members)) return { ok: false, why: 'a private or symmetric key' };
    const { use = 'sig', ...key } = publicJwkOf(members) ?? { use: 'none' };
    if (signingUses.has(use)) found.push(key);
  }
  const ids = found.flatMap((key) => (key['kid'] === undefined ? [] : [key['kid']]));
  if (new Set(ids).size !== ids.length) return { ok: false, why: 'two keys of one kid' };
  if (found.length === 0) return { ok: false, why: 'no key that could verify a signature' };
  return { ok: true, keys: found };
};
