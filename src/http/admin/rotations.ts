/** `/admin/v1/rotations`: replacing secrets, by asking and by schedule; and the policies of connections and keys. */
import { z } from 'zod';
import { Refused } from '../../domain/refusals.ts';
import { type KeyPolicy, keyPolicies, type RotationSchedule } from '../../domain/rotation.ts';
import { connectionCalled } from '../../services/access/manage-connections.ts';
import {
  askForAll,
  askKeyRotation,
  askRotation,
  cancelRotation,
  previewRotation,
} from '../../services/rotation/ask-rotation.ts';
import { type PolicyInput, setKeyPolicy, setPolicy, unsetPolicy } from '../../services/rotation/manage-policies.ts';
import { defaultGraceSeconds } from '../../services/rotation/request-rotation.ts';
import type { Edge } from '../edge.ts';
import { days, policyView, rotationList, rotationView } from '../rotation-views.ts';
import * as field from '../schemas.ts';
import { InvalidRequest } from '../validate.ts';
import { isoOrNull } from '../views.ts';
import {
  type AdminContext,
  type AdminRoute,
  admins,
  created,
  everyone,
  managers,
  noContent,
  ok,
  pageBefore,
  responders,
  route,
} from './route.ts';

const minutesOf = (text: string): number => Number(text.slice(0, 2)) * 60 + Number(text.slice(3));
const clock = (pattern: RegExp) => z.string().regex(pattern, 'a time of day in UTC like 22:00').transform(minutesOf);

const longestGraceSeconds = 90 * 86_400;

const times = {
  every_seconds: z.int().min(1).optional(),
  cron: z
    .string()
    .max(200)
    .regex(/^[\x21-\x7e]+(?: [\x21-\x7e]+){4}$/, 'five fields: minute hour day month weekday')
    .optional(),
  time_zone: z.string().max(60).optional(),
  window: z
    .strictObject({
      days: z
        .array(z.enum(days))
        .min(1)
        .refine((list) => new Set(list).size === list.length, 'a day is named twice')
        .optional(),
      from: clock(/^([01][0-9]|2[0-3]):[0-5][0-9]$/),
      to: clock(/^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$/),
    })
    .nullish(),
};
const document = z.record(z.string().max(100), z.unknown());

export const rotationSchema = z.strictObject({
  ...times,
  // Minus zero is no number of seconds, and JSON has it.
  grace_seconds: z
    .int()
    .min(0)
    .max(longestGraceSeconds)
    .refine((seconds) => !Object.is(seconds, -0), 'at least 0')
    .default(defaultGraceSeconds),
  fence: z.boolean().default(false),
  method: document.optional(),
});
const policyBody = rotationSchema.extend({ secret: document.optional() });
const keyPolicyBody = z.strictObject(times);

type Times = z.infer<typeof keyPolicyBody>;

/** @throws InvalidRequest */
const timesOf = ({ every_seconds, cron, time_zone, window }: Times): Pick<PolicyInput, 'schedule' | 'window'> => {
  if (every_seconds !== undefined && cron !== undefined)
    throw new InvalidRequest(['cron: one of every_seconds and cron']);
  if (time_zone !== undefined && cron === undefined) throw new InvalidRequest(['time_zone: only with cron']);
  const schedule: RotationSchedule | null =
    every_seconds !== undefined
      ? { every_seconds }
      : cron !== undefined
        ? { cron, ...(time_zone === undefined ? {} : { time_zone }) }
        : null;
  return {
    schedule,
    window: window
      ? {
          from: window.from,
          to: window.to,
          ...(window.days ? { days: window.days.map((day) => days.indexOf(day)) } : {}),
        }
      : null,
  };
};

/** What a policy's body says. @throws InvalidRequest */
export const policyInput = (body: z.infer<typeof rotationSchema>): PolicyInput => ({
  ...timesOf(body),
  grace_seconds: body.grace_seconds,
  fence: body.fence,
  method: body.method,
});

const ask = z
  .strictObject({
    connection: field.reference.optional(),
    key: z.enum(keyPolicies).optional(),
    all: z.literal(true).optional(),
    due: z.boolean().default(false),
    reason: field.reason.optional(),
    now: z.boolean().default(false),
    fence: z.boolean().optional(),
    dry_run: z.boolean().default(false),
  })
  .refine(
    ({ connection, key, all }) => [connection, key, all].filter((one) => one !== undefined).length === 1,
    'one of connection, key and all',
  )
  .refine(({ due, all }) => !due || all, 'due: only with all')
  .refine(({ dry_run, connection }) => !dry_run || connection !== undefined, 'dry_run: only for a connection');

const history = z.strictObject({
  ...field.pageQuery('rot'),
  connection: field.reference.optional(),
  key: z.enum(keyPolicies).optional(),
});

const keyCalled = (which: string | undefined): KeyPolicy => {
  const found = keyPolicies.find((one) => one === which);
  if (!found) throw new Refused('not_found', `there is no such key: ${keyPolicies.join(', ')}`);
  return found;
};
/** As for rotating them by hand (keys.ts): the key-encryption key is the admins'. */
const keyRoles = { 'key-encryption': admins, signing: managers } as const;

const requireKeyRole = (which: KeyPolicy, { operator }: Pick<AdminContext<unknown, unknown>, 'operator'>): void => {
  if (operator.roles.some((role) => keyRoles[which].includes(role))) return;
  throw new Refused('forbidden', `this needs one of the roles ${keyRoles[which].join(', ')}`);
};

const named = (edge: Edge, params: Record<string, string>) => connectionCalled(edge.core, params['name'] ?? '');
const maxBodyBytes = 256 * 1024;

export const rotationRoutes: AdminRoute[] = [
  route({
    method: 'GET',
    path: '/rotations',
    roles: everyone,
    summary: 'Every rotation policy: when its secret was rotated, when it is due, what is under way',
    handle: async ({ edge }) => ok({ items: await rotationList(edge.core) }),
  }),
  route({
    method: 'GET',
    path: '/rotations/history',
    roles: everyone,
    summary: 'Rotations, newest first: who asked for them, when, why, and how they ended',
    query: history,
    handle: async ({ edge, query }) => {
      const { core } = edge;
      const policyId =
        query.key ?? (query.connection === undefined ? undefined : connectionCalled(core, query.connection).id);
      const rows = await core.reader.rotations({ policy_id: policyId }, { before: query.cursor, limit: query.limit });
      return pageBefore(
        rows,
        query.limit,
        rows.map((row) => rotationView(core, row)),
      );
    },
  }),
  route({
    method: 'GET',
    path: '/rotations/:id',
    roles: everyone,
    summary: 'Show one rotation: how far it is, or how it ended',
    handle: async ({ edge, params }) => {
      const row = await edge.core.reader.rotation(params['id'] ?? '');
      if (!row) throw new Refused('not_found', 'there is no such rotation');
      return ok(rotationView(edge.core, row));
    },
  }),
  route({
    method: 'POST',
    path: '/rotations',
    roles: responders,
    summary: 'Rotate a secret, or all that have a policy; in its window, or now',
    body: ask,
    handle: async (context) => {
      const { edge, body, caller } = context;
      const { core } = edge;
      const options = { reason: body.reason ?? null, now: body.now, fence: body.fence };
      if (body.all) {
        const asked = await askForAll(core, { ...options, due: body.due }, caller);
        const items = asked.rotations.map((row) => rotationView(core, row));
        return created({ items, skipped: asked.skipped }, '/admin/v1/rotations/history');
      }
      if (body.key) {
        requireKeyRole(body.key, context);
        const asked = await askKeyRotation(core, body.key, options, caller);
        return created(rotationView(core, asked), `/admin/v1/rotations/${asked.id}`);
      }
      const connection = connectionCalled(core, body.connection ?? '');
      if (body.dry_run) {
        const preview = await previewRotation(core, connection, options, caller);
        return ok({ ...preview, begins_at: isoOrNull(preview.begins_at) });
      }
      const asked = await askRotation(core, connection, options, caller);
      return created(rotationView(core, asked), `/admin/v1/rotations/${asked.id}`);
    },
  }),
  route({
    method: 'DELETE',
    path: '/rotations/:id',
    roles: responders,
    summary: 'Cancel a rotation that was asked for and has not begun',
    handle: async (context) => {
      const { edge, params, operator, caller } = context;
      const id = params['id'] ?? '';
      const about = edge.core.state.rotations.get(id);
      if (about && about.connection_id === null) requireKeyRole(keyCalled(about.policy_id), context);
      return ok(rotationView(edge.core, await cancelRotation(edge.core, id, operator, caller)));
    },
  }),
  route({
    method: 'PUT',
    path: '/connections/:name/rotation',
    roles: managers,
    summary: 'Set when and how the secret of a connection is rotated, as a whole',
    body: policyBody,
    maxBodyBytes,
    handle: async ({ edge, params, body, operator, caller }) => {
      const { secret, ...policy } = body;
      const input = { ...policyInput(policy), ...(secret === undefined ? {} : { secret }) };
      return ok(policyView(edge.core, await setPolicy(edge.core, named(edge, params), input, operator, caller)));
    },
  }),
  route({
    method: 'DELETE',
    path: '/connections/:name/rotation',
    roles: managers,
    summary: 'Rotate the secret of a connection only when somebody asks',
    handle: async ({ edge, params, caller }) => {
      await unsetPolicy(edge.core, named(edge, params).id, caller);
      return noContent();
    },
  }),
  route({
    method: 'PUT',
    path: '/keys/rotation/:which',
    roles: managers,
    summary: 'Set when a key of Warder’s own is rotated: key-encryption (admins only) or signing',
    body: keyPolicyBody,
    handle: async (context) => {
      const { edge, params, body, caller } = context;
      const which = keyCalled(params['which']);
      requireKeyRole(which, context);
      return ok(policyView(edge.core, await setKeyPolicy(edge.core, which, timesOf(body), caller)));
    },
  }),
  route({
    method: 'DELETE',
    path: '/keys/rotation/:which',
    roles: managers,
    summary: 'Rotate a key of Warder’s own only when somebody asks',
    handle: async (context) => {
      const { edge, params, caller } = context;
      const which = keyCalled(params['which']);
      requireKeyRole(which, context);
      await unsetPolicy(edge.core, which, caller);
      return noContent();
    },
  }),
];
