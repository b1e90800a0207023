/**
 * Reads a compact JWS (RFC 7515 section 7.1) so that nobody else can read it differently: one spelling of its bytes,
 * one meaning of its JSON. Says nothing about its signature.
 */
import { countMembers, jsonFault } from './json-limits.ts';

export interface JwsParts {
  header: Record<string, unknown>;
  payload: Record<string, unknown>;
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Padding, the other alphabet, blanks and spare bits are all lost in decoding: encoded again, they show. */
const decoded = (part: string): Buffer | undefined => {
  const bytes = Buffer.from(part, 'base64url');
  return bytes.toString('base64url') === part ? bytes : undefined;
};

const objectIn = (part: string): Record<string, unknown> | undefined => {
  const bytes = decoded(part);
  const members = bytes && countMembers(bytes);
  if (members === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(strictUtf8.decode(bytes));
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
    // A name that stands twice is read as the first by some, as the last by others (RFC 7515, RFC 7519 section 4).
    return jsonFault(value, members) === undefined ? { ...value } : undefined;
  } catch {
    return undefined;
  }
};

/** @returns header and payload, or undefined when this is not a compact JWS over a JSON object in its one spelling */
export const readStrictJws = (jws: string): JwsParts | undefined => {
  const [header = '', payload = '', signature = '', ...more] = jws.split('.');
  if (more.length > 0 || decoded(signature) === undefined) return undefined;
  const readHeader = objectIn(header);
  const readPayload = objectIn(payload);
  return readHeader && readPayload && { header: readHeader, payload: readPayload };
};
