/**
 * How the login of an administrator is rotated, whatever the database: two of them take turns, or one gets another
 * password. Which statements do that is each database's own ({@link RotatedLogins}).
 *
 * Whoever was killed half-way may have sent a statement that has not run yet. So each call first ends what an earlier
 * call of the same connection has open; from then on what the server says is how it is.
 */
import { randomBytes } from 'node:crypto';
import { ProviderFailure } from '../../../src/ports/provider.ts';
import type { RotationContext, SecretFields, SecretRotation } from '../../../src/ports/rotation.ts';
import type { Login } from './connection-pools.ts';

/** Two logins, of which one is in force and the other is shut out, or one that changes its own password. */
export type LoginMethod = { alternate: readonly string[] } | { password: true };

/**
 * What a server said to a login: `wrong` is about the password alone, `shut` is that it lets this one in with none, and
 * `powerless` that it lets it in and not do what Warder's login has to do.
 */
export type Verdict = 'taken' | 'wrong' | 'shut' | 'powerless';

/** What a database can do with logins. Calls throw what the driver throws. */
export interface RotatedLogins<M extends LoginMethod, S extends { destroy(): void }> {
  open(login: Login, method: M, context: RotationContext): Promise<S>;
  /** Ends what earlier calls of the same connection have open as this login; what they sent has run or never will. */
  endEarlier(session: S, method: M, context: RotationContext): Promise<void>;
  /** What it says about the login that a session could not be opened; undefined for every other failure. */
  judge(error: unknown): Exclude<Verdict, 'taken'> | undefined;
  /** @throws ProviderFailure always */
  fail(error: unknown, signal: AbortSignal): never;
  /** Changes the password of the session's own login, and ends its other sessions. */
  change(session: S, login: Login, method: M): Promise<void>;
  /** Gives another login this password, and lets it in. */
  admit(session: S, login: Login, method: M): Promise<void>;
  /** Whether another login is let in with some password; `gone` when there is no such login. */
  state(session: S, username: string): Promise<'open' | 'shut' | 'gone'>;
  /** Lets another login in no more and takes its password, unless it is `shut` already, and ends its sessions. */
  shutOut(session: S, username: string, state: 'open' | 'shut', method: M): Promise<void>;
}

type Calls = Pick<SecretRotation, 'create' | 'set' | 'test' | 'undo' | 'retire'>;

/** @param parsed the method as it was checked */
export const loginRotation = <M extends LoginMethod, S extends { destroy(): void }>(
  logins: RotatedLogins<M, S>,
  parsed: (method: object) => M,
): Calls => {
  /** Runs `work` in a session of this login. @throws what the driver throws */
  const signedIn = async <T>(login: Login, context: RotationContext, work: (session: S) => Promise<T>): Promise<T> => {
    const { signal } = context;
    signal.throwIfAborted();
    const session = await logins.open(login, parsed(context.method), context);
    const stop = (): void => session.destroy();
    signal.addEventListener('abort', stop, { once: true });
    try {
      signal.throwIfAborted();
      return await work(session);
    } finally {
      signal.removeEventListener('abort', stop);
      session.destroy();
    }
  };

  /** The same, when nothing else is under way any more. */
  const within = <T>(login: Login, context: RotationContext, work: (session: S) => Promise<T>): Promise<T> =>
    signedIn(login, context, async (session) => {
      await logins.endEarlier(session, parsed(context.method), context);
      return work(session);
    });

  const verdictOn = async (login: Login, context: RotationContext): Promise<Verdict> => {
    try {
      await signedIn(login, context, async () => undefined);
      return 'taken';
    } catch (error) {
      const verdict = context.signal.aborted ? undefined : logins.judge(error);
      if (verdict === undefined) throw error;
      return verdict;
    }
  };

  /** As the first of these that is let in. */
  const asEither = async (
    either: readonly [Login, Login],
    context: RotationContext,
    work: (session: S, by: Login) => Promise<void>,
  ): Promise<void> => {
    for (const by of either) {
      try {
        return await within(by, context, (session) => work(session, by));
      } catch (error) {
        if (context.signal.aborted || logins.judge(error) !== 'wrong') throw error;
      }
    }
    throw new ProviderFailure('refused', 'the database takes neither the password in force nor the new one');
  };

  /** Ends a login if it is the one meant: with another password it is somebody else's, or a later one. */
  const end = async (session: S, login: Login, method: M, context: RotationContext): Promise<void> => {
    const state = await logins.state(session, login.username);
    if (state === 'gone') return;
    if (state === 'open' && (await verdictOn(login, context)) === 'wrong') return;
    await logins.shutOut(session, login.username, state, method);
  };

  /** A login that failed in another way than by what it is: nobody knows whether its password is right. */
  const inDoubt = (error: unknown, signal: AbortSignal): never => {
    try {
      return logins.fail(error, signal);
    } catch (failure) {
      if (!(failure instanceof ProviderFailure) || failure.kind !== 'refused') throw failure;
      throw new ProviderFailure('unavailable', failure.message, { cause: failure.cause });
    }
  };

  const calls: Calls = {
    create: async ({ current, method }) => {
      const { username } = loginOf(current);
      const how = parsed(method);
      const password = randomBytes(32).toString('base64url');
      return { username: 'alternate' in how ? otherOf(how.alternate, username) : username, password };
    },
    set: async (fields, context) => {
      const [current, next, method] = [loginOf(context.current), loginOf(fields), parsed(context.method)];
      if ('alternate' in method) {
        requireOther(method.alternate, current, next);
        return within(current, context, (session) => logins.admit(session, next, method));
      }
      requireSame(current, next);
      return asEither([current, next], context, (session) => logins.change(session, next, method));
    },
    test: async (fields, context) => {
      const verdict = await verdictOn(loginOf(fields), context).catch((error: unknown) =>
        inDoubt(error, context.signal),
      );
      if (verdict === 'taken') return;
      if (verdict === 'wrong') throw new ProviderFailure('refused', 'the database does not take this password');
      if (verdict === 'powerless') {
        throw new ProviderFailure('refused', 'the database takes this login, and does not let it do Warder’s work');
      }
      // Which password it would have taken, of one login, nobody knows.
      const kind = 'alternate' in parsed(context.method) ? 'refused' : 'unavailable';
      throw new ProviderFailure(kind, 'the database does not let this login in, whatever its password');
    },
    undo: async (fields, context) => {
      // Before `set` nothing of it is upstream.
      if (!fields) return;
      const [current, next, method] = [loginOf(context.current), loginOf(fields), parsed(context.method)];
      if ('alternate' in method) {
        requireOther(method.alternate, current, next);
        return within(current, context, (session) => end(session, next, method, context));
      }
      requireSame(current, next);
      return asEither([current, next], context, async (session, by) => {
        if (by === current && (await verdictOn(current, context)) === 'taken') return;
        await logins.change(session, current, method);
      });
    },
    retire: async (fields, context) => {
      const [current, previous, method] = [loginOf(context.current), loginOf(fields), parsed(context.method)];
      const alternated = 'alternate' in method && method.alternate.includes(previous.username);
      if (alternated && previous.username !== current.username) {
        return within(current, context, (session) => end(session, previous, method, context));
      }
      if ((await verdictOn(previous, context)) === 'wrong') return;
      throw new ProviderFailure('refused', 'the login before is not one that this method may end: end it by hand');
    },
  };

  /** Whatever a call throws leaves it as a ProviderFailure. */
  const judged =
    <A extends unknown[], T>(call: (...args: A) => Promise<T>, signalOf: (...args: A) => AbortSignal) =>
    async (...args: A): Promise<T> => {
      try {
        return await call(...args);
      } catch (error) {
        return logins.fail(error, signalOf(...args));
      }
    };
  const ofSecond = (_: unknown, { signal }: RotationContext): AbortSignal => signal;
  return {
    create: judged(calls.create, ({ signal }) => signal),
    set: judged(calls.set, ofSecond),
    test: judged(calls.test, ofSecond),
    undo: judged(calls.undo, ofSecond),
    retire: judged(calls.retire, ofSecond),
  };
};

/** @throws ProviderFailure `refused` for a secret that is no login */
const loginOf = (fields: SecretFields): Login => {
  const login = { username: fields['username']?.reveal() ?? '', password: fields['password']?.reveal() ?? '' };
  if (login.username === '' || login.password === '') {
    throw new ProviderFailure('refused', 'this connection has no username and password');
  }
  return login;
};

const otherOf = (pair: readonly string[], username: string): string => {
  const other = pair.find((name) => name !== username);
  if (other === undefined || !pair.includes(username)) {
    throw new ProviderFailure('refused', 'the login in force is not one of the two that alternate');
  }
  return other;
};

const requireOther = (pair: readonly string[], current: Login, next: Login): void => {
  if (next.username === otherOf(pair, current.username)) return;
  throw new ProviderFailure('refused', 'the new login is not the other one of the two that alternate');
};

const requireSame = (current: Login, next: Login): void => {
  if (next.username === current.username) return;
  throw new ProviderFailure('refused', 'the new secret is of another login');
};
