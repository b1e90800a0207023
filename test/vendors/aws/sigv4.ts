/**
 * Verifies AWS Signature Version 4 as the services do, written from the specification and not from the SDK's signer:
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

/** What is wrong with a request's signature; each protocol spells these its own way (server.ts). */
export type SignatureProblem = 'missing' | 'incomplete' | 'unknown-key' | 'mismatch' | 'skewed';

export type Verified =
  | { ok: true; accessKeyId: string; service: string; region: string; sessionToken: string | undefined }
  | { ok: false; problem: SignatureProblem };

const skewMs = 5 * 60_000;
const sha256 = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex');
const hmac = (key: string | Buffer, data: string): Buffer => createHmac('sha256', key).update(data).digest();

/** RFC 3986: everything but the unreserved characters. */
const encode = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);

const canonicalQuery = (query: string): string =>
  query === ''
    ? ''
    : query
        .split('&')
        .map((pair) => {
          const [name = '', ...rest] = pair.split('=');
          return `${encode(decodeURIComponent(name))}=${encode(decodeURIComponent(rest.join('=')))}`;
        })
        .sort()
        .join('&');

const authorizationForm =
  /^AWS4-HMAC-SHA256 Credential=([A-Z0-9]{8,128})\/(\d{8})\/([a-z0-9-]+)\/([a-z0-9-]+)\/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$/;

const timeOf = (text: string): number => {
  const [, y, mo, d, h, mi, s] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(text) ?? [];
  return Date.UTC(Number(y), Number(mo) - 1, Number(d), Number(h), Number(mi), Number(s));
};

/** @param secretOf the secret key of an access key id; undefined for one that is not known */
export const verify = (
  req: IncomingMessage,
  body: Buffer,
  now: number,
  secretOf: (accessKeyId: string) => string | undefined,
): Verified => {
  const { authorization } = req.headers;
  if (authorization === undefined) return { ok: false, problem: 'missing' };
  const [, accessKeyId, date, region, service, signedHeaders, signature] = authorizationForm.exec(authorization) ?? [];
  const amzDate = req.headers['x-amz-date'];
  if (!accessKeyId || !date || !region || !service || !signedHeaders || !signature || typeof amzDate !== 'string') {
    return { ok: false, problem: 'incomplete' };
  }
  const names = signedHeaders.split(';');
  const present = Object.keys(req.headers);
  const mustBeSigned = present.filter((name) => name === 'host' || name.startsWith('x-amz-'));
  const sorted = [...names].sort().join(';') === signedHeaders;
  if (!sorted || !names.includes('host') || mustBeSigned.some((name) => !names.includes(name))) {
    return { ok: false, problem: 'incomplete' };
  }
  const secret = secretOf(accessKeyId);
  if (secret === undefined) return { ok: false, problem: 'unknown-key' };
  const time = timeOf(amzDate);
  if (Number.isNaN(time) || Math.abs(now - time) > skewMs || !amzDate.startsWith(date)) {
    return { ok: false, problem: 'skewed' };
  }
  const bodyHash = sha256(body);
  const claimedHash = req.headers['x-amz-content-sha256'];
  if (claimedHash !== undefined && claimedHash !== bodyHash) return { ok: false, problem: 'mismatch' };

  const [path = '/', query = ''] = (req.url ?? '/').split('?', 2);
  const canonical = [
    req.method,
    // Every service but S3 encodes the path twice.
    path.split('/').map(encode).join('/'),
    canonicalQuery(query),
    ...names.map(
      (name) =>
        `${name}:${String(req.headers[name] ?? '')
          .trim()
          .replace(/ +/g, ' ')}`,
    ),
    '',
    signedHeaders,
    bodyHash,
  ].join('\n');
  const scope = `${date}/${region}/${service}/aws4_request`;
  const toSign = ['AWS4-HMAC-SHA256', amzDate, scope, sha256(canonical)].join('\n');
  const key = hmac(hmac(hmac(hmac(`AWS4${secret}`, date), region), service), 'aws4_request');
  const expected = hmac(key, toSign);
  if (!timingSafeEqual(expected, Buffer.from(signature, 'hex'))) return { ok: false, problem: 'mismatch' };
  const token = req.headers['x-amz-security-token'];
  return { ok: true, accessKeyId, service, region, sessionToken: typeof token === 'string' ? token : undefined };
};
