import { expect, test } from '@jest/globals';
import { runOn } from './harness.ts';

test('a rotation that does not get on is not waited for for ever', async () => {
  const keys = {
    kms: 'local:root.key',
    sealed: false,
    key_encryption_keys: [
      { number: 1, state: 'previous', boxes: 3 },
      { number: 2, state: 'current', boxes: 9 },
    ],
    signing_keys: [],
  };
  const routes = { 'POST keys/rotate': { status: 201, body: { number: 2 } }, 'GET keys': { body: keys } };
  // Half a minute passes between one look at the clock and the next.
  let now = 0;
  const clock = (): number => {
    now += 30_000;
    return now;
  };
  const { code, out, err } = await runOn(routes, ['key', 'rotate', '--wait'], { context: { now: clock } });
  expect([code, out]).toEqual([1, '']);
  expect(err).toContain('3 stay under older keys');
});
