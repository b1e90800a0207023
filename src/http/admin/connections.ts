/** `/admin/v1/connections` and their secrets, which go in and never come out. */
import { z } from 'zod';
import { isPlainLine, plainLineRule } from '../../domain/names.ts';
import { deleteConnection } from '../../services/access/delete-connection.ts';
import { connectionCalled, createConnection, updateConnection } from '../../services/access/manage-connections.ts';
import { setSecret } from '../../services/access/set-secret.ts';
import * as field from '../schemas.ts';
import { connectionView } from '../views.ts';
import { type AdminRoute, created, everyone, managers, noContent, ok, pageOf, route } from './route.ts';

/** What is in it is the provider's to judge. */
const document = z.record(z.string().max(100), z.unknown());

const secretFrom = z.strictObject({
  connection: field.reference,
  path: z.string().min(1).max(512),
  fields: z
    .record(
      z.string().regex(/^[a-z]\w{0,99}$/),
      z.string().refine((text) => isPlainLine(text, 200), plainLineRule(200)),
    )
    .refine((fields) => Object.keys(fields).length > 0 && Object.keys(fields).length <= 20, 'from 1 to 20 fields'),
  version: z.int().min(1).optional(),
  max_age_seconds: z.int().min(0).max(3600).default(60),
});

export const connectionSchema = z.strictObject({
  name: field.name,
  // One of the two is needed; with a preset the provider is the first the preset is for, unless it is named.
  provider: field.provider.optional(),
  preset: field.name.optional(),
  variables: z.record(z.string().max(100), z.string().max(300)).optional(),
  scopes: field.scopes.optional(),
  owner: field.owner.nullish(),
  settings: document.default({}),
  secret: document.optional(),
  secret_from: secretFrom.optional(),
});
const patch = z.strictObject({
  owner: field.owner.nullish(),
  settings: document.optional(),
  secret: document.optional(),
  secret_from: secretFrom.optional(),
  status: field.status.optional(),
});
const list = z.strictObject({ ...field.pageQuery('con'), provider: field.provider.optional() });

const maxBodyBytes = 256 * 1024;

export const connectionRoutes: AdminRoute[] = [
  route({
    method: 'POST',
    path: '/connections',
    roles: managers,
    summary: 'Register a connection, with its secret or without',
    body: connectionSchema,
    maxBodyBytes,
    handle: async ({ edge, body, caller }) => {
      const connection = await createConnection(edge.core, body, caller);
      return created(connectionView(edge.core, connection), `/admin/v1/connections/${connection.name}`);
    },
  }),
  route({
    method: 'GET',
    path: '/connections',
    roles: everyone,
    summary: 'List connections',
    query: list,
    handle: async ({ edge, query }) =>
      pageOf(
        edge.core.state.connections
          .all()
          .filter((connection) => query.provider === undefined || connection.provider === query.provider),
        query,
        (connection) => connectionView(edge.core, connection),
      ),
  }),
  route({
    method: 'GET',
    path: '/connections/:name',
    roles: everyone,
    summary: 'Show a connection, without its secret',
    handle: async ({ edge, params }) =>
      ok(connectionView(edge.core, connectionCalled(edge.core, params['name'] ?? ''))),
  }),
  route({
    method: 'PATCH',
    path: '/connections/:name',
    roles: managers,
    summary: 'Change, suspend or resume a connection; new settings kill what was issued under the old ones',
    body: patch,
    maxBodyBytes,
    handle: async ({ edge, params, body, operator, caller }) => {
      const connection = connectionCalled(edge.core, params['name'] ?? '');
      const changed = await updateConnection(
        edge.core,
        connection,
        {
          ...(body.owner === undefined ? {} : { owner: body.owner }),
          ...(body.settings === undefined ? {} : { settings: body.settings }),
          ...(body.secret === undefined ? {} : { secret: body.secret }),
          ...(body.secret_from === undefined ? {} : { secret_from: body.secret_from }),
          ...(body.status === undefined ? {} : { status: body.status }),
        },
        operator,
        caller,
      );
      return ok(connectionView(edge.core, changed));
    },
  }),
  route({
    method: 'PUT',
    path: '/connections/:name/secret',
    roles: managers,
    summary: 'Set the secret; gateway grants follow it without noticing',
    body: document,
    handle: async ({ edge, params, body, caller }) => {
      const connection = connectionCalled(edge.core, params['name'] ?? '');
      return ok({ version: await setSecret(edge.core, connection, body, caller) });
    },
  }),
  route({
    method: 'DELETE',
    path: '/connections/:name',
    roles: managers,
    summary: 'Delete a connection, its secret and its entitlements',
    handle: async ({ edge, params, operator, caller }) => {
      await deleteConnection(edge.core, connectionCalled(edge.core, params['name'] ?? ''), operator, caller);
      return noContent();
    },
  }),
];
