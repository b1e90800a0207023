/** Lanes: whoever is slow keeps only itself waiting. */
import { expect, test } from '@jest/globals';
import { Lanes } from '../../../src/services/revocation/lanes.ts';

const limits = { perLane: 2, inAll: 4, waiting: 100 };
const soon = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('lanes that are slow and many leave room for one that is quick', async () => {
  const lanes = new Lanes(limits, () => undefined);
  const slow: (() => void)[] = [];
  for (let i = 0; i < 60; i += 1) {
    lanes.add(`slow ${i % 3}`, () => new Promise((resolve) => slow.push(resolve)));
  }
  let quick = 0;
  for (let i = 0; i < 20; i += 1) {
    lanes.add('quick', async () => {
      quick += 1;
    });
  }
  await soon();
  expect([slow.length, quick]).toEqual([4, 0]);
  // One of the slow ones ends, of all that wait.
  slow[0]?.();
  await soon();
  expect(quick).toBe(20);
});

test('there is never more at once than a lane, or all of them, may have', async () => {
  const lanes = new Lanes(limits, () => undefined);
  const running = new Map<string, number>();
  const most = { lane: 0, all: 0 };
  const count = (name: string, by: number): void => {
    running.set(name, (running.get(name) ?? 0) + by);
    most.lane = Math.max(most.lane, ...running.values());
    most.all = Math.max(
      most.all,
      [...running.values()].reduce((sum, one) => sum + one, 0),
    );
  };
  let done = 0;
  for (let i = 0; i < 100; i += 1) {
    const name = `lane ${i % 5}`;
    lanes.add(name, async () => {
      count(name, 1);
      await soon();
      count(name, -1);
      done += 1;
    });
  }
  await lanes.idle();
  expect({ done, most }).toEqual({ done: 100, most: { lane: 2, all: 4 } });
});
