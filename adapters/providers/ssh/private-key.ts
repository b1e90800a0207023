/**
 * Private keys in OpenSSH's own format (openssh PROTOCOL.key), which Node does not read, to and from Node's. Unencrypted
 * ones only.
 */
import { createPrivateKey, createPublicKey, type JsonWebKey, type KeyObject, randomBytes } from 'node:crypto';
import { fromBlob, toSsh } from './public-key.ts';
import { Malformed, Reader, string, uint32 } from './wire.ts';

const magic = Buffer.from('openssh-key-v1\0', 'latin1');
const begin = '-----BEGIN OPENSSH PRIVATE KEY-----';
const end = '-----END OPENSSH PRIVATE KEY-----';
/** Cipher `none` has blocks of eight bytes. */
const blockBytes = 8;

const armour = new RegExp(`^${begin}\\s+([A-Za-z0-9+/=\\s]+?)\\s+${end}\\s*$`);

export const isOpenSshPrivateKey = (text: string): boolean => text.trimStart().startsWith(begin);

const bigint = (bytes: Buffer): bigint => BigInt(`0x${bytes.toString('hex') || '0'}`);
const base64url = (value: bigint): string => {
  const hex = value.toString(16);
  return Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex').toString('base64url');
};

/** The private numbers that follow the key's type. */
const jwkOf = (type: string, reader: Reader): JsonWebKey => {
  if (type === 'ssh-ed25519') {
    const [x, pair] = [reader.string(), reader.string()];
    if (pair.length !== 64 || !pair.subarray(32).equals(x)) throw new Malformed('its halves do not belong together');
    return { kty: 'OKP', crv: 'Ed25519', x: x.toString('base64url'), d: pair.subarray(0, 32).toString('base64url') };
  }
  if (type === 'ssh-rsa') {
    const [n, e, d, qi, p, q] = [0, 1, 2, 3, 4, 5].map(() => reader.mpint()) as [
      Buffer,
      Buffer,
      Buffer,
      Buffer,
      Buffer,
      Buffer,
    ];
    const [exponent, first, second] = [bigint(d), bigint(p), bigint(q)];
    if (first < 2n || second < 2n) throw new Malformed('not an RSA key');
    const text = (bytes: Buffer): string => bytes.toString('base64url');
    return {
      kty: 'RSA',
      ...{ n: text(n), e: text(e), d: text(d), p: text(p), q: text(q), qi: text(qi) },
      dp: base64url(exponent % (first - 1n)),
      dq: base64url(exponent % (second - 1n)),
    };
  }
  if (type !== 'ecdsa-sha2-nistp256') throw new Malformed('not ed25519, ECDSA nistp256 or RSA');
  const [curve, point, d] = [reader.text(), reader.string(), reader.mpint()];
  if (curve !== 'nistp256' || point.length !== 65 || d.length > 32) throw new Malformed('not a key on nistp256');
  const text = (bytes: Buffer): string => bytes.toString('base64url');
  return {
    kty: 'EC',
    crv: 'P-256',
    ...{ x: text(point.subarray(1, 33)), y: text(point.subarray(33)) },
    d: text(Buffer.concat([Buffer.alloc(32 - d.length), d])),
  };
};

/**
 * Reads a private key as ssh-keygen writes it.
 * @throws Malformed; the message says what is wrong and nothing of the key
 */
export const readOpenSshPrivateKey = (text: string): KeyObject => {
  const [, body] = armour.exec(text.trim()) ?? [];
  if (body === undefined) throw new Malformed('not a key in OpenSSH format');
  const reader = new Reader(Buffer.from(body.replace(/\s/g, ''), 'base64'));
  if (!reader.take(magic.length).equals(magic)) throw new Malformed('not a key in OpenSSH format');
  const [cipher, kdf] = [reader.text(), reader.text()];
  reader.string();
  if (cipher !== 'none' || kdf !== 'none') throw new Malformed('it is encrypted; give it without a passphrase');
  if (reader.uint32() !== 1) throw new Malformed('not exactly one key');
  const publicBlob = reader.string();
  const inner = new Reader(reader.string());
  reader.end();
  // The same number twice: what would show a wrong passphrase.
  const [check, again] = [inner.uint32(), inner.uint32()];
  if (check !== again) throw new Malformed('it is damaged');
  const jwk = jwkOf(inner.text(), inner);
  let key: KeyObject;
  try {
    key = createPrivateKey({ key: jwk, format: 'jwk' });
  } catch {
    throw new Malformed('it is damaged');
  }
  if (!toSsh(createPublicKey(key)).blob.equals(fromBlob(publicBlob).blob)) {
    throw new Malformed('its halves do not belong together');
  }
  return key;
};

/** Writes an ed25519 private key as ssh-keygen does, unencrypted. */
export const writeOpenSshPrivateKey = (key: KeyObject, comment: string): string => {
  const { blob, numbers } = toSsh(createPublicKey(key));
  const { x, d } = key.export({ format: 'jwk' });
  if (x === undefined || d === undefined) throw new Malformed('not an ed25519 key');
  const check = randomBytes(4);
  const pair = Buffer.concat([Buffer.from(d, 'base64url'), Buffer.from(x, 'base64url')]);
  const inner = Buffer.concat([check, check, string('ssh-ed25519'), numbers, string(pair), string(comment)]);
  const padding = Buffer.from(
    Array.from({ length: (blockBytes - (inner.length % blockBytes)) % blockBytes }, (_, index) => index + 1),
  );
  const whole = Buffer.concat([
    magic,
    string('none'),
    string('none'),
    string(''),
    uint32(1),
    string(blob),
    string(Buffer.concat([inner, padding])),
  ]);
  const lines = whole.toString('base64').match(/.{1,70}/g) ?? [];
  return `${[begin, ...lines, end].join('\n')}\n`;
};
