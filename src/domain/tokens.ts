/**
 * Tokens: a prefix for secret scanners, the id of the row that holds the digest, and 256 random bits.
 *
 *     wdr_gw_<26 characters of the id><43 characters base64url>
 *
 * The id makes a look-up go straight to its row, in the order rows were written, instead of through a random index.
 * What proves the holder is the digest over the whole token, compared in constant time.
 */
import { hash, timingSafeEqual } from 'node:crypto';
import { type IdPrefix, isId } from './ids.ts';

export type TokenKind = 'agent' | 'gateway' | 'operator' | 'flow' | 'receiver';

const kinds: Record<TokenKind, { prefix: string; id: IdPrefix }> = {
  agent: { prefix: 'wdr_at_', id: 'tok' },
  gateway: { prefix: 'wdr_gw_', id: 'grt' },
  operator: { prefix: 'wdr_op_', id: 'op' },
  // The link, the state and the cookie of an OAuth flow (services/accounts/connect-flow.ts).
  flow: { prefix: 'wdr_fl_', id: 'flw' },
  // Of a receiver of Shared Signals (services/alerts/manage-streams.ts).
  receiver: { prefix: 'wdr_ssf_', id: 'ssf' },
};
const idLength = 26;
const secretLength = 43;
const base64url = /^[A-Za-z0-9_-]+$/;

/** How many random bytes {@link makeToken} takes: 256 bits. */
export const tokenEntropyBytes = 32;

/** Every token and client secret of ours (`wdr_cs_`, manage-agents.ts) in a text: for redaction. */
export const tokenPattern = /wdr_(?:(?:at|gw|op|fl|ssf)_[0-9a-z]{26}|cs_)[A-Za-z0-9_-]{43}/g;

/** A part is enough: what was cut off or pasted in two halves is still most of a secret. */
const tokenLike = /wdr_(?:at|gw|op|cs|fl|ssf)_[A-Za-z0-9_-]{16}/;

/** @returns whether the text holds a token or client secret of ours, or a good part of one */
export const mentionsToken = (text: string): boolean => tokenLike.test(text);

/** @param id the typed id of the row that will hold the digest; @param random {@link tokenEntropyBytes} bytes */
export const makeToken = (kind: TokenKind, id: string, random: Uint8Array): string =>
  `${kinds[kind].prefix}${id.slice(kinds[kind].id.length + 1)}${Buffer.from(random).toString('base64url')}`;

/** @returns the id of the row a token belongs to, or undefined when this is not spelled as a token of that kind */
export const tokenRowId = (kind: TokenKind, token: string): string | undefined => {
  const { prefix, id } = kinds[kind];
  if (token.length !== prefix.length + idLength + secretLength || !token.startsWith(prefix)) return undefined;
  const rowId = `${id}_${token.slice(prefix.length, prefix.length + idLength)}`;
  return isId(id, rowId) && base64url.test(token.slice(prefix.length + idLength)) ? rowId : undefined;
};

/** @returns SHA-256 of the token in hexadecimal: all that is ever stored of it */
export const tokenDigest = (token: string): string => hash('sha256', token, 'hex');

/** Compares two hexadecimal SHA-256 digests in constant time. */
export const sameDigest = (a: string, b: string): boolean =>
  a.length === 64 && b.length === 64 && timingSafeEqual(Buffer.from(a, 'latin1'), Buffer.from(b, 'latin1'));
