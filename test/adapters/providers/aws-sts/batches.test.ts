/** Work on one document: never two at once, and nobody's item is lost. */
import { expect, test } from '@jest/globals';
import { openBatches } from '../../../../adapters/providers/aws-sts/batches.ts';
import { pause } from '../../../support/eventually.ts';

const patient = (): AbortSignal => new AbortController().signal;

test('what arrives while work runs shares the next piece of work', async () => {
  const seen: (readonly number[])[] = [];
  const batches = openBatches<number>(async (_key, items) => {
    seen.push(items);
    await pause(20);
  });
  await Promise.all(Array.from({ length: 100 }, (_, i) => batches.add('role', i, patient())));
  expect(seen).toEqual([[0], Array.from({ length: 99 }, (_, i) => i + 1)]);
});

test('work for one key is never at work twice, and other keys do not wait for it', async () => {
  let [atWork, most] = [0, 0];
  const done: string[] = [];
  const batches = openBatches<number>(async (key) => {
    if (key === 'slow') atWork += 1;
    most = Math.max(most, atWork);
    await pause(key === 'slow' ? 60 : 5);
    if (key === 'slow') atWork -= 1;
    done.push(key);
  });
  await Promise.all(['slow', 'slow', 'quick', 'slow'].map((key, i) => batches.add(key, i, patient())));
  expect([most, done[0]]).toEqual([1, 'quick']);
});

test('a failure is told to those who shared the work, and the next ones try anew', async () => {
  let calls = 0;
  const batches = openBatches<number>(async () => {
    calls += 1;
    await pause(5);
    if (calls === 1) throw new Error('no');
  });
  const first = batches.add('role', 1, patient());
  const second = batches.add('role', 2, patient());
  await expect(first).rejects.toThrow('no');
  await expect(second).resolves.toBeUndefined();
});

test('who goes leaves the others’ work alone; when all have gone it is aborted and the next begins', async () => {
  const signals: AbortSignal[] = [];
  const batches = openBatches<number>((_key, _items, signal) => {
    signals.push(signal);
    return new Promise((resolve, reject) => {
      if (signals.length > 2) resolve();
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  });
  const [one, two, three] = [new AbortController(), new AbortController(), new AbortController()];
  const first = batches.add('role', 1, one.signal);
  const [second, third] = [batches.add('role', 2, two.signal), batches.add('role', 3, three.signal)];
  one.abort(new Error('gone'));
  await expect(first).rejects.toThrow('gone');
  await pause(5);
  two.abort(new Error('gone too'));
  await expect(second).rejects.toThrow('gone too');
  expect([signals.length, signals[1]?.aborted]).toEqual([2, false]);
  three.abort(new Error('gone at last'));
  await expect(third).rejects.toThrow('gone at last');
  expect(signals[1]?.aborted).toBe(true);
  await batches.add('role', 4, patient());
  expect(signals).toHaveLength(3);
});

test('who is gone before it begins is not worked for', async () => {
  const seen: (readonly number[])[] = [];
  const batches = openBatches<number>(async (_key, items) => {
    seen.push(items);
    await pause(10);
  });
  const gone = new AbortController();
  const first = batches.add('role', 1, patient());
  const second = batches.add('role', 2, gone.signal);
  gone.abort(new Error('gone'));
  await expect(second).rejects.toThrow('gone');
  await expect(batches.add('role', 3, gone.signal)).rejects.toThrow('gone');
  await first;
  await pause(5);
  expect(seen).toEqual([[1]]);
});
