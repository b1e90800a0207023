/**
 * What comes from the broker was typed by somebody: a name, a reason, a header of a request. A terminal obeys control
 * characters, so none reaches it; characters that only reorder or hide others go too, or one record could look like
 * another.
 */
import { stripVTControlCharacters } from 'node:util';

// ESC and C1 introducers that stripVTControlCharacters leaves behind (a sequence cut off in the middle) are controls.
const unprintable = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

/** @returns one line a terminal shows as it is: tabs and line ends become a space, everything that steers is removed */
export const printable = (text: string): string =>
  stripVTControlCharacters(text.replaceAll(/[\t\n\v\f\r]+/g, ' ')).replaceAll(unprintable, '');

/** @returns the lines of a text, each as {@link printable} */
export const printableLines = (text: string): string[] => text.split(/\r?\n/).map(printable);

/**
 * JSON for a terminal: the same value, spelled without a character that a terminal might obey. `JSON.stringify` escapes
 * U+0000 to U+001F only; U+009B alone starts a control sequence.
 */
export const printableJson = (json: string): string =>
  json.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, (found) =>
    found === '\n'
      ? found
      : [...Array(found.length).keys()].map((i) => `\\u${found.charCodeAt(i).toString(16).padStart(4, '0')}`).join(''),
  );
