/**
 * What the tests of rotations share (rotation.ts): accounts to rotate, attempts whose words are watched, and what must
 * be so afterwards.
 */
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import type { Provider } from '../../src/ports/provider.ts';
import type { Upstream } from './provider.ts';
import {
  type Attempt,
  type AttemptOptions,
  beginAttempt,
  type Fields,
  type RotatedAccount,
} from './rotation-attempt.ts';

export interface RotationUnderTest {
  provider: Provider;
  /**
   * Somebody else at each call, with one secret in force. `hostile`: with all that the system allows in the names and the
   * secrets of its accounts.
   */
  account(kind: 'plain' | 'hostile'): Promise<RotatedAccount>;
  /** Puts the upstream into trouble and out of it, as for test/conformance/provider.ts; see the trait. */
  trouble?: Pick<Upstream['trouble'], 'down' | 'slow' | 'hangs' | 'halfDone' | 'late' | 'well'>;
  close(): Promise<void>;
}

/** What a method can do, said beforehand. */
export interface RotationTraits {
  /** Whether the secret that is replaced works until it is retired; must be what `overlaps` of the port says. */
  overlaps: boolean;
  /** Whether the upstream can be brought back to the secret in force after another one took its place. */
  undoes?: boolean;
  /** Whether the upstream can be put into trouble. */
  trouble?: boolean;
  /** Whether what breaks off and is done later all the same is undone too: not where nobody can know of it yet. */
  late?: boolean;
  /** Fields of the secret that anybody may see: a name, the id of a key. */
  publicFields?: readonly string[];
}

/** The ways a secret is written in what is meant to be read by somebody. */
const spellings = (secret: string): string[] => [
  secret,
  JSON.stringify(secret).slice(1, -1),
  encodeURIComponent(secret),
  Buffer.from(secret).toString('base64').replace(/=+$/, ''),
  Buffer.from(secret).toString('base64url'),
  Buffer.from(secret).toString('hex'),
];

export interface RotationKit {
  traits: Required<RotationTraits>;
  under(): RotationUnderTest;
  someAccount(kind?: 'plain' | 'hostile'): Promise<RotatedAccount>;
  begin(account: RotatedAccount, options?: Partial<AttemptOptions>): Attempt;
  /** Finishes an attempt, so that its new secret is in force, and retires the one before. @returns the new one */
  conclude(attempt: Attempt, previous: Fields): Promise<Fields>;
  /** A whole rotation. @returns the new secret */
  rotate(account: RotatedAccount, current: Fields): Promise<Fields>;
  /** That the upstream takes this one, none of the others, and that there is no other one. */
  expectOnly(account: RotatedAccount, secret: Fields, others: Fields[], when: string): Promise<void>;
  /** Undoes, twice; what is left is the old secret, which can be rotated as if nothing had been. */
  expectUndone(account: RotatedAccount, attempt: Attempt, when: string, unheard?: boolean): Promise<void>;
  /** Tests that need a trait, or are left out. */
  ifTrouble: Declare;
  ifUndoes: Declare;
  ifOverlaps: Declare;
}

type Declare = (name: string, body: () => Promise<void>) => void;

/** @returns what the work failed with */
export const failureOf = async (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'no failure',
    (error: unknown) => error,
  );

/** To be called within a `describe`. */
export const rotationKit = (
  setup: () => Promise<RotationUnderTest>,
  { overlaps, undoes = true, trouble = true, late = false, publicFields = [] }: RotationTraits,
): RotationKit => {
  let under: RotationUnderTest;
  let spoken: string[] = [];
  let secrets = new Set<string>();

  beforeAll(async () => {
    under = await setup();
  });
  afterEach(async () => {
    await under.trouble?.well();
    const text = spoken.join('\n');
    spoken = [];
    const told = [...secrets].filter((secret) => spellings(secret).some((spelling) => text.includes(spelling)));
    secrets = new Set();
    expect(told).toEqual([]);
  });
  afterAll(async () => {
    await under?.close();
  });

  const remember = (fields: Fields): void => {
    for (const [field, value] of Object.entries(fields)) if (!publicFields.includes(field)) secrets.add(value);
  };
  const begin: RotationKit['begin'] = (account, { current = account.secret, ...more } = {}) =>
    beginAttempt({
      provider: under.provider,
      account,
      current,
      made: remember,
      spoken: (text) => spoken.push(text),
      ...more,
    });
  const conclude: RotationKit['conclude'] = async (attempt, previous) => {
    const next = attempt.finish();
    if (overlaps) await attempt.retire(previous);
    return next;
  };
  const rotate: RotationKit['rotate'] = async (account, current) => {
    const attempt = begin(account, { current });
    await attempt.run();
    return conclude(attempt, current);
  };
  const expectOnly: RotationKit['expectOnly'] = async (account, secret, others, when) => {
    const accepted = await Promise.all([secret, ...others].map((one) => account.accepts(one)));
    expect([when, ...accepted]).toEqual([when, true, ...others.map(() => false)]);
    if (account.count) expect([when, await account.count()]).toEqual([when, 1]);
  };
  const skipped: Declare = () => undefined;

  return {
    traits: { overlaps, undoes, trouble, late, publicFields },
    under: () => under,
    someAccount: async (kind = 'plain') => {
      const account = await under.account(kind);
      remember(account.secret);
      remember(account.wrong);
      return account;
    },
    begin,
    conclude,
    rotate,
    expectOnly,
    expectUndone: async (account, attempt, when, unheard = false) => {
      await attempt.undo(unheard);
      const others = unheard ? [] : [attempt.next()];
      await expectOnly(account, account.secret, others, `${when}, undone`);
      await attempt.undo(unheard);
      await expectOnly(account, account.secret, others, `${when}, undone twice`);
      const next = await rotate(account, account.secret);
      await expectOnly(account, next, [account.secret, ...others], `${when}, undone and rotated`);
    },
    ifTrouble: trouble ? test : skipped,
    ifUndoes: undoes ? test : skipped,
    ifOverlaps: overlaps ? test : skipped,
  };
};
