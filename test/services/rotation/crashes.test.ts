/** The engine stopped in the middle of each step, and any failures in any order: the secret in force always works. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { RotationEngine } from '../../../src/services/rotation/engine.ts';
import { eventually } from '../../support/eventually.ts';
import { shortOrLong } from '../../support/length.ts';
import { type Call, calls, type Fault, type Kind } from './key-house.ts';
import { once, openRig, type Rig } from './rig.ts';

let rig: Rig;
beforeAll(async () => {
  rig = await openRig();
});
afterAll(() => rig.close());

const runs = shortOrLong(12, 200);

const steps: [Kind, Call][] = [
  ...calls.map((call): [Kind, Call] => ['keys', call]),
  ...(['create', 'set', 'test', 'undo'] as const).map((call): [Kind, Call] => ['password', call]),
];

describe('an engine that ends', () => {
  test.each(
    steps.flatMap(
      ([kind, call]) =>
        [
          [kind, call, 'before'],
          [kind, call, 'after'],
        ] as const,
    ),
  )('with %s in the middle of %s, %s it did its work, goes on where it was', async (kind, call, when) => {
    const account = await rig.account(kind);
    const { value } = await account.inForce();
    if (call === 'undo') account.house.isBad = (tried) => tried !== value;
    account.house.faults.push({ call, fault: when === 'before' ? 'hangs' : 'lost and hangs' });
    const asked = await account.ask();
    await eventually('the call is under way', () => account.house.log.some((one) => one.call === call), Boolean);
    await eventually(
      'it hangs',
      () => account.house.faults.length,
      (left) => left === 0,
    );
    await rig.restart();
    const over = await rig.reaches(asked, 'done', 'failed');
    expect(account.house.accepts(await account.inForce())).toBe(true);
    expect(account.house.accepted.size).toBe(1);
    // What was created and not heard of is gone, whatever it was; the other steps are taken again.
    expect(over.status).toBe(call === 'create' || call === 'undo' ? 'failed' : 'done');
  });
});

describe('two engines on one ledger', () => {
  test('never lead at once: one that was paused past its lease and wakes up writes nothing', async () => {
    await rig.stop();
    const account = await rig.account();
    // Past the lease of the engine before.
    let now = rig.core.clock.now() + once.leaseMs;
    const clock = { now: () => now };
    let release = (): void => undefined;
    const paused = new Promise<void>((resolve) => {
      release = resolve;
    });
    let calledBy: string[] = [];
    const engineOf = (name: string, slow: boolean): RotationEngine => {
      // Its own way to the upstream, so that it can be told who called.
      const { provider } = account.house;
      const { rotation } = provider;
      if (!rotation) throw new Error('unreachable');
      const providers = new Map(rig.core.providers).set(provider.type, {
        ...provider,
        rotation: {
          ...rotation,
          set: async (next, context) => {
            calledBy.push(name);
            // A process that is stopped ends no call in time.
            if (slow) await paused;
            return rotation.set(next, context);
          },
        },
      });
      return new RotationEngine(
        { ...rig.core, clock, providers },
        { pace: { ...once, leaseMs: 60_000, callMs: 20_000 }, exclusive: false },
      );
    };
    const [first, second] = [engineOf('first', true), engineOf('second', false)];
    first.start();
    const asked = await account.ask();
    await eventually(
      'the first is at work',
      () => calledBy,
      (called) => called.length === 1,
    );
    second.start();
    second.wake();
    expect(calledBy).toEqual(['first']);
    now += 61_000;
    second.wake();
    const over = await eventually(
      'the second goes on',
      () => {
        second.wake();
        return rig.rotation(asked.id);
      },
      (row) => row?.status === 'done',
    );
    expect(calledBy).toEqual(['first', 'second']);
    const before = rig.core.state.newestSeq;
    release();
    await first.stop();
    expect((await rig.audit({ connection_id: account.id })).length).toBeGreaterThan(0);
    expect(await rig.rotation(asked.id)).toEqual(over);
    expect(rig.core.state.newestSeq).toBe(before);
    expect(account.house.accepts(await account.inForce())).toBe(true);
    expect(account.house.accepted.size).toBe(1);
    const takings = (await rig.audit({ type: 'rotation.lease_taken' })).slice(-2);
    expect(Number(takings[1]?.data['token'])).toBe(Number(takings[0]?.data['token']) + 1);
    calledBy = [];
    await second.stop();
    await rig.restart();
  });
});

describe('whatever fails, in whatever order', () => {
  const fault = fc.constantFrom<Fault>('failed', 'lost', 'refused');
  // One that fails to retire at every try gives up when somebody waits for the next, and says what it left.
  const trouble = fc
    .array(fc.record({ call: fc.constantFrom(...calls), fault }), { maxLength: 12 })
    .filter((faults) => faults.filter(({ call }) => call === 'retire').length < once.stepTries);
  const disturbance = fc.constantFrom('nothing', 'nothing', 'restart', 'set by hand', 'ask again');

  test('the secret in force in the ledger is accepted upstream at every moment, and in the end it alone', async () => {
    const account = await rig.account('keys');
    let watched = 0;
    const byHand = new Set<string>();
    const broken: string[] = [];
    const check = async (where: string): Promise<void> => {
      watched += 1;
      if (!account.house.accepts(await account.inForce())) broken.push(where);
    };
    const looks: Promise<void>[] = [];
    account.house.changed = () => void looks.push(check('a change upstream'));
    const unhear = rig.core.ledger.onCommitted(({ writes }) => {
      if (writes.some(({ table }) => table === 'connections')) looks.push(check('a commit'));
    });
    await fc.assert(
      fc.asyncProperty(trouble, disturbance, fc.constantFrom(...calls), async (faults, what, at) => {
        account.house.faults.push(...faults);
        let disturbed = false;
        account.house.before = async (call) => {
          if (call !== at || disturbed) return;
          disturbed = true;
          if (what === 'set by hand') {
            // Whoever replaces a secret by hand ends the one before by hand, or not.
            byHand.add((await account.inForce())['id'] ?? '');
            await account.setByHand(account.house.newSecret());
          }
          if (what === 'ask again') await account.ask();
          if (what === 'restart') void rig.restart();
        };
        const asked = await account.ask();
        await eventually(
          'everything asked for has ended',
          () => rig.core.state.rotations.ofPolicy(account.id).filter((row) => row.attempt === 1),
          (rows) => rows.length === 0,
        );
        account.house.faults.length = 0;
        // Attempts that would follow in an hour are not this run's.
        for (const row of rig.core.state.rotations.ofPolicy(account.id)) await rig.cancel(row.id);
        await Promise.all(looks.splice(0));
        expect(broken).toEqual([]);
        expect(await rig.rotation(asked.id)).not.toMatchObject({ status: 'running' });
        expect(account.house.accepts(await account.inForce())).toBe(true);
        const left = [...account.house.accepted.keys()].filter((id) => id.startsWith('rot_'));
        const current = (await account.inForce())['id'];
        expect(left.filter((id) => id !== current && !byHand.has(id))).toEqual([]);
      }),
      { numRuns: runs, endOnFailure: true },
    );
    unhear();
    expect(watched).toBeGreaterThan(runs);
  }, 120_000);
});
