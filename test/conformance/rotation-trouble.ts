/** What a rotation keeps when the upstream is in trouble: down, slow, silent, or late. */
import { expect } from '@jest/globals';
import { ProviderFailure } from '../../src/ports/provider.ts';
import { pause } from '../support/eventually.ts';
import { type Attempt, type Step, steps } from './rotation-attempt.ts';
import { failureOf, type RotationKit } from './rotation-kit.ts';

/** How much later trouble that is late does what it was asked (test/support/troubled-*.ts), and some more. */
const lateMs = 500;
/** When a call to an upstream that hangs is aborted, and how soon it must have heard of that. */
const hangMs = 100;
const abortedWithinMs = 2_000;

export const troubleTests = (kit: RotationKit): void => {
  const { under, someAccount, begin, conclude, expectOnly, expectUndone, ifTrouble } = kit;
  const { overlaps, undoes, late } = kit.traits;
  const ifTroubleUndoes = undoes ? ifTrouble : () => undefined;
  const ifLate = late ? ifTroubleUndoes : () => undefined;

  ifTrouble('an upstream that is down refuses nothing: it is unavailable', async () => {
    const account = await someAccount();
    const attempt = begin(account);
    await attempt.run('create', 'set');
    await under().trouble?.down();
    for (const [what, work] of [
      ['set', attempt.set()],
      ['test', attempt.test()],
      ['test of a wrong one', attempt.test(account.wrong)],
    ] as const) {
      const failure = await failureOf(work);
      // A key that works from the moment it was made: there is nothing to set.
      if (failure === 'no failure' && what === 'set') continue;
      expect(failure).toBeInstanceOf(ProviderFailure);
      expect([what, failure]).toMatchObject([what, { kind: expect.stringMatching(/^(unavailable|timeout)$/) }]);
    }
    await under().trouble?.well();
    await attempt.run('test');
    await conclude(attempt, account.secret);
    await expectOnly(account, attempt.next(), [account.secret], 'back');
  });

  ifTrouble(
    'an upstream that hangs is waited for as long as the signal says, a slow one until it answers',
    async () => {
      const account = await someAccount();
      const attempt = begin(account);
      await under().trouble?.slow(30);
      await attempt.run();
      await under().trouble?.hangs();
      const retired = (signal: AbortSignal): Promise<void> => {
        attempt.finish();
        return attempt.retire(account.secret, signal);
      };
      const waits: [string, (signal: AbortSignal) => Promise<unknown>][] = [
        ['create', (signal) => begin(account).create(signal)],
        ['set', (signal) => attempt.set(signal)],
        ['test', (signal) => attempt.test(undefined, signal)],
        ['undo', (signal) => attempt.undo(false, signal)],
        ...(overlaps ? [['retire', retired] as [string, typeof retired]] : []),
      ];
      for (const [what, call] of waits) {
        const began = performance.now();
        const failure = await failureOf(call(AbortSignal.timeout(hangMs)));
        expect([what, performance.now() - began < abortedWithinMs]).toEqual([what, true]);
        // What asks nobody waits for nobody.
        if (failure === 'no failure' && (what === 'create' || what === 'set')) continue;
        expect([what, failure]).toMatchObject([what, { name: 'ProviderFailure', kind: 'timeout' }]);
      }
    },
  );

  /** Runs the steps while this one is in trouble. @returns whether it was heard of */
  const inTrouble = async (attempt: Attempt, troubled: Step, into: 'halfDone' | 'late'): Promise<boolean> => {
    for (const step of steps.slice(0, steps.indexOf(troubled))) await attempt[step]();
    await under().trouble?.[into]();
    const failure = await failureOf(attempt[troubled]());
    await under().trouble?.well();
    return failure === 'no failure';
  };

  for (const step of steps) {
    ifTroubleUndoes(`an answer of ${step} that was lost is undone`, async () => {
      const account = await someAccount();
      const attempt = begin(account);
      const heard = await inTrouble(attempt, step, 'halfDone');
      await expectUndone(account, attempt, `${step} half done`, step === 'create' && !heard);
    });
    ifTrouble(`after an answer of ${step} that was lost it goes on from there`, async () => {
      const account = await someAccount();
      const attempt = begin(account);
      await inTrouble(attempt, step, 'halfDone');
      await attempt.run(step);
      const next = await conclude(attempt, account.secret);
      await expectOnly(account, next, [account.secret], `${step} half done`);
    });
  }

  if (overlaps) {
    ifTrouble('a retirement whose answer was lost is repeated', async () => {
      const account = await someAccount();
      const attempt = begin(account);
      await attempt.run();
      const next = attempt.finish();
      await under().trouble?.halfDone();
      await failureOf(attempt.retire(account.secret));
      await under().trouble?.well();
      await attempt.retire(account.secret);
      await expectOnly(account, next, [account.secret], 'retired');
    });
  }

  ifLate('what breaks off and comes late does not come after it was undone', async () => {
    const account = await someAccount();
    const attempt = begin(account);
    await inTrouble(attempt, 'set', 'late');
    await attempt.undo();
    await pause(lateMs);
    await expectOnly(account, account.secret, [attempt.next()], 'late');
  });
};
