/** What an operator writes as a recipe: read strictly, and refused where it could not keep what a rotation promises. */
import { z } from 'zod';
import { addressProblems, injection } from '../providers/shared/gateway-settings.ts';
import { withoutSlash } from '../providers/shared/upstream-url.ts';
import { callShape, type DeclaredCall, placeholdersOf, pointer, refusals } from './call.ts';
import { testCall, testProblems } from './declared-test.ts';
import type { Subject } from './subject.ts';
import type { Placeholder } from './template.ts';

type Settings = Readonly<Record<string, unknown>>;

export const recipe = z.strictObject({
  /** Where all calls but `test` go; the connection's own unless given. */
  base_url: z.string().max(2000).optional(),
  authorise: z.enum(['secret', 'admin_key']).default('secret'),
  /** How `admin_key` is put into a request. */
  inject: injection.optional(),
  /** Of the token that is asked for with the secret; only for `oauth2`. */
  oauth_scopes: z
    .array(z.string().regex(/^[\x21\x23-\x5b\x5d-\x7e]{1,200}$/, 'not a scope of RFC 6749'))
    .max(20)
    .default([]),
  create: z.strictObject({ ...callShape('POST', [200, 201]), secret: pointer, id: pointer.optional() }).optional(),
  set: z.strictObject(callShape('PUT', [200, 201, 202, 204])).optional(),
  generate: z
    .strictObject({
      bytes: z.int().min(16).max(64).default(32),
      prefix: z
        .string()
        .regex(/^[A-Za-z0-9_.-]{0,40}$/, 'letters, digits and _ . -')
        .default(''),
    })
    .prefault({}),
  list: z
    .strictObject({
      ...callShape('GET', [200]),
      items: pointer,
      id: pointer,
      name: pointer,
      next: z.strictObject({ pointer, query: z.string().regex(/^[A-Za-z0-9._~[\]-]{1,100}$/) }).optional(),
    })
    .optional(),
  identify: z.strictObject({ ...callShape('GET', [200]), id: pointer }).optional(),
  test: testCall.optional(),
  revoke: z
    .strictObject({
      ...callShape('DELETE', [200, 202, 204]),
      /** Statuses that mean: it is gone already. */
      gone: refusals([404, 410]),
      as: z.enum(['usual', 'itself']).default('usual'),
    })
    .optional(),
});
export type Recipe = z.infer<typeof recipe>;

const allowed: Readonly<Record<string, readonly Placeholder[]>> = {
  create: ['rotation_id', 'connection'],
  list: ['rotation_id', 'connection'],
  identify: ['connection'],
  set: ['rotation_id', 'connection', 'id', 'secret'],
  revoke: ['rotation_id', 'connection', 'id', 'secret'],
};

const steps = ['create', 'set', 'list', 'identify', 'revoke'] as const;

const callProblems = (method: Recipe): string[] =>
  steps.flatMap((step) => {
    const call = method[step];
    if (!call) return [];
    const problems = call.json && call.form ? [`${step}: json or form, not both`] : [];
    if (call.method === 'GET' && (call.json || call.form)) problems.push(`${step}: GET has no body`);
    return [
      ...problems,
      ...[...placeholdersOf(call)]
        .filter((name) => !allowed[step]?.includes(name))
        .map((name) => `${step}: {{${name}}} is not known in this call`),
    ];
  });

const shapeProblems = (method: Recipe, hasOwnTest: boolean): string[] => {
  const { create, set, list, revoke, identify, test } = method;
  const uses = (call: DeclaredCall | undefined, name: Placeholder): boolean =>
    call !== undefined && placeholdersOf(call).has(name);
  const wrong: [boolean, string][] = [
    [(create === undefined) === (set === undefined), 'create: one of create and set'],
    [create !== undefined && revoke === undefined, 'revoke: needed beside create, to end the key before'],
    [
      set !== undefined && Boolean(revoke ?? list ?? identify),
      'set: replaces the key; revoke, list and identify go with create',
    ],
    [set !== undefined && !uses(set, 'secret'), 'set: must contain {{secret}}'],
    [
      list !== undefined && !uses(create, 'rotation_id'),
      'create: must contain {{rotation_id}}, for list to find it by',
    ],
    [
      create !== undefined && create.id === undefined && uses(revoke, 'id') && !identify,
      'create.id: needed where revoke has {{id}}, unless identify finds it',
    ],
    [revoke?.as === 'itself' && list !== undefined, 'revoke.as: what list finds cannot revoke itself'],
    [test === undefined && !hasOwnTest, 'test: needed'],
    [method.inject !== undefined && method.authorise !== 'admin_key', 'inject: is for authorise: admin_key'],
  ];
  return wrong.flatMap(([is, problem]) => (is ? [problem] : []));
};

export const recipeProblems = (subject: Subject, method: Recipe, settings: Settings): string[] => {
  const base = method.base_url;
  const address =
    base === undefined
      ? subject.baseUrl(settings) === undefined
        ? ['base_url: needed, the connection has none']
        : []
      : addressProblems(base, subject.allowsPrivateNetwork(settings)).map((problem) => `base_url: ${problem}`);
  const scopes =
    method.oauth_scopes.length > 0 && !subject.asksForTokens ? ['oauth_scopes: only for oauth2 connections'] : [];
  return [
    ...shapeProblems(method, subject.test !== undefined),
    ...callProblems(method),
    ...address,
    ...scopes,
    ...(method.test ? testProblems(subject, method.test, settings) : []),
  ];
};

/** Where the secret goes by this recipe beside where agents' requests go. */
export const recipeDestinations = (subject: Subject, method: Recipe, settings: Settings): string[] => {
  const own = subject.baseUrl(settings);
  const base = method.base_url ?? own;
  if (base === undefined) return [];
  const { origin } = new URL(base);
  const elsewhere = own === undefined || new URL(own).origin !== origin ? [origin] : [];
  // In a body it may be kept and shown there: whoever does not know the secret could read it from a note of his own.
  const told = [method.set, method.revoke].filter((one) => one && placeholdersOf(one).has('secret'));
  return [...elsewhere, ...told.map((one) => `${withoutSlash(base)}${one?.path} (in the body)`)];
};
