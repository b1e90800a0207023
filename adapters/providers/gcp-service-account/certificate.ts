/**
 * A certificate around a public key, signed by its own private key: the form in which Google takes keys. Nobody trusts it
 * for anything, so it says nothing: RFC 5280 section 4.1, without extensions, in DER (X.690).
 */
import { type KeyObject, randomBytes, sign } from 'node:crypto';

const tlv = (tag: number, ...parts: Buffer[]): Buffer => {
  const value = Buffer.concat(parts);
  if (value.length < 0x80) return Buffer.concat([Buffer.from([tag, value.length]), value]);
  const size = Buffer.from(
    value.length.toString(16).padStart(value.length > 0xffff ? 6 : value.length > 0xff ? 4 : 2, '0'),
    'hex',
  );
  return Buffer.concat([Buffer.from([tag, 0x80 | size.length]), size, value]);
};

const sequence = (...parts: Buffer[]): Buffer => tlv(0x30, ...parts);
const nothing = Buffer.from([0x05, 0x00]);
/** 1.2.840.113549.1.1.11, sha256WithRSAEncryption. */
const signatureAlgorithm = sequence(tlv(0x06, Buffer.from('2a864886f70d01010b', 'hex')), nothing);
/** 2.5.4.3, commonName. What Google's own instructions put there. */
const name = sequence(tlv(0x31, sequence(tlv(0x06, Buffer.from('550403', 'hex')), tlv(0x0c, Buffer.from('unused')))));
/** Ends never (RFC 5280 section 4.1.2.5): the key is ended by deleting it. */
const noEnd = tlv(0x18, Buffer.from('99991231235959Z'));

/** YYMMDDHHMMSSZ: RFC 5280 section 4.1.2.5.1, until 2049. */
const utcTime = (ms: number): Buffer =>
  tlv(0x17, Buffer.from(`${new Date(ms).toISOString().slice(2, 19).replace(/[-:T]/g, '')}Z`));

/** A day for clocks that differ, and for time zones that somebody got wrong. */
const slackMs = 86_400_000;

/**
 * @param now milliseconds since the epoch
 * @returns PEM
 */
export const selfSigned = (publicKey: KeyObject, privateKey: KeyObject, now: number): string => {
  const version3 = tlv(0xa0, tlv(0x02, Buffer.from([2])));
  // Positive and of 16 bytes, whatever is drawn (section 4.1.2.2).
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40;
  const certificate = sequence(
    version3,
    tlv(0x02, serial),
    signatureAlgorithm,
    name,
    sequence(utcTime(now - slackMs), noEnd),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
  );
  const signature = tlv(0x03, Buffer.from([0]), sign('sha256', certificate, privateKey));
  const base64 = sequence(certificate, signatureAlgorithm, signature).toString('base64');
  return `-----BEGIN CERTIFICATE-----\n${base64.replace(/.{64}/g, '$&\n').trimEnd()}\n-----END CERTIFICATE-----\n`;
};
