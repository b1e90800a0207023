/** The person or program somebody acts for, in one spelling: the issuer that vouches for it, then its name there. */
import { globMatches } from './glob.ts';
import { isPlainLine } from './names.ts';

/** A name of an issuer (63), a colon, and the 255 characters OpenID Connect allows a `sub`. */
export const maxSubjectLength = 63 + 1 + 255;
const maxNameAtIssuer = 255;

/**
 * Two issuers may use one `sub` for different people, so the issuer's name (which has no colon) stands before it.
 * @returns e.g. `corp:alice@example.com`, or undefined for a `sub` that could not be shown as it is
 */
export const subjectOf = (issuerName: string, sub: string): string | undefined =>
  isPlainLine(sub, maxNameAtIssuer) ? `${issuerName}:${sub}` : undefined;

/** @returns whether an entitlement that names these patterns lets its agent act for this subject; null names nobody */
export const mayActFor = (onBehalfOf: readonly string[] | null, subject: string): boolean =>
  onBehalfOf?.some((pattern) => globMatches(pattern, subject)) === true;
