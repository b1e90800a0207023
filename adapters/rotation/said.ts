/** What a webhook or a script says about itself, made fit for records: it has held secrets, and may have printed them. */
import { isShowable } from '../../src/domain/names.ts';
import { maskText, secretNeedles } from '../../src/domain/secret-mask.ts';
import type { SecretFields } from '../../src/ports/rotation.ts';

/**
 * A run that may be a key nobody has told Warder of yet (a script that failed between making it and answering): long,
 * and with digits or both cases in it. Words are lost with them, which costs less than a key.
 */
const tokenLike = /[A-Za-z0-9+/_=.~%-]{12,}/g;
const looksMade = (run: string): boolean => /\d/.test(run) || (/[a-z]/.test(run) && /[A-Z]/.test(run));

/**
 * @param known secrets to mask in all their spellings
 * @returns one line of at most `most` characters, or undefined when nothing is left to show
 */
export const harmless = (
  text: string,
  known: readonly (SecretFields | undefined)[],
  most: number,
): string | undefined => {
  const secrets = known.flatMap((fields) => Object.values(fields ?? {}).map((one) => one.reveal()));
  const masked = maskText(secretNeedles(secrets), text)
    .replaceAll(tokenLike, (run) => (looksMade(run) ? '[redacted]' : run))
    .replaceAll(/[\p{C}\p{Zl}\p{Zp}\s]+/gu, ' ')
    .trim()
    .slice(0, most);
  return masked !== '' && isShowable(masked) ? masked : undefined;
};
