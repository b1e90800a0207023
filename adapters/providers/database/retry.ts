/** Trying again what lost a race, a bounded number of times. */
import { setTimeout as pause } from 'node:timers/promises';

const tries = 6;
const firstPauseMs = 5;

/** @throws what the last try threw, at once when `again` says that another would not help */
export const retrying = async <T>(
  signal: AbortSignal,
  again: (error: unknown) => boolean,
  work: () => Promise<T>,
): Promise<T> => {
  for (let tried = 1; ; tried += 1) {
    try {
      return await work();
    } catch (error) {
      if (tried === tries || signal.aborted || !again(error)) throw error;
      // At random, or the same ones meet again.
      await pause(firstPauseMs * 2 ** tried * Math.random(), undefined, { signal });
    }
  }
};
