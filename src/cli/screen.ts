/** What people see: tables without borders, colours on a terminal only, progress on standard error. */
import { styleText } from 'node:util';
import Table from 'cli-table3';
import type { Context, Output } from './context.ts';
import { printable, printableJson } from './sanitise.ts';

export type Style = Parameters<typeof styleText>[0];
export type Paint = (style: Style, text: string) => string;

/** Colours where somebody looks at them and has not said NO_COLOR (no-color.org: set and not empty). */
export const paintFor =
  (stream: Output, env: Context['env']): Paint =>
  (style, text) =>
    stream.isTTY && !env['NO_COLOR'] && env['TERM'] !== 'dumb'
      ? styleText(style, text, { validateStream: false })
      : text;

const noBorders = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '',
};

/** @returns lines, columns aligned, no white space at their ends; a head of [] makes none */
export const tableLines = (head: readonly string[], rows: readonly (readonly string[])[]): string[] => {
  const table = new Table({
    chars: noBorders,
    style: { 'padding-left': 0, 'padding-right': 2, head: [], border: [], compact: true },
    ...(head.length > 0 ? { head: [...head] } : {}),
  });
  for (const row of rows) table.push(row.map((cell) => cell || '-'));
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd());
};

const statusStyles: Record<string, Style> = {
  active: 'green',
  current: 'green',
  done: 'green',
  suspended: 'yellow',
  intended: 'yellow',
  refused: 'yellow',
  revoked: 'red',
  unrevocable: 'redBright',
};

/** `2026-11-22T10:00:00.000Z` → `2026-11-22 10:00:00Z`; what is no such time is shown as it is. */
export const shownTime = (iso: string): string => iso.replace(/^(\S+)T(\d\d:\d\d:\d\d)(?:\.\d+)?Z$/, '$1 $2Z');

/** Seconds as people write them: `900` → `15m`, `5400` → `1h30m`. */
export const shownDuration = (seconds: number | undefined): string => {
  if (seconds === undefined) return '';
  let rest = seconds;
  let text = '';
  for (const [unit, size] of Object.entries({ d: 86_400, h: 3600, m: 60, s: 1 })) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) text += `${count}${unit}`;
  }
  return text || '0s';
};

/** Separates thousands, so that a million can be told from a hundred thousand. */
export const shownCount = (count: number): string => String(count).replaceAll(/\B(?=(?:\d{3})+$)/g, ',');

export interface Screen {
  readonly paint: Paint;
  /** A line on standard output. What comes from the broker is made printable where it is read (fields.ts). */
  line(text?: string): void;
  /** A line on standard error: hints, progress, warnings. */
  note(text: string): void;
  table(head: readonly string[], rows: readonly (readonly string[])[]): void;
  /** A name and its value on each line; pairs without a value are left out. */
  pairs(pairs: readonly (readonly [string, string | undefined])[]): void;
  status(text: string): string;
  /** The body of an answer: byte for byte, except to a terminal, which gets no character it might obey. */
  json(body: Uint8Array): void;
}

export const screenOf = ({ stdout, stderr, env }: Pick<Context, 'stdout' | 'stderr' | 'env'>): Screen => {
  const paint = paintFor(stdout, env);
  const line = (text = ''): void => void stdout.write(`${text}\n`);
  return {
    paint,
    line,
    note: (text) => void stderr.write(`${printable(text)}\n`),
    table: (head, rows) =>
      tableLines(
        head.map((name) => paint('dim', name)),
        rows,
      ).forEach(line),
    pairs: (pairs) =>
      tableLines(
        [],
        pairs.flatMap(([name, value]) => (value ? [[paint('dim', name), value]] : [])),
      ).forEach(line),
    status: (text) => (Object.hasOwn(statusStyles, text) ? paint(statusStyles[text] ?? 'reset', text) : text),
    json: (body) => {
      if (!stdout.isTTY) stdout.write(body);
      else if (body.length > 0) line(printableJson(Buffer.from(body).toString('utf8')));
    },
  };
};

/** Ten times a second looks like motion; plain lines in a log would be a flood at that rate. */
const terminalIntervalMs = 100;
const plainIntervalMs = 5000;

export interface Progress {
  /** Shows the text soon, unless a newer one comes first. */
  show(text: () => string): void;
  /** Takes the line away, if there is one. */
  end(): void;
}

/** One line that moves on a terminal, a line now and then elsewhere; both on standard error. */
export const progressOn = (stderr: Output, now: () => number): Progress => {
  const interval = stderr.isTTY ? terminalIntervalMs : plainIntervalMs;
  let shownAt = now();
  let open = false;
  return {
    show: (text) => {
      if (now() - shownAt < interval) return;
      shownAt = now();
      open = stderr.isTTY === true;
      stderr.write(open ? `\r\x1b[K${printable(text())}` : `${printable(text())}\n`);
    },
    end: () => {
      if (open) stderr.write('\r\x1b[K');
      open = false;
    },
  };
};
