/** The machine's own clock and randomness. */
import { randomFillSync } from 'node:crypto';
import type { Clock, Entropy } from '../src/ports/clock.ts';

/**
 * A clock that follows the wall but never goes back and never stands still: when the wall clock jumps back, time goes on
 * by the monotonic clock from where it was. A lease cannot be lengthened by setting the clock.
 * @param floor milliseconds since the epoch that time must not go back behind: the newest entry of the ledger
 */
export const systemClock = (floor: number): Clock => {
  let lead = Math.max(Date.now(), floor) - performance.now();
  return {
    now: () => {
      const monotonic = performance.now();
      const wall = Date.now();
      if (wall - monotonic > lead) lead = wall - monotonic;
      return Math.floor(lead + monotonic);
    },
  };
};

/** Randomness is drawn 4 KiB at a time: asking the kernel for each 10 bytes would cost more than using them. */
const poolBytes = 4096;
let pool = Buffer.alloc(0);
let used = 0;

export const systemEntropy: Entropy = (bytes) => {
  if (used + bytes > pool.length) {
    pool = randomFillSync(Buffer.allocUnsafeSlow(Math.max(poolBytes, bytes)));
    used = 0;
  }
  const taken = Uint8Array.from(pool.subarray(used, used + bytes));
  // What was given out must not be readable here afterwards.
  pool.fill(0, used, used + bytes);
  used += bytes;
  return taken;
};
