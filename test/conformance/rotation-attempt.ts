/**
 * One attempt of a rotation, driven through the port as the engine drives it: what is told is kept, so that the tests
 * can die anywhere and go on from what would be on the disk.
 */
import { inspect } from 'node:util';
import type { Connection } from '../../src/domain/model.ts';
import { SecretText } from '../../src/domain/secret-text.ts';
import type { Handle, Provider } from '../../src/ports/provider.ts';
import type { RotationContext, SecretFields, SecretRotation } from '../../src/ports/rotation.ts';

export type Fields = Record<string, string>;

/** Somebody at the upstream whose secret is rotated. */
export interface RotatedAccount {
  /** As an operator writes them. */
  settings: object;
  method: unknown;
  /** In force at the beginning, and the only one. */
  secret: Fields;
  /** Of the form of `secret`, and refused by the upstream. */
  wrong: Fields;
  /** Whether the upstream takes it: asked past the provider, and past the trouble. */
  accepts(secret: Fields): Promise<boolean>;
  /** How many secrets the upstream would take of this account, whoever knows them; left out where it does not tell. */
  count?(): Promise<number>;
}

/** The process is gone: what is thrown where it dies. */
export class Died extends Error {}

/** Where an attempt dies while it journals: before what it journals is durable, or after. */
export interface Death {
  /** The journalling it dies at: 1 is the first. */
  at: number;
  durable: boolean;
}

export interface AttemptOptions {
  provider: Provider;
  account: RotatedAccount;
  /** In force when the attempt begins. */
  current: Fields;
  death?: Death;
  /** Hears of each secret that was created. */
  made?(secret: Fields): void;
  /** Hears of everything that is stored or shown in clear. */
  spoken(text: string): void;
}

export type Step = 'create' | 'set' | 'test';
export const steps: readonly Step[] = ['create', 'set', 'test'];

export interface Attempt {
  /** What `create` gave last and was committed. */
  next(): Fields;
  create(signal?: AbortSignal): Promise<Fields>;
  set(signal?: AbortSignal): Promise<void>;
  /** Of the new secret unless told. */
  test(secret?: Fields, signal?: AbortSignal): Promise<void>;
  /** As after a crash that lost what `create` gave, when `unheard`. */
  undo(unheard?: boolean, signal?: AbortSignal): Promise<void>;
  /** The new secret is in force from here on. */
  finish(): Fields;
  retire(previous: Fields, signal?: AbortSignal): Promise<void>;
  /** The steps, one after the other, from one to another. */
  run(from?: Step, to?: Step): Promise<void>;
  /** How often it journalled. */
  journalled(): number;
}

const patienceMs = 10_000;
let attempts = 0;
/** Of the form of the engine's ids, another one each time. */
const someRotationId = (): string => {
  attempts += 1;
  return `rot_01test${String(process.pid).padStart(10, '0')}${String(attempts).padStart(10, '0')}`;
};

export const secretFields = (fields: Fields): SecretFields =>
  Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, new SecretText(value)]));

export const rotationOf = (provider: Provider): SecretRotation => {
  if (!provider.rotation) throw new Error('a provider that rotates says how');
  return provider.rotation;
};

/** The connection's row, as the engine hands it over. */
export const connectionOf = (provider: Provider, account: RotatedAccount): Connection => {
  const checked = provider.checkSettings(account.settings);
  if (!checked.ok) throw new Error(checked.problems.join('\n'));
  return {
    id: 'con_conformance',
    name: 'conformance',
    provider: provider.type,
    owner: null,
    settings: checked.value,
    status: 'active',
    secret_version: 1,
    secret_source: null,
    version: 1,
    created_at: 0,
    updated_at: 0,
  };
};

/** @throws Error with the problems when the method is not right */
export const methodOf = (provider: Provider, account: RotatedAccount): Record<string, unknown> => {
  const { settings } = connectionOf(provider, account);
  const checked = rotationOf(provider).checkMethod(account.method, settings);
  if (!checked.ok) throw new Error(checked.problems.join('\n'));
  return checked.value;
};

export const beginAttempt = ({ provider, account, current, death, made, spoken }: AttemptOptions): Attempt => {
  const rotation = rotationOf(provider);
  const method = methodOf(provider, account);
  // Two accounts are two connections.
  const connection = {
    ...connectionOf(provider, account),
    id: connectionIdOf(account),
  };
  const rotationId = someRotationId();
  let inForce = current;
  let handle: Handle | null = null;
  let next: Fields | undefined;
  let journalled = 0;

  const context = (signal = AbortSignal.timeout(patienceMs)): RotationContext => ({
    now: () => Date.now(),
    signal,
    rotationId,
    connection,
    method,
    current: secretFields(inForce),
    handle,
    journal: async (given) => {
      journalled += 1;
      spoken(JSON.stringify(given));
      const dies = death?.at === journalled;
      if (!dies || death.durable) handle = JSON.parse(JSON.stringify(given)) as Handle;
      if (dies) throw new Died();
    },
  });
  const heard = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (error) {
      spoken(inspect(error, { depth: 12, showHidden: true, maxStringLength: null }));
      throw error;
    }
  };
  const known = (): Fields => {
    if (!next) throw new Error('nothing was created');
    return next;
  };

  const attempt: Attempt = {
    next: known,
    create: async (signal) => {
      next = await heard(rotation.create(context(signal)));
      made?.(next);
      return next;
    },
    set: async (signal) => heard(rotation.set(secretFields(known()), context(signal))),
    test: async (secret = known(), signal) => heard(rotation.test(secretFields(secret), context(signal))),
    undo: async (unheard = false, signal) =>
      heard(rotation.undo(unheard || !next ? undefined : secretFields(next), context(signal))),
    finish: () => {
      inForce = known();
      return inForce;
    },
    retire: async (previous, signal) => heard(rotation.retire(secretFields(previous), context(signal))),
    run: async (from = 'create', to = 'test') => {
      for (const step of steps.slice(steps.indexOf(from), steps.indexOf(to) + 1)) await attempt[step]();
    },
    journalled: () => journalled,
  };
  return attempt;
};

const connectionIds = new WeakMap<RotatedAccount, string>();
const connectionIdOf = (account: RotatedAccount): string => {
  const id = connectionIds.get(account) ?? someRotationId().replace('rot_', 'con_');
  connectionIds.set(account, id);
  return id;
};
