/** For services that know a new secret only some moments after they made it. */
import { setTimeout as pause } from 'node:timers/promises';
import { ProviderFailure } from '../../src/ports/provider.ts';

const firstPauseMs = 200;
const longestPauseMs = 2_000;

/**
 * Tries again while the answer is that the secret is not valid.
 * @param patienceMs how long a new secret may take to be known; then a refusal is believed
 * @throws ProviderFailure the last refusal when it was believed; `timeout` when the signal came first: then it is in doubt
 */
export const patiently = async (patienceMs: number, signal: AbortSignal, test: () => Promise<void>): Promise<void> => {
  const began = performance.now();
  for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
    try {
      return await test();
    } catch (error) {
      if (!(error instanceof ProviderFailure) || error.kind !== 'refused') throw error;
      if (performance.now() - began + pauseMs > patienceMs) throw error;
    }
    try {
      await pause(pauseMs, undefined, { signal });
    } catch (cause) {
      throw new ProviderFailure('timeout', 'the new secret was not accepted in the time there was', { cause });
    }
  }
};
