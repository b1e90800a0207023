/**
 * Patterns that operators write for claims and subjects: `*` stands for any run of characters without `/` and `:`, `**`
 * for any run at all; everything else is itself. No regular expressions: matching takes time in proportion to pattern
 * times text, whatever the two are.
 */

/** Longer patterns and texts match nothing: the product of the two is what a match costs. */
export const maxPatternLength = 500;
export const maxTextLength = 2000;

type Piece = { any: 'segment' | 'all' } | { text: string };

const piecesOf = (pattern: string): Piece[] =>
  pattern
    .split(/(\*+)/)
    .filter((part) => part !== '')
    .map((part): Piece => {
      if (!part.startsWith('*')) return { text: part };
      return { any: part.length === 1 ? 'segment' : 'all' };
    });

/** @returns whether the pattern says anything: one of stars alone would let everybody through */
export const isGlob = (pattern: string): boolean =>
  pattern.length <= maxPatternLength && /[^*]/.test(pattern) && !pattern.includes('***');

/** @returns whether the whole text is what the pattern describes; case counts */
export const globMatches = (pattern: string, text: string): boolean => {
  if (!isGlob(pattern) || text.length > maxTextLength) return false;
  if (!pattern.includes('*')) return pattern === text;
  // The places in the text that could be reached by the pieces so far: each piece is one pass over them.
  let reached = new Uint8Array(text.length + 1);
  reached[0] = 1;
  for (const piece of piecesOf(pattern)) {
    const next = new Uint8Array(text.length + 1);
    if ('text' in piece) {
      for (let at = 0; at <= text.length; at += 1) {
        if (reached[at] === 1 && text.startsWith(piece.text, at)) next[at + piece.text.length] = 1;
      }
    } else {
      let open = false;
      for (let at = 0; at <= text.length; at += 1) {
        if (open && piece.any === 'segment' && at > 0 && '/:'.includes(text.charAt(at - 1))) open = false;
        if (reached[at] === 1) open = true;
        if (open) next[at] = 1;
      }
    }
    reached = next;
  }
  return reached[text.length] === 1;
};
