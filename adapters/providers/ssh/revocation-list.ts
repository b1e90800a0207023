/**
 * Key revocation lists of OpenSSH (openssh PROTOCOL.krl): which certificates `sshd` refuses before their end. They are
 * named by serial number under any authority (an empty `ca_key`), so that a list needs no key, can be made while Warder
 * is sealed, and still covers what a replaced authority signed.
 */
import { hash } from 'node:crypto';
import { endianness } from 'node:os';
import { string, uint32, uint64 } from './wire.ts';

const magic = Buffer.from('SSHKRL\n\0', 'latin1');
const formatVersion = 1;
/** KRL_SECTION_CERTIFICATES */
const certificates = 1;
/** KRL_SECTION_CERT_SERIAL_LIST */
const serialList = 0x20;

/**
 * The serial number of a grant's certificate: 64 bits of a digest, so that it is known before there is a certificate.
 * OpenSSH revokes no certificate whose number is 0.
 */
export const serialOf = (grantId: string): bigint => {
  const serial = hash('sha256', `ssh-certificate\0${grantId}`, 'buffer').readBigUInt64BE();
  return serial === 0n ? 1n : serial;
};

/**
 * @param serials numbers to refuse, in any order
 * @param list `number` grows with each list; `at` is when it was made, in milliseconds since the epoch
 */
export const makeRevocationList = (
  serials: BigUint64Array,
  list: { number: number; at: number; comment: string },
): Uint8Array => {
  const header = Buffer.concat([
    magic,
    uint32(formatVersion),
    uint64(BigInt(list.number)),
    uint64(BigInt(Math.floor(list.at / 1000))),
    // Flags.
    uint64(0n),
    // Reserved.
    string(''),
    string(list.comment),
  ]);
  if (serials.length === 0) return header;
  // Big-endian all at once: there may be a hundred thousand.
  const numbers = Buffer.from(new BigUint64Array(serials).buffer);
  if (endianness() === 'LE') numbers.swap64();
  const section = Buffer.concat([string(''), string(''), Buffer.of(serialList), string(numbers)]);
  return Buffer.concat([header, Buffer.of(certificates), string(section)]);
};
