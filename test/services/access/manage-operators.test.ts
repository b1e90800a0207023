import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { Operator } from '../../../src/domain/model.ts';
import {
  createOperator,
  deleteOperator,
  renewOperatorToken,
  updateOperator,
} from '../../../src/services/access/manage-operators.ts';
import { authenticateOperator } from '../../../src/services/identity/authenticate.ts';
import { caller, type Managed, openManaged, refusalOf } from './manage.ts';

let managed: Managed;
beforeAll(async () => {
  managed = await openManaged();
});
afterAll(() => managed.close());

let made = 0;
const newOperator = (over: object = {}) => {
  made += 1;
  return createOperator(managed.core, { name: `op-${made}`, roles: ['admin'], ...over }, caller);
};
const admins = (): Operator[] =>
  managed.core.state.operators
    .all()
    .filter((row) => row.status === 'active' && row.roles.includes('admin') && row.expires_at === null);
const row = (id: string): Operator | undefined => managed.core.state.operators.get(id);

describe('an operator', () => {
  test('is known by its token, until it is renewed, suspended, ended or deleted', async () => {
    const { operator, token } = await newOperator({ roles: ['auditor'] });
    const known = (given: string): string | undefined => {
      try {
        return authenticateOperator(managed.core, given).id;
      } catch {
        return undefined;
      }
    };
    expect(known(token)).toBe(operator.id);
    const renewed = await renewOperatorToken(managed.core, operator, caller);
    expect([known(token), known(renewed)]).toEqual([undefined, operator.id]);
    let current = row(operator.id) as Operator;
    current = await updateOperator(managed.core, current, { status: 'suspended' }, caller);
    expect(known(renewed)).toBeUndefined();
    current = await updateOperator(
      managed.core,
      current,
      { status: 'active', expires_at: managed.core.clock.now() - 1 },
      caller,
    );
    expect(known(renewed)).toBeUndefined();
    current = await updateOperator(managed.core, current, { expires_at: null }, caller);
    expect(known(renewed)).toBe(operator.id);
    await deleteOperator(managed.core, current, caller);
    expect(known(renewed)).toBeUndefined();
  });

  test('keeps no token, only its digest', async () => {
    const { operator, token } = await newOperator();
    expect(JSON.stringify(row(operator.id))).not.toContain(token);
    await deleteOperator(managed.core, operator, caller);
  });
});

describe('the last admin whose time is not limited', () => {
  test('stays: not deleted, suspended, given other roles or an end', async () => {
    const [last, ...others] = admins();
    expect(others).toEqual([]);
    if (!last) throw new Error('no admin');
    await newOperator({ roles: ['operator'] });
    await newOperator({ expires_at: managed.core.clock.now() + 60_000 });
    const { operator: idle } = await newOperator();
    await updateOperator(managed.core, idle, { status: 'suspended' }, caller);
    for (const attempt of [
      deleteOperator(managed.core, last, caller),
      updateOperator(managed.core, last, { status: 'suspended' }, caller),
      updateOperator(managed.core, last, { roles: ['operator'] }, caller),
      updateOperator(managed.core, last, { expires_at: managed.core.clock.now() + 86_400_000 }, caller),
    ]) {
      expect(await refusalOf(attempt)).toMatchObject({
        code: 'conflict',
        detail: expect.stringContaining('last admin'),
      });
    }
    expect(
      await refusalOf(updateOperator(managed.core, last, { roles: ['admin', 'auditor'] }, caller)),
    ).toBeUndefined();
  });

  test('stays, whatever is done to all admins at once', async () => {
    const attempt = fc.record({
      whom: fc.nat({ max: 3 }),
      what: fc.constantFrom('delete', 'suspend', 'demote', 'end', 'promote', 'resume'),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(attempt, { minLength: 1, maxLength: 4 }), { maxLength: 4 }),
        async (rounds) => {
          while (admins().length < 3) await newOperator();
          const pool = managed.core.state.operators.all().slice(-4);
          for (const round of rounds) {
            const work = round.map(({ whom, what }) => {
              const target = row(pool[whom % pool.length]?.id ?? '');
              if (!target) return Promise.resolve(undefined);
              if (what === 'delete') return refusalOf(deleteOperator(managed.core, target, caller));
              const patch = {
                suspend: { status: 'suspended' },
                demote: { roles: ['auditor'] },
                end: { expires_at: managed.core.clock.now() + 1000 },
                promote: { roles: ['admin'], expires_at: null },
                resume: { status: 'active' },
              }[what] as Partial<Pick<Operator, 'status' | 'roles' | 'expires_at'>>;
              return refusalOf(updateOperator(managed.core, target, patch, caller));
            });
            for (const refusal of await Promise.all(work)) if (refusal) expect(refusal.code).toBe('conflict');
            expect(admins().length).toBeGreaterThanOrEqual(1);
          }
        },
      ),
      { numRuns: 40 },
    );
  });
});
