/** The ways of rotating that work for any service with a secret: one of a recipe, a webhook and a script. */
import { z } from 'zod';
import { ProviderFailure } from '../../src/ports/provider.ts';
import type { RotationContext, SecretFields, SecretRotation } from '../../src/ports/rotation.ts';
import type { Network } from '../network.ts';
import { checked, jsonSchemaOf, parsedOnce } from '../providers/shared/checking.ts';
import { takeTest, testCall, testProblems } from './declared-test.ts';
import { recipeWay } from './recipe.ts';
import { recipe } from './recipe-form.ts';
import { script, scriptWay } from './script.ts';
import type { Subject, Way } from './subject.ts';
import { webhook, webhookWay } from './webhook.ts';

const byRecipe = z.strictObject({ recipe });
const byWebhook = z.strictObject({ webhook, test: testCall.optional() });
const byScript = z.strictObject({
  // `{"script": "name"}` for short.
  script: z.preprocess((given) => (typeof given === 'string' ? { name: given } : given), script),
  test: testCall.optional(),
});
const form = z.union([byRecipe, byWebhook, byScript], { error: 'one of recipe, webhook and script' });
type Method = z.infer<typeof form>;

/** The one that is named, so that problems are told of that one. */
const formOf = (method: unknown): z.ZodType<Method> => {
  if (typeof method !== 'object' || method === null) return form;
  if ('recipe' in method) return byRecipe;
  if ('webhook' in method) return byWebhook;
  return 'script' in method ? byScript : form;
};

export interface MethodParts {
  network: Network;
  /** The folder of scripts; undefined: none are run. */
  scripts?: string | undefined;
}

/** A way together with what the method says about it. */
const bound = <M>(way: Way<M>, method: M) => ({
  problems: (settings: Readonly<Record<string, unknown>>) => way.problems(method, settings),
  destinations: (settings: Readonly<Record<string, unknown>>) => way.destinations(method, settings),
  overlaps: () => way.overlaps(method),
  create: (context: RotationContext) => way.create(method, context),
  set: (next: SecretFields, context: RotationContext) => way.set(method, next, context),
  test: (secret: SecretFields, context: RotationContext) => way.test(method, secret, context),
  undo: (next: SecretFields | undefined, context: RotationContext) => way.undo(method, next, context),
  retire: (previous: SecretFields, context: RotationContext) => way.retire(method, previous, context),
});

/** Rotation of the secret of a connection whose provider has no way of its own. */
export const rotationBy = (subject: Subject, { network, scripts }: MethodParts): SecretRotation => {
  const ways = {
    recipe: recipeWay(subject, network),
    webhook: webhookWay(subject, network),
    script: scriptWay(subject, scripts),
  };
  const parsed = parsedOnce<Method>(form);
  const wayOf = (method: Method) => {
    if ('recipe' in method) return bound(ways.recipe, method.recipe);
    if ('webhook' in method) return bound(ways.webhook, method.webhook);
    return bound(ways.script, method.script);
  };
  const of = (method: Readonly<Record<string, unknown>>) => wayOf(parsed(method));

  /** A test that Warder makes itself, where there is one: declared, or the provider's. */
  const ownTest = (method: Method): Subject['test'] => {
    const declared = 'recipe' in method ? method.recipe.test : method.test;
    if (!declared) return subject.test;
    return (secret, context, patient) =>
      takeTest(subject, network, patient ? declared : { ...declared, patience_seconds: 0 }, secret, context);
  };

  /** What was said to be ended must be: a recipe may name a key by another one's id, and a 404 passes for "gone". */
  const requireDead = async (secret: SecretFields, context: RotationContext): Promise<void> => {
    const test = ownTest(parsed(context.method));
    const text = secret[subject.field]?.reveal();
    if (!test || text === context.current[subject.field]?.reveal()) return;
    try {
      await test(secret, context, false);
    } catch (error) {
      if (error instanceof ProviderFailure && error.kind === 'refused') return;
      throw error;
    }
    throw new ProviderFailure('unavailable', 'the secret was said to be ended, and is still accepted');
  };

  return {
    methodSchema: jsonSchemaOf(form),
    checkMethod(method, settings) {
      const read = checked(formOf(method), method, 'method');
      if (!read.ok) return read;
      const [name] = Object.keys(read.value);
      const unfit = subject.problem?.(settings);
      const declared = 'test' in read.value ? read.value.test : undefined;
      const problems = [
        ...(unfit === undefined ? [] : [`method: ${unfit}`]),
        ...wayOf(read.value)
          .problems(settings)
          .map((problem) => `method.${name}.${problem}`),
        ...(declared ? testProblems(subject, declared, settings).map((problem) => `method.${problem}`) : []),
      ];
      return problems.length === 0 ? { ok: true, value: { ...read.value } } : { ok: false, problems };
    },
    destinations: (method, settings) => of(method).destinations(settings),
    overlaps: (method) => of(method).overlaps(),
    create: (context) => of(context.method).create(context),
    set: (next, context) => of(context.method).set(next, context),
    async test(secret, context) {
      const test = ownTest(parsed(context.method));
      return test ? test(secret, context, true) : of(context.method).test(secret, context);
    },
    async undo(next, context) {
      await of(context.method).undo(next, context);
      if (next) await requireDead(next, context);
    },
    async retire(previous, context) {
      await of(context.method).retire(previous, context);
      await requireDead(previous, context);
    },
  };
};
