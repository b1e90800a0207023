/** The pool of database clients: how many at once, who gets one, and when one ends. */
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { ClientPool } from '../../../adapters/providers/database/client-pool.ts';
import { eventually, pause } from '../../support/eventually.ts';

interface Client {
  id: number;
  open: boolean;
}

const poolOf = (options: { max?: number; idleMs?: number; opens?: () => Promise<void> } = {}) => {
  const clients: Client[] = [];
  const pool = new ClientPool<Client>({
    open: async () => {
      await options.opens?.();
      const client = { id: clients.length, open: true };
      clients.push(client);
      return client;
    },
    destroy: (client) => {
      client.open = false;
    },
    survives: (error) => error instanceof RangeError,
    usable: (client) => client.open,
    hold: () => undefined,
    max: options.max ?? 3,
    idleMs: options.idleMs ?? 1_000,
  });
  return { pool, clients, open: () => clients.filter((client) => client.open).length };
};
const never = new AbortController().signal;

test('whatever happens to clients, no more are open than allowed, nobody shares one, and everybody gets a turn', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.constantFrom('works', 'fails', 'breaks', 'aborts', 'does not open'), { maxLength: 40 }),
      async (fates) => {
        let refusing = 0;
        const { pool, open } = poolOf({
          opens: async () => {
            await Promise.resolve();
            if (refusing > 0) {
              refusing -= 1;
              throw new Error('not now');
            }
          },
        });
        const busy = new Set<Client>();
        let turns = 0;
        await Promise.all(
          fates.map(async (fate) => {
            if (fate === 'does not open') refusing += 1;
            const controller = new AbortController();
            await pool
              .use(controller.signal, async (client) => {
                turns += 1;
                expect([client.open, busy.has(client)]).toEqual([true, false]);
                busy.add(client);
                expect(open()).toBeLessThanOrEqual(3);
                if (fate === 'aborts') controller.abort();
                await new Promise(setImmediate);
                busy.delete(client);
                if (fate === 'fails') throw new RangeError('the server said no');
                if (fate === 'breaks') throw new Error('the connection broke');
              })
              .catch(() => undefined);
          }),
        );
        // Each refusal to open costs one caller the turn, and no more than that.
        expect(turns).toBeGreaterThanOrEqual(fates.filter((fate) => fate !== 'does not open').length);
        expect(await pool.use(never, async () => 'still works').catch(() => 'refused')).toBe(
          refusing > 0 ? 'refused' : 'still works',
        );
        expect(pool.size).toBeLessThanOrEqual(3);
      },
    ),
    { numRuns: 60 },
  );
});

test('a client is used again, and not after it broke', async () => {
  const { pool, clients } = poolOf();
  await pool.use(never, async () => undefined);
  await pool.use(never, async () => Promise.reject(new RangeError('no'))).catch(() => undefined);
  expect(clients).toHaveLength(1);
  await pool.use(never, async () => Promise.reject(new Error('broke'))).catch(() => undefined);
  await pool.use(never, async () => undefined);
  expect(clients.map(({ open }) => open)).toEqual([false, true]);
});

test('who waits too long for a client leaves, and the others go on', async () => {
  const { pool } = poolOf({ max: 1 });
  let release = (): void => undefined;
  const first = pool.use(
    never,
    () =>
      new Promise<void>((resolve) => {
        release = resolve;
      }),
  );
  const impatient = pool.use(AbortSignal.timeout(20), async () => 'never');
  const patient = pool.use(never, async () => 'in turn');
  await expect(impatient).rejects.toMatchObject({ name: 'TimeoutError' });
  release();
  await first;
  expect(await patient).toBe('in turn');
});

test('an abort ends the client that works', async () => {
  const { pool, clients } = poolOf();
  const controller = new AbortController();
  const working = pool.use(controller.signal, (client) =>
    eventually(
      'it is over',
      () => client.open,
      (open) => !open,
    ),
  );
  await pause(5);
  controller.abort();
  await working;
  expect(clients[0]?.open).toBe(false);
  expect(pool.size).toBe(0);
});

test('idle clients end after a while, and at once when the pool is retired', async () => {
  const aged = poolOf({ idleMs: 20 });
  await aged.pool.use(never, async () => undefined);
  await eventually(
    'it grew old',
    () => aged.pool.size,
    (size) => size === 0,
  );
  const retired = poolOf();
  await retired.pool.use(never, async () => undefined);
  retired.pool.retire();
  expect([retired.pool.size, retired.clients[0]?.open]).toEqual([0, false]);
  await retired.pool.use(never, async () => undefined);
  expect(retired.pool.size).toBe(0);
});
