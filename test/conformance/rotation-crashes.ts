/** What a rotation keeps when the process dies: after each call, within each call, with and without its answer. */
import { expect, test } from '@jest/globals';
import { type Step, steps } from './rotation-attempt.ts';
import { failureOf, type RotationKit } from './rotation-kit.ts';

export const crashTests = (kit: RotationKit): void => {
  const { someAccount, begin, conclude, expectOnly, expectUndone, ifUndoes } = kit;
  const { overlaps, undoes } = kit.traits;

  test('a secret that was made and nobody heard of is not left when another one is made', async () => {
    const account = await someAccount();
    const attempt = begin(account);
    const lost = await attempt.create();
    const next = await attempt.create();
    expect(next).not.toEqual(lost);
    await attempt.run('set');
    await conclude(attempt, account.secret);
    await expectOnly(account, next, [account.secret, lost], 'retired');
  });

  for (const last of steps) {
    ifUndoes(`a crash after ${last} is undone`, async () => {
      const account = await someAccount();
      const attempt = begin(account);
      await attempt.run('create', last);
      await expectUndone(account, attempt, last);
    });
  }

  test('a crash that lost what was created is undone', async () => {
    const account = await someAccount();
    const attempt = begin(account);
    const lost = await attempt.create();
    await expectUndone(account, attempt, 'unheard', true);
    expect(await account.accepts(lost)).toBe(false);
  });

  test('undoing what never began changes nothing', async () => {
    const account = await someAccount();
    await expectUndone(account, begin(account), 'never begun', true);
  });

  for (const last of ['set', 'test'] as const) {
    test(`after a crash in ${last} it goes on from there`, async () => {
      const account = await someAccount();
      const attempt = begin(account);
      await attempt.run('create', last);
      // The engine heard nothing of it: the same call again, and on.
      await attempt.run(last);
      const next = await conclude(attempt, account.secret);
      await expectOnly(account, next, [account.secret], `${last} twice`);
    });
  }

  test('a crash before or after something is journalled is undone', async () => {
    for (const durable of [false, true]) {
      for (let at = 1; ; at += 1) {
        const account = await someAccount();
        const attempt = begin(account, { death: { at, durable } });
        const reached = { step: 'create' as Step };
        let died = false;
        for (const step of steps) {
          reached.step = step;
          died ||= await attempt[step]().then(
            () => false,
            () => true,
          );
          if (died) break;
        }
        if (!died) break;
        if (!undoes && reached.step !== 'create') continue;
        const when = `${reached.step}, journal ${at} ${durable ? 'durable' : 'lost'}`;
        await expectUndone(account, attempt, when, reached.step === 'create');
      }
    }
  });

  test('after a crash the tests say which secret is in force', async () => {
    const account = await someAccount();
    const attempt = begin(account);
    const next = await attempt.create();
    await attempt.test(account.secret);
    // A key may work from the moment it was made, where the one before goes on working.
    if (!overlaps) expect(await failureOf(attempt.test(next))).toMatchObject({ kind: 'refused' });
    await attempt.set();
    await attempt.test(next);
    if (!overlaps) expect(await failureOf(attempt.test(account.secret))).toMatchObject({ kind: 'refused' });
  });

  ifUndoes('a call that is broken off at any moment is undone', async () => {
    for (const afterMs of [1, 3, 6, 12, 25]) {
      const account = await someAccount();
      const attempt = begin(account);
      await attempt.create();
      await failureOf(attempt.set(AbortSignal.timeout(afterMs)));
      await attempt.undo();
      await expectOnly(account, account.secret, [attempt.next()], `broken off after ${afterMs} ms`);
    }
  });
};
