/** The figures of a run, for people. */
import { type Figures, type Invariant, invariants, type Tally } from './findings.ts';

const atShare = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;

const times = (ms: readonly number[]): string => {
  const sorted = [...ms].sort((a, b) => a - b);
  const [median, most, longest] = [0.5, 0.95, 1].map((share) => Math.round(atShare(sorted, share)));
  return `median ${median} ms, 95 of 100 within ${most} ms, longest ${longest} ms`;
};

const table = (tally: Tally): string[] =>
  tally.entries().map(([name, count]) => `  ${String(count).padStart(8)}  ${name}`);

export const reportOf = (figures: Figures, seed: number, seconds: number): string => {
  const found = (invariant: Invariant): number => figures.findings.filter((one) => one.invariant === invariant).length;
  const lines = [
    `seed ${seed}, ${Math.round(seconds)} s`,
    '',
    `issues, rotations and revocations: ${figures.operations}`,
    'answered with success',
    ...table(figures.done),
    'refused, or failed because the upstream was in trouble',
    ...table(figures.refused),
    `  ${String(figures.unanswered).padStart(8)}  without an answer, as the broker died`,
    '',
    `points at which it was killed: ${figures.points}`,
    ...table(figures.kills),
    '',
    `restarts: ${figures.readyMs.length}`,
    `  ready after: ${times(figures.readyMs)}`,
    `  everything upstream right after: ${times(figures.quietMs)}`,
    '',
    'checked, by invariant',
    ...table(figures.checked),
    '',
    'findings by invariant',
    ...Object.entries(invariants).map(([number, text]) => {
      const count = found(Number(number) as Invariant);
      return `  ${String(count).padStart(8)}  ${number}: ${text}`;
    }),
    ...figures.findings.slice(0, 50).map(({ invariant, at, what }) => `FOUND ${invariant} in life ${at}: ${what}`),
  ];
  return lines.join('\n');
};
