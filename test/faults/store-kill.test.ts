/** kill -9: whatever was acknowledged is there afterwards, whole, and nothing is there by half. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { repository, temporaryFolder } from '../adapters/stores/sqlite/temporary-store.ts';
import { shortOrLong } from '../support/length.ts';
import { type Child, runScript } from './child-process.ts';
import { checkLedger, merged, type Told, told } from './ledger-check.ts';
import { canTrace, countCalls, needing, runInjected, syncs } from './strace.ts';

const committer = join(repository, 'test/faults/committer.ts');
let folder: ReturnType<typeof temporaryFolder>;
beforeAll(() => {
  folder = temporaryFolder();
});
afterAll(() => folder.remove());

const nothing = told([]);
const forever = '1000000';

/** @returns what the killed process said, and what is wrong with what it left */
const afterItsEnd = async (child: Child, databasePath: string, before: Told) => {
  const { signal, code, errors } = await child.ended;
  const said = merged(before, told(child.lines));
  const how = { killed: signal === 'SIGKILL' || code === 137, errors, last: child.lines.at(-1) };
  return { said, how, check: checkLedger(databasePath, said) };
};

/** Of each of two lanes. */
const lives = shortOrLong(4, 12);

test(`killed at ${2 * lives} random moments, it has lost nothing it acknowledged and kept no half changeset`, async () => {
  // Two directories at a time. Each goes through several lives; the first moments of a new one are among them.
  const lane = async (name: string): Promise<number> => {
    let said = nothing;
    let path = '';
    for (let life = 0; life < lives; life += 1) {
      if (life % 4 === 0) {
        said = nothing;
        path = join(folder.path, `${name}-${life}`, 'warder.db');
      }
      const child = runScript(committer, path, `${name}${life}`, '16', forever, '200', 'exit');
      // In every fourth life the moment may fall before or while the database is made, otherwise between commits.
      if (life % 4 !== 0) await child.line('ack');
      await new Promise((resolve) => setTimeout(resolve, Math.random() * (life % 4 === 0 ? 600 : 150)));
      child.process.kill('SIGKILL');
      const end = await afterItsEnd(child, path, said);
      expect(end.how).toMatchObject({ killed: true, errors: '' });
      expect(end.check.problems).toEqual([]);
      said = end.said;
    }
    return said.acknowledged.size;
  };
  const acknowledged = await Promise.all([lane('a'), lane('b')]);
  for (const count of acknowledged) expect(count).toBeGreaterThan(10);
}, 120_000);

// Some syncs make a new database, then each batch syncs once. With 64 KiB in each changeset the log is emptied into the
// file after some 240 of them: about the 26th of these syncs is of the log again, the next of the file.
const whileMade = shortOrLong([2, 7], [1, 2, 3, 4, 5, 6, 7]);
const after = shortOrLong([2, 13, 26, 27], [1, 2, 4, 13, 25, 26, 27, 28]);
(canTrace ? test : test.skip)(
  needing(canTrace, 'strace', 'killed as it syncs for the N-th time, it has lost nothing it acknowledged'),
  async () => {
    const made = await countCalls(
      syncs,
      'open',
      committer,
      join(folder.path, 'made', 'warder.db'),
      'run',
      '1',
      '0',
      '0',
      'exit',
    );
    const moments = [...whileMade, ...after.map((at) => made + at)];
    const ends: { at: number; killed: boolean; problems: string[] }[] = [];
    const lane = async (): Promise<void> => {
      for (let at = moments.shift(); at !== undefined; at = moments.shift()) {
        const path = join(folder.path, `sync-${at}`, 'warder.db');
        const inject = `${syncs}:signal=SIGKILL:when=${at}`;
        const child = runInjected(inject, committer, path, 'run', '16', '500', '65536', 'exit');
        const end = await afterItsEnd(child, path, nothing);
        ends.push({ at, killed: end.how.killed, problems: end.check.problems });
      }
    };
    await Promise.all([lane(), lane()]);
    expect(ends.filter((end) => !end.killed || end.problems.length > 0)).toEqual([]);
  },
  120_000,
);
