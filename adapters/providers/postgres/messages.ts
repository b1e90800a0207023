/**
 * What a PostgreSQL sends, cut into messages and looked at before pg reads them (section 54.7 of the manual). pg 8 looks
 * for the end of a string without looking at the end of the message: one without it would keep the process in a loop
 * for ever.
 */

/** A type and a length that counts itself. */
const headBytes = 5;
/** What Warder asks for is answered in a few hundred bytes, a long error in a few thousand. */
const maxMessageBytes = 16 * 1024 * 1024;

/** @returns where the next string ends, behind its zero */
const afterString = (body: Buffer, from: number): number => {
  const end = body.indexOf(0, from);
  if (end === -1) throw new Error('a string without an end');
  return end + 1;
};

const strings = (body: Buffer, from: number, count: number): number => {
  let at = from;
  for (let i = 0; i < count; i += 1) at = afterString(body, at);
  return at;
};

/** Fields of a letter and a string, until a zero. */
const fields = (body: Buffer): number => {
  let at = 0;
  while (body.readUInt8(at) !== 0) at = afterString(body, at + 1);
  return at + 1;
};

/** Columns of a name and 18 bytes. */
const columns = (body: Buffer): number => {
  let at = 2;
  for (let left = body.readUInt16BE(0); left > 0; left -= 1) at = afterString(body, at) + 18;
  return at;
};

const authenticationSasl = 10;
const mechanisms = (body: Buffer): number => {
  if (body.readInt32BE(0) !== authenticationSasl) return body.length;
  let at = 4;
  while (body.readUInt8(at) !== 0) at = afterString(body, at);
  return at + 1;
};

/** Where a message ends by what it says, for those in which pg looks for the end of strings. */
const ends: Readonly<Record<string, (body: Buffer) => number>> = {
  A: (body) => strings(body, 4, 2),
  C: (body) => strings(body, 0, 1),
  E: fields,
  N: fields,
  R: mechanisms,
  S: (body) => strings(body, 0, 2),
  T: columns,
};

/** @throws Error or RangeError when the message does not end where it says */
export const checkMessage = (type: string, body: Buffer): void => {
  const end = Object.hasOwn(ends, type) ? ends[type] : undefined;
  if (end !== undefined && end(body) !== body.length) throw new Error('a message that does not end where it says');
};

/** @returns a function that takes what arrived and gives what is whole and checked of it; it throws as checkMessage */
export const wholeMessages = (): ((chunk: Buffer) => Buffer) => {
  let parts: Buffer[] = [];
  let waiting = 0;
  /** Bytes there must be before it is worth looking again. */
  let needed = headBytes;
  return (chunk) => {
    parts.push(chunk);
    waiting += chunk.length;
    if (waiting < needed) return Buffer.alloc(0);
    const bytes = parts.length === 1 ? chunk : Buffer.concat(parts);
    let at = 0;
    needed = headBytes;
    while (bytes.length - at >= headBytes) {
      const length = bytes.readUInt32BE(at + 1);
      if (length < 4 || length > maxMessageBytes) throw new Error('a message of an impossible length');
      const end = at + 1 + length;
      if (end > bytes.length) {
        needed = 1 + length;
        break;
      }
      checkMessage(bytes.toString('latin1', at, at + 1), bytes.subarray(at + headBytes, end));
      at = end;
    }
    parts = at === bytes.length ? [] : [bytes.subarray(at)];
    waiting = bytes.length - at;
    return bytes.subarray(0, at);
  };
};
