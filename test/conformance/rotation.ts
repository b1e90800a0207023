/**
 * What every rotation of a secret keeps (src/ports/rotation.ts), as tests against the real upstream. A provider's own
 * test calls it, once for each method:
 *
 *     rotationConformance('postgres, alternating', setUp, { overlaps: true });
 */
import { describe, expect, test } from '@jest/globals';
import { type Attempt, connectionOf, type Fields, methodOf, rotationOf } from './rotation-attempt.ts';
import { crashTests } from './rotation-crashes.ts';
import {
  failureOf,
  type RotationKit,
  type RotationTraits,
  type RotationUnderTest,
  rotationKit,
} from './rotation-kit.ts';
import { troubleTests } from './rotation-trouble.ts';

export type { RotationTraits, RotationUnderTest } from './rotation-kit.ts';

export const rotationConformance = (
  name: string,
  setup: () => Promise<RotationUnderTest>,
  traits: RotationTraits,
): void => {
  describe(name, () => {
    const kit = rotationKit(setup, traits);
    quietTests(kit);
    crashTests(kit);
    troubleTests(kit);
  });
};

/** Nothing goes wrong. */
const quietTests = (kit: RotationKit): void => {
  const { under, someAccount, begin, conclude, rotate, expectOnly, ifOverlaps } = kit;
  const { overlaps, undoes } = kit.traits;

  test('a rotation leaves exactly the new secret; the old one works until it is retired', async () => {
    const account = await someAccount();
    const attempt = begin(account);
    const next = await attempt.create();
    expect(under().provider.checkSecret(next)).toEqual({ ok: true, value: next });
    expect(await account.accepts(account.secret)).toBe(true);
    await attempt.set();
    await attempt.test();
    expect([await account.accepts(next), await account.accepts(account.secret)]).toEqual([true, overlaps]);
    attempt.finish();
    if (overlaps) expect(await account.accepts(account.secret)).toBe(true);
    if (overlaps) await attempt.retire(account.secret);
    await expectOnly(account, next, [account.secret], 'retired');
  });

  test('what each call did, it does not do again when it comes twice', async () => {
    const account = await someAccount();
    const attempt = begin(account);
    const next = await attempt.create();
    await attempt.set();
    await attempt.set();
    await attempt.test();
    await attempt.test();
    await attempt.set();
    expect([await account.accepts(next), await account.accepts(account.secret)]).toEqual([true, overlaps]);
    attempt.finish();
    if (overlaps) await attempt.retire(account.secret);
    if (overlaps) await attempt.retire(account.secret);
    await expectOnly(account, next, [account.secret], 'retired twice');
  });

  test('rotations follow one another, and no secret comes back', async () => {
    const account = await someAccount();
    const seen = [account.secret];
    for (let round = 0; round < 4; round += 1) {
      const current = seen.at(-1) as Fields;
      const next = await rotate(account, current);
      await expectOnly(account, next, seen, `round ${round}`);
      seen.push(next);
    }
    const values = seen.map((fields) => JSON.stringify(fields));
    expect(new Set(values).size).toBe(values.length);
  });

  ifOverlaps('a secret is retired once, and never the one that took its place', async () => {
    const account = await someAccount();
    const first = begin(account);
    await first.run();
    const second = await conclude(first, account.secret);
    const next = begin(account, { current: second });
    await next.run();
    const third = await conclude(next, second);
    // Somebody who slept: the same retirement, a rotation late.
    await failureOf(first.retire(account.secret));
    await next.retire(account.secret);
    await expectOnly(account, third, [second, account.secret], 'retired late');
  });

  test('the test refuses a wrong secret, and changes nothing', async () => {
    const account = await someAccount();
    const attempt = begin(account);
    expect(await failureOf(attempt.test(account.wrong))).toMatchObject({ name: 'ProviderFailure', kind: 'refused' });
    await attempt.test(account.secret);
    await expectOnly(account, account.secret, [account.wrong], 'tested');
  });

  test('hostile characters in names and secrets mean themselves', async () => {
    const account = await someAccount('hostile');
    const next = await rotate(account, account.secret);
    await expectOnly(account, next, [account.secret], 'rotated');
    const attempt = begin(account, { current: next });
    if (!undoes) return;
    await attempt.run();
    await attempt.undo();
    await expectOnly(account, next, [attempt.next(), account.secret], 'undone');
    const back = await someAccount('hostile');
    const undone = begin(back);
    await undone.run();
    await undone.undo();
    await expectOnly(back, back.secret, [undone.next()], 'undone to what an operator chose');
  });

  test('two accounts are rotated at once, and neither knows of the other', async () => {
    const accounts = await Promise.all([someAccount(), someAccount(), someAccount()]);
    const next = await Promise.all(accounts.map((account) => rotate(account, account.secret)));
    for (const [index, account] of accounts.entries()) {
      await expectOnly(account, next[index] as Fields, [account.secret], `account ${index}`);
    }
  });

  test('two rotations of one account at once leave one secret that is known to work', async () => {
    const account = await someAccount();
    const both = [begin(account), begin(account)];
    await Promise.all(both.map((one) => failureOf(one.run('create', 'set'))));
    // One of them is in force: the engine commits one alone, and the other is undone.
    const works = await Promise.all(both.map(async (one) => (await failureOf(one.test())) === 'no failure'));
    const winner = both[works.indexOf(true)];
    if (!winner) {
      // They kept each other out: then nothing has changed that cannot be undone.
      for (const one of both) await failureOf(one.undo());
      await expectOnly(account, account.secret, [], 'neither');
      return;
    }
    const loser = both.find((one) => one !== winner) as Attempt;
    await failureOf(loser.undo());
    expect(await account.accepts(winner.next())).toBe(true);
    const next = await conclude(winner, account.secret);
    await expectOnly(account, next, [account.secret], 'one of two');
  });

  test('a method is checked: what is unknown is refused, and problems show no secret', async () => {
    const account = await someAccount();
    const rotation = rotationOf(under().provider);
    const { settings } = connectionOf(under().provider, account);
    const method = methodOf(under().provider, account);
    expect(rotation.checkMethod(JSON.parse(JSON.stringify(method)), settings)).toEqual({ ok: true, value: method });
    expect(rotation.overlaps(method, settings)).toBe(overlaps);
    expect(rotation.destinations(method, settings)).toEqual(expect.any(Array));
    expect(rotation.methodSchema).toEqual(expect.any(Object));
    for (const bad of [null, 7, 'text', [], [method], { ...method, unknown_field: 'hunter2-canary' }]) {
      const checked = rotation.checkMethod(bad, settings);
      expect([bad, checked.ok]).toEqual([bad, false]);
      expect(JSON.stringify(checked)).not.toContain('hunter2-canary');
    }
  });
};
