/** What there is to do, read from rows alone: what a whole engine would need a broken clock or a thousand policies for. */
import { expect, test } from '@jest/globals';
import type { Connection } from '../../../src/domain/model.ts';
import type { Rotation, RotationPolicy } from '../../../src/domain/rotation.ts';
import type { Core } from '../../../src/services/core.ts';
import { nextTask } from '../../../src/services/rotation/next-task.ts';
import { RotationRows } from '../../../src/services/rotation/rotation-rows.ts';
import { rotation, rotationPolicy } from '../../conformance/rotation-rows.ts';

const now = Date.UTC(2026, 10, 23, 4);

const stateOf = (policies: RotationPolicy[], rows: Rotation[], connection?: Partial<Connection>) => {
  const byId = new Map(policies.map((policy) => [policy.id, policy]));
  const state = {
    rotationPolicies: { get: (id: string) => byId.get(id), all: () => policies },
    rotations: new RotationRows(rows),
    freezes: { all: () => [] },
    connections: { get: () => connection },
  };
  return { state } as unknown as Pick<Core, 'state'>;
};

test('a clock that was put back does not have a stuck rotation tried without a pause', () => {
  const stuck = rotation({ id: 'rot_1', status: 'stuck', step: 'undo', updated_at: now, not_before: now + 60_000 });
  const look = (updated_at: number) => nextTask(stateOf([], [stuck], { updated_at }), stuck.policy_id, now);
  expect(look(now - 1)).toEqual({ at: now + 60_000 });
  expect(look(now + 3_600_000)).toEqual({ at: now + 60_000 });
  const touched = nextTask(stateOf([], [stuck], { updated_at: now + 1 }), stuck.policy_id, now + 2);
  expect(touched).toMatchObject({ do: 'go on', nudged: true });
});

test('what was put off by a clock that was far ahead does not wait until then', () => {
  const year = 366 * 86_400_000;
  const ahead = { updated_at: now + year, not_before: now + year + 2_000 };
  const running = rotation({ status: 'running', step: 'undo', ...ahead });
  expect(nextTask(stateOf([], [running], {}), running.policy_id, now)).toMatchObject({ do: 'go on' });
  const inGrace = rotation({ status: 'grace', step: 'retire', ...ahead, retire_at: now + year });
  expect(nextTask(stateOf([], [inGrace], {}), inGrace.policy_id, now)).toEqual({ at: now + year + 2_000 });
});

test('a stuck rotation whose connection was deleted ends without waiting for its next try', () => {
  const stuck = rotation({ id: 'rot_1', status: 'stuck', step: 'undo', updated_at: now, not_before: now + 60_000 });
  expect(nextTask(stateOf([], [stuck]), stuck.policy_id, now)).toMatchObject({ do: 'go on' });
});

test('a thousand policies are looked at in no time, again and again', () => {
  const count = 1000;
  const schedule = { cron: '0 3 1 * *', time_zone: 'Europe/Berlin' };
  const ids = Array.from({ length: count }, (_, index) => `con_${index}`);
  const policies = ids.map((id) => rotationPolicy({ id, connection_id: id, schedule, overdue_reported: now }));
  const rows = ids.map((id) => rotation({ id: `rot_${id}`, policy_id: id, connection_id: id, status: 'asked' }));
  const core = stateOf(policies, rows);
  const look = (): void => {
    for (const id of ids) nextTask(core, id, now);
  };
  look();
  const began = performance.now();
  for (let times = 0; times < 10; times += 1) look();
  expect(performance.now() - began).toBeLessThan(500);
});
