/**
 * The last line of `.ci/run`: reads the file that `jest --json --outputFile` wrote and prints `N passed, N failed`,
 * with `, N skipped` where some were. Exits 1 when anything failed or nothing passed, a missing report included.
 */
import { existsSync, readFileSync } from 'node:fs';
import { z } from 'zod';

const count = z.int().nonnegative();
/** The fields used of Jest's `AggregatedResult` (jestjs.io/docs/cli, `--json`). */
const report = z.object({
  success: z.boolean(),
  numPassedTests: count,
  numFailedTests: count,
  numPendingTests: count,
  numTodoTests: count,
  numRuntimeErrorTestSuites: count,
});

const path = process.argv[2];
const run = path !== undefined && existsSync(path) ? report.parse(JSON.parse(readFileSync(path, 'utf8'))) : undefined;

const passed = run?.numPassedTests ?? 0;
// A file that does not even load has no tests to count as failed, and must count all the same.
const failed = (run?.numFailedTests ?? 0) + (run?.numRuntimeErrorTestSuites ?? 0);
const skipped = (run?.numPendingTests ?? 0) + (run?.numTodoTests ?? 0);

console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
process.exitCode = run?.success && passed > 0 && failed === 0 ? 0 : 1;
