import { describe, expect, test } from '@jest/globals';
import { KeptFetch } from '../../../src/services/identity/kept-fetch.ts';

/** A server of keys that answers when the test says so. */
const server = () => {
  const open: { resolve(keys: string): void; reject(error: Error): void }[] = [];
  const kept = new KeptFetch(() => new Promise<string>((resolve, reject) => open.push({ resolve, reject })));
  return {
    kept,
    fetches: () => open.length,
    answer: async (keys: string) => {
      open.at(-1)?.resolve(keys);
      await new Promise(setImmediate);
    },
    fail: async () => {
      open.at(-1)?.reject(new Error('down'));
      await new Promise(setImmediate);
    },
  };
};

describe('keys that are fetched and kept', () => {
  test('are one fetch for all who ask at once, and for five minutes', async () => {
    const { kept, fetches, answer } = server();
    const all = [kept.get(0, false), kept.get(10, false), kept.get(20, true)];
    await answer('one');
    expect(await Promise.all(all)).toEqual(['one', 'one', 'one']);
    expect(await kept.get(299_999, false)).toBe('one');
    expect(fetches()).toBe(1);
    const later = kept.get(300_000, false);
    await answer('two');
    expect(await later).toBe('two');
  });

  test('are asked for again for a key nobody knows, every thirty seconds at most', async () => {
    const { kept, fetches, answer } = server();
    const first = kept.get(0, false);
    await answer('one');
    expect([await first, await kept.get(29_999, true), fetches()]).toEqual(['one', 'one', 1]);
    const again = kept.get(30_000, true);
    await answer('two');
    expect([await again, await kept.get(30_001, false), await kept.get(59_999, true)]).toEqual(['two', 'two', 'two']);
    expect(fetches()).toBe(2);
  });

  test('keep nobody waiting while they are asked for again on a stranger’s account', async () => {
    const { kept, fetches, answer } = server();
    void kept.get(0, false);
    await answer('one');
    const stranger = kept.get(40_000, true);
    expect(await kept.get(40_001, false)).toBe('one');
    await answer('two');
    expect(await stranger).toBe('two');
    expect(fetches()).toBe(2);
  });

  test('are not lost by a fetch that fails, and not believed for longer because of it', async () => {
    const { kept, fail, answer } = server();
    void kept.get(0, false);
    await answer('one');
    const stranger = kept.get(40_000, true);
    const refused = expect(stranger).rejects.toThrow('down');
    await fail();
    await refused;
    expect(await kept.get(40_001, false)).toBe('one');
    expect(await kept.get(299_999, false)).toBe('one');
    const late = kept.get(300_000, false);
    const lost = expect(late).rejects.toThrow('down');
    await fail();
    await lost;
  });

  test('are asked for every two seconds at most while that fails', async () => {
    const { kept, fetches, fail, answer } = server();
    const first = expect(kept.get(0, false)).rejects.toThrow('down');
    await fail();
    await first;
    await expect(kept.get(1_999, false)).rejects.toThrow('down');
    expect(fetches()).toBe(1);
    const second = kept.get(2_000, false);
    await answer('one');
    expect([await second, fetches()]).toEqual(['one', 2]);
  });
});
