/** A disk that fails: nothing is acknowledged that is not kept, and the process is told that it must stop. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { repository, temporaryFolder } from '../adapters/stores/sqlite/temporary-store.ts';
import { shortOrLong } from '../support/length.ts';
import { run } from './child-process.ts';
import { checkLedger, type Told, told } from './ledger-check.ts';
import { canTrace, countCalls, needing, runInjected, syncs } from './strace.ts';

const committer = join(repository, 'test/faults/committer.ts');
let folder: ReturnType<typeof temporaryFolder>;
beforeAll(() => {
  folder = temporaryFolder();
});
afterAll(() => folder.remove());

interface End {
  inject: string;
  said: Told;
  opened: boolean;
  problems: string[];
}

/** Two at a time, each on a new database. */
const endsOf = async (injections: string[], ...args: string[]): Promise<End[]> => {
  const ends: End[] = [];
  const left = injections.map((inject, i) => ({
    inject,
    path: join(folder.path, `${i}-${Math.random()}`, 'warder.db'),
  }));
  const lane = async (): Promise<void> => {
    for (let one = left.shift(); one; one = left.shift()) {
      const child = runInjected(one.inject, committer, one.path, 'run', ...args);
      await child.ended;
      const said = told(child.lines);
      const { problems } = checkLedger(one.path, said);
      ends.push({ inject: one.inject, said, opened: child.lines.includes('open'), problems });
    }
  };
  await Promise.all([lane(), lane()]);
  return ends;
};

/** How many of these calls make a new database. */
const madeAfter = (calls: string): Promise<number> =>
  countCalls(
    calls,
    'open',
    committer,
    join(folder.path, `made-${Math.random()}`, 'warder.db'),
    'run',
    '1',
    '0',
    '0',
    'exit',
  );

const afterFatal = (said: Told): string[] => {
  const lastRefused = [...said.refused.values()].at(-1) ?? '';
  return said.fatal.length === 0 || lastRefused.startsWith('LedgerUnavailable') ? [] : [lastRefused];
};

(canTrace ? test : test.skip)(
  needing(canTrace, 'strace', 'a sync that fails with EIO is never acknowledged, and is said to be fatal'),
  async () => {
    // Once the database is made, syncs are of commits.
    const made = await madeAfter(syncs);
    const once = shortOrLong([1, 13], [1, 2, 5, 13]).map((n) => `${syncs}:error=EIO:when=${made + n}`);
    const fromThenOn = shortOrLong([6], [2, 6]).map((n) => `${syncs}:error=EIO:when=${made + n}+`);
    const ends = await endsOf([...once, ...fromThenOn], '8', '300', '200', 'close');
    expect(ends.filter((end) => !end.opened || end.problems.length > 0)).toEqual([]);
    // A process that is told goes on trying three times here: it is refused, whatever the disk does by then.
    expect(ends.filter((end) => end.said.fatal.length !== 1 || afterFatal(end.said).length > 0)).toEqual([]);
    for (const end of ends) expect(end.said.acknowledged.size).toBeLessThan(200);
  },
  60_000,
);

(canTrace ? test : test.skip)(
  needing(canTrace, 'strace', 'a sync that fails while the log is emptied into the file loses nothing'),
  async () => {
    const made = await madeAfter(syncs);
    const ends = await endsOf(
      shortOrLong([26], [25, 26, 27]).map((n) => `${syncs}:error=EIO:when=${made + n}`),
      '16',
      '300',
      '65536',
      'close',
    );
    expect(ends.filter((end) => !end.opened || end.problems.length > 0)).toEqual([]);
  },
  60_000,
);

(canTrace ? test : test.skip)(
  needing(canTrace, 'strace', 'a sync that fails while the database is made leaves one that can be opened'),
  async () => {
    const ends = await endsOf(
      shortOrLong([1, 5], [1, 4, 5, 7]).map((n) => `${syncs}:error=EIO:when=${n}`),
      '1',
      '1',
      '0',
      'exit',
    );
    expect(ends.filter((end) => end.problems.length > 0)).toEqual([]);
    expect(ends.filter((end) => end.opened).map((end) => end.inject)).toEqual([]);
  },
  60_000,
);

(canTrace ? test : test.skip)(
  needing(canTrace, 'strace', 'a write that fails with EIO is never acknowledged, and is said to be fatal'),
  async () => {
    const made = await madeAfter('pwrite64');
    const ends = await endsOf(
      shortOrLong([32], [11, 32, 121]).map((n) => `pwrite64:error=EIO:when=${made + n}`),
      '8',
      '300',
      '200',
      'exit',
    );
    expect(ends.filter((end) => end.problems.length > 0)).toEqual([]);
    expect(ends.filter((end) => !end.opened || end.said.fatal.length !== 1)).toEqual([]);
  },
  60_000,
);

(canTrace ? test : test.skip)(
  needing(
    canTrace,
    'strace',
    'a write that fails for want of space is refused, and the ledger goes on when there is some',
  ),
  async () => {
    const made = await madeAfter('pwrite64');
    const ends = await endsOf(
      shortOrLong([[24], [41, 51]], [[11], [24], [41, 51], [121]]).map(
        (some) => `pwrite64:error=ENOSPC:when=${some.map((n) => made + n).join('..')}`,
      ),
      '8',
      '300',
      '200',
      'close',
    );
    expect(ends.filter((end) => end.problems.length > 0)).toEqual([]);
    for (const { said } of ends) {
      expect(said.fatal).toEqual([]);
      expect(said.refused.size).toBeGreaterThan(0);
      expect([...said.refused.values()].filter((why) => !why.includes('SQLITE_FULL'))).toEqual([]);
      expect(said.acknowledged.size + said.refused.size).toBe(300);
      // What was refused was rolled back: the last to be tried came after it and was acknowledged.
      expect([...said.acknowledged.keys()].at(-1)).toMatch(/-29\d$/);
    }
  },
  60_000,
);

test('a file that may not grow (ulimit -f) is never acknowledged past its limit, and is said to be fatal', async () => {
  const path = join(folder.path, 'limited', 'warder.db');
  // 512-byte blocks: 2 MiB. The system answers EFBIG, which SQLite calls an I/O error.
  const limited = `ulimit -f 4096; exec "$0" "$@"`;
  const child = run('sh', ['-c', limited, process.execPath, committer, path, 'run', '8', '3000', '2000', 'exit']);
  await child.ended;
  const said = told(child.lines);
  expect(said.acknowledged.size).toBeGreaterThan(10);
  expect(said.acknowledged.size).toBeLessThan(3000);
  expect(said.fatal).toHaveLength(1);
  expect(checkLedger(path, said).problems).toEqual([]);
});
