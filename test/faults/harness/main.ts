/** `npm run test:faults`: the long form, on a terminal. What it does and prints is in docs/testing.md. */
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { runLongForms } from './long-forms.ts';
import { reportOf } from './report.ts';
import { runHarness } from './run.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: String(randomInt(2 ** 31)) },
    points: { type: 'string', default: '200' },
    operations: { type: 'string', default: '10000' },
    lanes: { type: 'string', default: '2' },
    /** Without the long forms of other tests. */
    'harness-only': { type: 'boolean', default: false },
  },
});
const options = {
  seed: Number(values.seed),
  points: Number(values.points),
  operations: Number(values.operations),
  lanes: Number(values.lanes),
};
const longestLife = { syncs: 160, ms: 1_800 };
if (!Object.values(options).every((value) => Number.isSafeInteger(value) && value >= 0)) {
  console.error('--seed, --points, --operations and --lanes take whole numbers');
  process.exit(2);
}

const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());

const { seed } = options;
console.log(`seed ${seed}; the same plan again: npm run test:faults -- --seed ${seed}`);
const began = performance.now();
const { figures, untraced, kept } = await runHarness({
  ...options,
  longestLife,
  tried: 24,
  signal: interrupted.signal,
  onLife: ({ points, operations, findings, readyMs }, life) =>
    console.log(
      `life ${life}: ready after ${Math.round(readyMs.at(-1) ?? 0)} ms; ${points} points, ${operations} operations, ${findings.length} findings`,
    ),
});
console.log(`\n${reportOf(figures, seed, (performance.now() - began) / 1000)}`);
if (untraced !== undefined) console.log(`no kills at syncs: ${untraced}`);
for (const dataDir of kept) console.log(`left to be looked at: ${dataDir}`);
const enough = figures.points >= options.points && figures.operations >= options.operations;
if (!enough) console.log('it ended early: that proves nothing');

let fine = enough && figures.findings.length === 0;
if (!values['harness-only'] && !interrupted.signal.aborted) {
  console.log('\nthe long forms of the tests that npm test has a short form of:');
  fine = (await runLongForms(interrupted.signal)) && fine;
}
process.exitCode = fine ? 0 : 1;
