/** Text that somebody else chose, as one line in which every character is seen. */

/** Controls, characters that only reorder, hide or join others, separators of lines, and halves of characters. */
const unseen = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

/** @returns the text on one line; what cannot be seen is shown as the replacement character, so that it is missed by nobody */
export const visibleLine = (text: string): string =>
  text.replaceAll(/[\t\n\v\f\r]+/g, ' ').replaceAll(unseen, '\ufffd');
