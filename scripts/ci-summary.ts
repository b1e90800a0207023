/**
 * Reads the reports that `jest --json --outputFile` wrote, a later one standing for the files it ran again.
 *
 *     ci-summary.ts --failed FIRST.json          prints the test files that failed, one a line
 *     ci-summary.ts FIRST.json [AGAIN.json]      names what passed only when it was run again, and as the last line
 *                                                prints `N passed, N failed`, with `, N skipped` where some were
 *
 * The summary exits 1 when anything failed or nothing passed, a missing report included.
 */
import { existsSync, readFileSync } from 'node:fs';
import { relative } from 'node:path';
import { z } from 'zod';

/** The fields used of Jest's report (jestjs.io/docs/cli, `--json`). */
const report = z.object({
  testResults: z.array(
    z.object({
      name: z.string(),
      status: z.string(),
      assertionResults: z.array(z.object({ status: z.string(), fullName: z.string() })),
    }),
  ),
});
type FileResult = z.infer<typeof report>['testResults'][number];

const read = (path: string | undefined): FileResult[] =>
  path !== undefined && existsSync(path) ? report.parse(JSON.parse(readFileSync(path, 'utf8'))).testResults : [];

const hasFailed = (file: FileResult): boolean => file.status === 'failed';

const summarise = (first: FileResult[], again: FileResult[]): void => {
  const files = new Map([...first, ...again].map((file) => [file.name, file]));
  for (const file of first) {
    if (!hasFailed(file) || hasFailed(files.get(file.name) ?? file)) continue;
    for (const test of file.assertionResults.filter(({ status }) => status === 'failed')) {
      console.log(`passed only when run again: ${relative(process.cwd(), file.name)}: ${test.fullName}`);
    }
  }
  const all = [...files.values()];
  const count = (...statuses: string[]): number =>
    all.flatMap((file) => file.assertionResults).filter(({ status }) => statuses.includes(status)).length;
  // A file that does not even load has no tests to count as failed, and must count all the same.
  const unloadable = all.filter(
    (file) => hasFailed(file) && file.assertionResults.every((test) => test.status !== 'failed'),
  );
  const passed = count('passed');
  const failed = count('failed') + unloadable.length;
  const skipped = count('pending', 'skipped', 'todo', 'disabled');
  console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
  process.exitCode = passed > 0 && failed === 0 ? 0 : 1;
};

const [first, second] = process.argv.slice(2);
if (first === '--failed') {
  for (const file of read(second).filter(hasFailed)) console.log(relative(process.cwd(), file.name));
} else summarise(read(first), read(second));
