import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { RotationPolicy } from '../../../src/domain/rotation.ts';
import { commitChanges } from '../../../src/services/change.ts';
import { record } from '../../../src/services/core.ts';
import { isInside } from '../../../src/services/rotation/due.ts';
import { setPolicy, unsetPolicy } from '../../../src/services/rotation/manage-policies.ts';
import { rotationProblem } from '../../../src/services/rotation/request-rotation.ts';
import { freeze } from '../../conformance/ledger-rows.ts';
import { rotationPolicy } from '../../conformance/rotation-rows.ts';
import { eventually } from '../../support/eventually.ts';
import { type Account, openRig, ops, type Rig } from './rig.ts';

let rig: Rig;
beforeAll(async () => {
  rig = await openRig();
});
afterAll(() => rig.close());

const day = 86_400_000;

/** A policy that has been there for as long as is wanted. */
const policyOf = async (account: Account, over: Partial<RotationPolicy>): Promise<void> => {
  const row = rotationPolicy({ id: account.id, connection_id: account.id, ...over });
  await commitChanges(rig.core, {
    writes: [{ write: 'insert', table: 'rotation_policies', row }],
    audit: [record(rig.core, ops, { type: 'test' })],
  });
};
const first = (account: Account) =>
  eventually(
    'it was rotated',
    () => account.rotations(),
    ([row]) => row?.finished_at != null,
  ).then(([row]) => row);
const policyNow = (account: Account) => rig.core.state.rotationPolicies.get(account.id);

describe('a schedule', () => {
  test('rotates what is due without anybody, and counts from then', async () => {
    const account = await rig.account();
    const now = rig.core.clock.now();
    await policyOf(account, {
      schedule: { every_seconds: 86_400 },
      created_at: now - day - 20 * 60_000,
      grace_seconds: 5,
      fence: true,
    });
    const row = await first(account);
    expect(row).toMatchObject({ cause: 'schedule', requested_by: 'rotation', grace_seconds: 5, fence: true });
    expect(policyNow(account)?.rotated_at).toBe(row?.finished_at);
    expect(account.house.accepts(await account.inForce())).toBe(true);
    expect(await account.rotations()).toHaveLength(1);
  });

  test('leaves alone what is not due, and what has no schedule', async () => {
    const [soon, never] = [await rig.account(), await rig.account()];
    const now = rig.core.clock.now();
    await policyOf(soon, { schedule: { every_seconds: 86_400 }, created_at: now - day + 60_000 });
    await policyOf(never, { schedule: null, created_at: 0 });
    const other = await rig.account();
    await policyOf(other, { schedule: { every_seconds: 86_400 }, created_at: now - 2 * day });
    await first(other);
    expect([await soon.rotations(), await never.rotations()]).toEqual([[], []]);
  });

  test('that was missed is reported as overdue, once, and waits for its window', async () => {
    const account = await rig.account();
    const now = rig.core.clock.now();
    const minute = Math.floor(now / 60_000) % 1440;
    const window = { from: (minute + 120) % 1440, to: (minute + 180) % 1440 };
    expect(isInside(window, now)).toBe(false);
    await policyOf(account, { schedule: { every_seconds: 86_400 }, window, created_at: now - 3 * day });
    const overdue = () => rig.audit({ type: 'rotation.overdue', connection_id: account.id });
    await eventually('it is reported', overdue, (entries) => entries.length > 0);
    await eventually(
      'it is asked for',
      () => account.rotations(),
      (rows) => rows.length === 1,
    );
    await rig.restart();
    const other = await rig.account();
    await rig.reaches(await other.ask(), 'done');
    expect(await overdue()).toHaveLength(1);
    expect(await account.rotations()).toMatchObject([{ status: 'asked', cause: 'schedule' }]);

    // Removing the policy takes that back.
    await unsetPolicy(rig.core, account.id, ops);
    expect(await account.rotations()).toMatchObject([{ status: 'cancelled', failure: 'its policy was removed' }]);
  });

  test('begins nothing while everything is frozen, and goes on when that is lifted', async () => {
    const [frozen, asked] = [await rig.account(), await rig.account()];
    const row = freeze({ selector: { everything: true } });
    const say = [record(rig.core, ops, { type: 'test' })];
    await commitChanges(rig.core, { writes: [{ write: 'insert', table: 'freezes', row }], audit: say });
    await policyOf(frozen, { schedule: { every_seconds: 86_400 }, created_at: rig.core.clock.now() - 2 * day });
    await rig.reaches(await asked.ask(), 'done');
    expect(await frozen.rotations()).toEqual([]);
    const lifted = { lifted_at: rig.core.clock.now(), lifted_by: 'olga', version: row.version + 1 };
    await commitChanges(rig.core, {
      writes: [{ write: 'update', table: 'freezes', id: row.id, set: lifted }],
      audit: say,
    });
    await rig.restart();
    await first(frozen);
  });

  test('whose attempts fail goes on with a new secret each time, and is overdue until one is in force', async () => {
    const account = await rig.account();
    const now = rig.core.clock.now();
    account.house.faults.push({ call: 'test', fault: 'refused' });
    await policyOf(account, { schedule: { every_seconds: 86_400 }, created_at: now - 2 * day });
    const rows = await eventually(
      'it failed',
      () => account.rotations(),
      (all) => all[0]?.status === 'failed',
    );
    expect(rows[1]).toMatchObject({ status: 'asked', attempt: 2, cause: 'schedule' });
    expect(rows[1]?.failure).toBe(rows[0]?.failure);
    expect(policyNow(account)?.rotated_at).toBeNull();
    expect(await rig.audit({ type: 'rotation.overdue', connection_id: account.id })).toHaveLength(1);
  });

  test('is changed as a whole, by compare-and-swap', async () => {
    const account = await rig.account();
    const [admin] = rig.core.state.operators.all();
    if (!admin) throw new Error('an initialised ledger has an admin');
    const set = (every_seconds: number) =>
      setPolicy(
        rig.core,
        account.row(),
        { schedule: { every_seconds }, window: null, grace_seconds: 0, fence: false },
        admin,
        ops,
      );
    await set(3600);
    const settled = await Promise.allSettled([set(7200), set(10_800)]);
    expect(settled.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(policyNow(account)?.version).toBe(2);
  });
});

test('a secret that is kept in a vault is rotated there', async () => {
  const account = await rig.account();
  const source = {
    connection_id: 'con_vault',
    path: 'a/b',
    fields: { value: 'value' },
    version: null,
    max_age_seconds: 60,
  };
  expect(rotationProblem(rig.core, account.row())).toBeUndefined();
  expect(rotationProblem(rig.core, { ...account.row(), secret_source: source })).toContain(
    'rotate it there, and Warder follows',
  );
});
