/** `/admin/v1/operators`: for admins. */
import { z } from 'zod';
import { roles } from '../../domain/model.ts';
import {
  createOperator,
  deleteOperator,
  operatorCalled,
  renewOperatorToken,
  updateOperator,
} from '../../services/access/manage-operators.ts';
import * as field from '../schemas.ts';
import { operatorView } from '../views.ts';
import { given } from './entitlements.ts';
import { type AdminRoute, admins, created, noContent, ok, pageOf, route } from './route.ts';

const roleList = z
  .array(z.enum(roles))
  .min(1)
  .refine((list) => new Set(list).size === list.length, 'a role is named twice');
const create = z.strictObject({ name: field.name, roles: roleList, expires_at: field.moment.nullish() });
const patch = z.strictObject({ roles: roleList, status: field.status, expires_at: field.moment.nullable() }).partial();
const list = z.strictObject(field.pageQuery('op'));

export const operatorRoutes: AdminRoute[] = [
  route({
    method: 'POST',
    path: '/operators',
    roles: admins,
    summary: 'Add an operator; the token is shown this once',
    body: create,
    handle: async ({ edge, body, caller }) => {
      const { operator, token } = await createOperator(edge.core, body, caller);
      return created({ ...operatorView(operator), token }, `/admin/v1/operators/${operator.name}`);
    },
  }),
  route({
    method: 'GET',
    path: '/operators',
    roles: ['admin', 'auditor'],
    summary: 'List operators',
    query: list,
    handle: async ({ edge, query }) => pageOf(edge.core.state.operators.all(), query, operatorView),
  }),
  route({
    method: 'GET',
    path: '/operators/:name',
    roles: ['admin', 'auditor'],
    summary: 'Show an operator',
    handle: async ({ edge, params }) => ok(operatorView(operatorCalled(edge.core, params['name'] ?? ''))),
  }),
  route({
    method: 'PATCH',
    path: '/operators/:name',
    roles: admins,
    summary: 'Change roles, end or suspend an operator',
    body: patch,
    handle: async ({ edge, params, body, caller }) => {
      const row = operatorCalled(edge.core, params['name'] ?? '');
      return ok(operatorView(await updateOperator(edge.core, row, given(body), caller)));
    },
  }),
  route({
    method: 'POST',
    path: '/operators/:name/token',
    roles: admins,
    summary: 'Make a new token; the old one is dead at once',
    handle: async ({ edge, params, caller }) => {
      const row = operatorCalled(edge.core, params['name'] ?? '');
      return created(
        { name: row.name, token: await renewOperatorToken(edge.core, row, caller) },
        `/admin/v1/operators/${row.name}`,
      );
    },
  }),
  route({
    method: 'DELETE',
    path: '/operators/:name',
    roles: admins,
    summary: 'Delete an operator',
    handle: async ({ edge, params, caller }) => {
      await deleteOperator(edge.core, operatorCalled(edge.core, params['name'] ?? ''), caller);
      return noContent();
    },
  }),
];
