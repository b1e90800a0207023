/** Operators and their tokens. There is always an admin left. */
import type { Operator, Role } from '../../domain/model.ts';
import { Refused } from '../../domain/refusals.ts';
import { makeToken, tokenDigest, tokenEntropyBytes } from '../../domain/tokens.ts';
import { commitChanges, differing } from '../change.ts';
import { type Caller, type Core, newId, record } from '../core.ts';

export interface OperatorInput {
  name: string;
  roles: Role[];
  expires_at?: number | null | undefined;
}
export type OperatorPatch = Partial<Pick<Operator, 'roles' | 'status' | 'expires_at'>>;

/** @throws Refused `not_found` */
export const operatorCalled = (core: Core, nameOrId: string): Operator => {
  const operator = core.state.operatorCalled(nameOrId);
  if (!operator) throw new Refused('not_found', 'there is no such operator');
  return operator;
};

/** The row and the token of a new operator; the first admin is made with it too. */
export const makeOperator = (
  core: Pick<Core, 'clock' | 'entropy'>,
  input: OperatorInput,
): { operator: Operator; token: string } => {
  const now = core.clock.now();
  const id = newId(core, 'op');
  const token = makeToken('operator', id, core.entropy(tokenEntropyBytes));
  const operator: Operator = {
    id,
    name: input.name,
    roles: input.roles,
    token_digest: tokenDigest(token),
    status: 'active',
    expires_at: input.expires_at ?? null,
    version: 1,
    created_at: now,
    updated_at: now,
  };
  return { operator, token };
};

export const createOperator = async (core: Core, input: OperatorInput, caller: Caller) => {
  if (core.state.operators.named(input.name))
    throw new Refused('conflict', `there is an operator ${input.name} already`);
  const { operator, token } = makeOperator(core, input);
  await commitChanges(core, {
    writes: [{ write: 'insert', table: 'operators', row: operator }],
    audit: [
      record(core, caller, {
        type: 'operator.created',
        data: { operator: operator.id, name: operator.name, roles: operator.roles, expires_at: operator.expires_at },
      }),
    ],
  });
  return { operator, token };
};

const isLastingAdmin = (operator: Operator): boolean =>
  operator.status === 'active' && operator.roles.includes('admin') && operator.expires_at === null;

/**
 * Another admin who will stay one, held unchanged until the commit: two admins cannot remove each other at once. One
 * whose time is limited does not count: when it is over there would be none.
 */
const anotherAdmin = (core: Core, without: Operator) => {
  const kept = core.state.operators.all().find((other) => other.id !== without.id && isLastingAdmin(other));
  if (!kept) throw new Refused('conflict', 'this is the last admin whose time is not limited; make another one first');
  return [{ guard: 'unchanged', table: 'operators', id: kept.id, version: kept.version } as const];
};

export const updateOperator = async (
  core: Core,
  row: Operator,
  patch: OperatorPatch,
  caller: Caller,
): Promise<Operator> => {
  const fields = differing(row, patch);
  if (fields.length === 0) {
    await commitChanges(core, {
      writes: [],
      audit: [record(core, caller, { type: 'operator.unchanged', data: { operator: row.id, name: row.name } })],
    });
    return row;
  }
  const changed = { ...patch, version: row.version + 1, updated_at: core.clock.now() };
  const operator: Operator = { ...row, ...changed };
  await commitChanges(core, {
    guards: isLastingAdmin(row) && !isLastingAdmin(operator) ? anotherAdmin(core, row) : [],
    writes: [{ write: 'update', table: 'operators', id: row.id, set: changed, from: { version: row.version } }],
    audit: [
      record(core, caller, {
        type: 'operator.updated',
        data: { operator: row.id, name: row.name, fields, ...patch },
      }),
    ],
  });
  return operator;
};

/** A new token; the old one is dead at once. */
export const renewOperatorToken = async (core: Core, row: Operator, caller: Caller): Promise<string> => {
  const token = makeToken('operator', row.id, core.entropy(tokenEntropyBytes));
  await commitChanges(core, {
    writes: [
      {
        write: 'update',
        table: 'operators',
        id: row.id,
        set: { token_digest: tokenDigest(token), version: row.version + 1, updated_at: core.clock.now() },
        from: { version: row.version },
      },
    ],
    audit: [record(core, caller, { type: 'operator.token_renewed', data: { operator: row.id, name: row.name } })],
  });
  return token;
};

export const deleteOperator = async (core: Core, row: Operator, caller: Caller): Promise<void> => {
  await commitChanges(core, {
    guards: isLastingAdmin(row) ? anotherAdmin(core, row) : [],
    writes: [{ write: 'delete', table: 'operators', id: row.id, from: { version: row.version } }],
    audit: [record(core, caller, { type: 'operator.deleted', data: { operator: row.id, name: row.name } })],
  });
};
