/**
 * Rotation by a recipe: the calls of the service's own API, declared. Two kinds of services:
 *
 * - `create`, `revoke`: the service makes keys, several can live at once. The old one works until it is revoked.
 * - `set`: the secret is chosen by whoever sets it, here by Warder. One replaces the other.
 *
 * A service that makes the new key and kills the old one in the same call is not among them: when that answer is lost,
 * nobody has a key that works.
 */
import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { MIN_SECRET_BYTES } from '../../src/domain/secret-mask.ts';
import { SecretText } from '../../src/domain/secret-text.ts';
import { ProviderFailure } from '../../src/ports/provider.ts';
import type { RotationContext, SecretFields } from '../../src/ports/rotation.ts';
import type { Network } from '../network.ts';
import { injected } from '../providers/shared/gateway-settings.ts';
import { withoutSlash } from '../providers/shared/upstream-url.ts';
import { type Credentials, type DeclaredCall, idAt, placeholdersOf, send, sending, unexpected } from './call.ts';
import { takeTest } from './declared-test.ts';
import { type Recipe, recipeDestinations, recipeProblems } from './recipe-form.ts';
import { carriedOver, present, revealed, type Subject, usable, type Way } from './subject.ts';
import { at, type Values } from './template.ts';

const maxPages = 50;

/** What was journalled: whether the service was asked for a key whose answer may have been lost, and the key's id. */
const handleForm = z.object({ asked: z.boolean().default(false), id: z.string().optional() });
const journalled = ({ handle }: RotationContext): z.infer<typeof handleForm> =>
  handleForm.catch({ asked: true }).parse(handle ?? {});

export const recipeWay = (subject: Subject, network: Network): Way<Recipe> => {
  const fetchOf = ({ connection }: RotationContext) =>
    network.fetch({ allowPrivateNetwork: subject.allowsPrivateNetwork(connection.settings) });
  const siteOf = (baseUrl: string | undefined, context: RotationContext) => {
    if (baseUrl === undefined) throw new ProviderFailure('refused', 'the recipe names no base_url');
    return { fetch: fetchOf(context), baseUrl: withoutSlash(baseUrl) };
  };
  const common = ({ rotationId, connection }: RotationContext): Values => ({
    rotation_id: rotationId,
    connection: connection.name,
  });

  const adminKey = (method: Recipe, { current }: RotationContext): Credentials => {
    const key = current['admin_key']?.reveal();
    if (key === undefined) throw new ProviderFailure('refused', 'the secret of this connection has no admin_key');
    return injected(method.inject ?? { header: 'Authorization', value: 'Bearer {secret}' }, key);
  };

  /** @param asker whose secret proves it where the recipe does not say otherwise */
  const call = async (
    method: Recipe,
    step: string,
    declared: DeclaredCall,
    context: RotationContext,
    values: Values = {},
    asker: SecretFields | 'usual' = 'usual',
    more: [string, string][] = [],
  ) => {
    const credentials =
      asker === 'usual' && method.authorise === 'admin_key'
        ? adminKey(method, context)
        : await subject.credentials(asker === 'usual' ? context.current : asker, context, method.oauth_scopes);
    const site = siteOf(method.base_url ?? subject.baseUrl(context.connection.settings), context);
    return sending(step, send(site, declared, { ...common(context), ...values }, credentials, context.signal, more));
  };

  /** Asks for a new key. When that was clearly refused, the journal says that nothing is there to be found. */
  const ask = async (method: Recipe, create: DeclaredCall, context: RotationContext) => {
    try {
      const answer = await call(method, 'create', create, context);
      if (!create.expect.includes(answer.status)) throw unexpected(answer, 'create');
      return answer;
    } catch (error) {
      if (error instanceof ProviderFailure && error.kind === 'refused') await context.journal({ asked: false });
      throw error;
    }
  };

  /** Ids of all keys of this attempt. */
  const found = async (method: Recipe, context: RotationContext): Promise<string[]> => {
    const { list } = method;
    if (!list) return [];
    const ids: string[] = [];
    let more: [string, string][] = [];
    for (let page = 1; page <= maxPages; page += 1) {
      const answer = await call(method, 'list', list, context, {}, 'usual', more);
      if (!list.expect.includes(answer.status)) throw unexpected(answer, 'list');
      const items = at(answer.body, list.items);
      if (!Array.isArray(items)) throw new ProviderFailure('unavailable', 'the answer to list has no list in it');
      for (const item of items) {
        const name = at(item, list.name);
        if (typeof name !== 'string' || !name.includes(context.rotationId)) continue;
        const id = idAt(item, list.id);
        if (id === undefined) throw new ProviderFailure('unavailable', 'the answer to list has no id of a key');
        ids.push(id);
      }
      const next = list.next && at(answer.body, list.next.pointer);
      if (!list.next || (typeof next !== 'string' && typeof next !== 'number') || next === '') return ids;
      more = [[list.next.query, String(next)]];
    }
    throw new ProviderFailure('unavailable', `the service lists more than ${maxPages} pages of keys`);
  };

  const end = async (
    method: Recipe,
    key: { id: string | undefined; secret: SecretFields | undefined },
    context: RotationContext,
  ): Promise<void> => {
    const { revoke } = method;
    if (!revoke) return;
    if (revoke.as === 'itself' && !key.secret) {
      throw new ProviderFailure('refused', 'revoke: a key that is not known cannot revoke itself');
    }
    const values: Values = present({ id: key.id, secret: key.secret?.[subject.field]?.reveal() });
    const asker = revoke.as === 'itself' && key.secret ? key.secret : 'usual';
    const answer = await call(method, 'revoke', revoke, context, values, asker);
    if (revoke.expect.includes(answer.status) || revoke.gone.includes(answer.status)) return;
    // A key that may not even ask any more is dead.
    if (revoke.as === 'itself' && answer.status === 401) return;
    throw unexpected(answer, 'revoke');
  };

  /** @returns undefined when the service says that this secret is not valid */
  const identified = async (method: Recipe, secret: SecretFields, context: RotationContext) => {
    const { identify } = method;
    if (!identify) return { id: undefined };
    const answer = await call(method, 'identify', identify, context, {}, secret);
    if (answer.status === 401) return undefined;
    if (!identify.expect.includes(answer.status)) throw unexpected(answer, 'identify');
    const id = idAt(answer.body, identify.id);
    // A service that echoes what it was asked with: an id goes into paths, and paths are logged.
    const { id: _, ...secrets } = revealed(secret);
    if (id === undefined || !isFree(id, Object.values(secrets)))
      throw new ProviderFailure('unavailable', 'the answer to identify has no id where the recipe says');
    return { id };
  };

  const needsId = ({ revoke }: Recipe): boolean => revoke !== undefined && placeholdersOf(revoke).has('id');
  const textOf = (fields: SecretFields): string | undefined => fields[subject.field]?.reveal();

  const tested = (method: Recipe, secret: SecretFields, context: RotationContext, patient = true): Promise<void> => {
    const { test } = method;
    if (test) {
      return takeTest(subject, network, patient ? test : { ...test, patience_seconds: 0 }, secret, context);
    }
    if (subject.test) return subject.test(secret, context, patient);
    throw new ProviderFailure('refused', 'the recipe has no test');
  };

  const isAccepted = async (method: Recipe, secret: SecretFields, context: RotationContext): Promise<boolean> => {
    try {
      await tested(method, secret, context, false);
      return true;
    } catch (error) {
      if (error instanceof ProviderFailure && error.kind === 'refused') return false;
      throw error;
    }
  };

  /** Makes one of the two secrets the one in force, asked for by whichever of them is. */
  const replace = async (
    method: Recipe,
    declared: DeclaredCall,
    wanted: SecretFields,
    other: SecretFields | undefined,
    context: RotationContext,
  ): Promise<void> => {
    if (await isAccepted(method, wanted, context)) return;
    if (method.authorise === 'secret' && !(other && (await isAccepted(method, other, context)))) {
      throw new ProviderFailure('refused', 'the service accepts neither the secret in force nor the next one');
    }
    const values = present({ secret: textOf(wanted), id: context.current['id']?.reveal() });
    const answer = await call(
      method,
      'set',
      declared,
      context,
      values,
      method.authorise === 'secret' && other ? other : 'usual',
    );
    if (!declared.expect.includes(answer.status)) throw unexpected(answer, 'set');
  };

  return {
    problems: (method, settings) => recipeProblems(subject, method, settings),
    destinations: (method, settings) => recipeDestinations(subject, method, settings),
    overlaps: (method) => method.create !== undefined,

    async create(method, context) {
      const { create, generate } = method;
      const { current } = context;
      // Before anything is made: a test that refuses a good secret would refuse the new one, and leave both in doubt. An
      // admin key can make another one also where the one in force is dead.
      if (method.authorise === 'secret' && !(await isAccepted(method, current, context))) {
        throw new ProviderFailure('refused', 'the test refuses the secret in force; nothing was made');
      }
      if (!create) {
        const value = `${generate.prefix}${randomBytes(generate.bytes).toString('base64url')}`;
        // A test that everybody passes would put a secret in force that the service was never told.
        if (await isAccepted(method, { ...current, [subject.field]: new SecretText(value) }, context)) {
          throw new ProviderFailure('refused', 'the test accepts a secret that nobody has set: it shows nothing');
        }
        return { ...carriedOver(current), ...present({ id: current['id']?.reveal() }), [subject.field]: value };
      }
      // And a key that could not be ended later would stay for ever.
      if (needsId(method) && current['id'] === undefined) {
        const which = await identified(method, current, context);
        if (!which) throw new ProviderFailure('refused', 'the service does not accept the secret in force');
        if (which.id === undefined) {
          throw new ProviderFailure(
            'refused',
            'the id of the key in force is not known: give the secret anew with its id, or let the recipe identify it',
          );
        }
      }
      const leftOver = journalled(context).asked ? await found(method, context) : [];
      for (const id of leftOver) await end(method, { id, secret: undefined }, context);
      await context.journal({ asked: true });
      const answer = await ask(method, create, context);
      const key = textAt(answer.body, create.secret);
      const named = create.id === undefined ? undefined : idAt(answer.body, create.id);
      // An id is journalled and put into paths: one with a secret in it is none.
      const { id: _, ...secrets } = revealed(current);
      const id = named !== undefined && isFree(named, [key, ...Object.values(secrets)]) ? named : undefined;
      const fields = present({ id, [subject.field]: key });
      const next = usable(subject, fields, current);
      if (next && next[subject.field] !== textOf(current) && (id !== undefined || create.id === undefined)) return next;
      if (id !== undefined) await context.journal({ asked: true, id });
      throw new ProviderFailure(
        'unavailable',
        next
          ? 'the answer to create has no new key in it'
          : 'the answer to create has no usable secret where the recipe says',
      );
    },

    async set(method, next, context) {
      if (method.set) await replace(method, method.set, next, context.current, context);
    },

    test: (method, secret, context) => tested(method, secret, context),

    async undo(method, next, context) {
      if (method.set) {
        if (next) await replace(method, method.set, context.current, next, context);
        return;
      }
      const { asked, id } = journalled(context);
      const inForce = context.current['id']?.reveal();
      const known = [next?.['id']?.reveal(), id].filter((one) => one !== undefined);
      const ids = new Set([...known, ...(asked || next ? await found(method, context) : [])]);
      for (const one of ids) {
        if (one === inForce) continue;
        await end(method, { id: one, secret: one === next?.['id']?.reveal() ? next : undefined }, context);
      }
      if (ids.size > 0 || method.list) return;
      if (next) {
        const which = needsId(method) ? await identified(method, next, context) : { id: undefined };
        if (which && textOf(next) !== textOf(context.current))
          await end(method, { id: which.id, secret: next }, context);
        return;
      }
      if (!asked) return;
      throw new ProviderFailure(
        'refused',
        `the service was asked for a key and its answer was lost; the recipe has no list to find it by: look for ${context.rotationId} there`,
      );
    },

    async retire(method, previous, context) {
      if (method.set || textOf(previous) === textOf(context.current)) return;
      const stored = previous['id']?.reveal();
      const which =
        stored !== undefined || !needsId(method) ? { id: stored } : await identified(method, previous, context);
      // Not valid any more: it was ended before.
      if (!which) return;
      if (which.id !== undefined && which.id === context.current['id']?.reveal()) {
        throw new ProviderFailure(
          'refused',
          'the service knows the old key by the id of the one in force: nothing was revoked',
        );
      }
      await end(method, { id: which.id, secret: previous }, context);
    },
  };
};

/** Whether a text has no secret in it. */
const isFree = (text: string, secrets: readonly (string | undefined)[]): boolean =>
  !secrets.some((secret) => secret !== undefined && secret.length >= MIN_SECRET_BYTES && text.includes(secret));

const textAt = (document: unknown, where: string): string | undefined => {
  const found = at(document, where);
  return typeof found === 'string' ? found : undefined;
};
