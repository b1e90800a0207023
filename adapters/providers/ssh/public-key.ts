/**
 * Public keys as SSH spells them (RFC 4253 section 6.6, RFC 5656 section 3.1, RFC 8709 section 4), to and from Node's.
 * What does not come out again byte for byte as it went in is refused.
 */
import { createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto';
import { Malformed, mpint, Reader, string } from './wire.ts';

const curves = {
  'ecdsa-sha2-nistp256': { ssh: 'nistp256', jwk: 'P-256', bytes: 32 },
  'ecdsa-sha2-nistp384': { ssh: 'nistp384', jwk: 'P-384', bytes: 48 },
  'ecdsa-sha2-nistp521': { ssh: 'nistp521', jwk: 'P-521', bytes: 66 },
} as const;
type CurveType = keyof typeof curves;
export type KeyType = 'ssh-ed25519' | 'ssh-rsa' | CurveType;

const isCurve = (type: string): type is CurveType => Object.hasOwn(curves, type);

export interface SshPublicKey {
  type: KeyType;
  /** The type and the numbers, as in `authorized_keys` before base64. */
  blob: Buffer;
  /** The numbers alone: what stands in a certificate. */
  numbers: Buffer;
  key: KeyObject;
  /** Of an RSA key. */
  bits?: number;
}

/** Enough for RSA of 16384 bits, the largest OpenSSH takes. */
const maxBlobBytes = 2200;
const maxRsaBits = 16_384;

const bytesOf = (base64url: string | undefined): Buffer => Buffer.from(base64url ?? '', 'base64url');

/** @throws Malformed for a type that SSH certificates are not made for here */
export const toSsh = (key: KeyObject): SshPublicKey => {
  const jwk = key.export({ format: 'jwk' });
  const made = (type: KeyType, ...numbers: Buffer[]): SshPublicKey => {
    const joined = Buffer.concat(numbers);
    return { type, numbers: joined, blob: Buffer.concat([string(type), joined]), key };
  };
  if (jwk.kty === 'OKP' && jwk.crv === 'Ed25519') return made('ssh-ed25519', string(bytesOf(jwk.x)));
  if (jwk.kty === 'RSA') {
    const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
    return { ...made('ssh-rsa', mpint(bytesOf(jwk.e)), mpint(bytesOf(jwk.n))), bits };
  }
  for (const [type, curve] of Object.entries(curves)) {
    if (jwk.kty !== 'EC' || jwk.crv !== curve.jwk || !isCurve(type)) continue;
    const point = Buffer.concat([Buffer.of(4), bytesOf(jwk.x), bytesOf(jwk.y)]);
    return made(type, string(curve.ssh), string(point));
  }
  throw new Malformed('not ed25519, ECDSA or RSA');
};

/** The members of a JWK from the numbers of an SSH key. */
const jwkOf = (type: string, reader: Reader): JsonWebKey => {
  if (type === 'ssh-ed25519') return { kty: 'OKP', crv: 'Ed25519', x: reader.string().toString('base64url') };
  if (type === 'ssh-rsa') {
    const [e, n] = [reader.mpint(), reader.mpint()];
    if (n.length * 8 > maxRsaBits) throw new Malformed('a modulus of more than 16384 bits');
    return { kty: 'RSA', e: e.toString('base64url'), n: n.toString('base64url') };
  }
  if (!isCurve(type)) throw new Malformed('not a key of a type that is taken');
  const curve = curves[type];
  if (reader.text() !== curve.ssh) throw new Malformed('another curve than its type says');
  const point = reader.string();
  if (point.length !== 1 + 2 * curve.bytes || point[0] !== 4) throw new Malformed('not an uncompressed point');
  const half = (index: number): string =>
    point.subarray(1 + index * curve.bytes, 1 + (index + 1) * curve.bytes).toString('base64url');
  return { kty: 'EC', crv: curve.jwk, x: half(0), y: half(1) };
};

/** @throws Malformed when the bytes are not exactly one good public key: a point off its curve is none */
export const fromBlob = (blob: Buffer): SshPublicKey => {
  if (blob.length > maxBlobBytes) throw new Malformed('too long');
  const reader = new Reader(blob);
  const jwk = jwkOf(reader.text(), reader);
  reader.end();
  let key: KeyObject;
  try {
    key = createPublicKey({ key: jwk, format: 'jwk' });
  } catch {
    throw new Malformed('not a key of its type');
  }
  const read = toSsh(key);
  if (!read.blob.equals(blob)) throw new Malformed('not spelled as it should be');
  return read;
};

/** Reads `type base64 [comment]`, one line without options. @throws Malformed */
export const fromLine = (line: string): SshPublicKey => {
  const [, type, text] = /^([a-z0-9@.-]{1,64}) ([A-Za-z0-9+/]{1,4000}={0,2})(?: [\x20-\x7e]{0,200})?$/.exec(line) ?? [];
  if (type === undefined || text === undefined) throw new Malformed('not one line of the form "type base64 comment"');
  const blob = Buffer.from(text, 'base64');
  if (blob.toString('base64') !== text) throw new Malformed('not base64');
  const read = fromBlob(blob);
  if (read.type !== type) throw new Malformed('its type is not what it says');
  return read;
};

/** As in `authorized_keys` and in files for `TrustedUserCAKeys`. */
export const toLine = ({ type, blob }: Pick<SshPublicKey, 'type' | 'blob'>, comment?: string): string =>
  `${type} ${blob.toString('base64')}${comment === undefined ? '' : ` ${comment}`}`;
