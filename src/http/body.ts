/**
 * Request bodies: small, uncompressed, judged by their bytes before anything parses them. Read only after the caller is
 * known, so that a stranger cannot make Warder parse.
 */
import type { IncomingMessage } from 'node:http';
import { countMembers, jsonFault } from '../domain/json-limits.ts';
import { Refused } from '../domain/refusals.ts';

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** A body of ours fits into a few packets: whoever takes longer is stuck, or holds the connection on purpose. */
const bodyPatienceMs = 10_000;

const tooLarge = (limitBytes: number): Refused =>
  new Refused('too_large', `the body is longer than ${limitBytes} bytes`);

/** @throws Refused `too_large`, or `invalid_request` when the caller broke off or did not come to an end */
const readBytes = (req: IncomingMessage, limitBytes: number): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    if (Number(req.headers['content-length'] ?? 0) > limitBytes) {
      reject(tooLarge(limitBytes));
      return;
    }
    const chunks: Buffer[] = [];
    let size = 0;
    const stop = (): void => {
      clearTimeout(timer);
      req.off('data', take).off('end', finish).off('error', broken).off('close', broken);
    };
    const fail = (refused: Refused): void => {
      stop();
      reject(refused);
    };
    const take = (chunk: Buffer): void => {
      size += chunk.length;
      if (size > limitBytes) fail(tooLarge(limitBytes));
      else chunks.push(chunk);
    };
    const finish = (): void => {
      stop();
      resolve(chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks));
    };
    const broken = (): void => fail(new Refused('invalid_request', 'the request broke off'));
    const timer = setTimeout(
      () => fail(new Refused('invalid_request', `the body took longer than ${bodyPatienceMs / 1000} seconds`)),
      bodyPatienceMs,
    );
    req.on('data', take).on('end', finish).on('error', broken).on('close', broken);
  });

const hasBody = (req: IncomingMessage): boolean =>
  req.headers['transfer-encoding'] !== undefined || Number(req.headers['content-length'] ?? 0) > 0;

/** The media type without its parameters; the only charset is UTF-8. @throws Refused `unsupported_media_type` */
const requireType = (req: IncomingMessage, expected: string): void => {
  const [type = '', ...parameters] = (req.headers['content-type'] ?? '')
    .split(';')
    .map((part) => part.trim().toLowerCase());
  const charset = parameters.find((parameter) => parameter.startsWith('charset='))?.slice('charset='.length);
  const encoding = req.headers['content-encoding'];
  if (type !== expected) throw new Refused('unsupported_media_type', `the body must be ${expected}`);
  if (charset !== undefined && !/^"?utf-?8"?$/.test(charset)) {
    throw new Refused('unsupported_media_type', 'the body must be UTF-8');
  }
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
    throw new Refused('unsupported_media_type', 'the body must not be compressed');
  }
};

const decode = (bytes: Buffer): string => {
  try {
    return strictUtf8.decode(bytes);
  } catch {
    throw new Refused('invalid_request', 'the body is not valid UTF-8');
  }
};

/**
 * @returns the parsed JSON body, undefined when there is none
 * @throws Refused `too_large`, `unsupported_media_type`, `invalid_request`
 */
export const readJson = async (req: IncomingMessage, limitBytes: number): Promise<unknown> => {
  if (!hasBody(req)) return undefined;
  requireType(req, 'application/json');
  const bytes = await readBytes(req, limitBytes);
  const members = countMembers(bytes);
  if (members === undefined) throw new Refused('invalid_request', 'the body is nested too deeply');
  const text = decode(bytes);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Refused('invalid_request', 'the body is not valid JSON');
  }
  const fault = jsonFault(value, members);
  if (fault !== undefined) throw new Refused('invalid_request', fault);
  return value;
};

/**
 * @returns a form as text: repeated parameters must be seen (RFC 6749 section 3.2)
 * @throws Refused `too_large`, `unsupported_media_type`, `invalid_request`
 */
export const readFormText = async (req: IncomingMessage, limitBytes: number): Promise<string> => {
  requireType(req, 'application/x-www-form-urlencoded');
  return decode(await readBytes(req, limitBytes));
};
