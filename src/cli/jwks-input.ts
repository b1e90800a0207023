/** Reads the public keys somebody names by a file. */
import { readFileSync } from 'node:fs';
import { errorCode, usage } from './failure.ts';
import { isMapping, type Mapping } from './yaml-input.ts';

/** The private members of RFC 7518 sections 6.2.2, 6.3.2, 6.4.1: the broker must never see one. */
const privateMembers = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'k'];

export const readJwks = (path: string): { keys: Mapping[] } => {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw usage(`--jwks: ${path} cannot be read as JSON (${errorCode(error)})`);
  }
  const found = isMapping(value) ? (Array.isArray(value['keys']) ? value['keys'] : [value]) : [];
  const keys = found.filter(isMapping).filter((key) => typeof key['kty'] === 'string');
  if (keys.length === 0 || keys.length !== found.length) {
    throw usage(`--jwks: ${path} must be a JSON Web Key Set: {"keys": [{"kty": …}]}`);
  }
  if (keys.some((key) => privateMembers.some((member) => member in key))) {
    throw usage(`--jwks: ${path} holds a private key; give the public part only`);
  }
  return { keys };
};
