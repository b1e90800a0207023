import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { csvCell, csvLine } from '../../src/domain/csv.ts';

/** RFC 4180, strictly: quoted fields only, CRLF between records. */
const parse = (text: string): string[][] => {
  const records: string[][] = [];
  let record: string[] = [];
  let at = 0;
  while (at < text.length) {
    if (text[at] !== '"') throw new Error(`an unquoted field at ${at}`);
    let value = '';
    for (at += 1; ; at += 1) {
      if (at >= text.length) throw new Error('an open quote');
      if (text[at] !== '"') value += text[at];
      else if (text[at + 1] === '"') {
        value += '"';
        at += 1;
      } else break;
    }
    record.push(value);
    at += 1;
    if (text.startsWith('\r\n', at)) {
      records.push(record);
      record = [];
      at += 2;
    } else if (text[at] === ',') at += 1;
    else throw new Error(`neither comma nor end at ${at}`);
  }
  return records;
};

const nasty = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 30 }),
  fc.string({ unit: fc.constantFrom(...'=+-@\t\r\n",;|\'＝＋－＠ aA1{}()!'), maxLength: 12 }),
);

describe('a cell', () => {
  test.each([
    '=1+1',
    '+1',
    '-1',
    '@SUM(A1)',
    '\t=1',
    '\r=1',
    '\n=1',
    '＝1',
    '＋1',
    '－1',
    '＠1',
    '=HYPERLINK("http://x")',
  ])('that begins like a formula (%j) begins with an apostrophe', (value) => {
    expect(csvCell(value)).toBe(`"'${value.replaceAll('"', '""')}"`);
  });

  test('never begins like a formula, and says what it said', () => {
    fc.assert(
      fc.property(fc.array(nasty, { minLength: 1, maxLength: 6 }), (cells) => {
        const [read, ...rest] = parse(csvLine(cells));
        expect(rest).toEqual([]);
        expect(read?.map((cell, i) => (cell === cells[i] ? cell : cell.replace(/^'/, '')))).toEqual(cells);
        for (const cell of read ?? []) expect(cell).not.toMatch(/^[=+\-@\t\r\n＝＋－＠]/);
      }),
      { numRuns: 2000 },
    );
  });

  test('cannot end its record or its file: each line is one record whatever is in it', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(nasty, nasty), { maxLength: 5 }), (lines) => {
        expect(parse(lines.map(csvLine).join(''))).toHaveLength(lines.length);
      }),
    );
  });
});
