/** Data types of the SSH protocols (RFC 4251 section 5): the alphabet of keys, certificates and revocation lists. */

export const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

export const uint64 = (value: bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
};

/** `string`: its length, then its bytes; text as UTF-8. */
export const string = (value: string | Uint8Array): Buffer => {
  const bytes = typeof value === 'string' ? Buffer.from(value) : value;
  return Buffer.concat([uint32(bytes.length), bytes]);
};

/** `mpint` of a number that is not negative, from big-endian bytes: no needless zeros, but one before a set top bit. */
export const mpint = (bigEndian: Uint8Array): Buffer => {
  const first = bigEndian.findIndex((byte) => byte !== 0);
  if (first < 0) return uint32(0);
  const bytes = bigEndian.subarray(first);
  return string((bytes[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.of(0), bytes]) : bytes);
};

/** The bytes are not what the format says. */
export class Malformed extends Error {
  override readonly name = 'Malformed';
}

/** Takes data types off the front of some bytes. Every method throws {@link Malformed} when they do not fit. */
export class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get rest(): number {
    return this.#bytes.length - this.#at;
  }

  take(length: number): Buffer {
    if (length > this.rest) throw new Malformed('cut off');
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  uint32(): number {
    return this.take(4).readUInt32BE();
  }

  string(): Buffer {
    return this.take(this.uint32());
  }

  text(): string {
    return this.string().toString('latin1');
  }

  /** @returns the magnitude, big-endian, without leading zeros; a negative or needlessly long one is malformed */
  mpint(): Buffer {
    const bytes = this.string();
    const [first = 0, second = 0] = bytes;
    if (first >= 0x80) throw new Malformed('a negative number');
    if (bytes.length > 0 && first === 0 && (bytes.length === 1 || second < 0x80)) throw new Malformed('not minimal');
    return first === 0 ? bytes.subarray(1) : bytes;
  }

  end(): void {
    if (this.rest !== 0) throw new Malformed('something follows');
  }
}
