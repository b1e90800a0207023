/** The one table the bench prints. */
export interface Row {
  what: string;
  /** What was measured, with its unit. */
  value: string;
  /** Against what, and the ratio or difference; empty where the value speaks for itself. */
  against: string;
  bar: string;
  met: boolean | null;
  /** The bare numbers, for the JSON output. */
  numbers: Record<string, number>;
}

export const table = (rows: readonly Row[]): string => {
  const lines = [
    ['what', 'measured', 'against', 'bar', ''],
    ...rows.map((row) => [
      row.what,
      row.value,
      row.against,
      row.bar,
      row.met === null ? '' : row.met ? 'met' : 'MISSED',
    ]),
  ];
  const widths = [0, 1, 2, 3, 4].map((column) => Math.max(...lines.map((line) => (line[column] ?? '').length)));
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
};

export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
};
