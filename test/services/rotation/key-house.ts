/**
 * An upstream for tests of rotation that really keeps keys, in memory, and a provider that rotates them. It can fail at
 * each call in every way there is: before it did its work, after it, by refusing, or by not answering.
 *
 * - `test-keys`: keys side by side; `create` makes one there.
 * - `test-password`: one password; `set` replaces it.
 */
import { randomBytes } from 'node:crypto';
import { type Provider, ProviderFailure } from '../../../src/ports/provider.ts';
import type { RotationContext, SecretFields, SecretRotation } from '../../../src/ports/rotation.ts';

export type Call = 'create' | 'set' | 'test' | 'undo' | 'retire';
export const calls: readonly Call[] = ['create', 'set', 'test', 'undo', 'retire'];
export type Kind = 'keys' | 'password';
/** `lost`: it happened, and nobody heard. */
export type Fault = 'failed' | 'lost' | 'refused' | 'hangs' | 'lost and hangs';

export interface KeyHouse {
  provider: Provider;
  /** Values that are accepted, by id; a password's id is `password`. */
  accepted: Map<string, string>;
  /** What the next calls meet, in order; nothing = they work. */
  faults: { call: Call; fault: Fault }[];
  /** Every call that came in. */
  log: { call: Call; rotation: string }[];
  /** Called before a call does its work: how a test stops it there. */
  before: (call: Call) => Promise<void> | void;
  /** A secret that is accepted and no good: its test is refused whenever it is tried. */
  isBad: (value: string) => boolean;
  /** Called whenever what is accepted has changed, and after each call. */
  changed: () => void;
  accepts(secret: Readonly<Record<string, string>>): boolean;
  newSecret(): Record<string, string>;
}

const fieldsOf = (secret: SecretFields): { id: string; value: string } => ({
  id: secret['id']?.reveal() ?? '',
  value: secret['value']?.reveal() ?? '',
});

const never = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => {
    const late = (): void => reject(new ProviderFailure('timeout', 'the key house did not answer'));
    if (signal.aborted) late();
    else signal.addEventListener('abort', late, { once: true });
  });

export const openKeyHouse = (kind: Kind, type = `test-${kind}`): KeyHouse => {
  const accepted = new Map<string, string>();
  const accepts = ({ id, value }: { id: string; value: string }): boolean => accepted.get(id) === value;
  const newValue = (): string => randomBytes(12).toString('hex');

  const signIn = (...secrets: (SecretFields | undefined)[]): void => {
    if (secrets.some((secret) => secret && accepts(fieldsOf(secret)))) return;
    throw new ProviderFailure('refused', 'the key house takes none of these keys');
  };

  const met = async <T>(call: Call, context: RotationContext, work: () => T): Promise<T> => {
    house.log.push({ call, rotation: context.rotationId });
    await house.before(call);
    const at = house.faults.findIndex((one) => one.call === call);
    const fault = at < 0 ? undefined : house.faults.splice(at, 1)[0]?.fault;
    if (fault === 'failed') throw new ProviderFailure('unavailable', 'the key house is closed');
    if (fault === 'refused') throw new ProviderFailure('refused', `the key house refuses to ${call}`);
    if (fault === 'hangs') return never(context.signal);
    const result = work();
    house.changed();
    if (fault === 'lost and hangs') return never(context.signal);
    if (fault === 'lost') throw new ProviderFailure('unavailable', 'the answer of the key house was lost');
    return result;
  };

  /** Keys are named after the rotation, so that one whose answer was lost can be found again. */
  const keys: SecretRotation = {
    methodSchema: { type: 'object' },
    checkMethod: (method) => {
      const to = (method as { also_to?: unknown } | undefined)?.also_to;
      if (to !== undefined && typeof to !== 'string') return { ok: false, problems: ['method.also_to: an origin'] };
      return { ok: true, value: to === undefined ? {} : { also_to: to } };
    },
    destinations: ({ also_to }) => ['https://keys.example', ...(typeof also_to === 'string' ? [also_to] : [])],
    overlaps: () => true,
    create: async (context) => {
      await context.journal({ id: context.rotationId });
      return met('create', context, () => {
        signIn(context.current);
        const made = { id: context.rotationId, value: newValue() };
        accepted.set(made.id, made.value);
        return made;
      });
    },
    set: (next, context) => met('set', context, () => signIn(next)),
    test: (secret, context) =>
      met('test', context, () => {
        if (house.isBad(fieldsOf(secret).value)) throw new ProviderFailure('refused', 'this key may do nothing');
        signIn(secret);
      }),
    undo: (next, context) =>
      met('undo', context, () => {
        signIn(context.current);
        const id = context.handle?.['id'] ?? (next && fieldsOf(next).id);
        if (typeof id === 'string') accepted.delete(id);
      }),
    retire: (previous, context) =>
      met('retire', context, () => {
        signIn(context.current);
        accepted.delete(fieldsOf(previous).id);
      }),
  };
  const password: SecretRotation = {
    ...keys,
    overlaps: () => false,
    create: (context) => met('create', context, () => ({ id: 'password', value: newValue() })),
    set: (next, context) =>
      met('set', context, () => {
        signIn(context.current, next);
        accepted.set('password', fieldsOf(next).value);
      }),
    undo: (next, context) =>
      met('undo', context, () => {
        signIn(context.current, next);
        accepted.set('password', fieldsOf(context.current).value);
      }),
    retire: (_previous, context) => met('retire', context, () => undefined),
  };

  const provider: Provider = {
    type,
    enforcement: () => 'upstream',
    settingsSchema: { type: 'object' },
    checkSettings: (settings) => ({ ok: true, value: { ...(settings as object) } }),
    checkSecret: (secret) => {
      const { id, value } = (secret ?? {}) as { id?: unknown; value?: unknown };
      if (typeof id !== 'string' || typeof value !== 'string') return { ok: false, problems: ['secret: id and value'] };
      return { ok: true, value: { id, value } };
    },
    secretDestination: (settings) => String(settings['url'] ?? 'https://keys.example'),
    scopes: () => ['all'],
    plan: () => ({ credentialType: 'account', handle: null }),
    mint: async () => ({ credential: { type: 'account' } }),
    revoke: async () => undefined,
    rotation: kind === 'keys' ? keys : password,
  };
  const house: KeyHouse = {
    provider,
    accepted,
    faults: [],
    log: [],
    before: () => undefined,
    isBad: () => false,
    changed: () => undefined,
    accepts: (secret) => accepts({ id: secret['id'] ?? '', value: secret['value'] ?? '' }),
    newSecret: () => {
      const secret = { id: kind === 'keys' ? `by-hand-${newValue()}` : 'password', value: newValue() };
      accepted.set(secret.id, secret.value);
      return secret;
    },
  };
  return house;
};
