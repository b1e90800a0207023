/**
 * One piece of work at a time for each key; what arrives while it runs shares the next one. For a document that is read,
 * changed and written back: two at once would lose what one of them wrote.
 */
export interface Batches<T> {
  /**
   * @param signal ends the wait of this caller; when all who share a piece of work have gone, the work is aborted
   * @returns when the work that took this item in is done; rejects as it does, or with the signal's reason
   */
  add(key: string, item: T, signal: AbortSignal): Promise<void>;
}

interface Waiting<T> {
  item: T;
  signal: AbortSignal;
  resolve(): void;
  reject(error: unknown): void;
}

/** @param work is given at least one item, never while it is still at work for the same key */
export const openBatches = <T>(
  work: (key: string, items: readonly T[], signal: AbortSignal) => Promise<void>,
): Batches<T> => {
  const lanes = new Map<string, Waiting<T>[]>();

  const runOne = async (key: string, batch: readonly Waiting<T>[]): Promise<void> => {
    const stop = new AbortController();
    const goneToo = (): void => {
      if (batch.every(({ signal }) => signal.aborted)) stop.abort();
    };
    for (const { signal } of batch) signal.addEventListener('abort', goneToo, { once: true });
    try {
      await work(
        key,
        batch.map(({ item }) => item),
        stop.signal,
      );
      for (const one of batch) one.resolve();
    } catch (error) {
      for (const one of batch) one.reject(error);
    } finally {
      for (const { signal } of batch) signal.removeEventListener('abort', goneToo);
    }
  };

  const run = async (key: string, waiting: Waiting<T>[]): Promise<void> => {
    while (waiting.length > 0) {
      const batch = waiting.splice(0).filter(({ signal }) => !signal.aborted);
      if (batch.length > 0) await runOne(key, batch);
    }
    lanes.delete(key);
  };

  return {
    add: (key, item, signal) =>
      new Promise((resolve, reject) => {
        const gone = (): void => reject(signal.reason);
        if (signal.aborted) return gone();
        signal.addEventListener('abort', gone, { once: true });
        const settled = (): void => signal.removeEventListener('abort', gone);
        const one: Waiting<T> = {
          item,
          signal,
          resolve: () => {
            settled();
            resolve();
          },
          reject: (error) => {
            settled();
            reject(error);
          },
        };
        const lane = lanes.get(key);
        if (lane) {
          lane.push(one);
          return;
        }
        const waiting = [one];
        lanes.set(key, waiting);
        void run(key, waiting);
      }),
  };
};
