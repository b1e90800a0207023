/** OpenSSH user certificates (openssh PROTOCOL.certkeys): made, and signed by an authority. */
import { createPublicKey, type KeyObject, randomBytes, type SignKeyObjectInput, sign as signWith } from 'node:crypto';
import { promisify } from 'node:util';
import { type SshPublicKey, toSsh } from './public-key.ts';
import { Malformed, mpint, string, uint32, uint64 } from './wire.ts';

/** SSH_CERT_TYPE_USER */
const userCertificate = 1;
const nonceBytes = 32;

export interface CertificateFacts {
  /** The key that is certified. */
  publicKey: SshPublicKey;
  serial: bigint;
  keyId: string;
  principals: readonly string[];
  /** Whole seconds since the epoch: from `validAfter` on, before `validBefore`. */
  validAfter: number;
  validBefore: number;
  /** By name; a value of `true` is a flag. */
  criticalOptions: Readonly<Record<string, string | true>>;
  extensions: Readonly<Record<string, string | true>>;
}

/** Options stand in the order of their names, each once; a value is a string within its string. */
const options = (given: Readonly<Record<string, string | true>>): Buffer =>
  Buffer.concat(
    Object.entries(given)
      .sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
      .map(([name, value]) => Buffer.concat([string(name), string(value === true ? '' : string(value))])),
  );

/** In a thread of its own: RSA takes milliseconds. */
const sign = promisify<string | null, Uint8Array, SignKeyObjectInput, Buffer>(signWith);

/** RFC 8332 for RSA, RFC 5656 section 3.1.2 for ECDSA, RFC 8709 section 6 for Ed25519. */
const signature = async (key: KeyObject, type: string, data: Buffer): Promise<Buffer> => {
  if (type === 'ssh-ed25519') return Buffer.concat([string(type), string(await sign(null, data, { key }))]);
  if (type === 'ssh-rsa') return Buffer.concat([string('rsa-sha2-512'), string(await sign('sha512', data, { key }))]);
  if (type !== 'ecdsa-sha2-nistp256') throw new Malformed('an authority is ed25519, ECDSA nistp256 or RSA');
  const both = await sign('sha256', data, { key, dsaEncoding: 'ieee-p1363' });
  const half = both.length / 2;
  const numbers = Buffer.concat([mpint(both.subarray(0, half)), mpint(both.subarray(half))]);
  return Buffer.concat([string(type), string(numbers)]);
};

/** @returns the certificate as one line, as in `id_ed25519-cert.pub` */
export const makeCertificate = async (authority: KeyObject, facts: CertificateFacts): Promise<string> => {
  const type = `${facts.publicKey.type}-cert-v01@openssh.com`;
  const issuer = toSsh(createPublicKey(authority));
  const body = Buffer.concat([
    string(type),
    string(randomBytes(nonceBytes)),
    facts.publicKey.numbers,
    uint64(facts.serial),
    uint32(userCertificate),
    string(facts.keyId),
    string(Buffer.concat(facts.principals.map((principal) => string(principal)))),
    uint64(BigInt(facts.validAfter)),
    uint64(BigInt(facts.validBefore)),
    string(options(facts.criticalOptions)),
    string(options(facts.extensions)),
    // Reserved.
    string(''),
    string(issuer.blob),
  ]);
  const whole = Buffer.concat([body, string(await signature(authority, issuer.type, body))]);
  return `${type} ${whole.toString('base64')} ${facts.keyId}`;
};
