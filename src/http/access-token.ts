/** Access tokens at protected resources: as Bearer (RFC 6750), or bound to a key, with a proof (RFC 9449 section 7). */
import type { Request } from 'express';
import { Refused } from '../domain/refusals.ts';
import { authorizationOf } from './bearer.ts';

export interface PresentedToken {
  scheme: 'Bearer' | 'DPoP';
  token: string;
  /** The DPoP header, whatever it holds; undefined when there is none. */
  proof: string | undefined;
}

const presented = /^(?:(Bearer)|DPoP) +([A-Za-z0-9._~+/-]+=*)$/i;

/** @returns the header of the proof. Of two, Node makes one text with a comma, which is no JWT (section 4.3, step 1). */
export const proofHeader = (req: Request): string | undefined => {
  const { dpop } = req.headers;
  return typeof dpop === 'string' ? dpop : undefined;
};

/**
 * @returns the token, or undefined when the request carries no Authorization header
 * @throws Refused `unauthenticated` when there is one of another scheme; `invalid_request` for two of them
 */
export const presentedToken = (req: Request): PresentedToken | undefined => {
  const header = authorizationOf(req);
  if (header === undefined) return undefined;
  const found = presented.exec(header);
  if (!found) throw new Refused('unauthenticated', 'the Authorization header is not a bearer token');
  return { scheme: found[1] === undefined ? 'DPoP' : 'Bearer', token: found[2] ?? '', proof: proofHeader(req) };
};
