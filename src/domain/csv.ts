/** CSV (RFC 4180) that a spreadsheet can only read as text. */

/** What makes a spreadsheet take a cell for a formula, or ends its line; full-width too (OWASP, CSV injection). */
const startsFormula = /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/;

/** @returns the cell quoted; one that would start a formula gets an apostrophe before it */
export const csvCell = (value: string): string => {
  const safe = startsFormula.test(value) ? `'${value}` : value;
  return `"${safe.replaceAll('"', '""')}"`;
};

export const csvLine = (cells: readonly string[]): string => `${cells.map(csvCell).join(',')}\r\n`;
