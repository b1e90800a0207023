/** Waiting for what happens in the background, without guessing how long it takes. */

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Asks again until the answer is good.
 * @throws Error with the last answer when that takes longer than `withinMs`
 */
export const eventually = async <T>(
  what: string,
  ask: () => Promise<T> | T,
  good: (answer: T) => boolean,
  withinMs = 8_000,
): Promise<T> => {
  const began = performance.now();
  for (;;) {
    const answer = await ask();
    if (good(answer)) return answer;
    if (performance.now() - began > withinMs) {
      throw new Error(
        `not within ${withinMs} ms: ${what}; the last answer was ${JSON.stringify(answer)?.slice(0, 2000)}`,
      );
    }
    await pause(10);
  }
};
