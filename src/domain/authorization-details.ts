/**
 * Rich authorization requests (RFC 9396), type `warder_connection`: a grant asked for in one JSON document, as precise
 * as `POST /v1/grants`.
 */
import { isName, isPlainLine, isScopeName } from './names.ts';

export const detailsType = 'warder_connection';

/** What may be asked for. `ttl_seconds` in seconds. */
export interface ConnectionDetails {
  type: typeof detailsType;
  connection: string;
  scopes: string[];
  ttl_seconds?: number;
  reason?: string;
}

/** What was granted, as the token response, the JWT and introspection tell it. */
export interface GrantedDetails {
  type: typeof detailsType;
  connection: string;
  scopes: string[];
  ttl_seconds: number;
}

export type ReadDetails = { ok: true; details: ConnectionDetails } | { ok: false; why: string };

const bad = (why: string): ReadDetails => ({ ok: false, why });
const members = new Set(['type', 'connection', 'scopes', 'ttl_seconds', 'reason']);
const maxScopes = 50;

/** @param value the parsed parameter. What it holds is not repeated in `why`. */
export const readDetails = (value: unknown): ReadDetails => {
  if (!Array.isArray(value)) return bad('authorization_details is not an array');
  const [one, ...more]: unknown[] = value;
  if (more.length > 0 || one === undefined) return bad('name exactly one object: a token is for one connection');
  if (typeof one !== 'object' || one === null || Array.isArray(one)) return bad('its element is not an object');
  const given = new Map<string, unknown>(Object.entries(one));
  if (given.get('type') !== detailsType) return bad(`the only type is ${detailsType}`);
  if ([...given.keys()].some((name) => !members.has(name))) {
    return bad(`the members of ${detailsType} are ${[...members].join(', ')}`);
  }
  const [connection, scopes] = [given.get('connection'), given.get('scopes')];
  const [ttl, reason] = [given.get('ttl_seconds'), given.get('reason')];
  if (typeof connection !== 'string' || !isName(connection)) return bad('connection is not the name of one');
  const list: unknown[] = Array.isArray(scopes) ? scopes : [];
  const names = list.filter((scope) => typeof scope === 'string').filter(isScopeName);
  if (names.length === 0 || names.length !== list.length || names.length > maxScopes) {
    return bad(`scopes is not a list of 1 to ${maxScopes} scopes`);
  }
  if (new Set(names).size !== names.length) return bad('a scope is named twice');
  if (
    given.has('ttl_seconds') &&
    !(typeof ttl === 'number' && Number.isInteger(ttl) && ttl >= 1 && ttl <= 31_536_000)
  ) {
    return bad('ttl_seconds is not a whole number of seconds');
  }
  if (given.has('reason') && !(typeof reason === 'string' && isPlainLine(reason, 500))) {
    return bad('reason is not one line of at most 500 visible characters');
  }
  return {
    ok: true,
    details: {
      type: detailsType,
      connection,
      scopes: names,
      ...(typeof ttl === 'number' ? { ttl_seconds: ttl } : {}),
      ...(typeof reason === 'string' ? { reason } : {}),
    },
  };
};
