/** A disk that is really full: refusal, no loss, and on with it when there is room again. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { repository, temporaryFolder } from '../adapters/stores/sqlite/temporary-store.ts';
import { run } from './child-process.ts';
import { canMount, needing } from './strace.ts';

let folder: ReturnType<typeof temporaryFolder>;
beforeAll(() => {
  folder = temporaryFolder();
});
afterAll(() => folder.remove());

(canMount ? test : test.skip)(
  needing(
    canMount,
    'unshare -rm with a tmpfs',
    'a full disk refuses, keeps what was acknowledged, and goes on with room',
  ),
  async () => {
    const mounted = 'mount -t tmpfs -o size=8m none "$1" && exec "$2" "$3" "$1"';
    const script = join(repository, 'test/faults/full-disk.ts');
    const child = run('unshare', ['-rm', 'sh', '-c', mounted, 'sh', folder.path, process.execPath, script]);
    const { errors } = await child.ended;
    expect(errors).toBe('');
    const report = JSON.parse(child.lines.at(-1) ?? '{}');
    expect(report.problems).toEqual([]);
    expect(report.rounds).toBe(16);
    expect(report.refused).toBeGreaterThanOrEqual(16);
    expect(report.slowestRefusalMs).toBeLessThan(2000);
    // A full disk may be fatal where SQLite cannot tell it from a failing one; as a rule it passes.
    expect(report.wentOn).toBeGreaterThanOrEqual(12);
    expect(report.wentOn + report.fatal.length).toBe(16);
    // Nothing else was there: what is refused for want of room is rolled back.
    expect(report.kept).toBe(report.acknowledged);
  },
  60_000,
);
