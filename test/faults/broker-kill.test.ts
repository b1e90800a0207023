/**
 * kill -9 of a broker at work: the short form of `npm run test:faults` (harness/), which goes on for two hundred kills
 * and ten thousand operations.
 */
import { randomInt } from 'node:crypto';
import { afterAll, expect, test } from '@jest/globals';
import { removeTemporaryDirs } from '../support/broker.ts';
import { canAttach } from './harness/kills.ts';
import { chanceOf } from './harness/random.ts';
import { runHarness } from './harness/run.ts';

/** Ends a run that takes too long, and what it started. */
const interrupted = new AbortController();
let run: ReturnType<typeof runHarness> | undefined;
afterAll(async () => {
  interrupted.abort();
  await run?.catch(() => undefined);
  removeTemporaryDirs();
}, 60_000);

const moments = (await canAttach()) ? 'at random moments and as it syncs' : 'at random moments (no strace here)';

test(`killed a dozen times, ${moments}, a broker keeps what it promised of crashes`, async () => {
  const seed = randomInt(2 ** 31);
  const longestLife = { syncs: 60, ms: 600 };
  const { signal } = interrupted;
  run = runHarness({ seed, points: 12, operations: 100, lanes: 2, longestLife, tried: 8, signal });
  const { figures } = await run;
  expect({ seed, findings: figures.findings }).toEqual({ seed, findings: [] });
  // That nothing was found means something only where there was something to find.
  const checked = ['1 delivered and recorded', '2 alive and let through', '2 revocations', '11 accounts upstream'];
  for (const name of checked) expect([name, figures.checked.get(name) > 0]).toEqual([name, true]);
}, 120_000);

test('the plan of a run can be had again by its seed', () => {
  const drawn = (seed: number): unknown[] => {
    const chance = chanceOf(seed).fork('lane 0');
    return [chance.next(), chance.between(1, 70), chance.pick([1, 2, 3]), chance.sample([1, 2, 3, 4], 2)];
  };
  expect(drawn(7)).toEqual(drawn(7));
  expect(drawn(7)).not.toEqual(drawn(8));
});
