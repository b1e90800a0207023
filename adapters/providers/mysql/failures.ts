/** What went wrong at a MySQL or MariaDB, as agents and logs may hear of it: the number, never the server's words. */
import { Refused } from '../../../src/domain/refusals.ts';
import { ProviderFailure } from '../../../src/ports/provider.ts';
import { LoginRefused } from '../database/connection-pools.ts';

/** The number of an error the server sent; undefined for everything else. */
export const serverError = (error: unknown): number | undefined => {
  // Errors of the network have an `errno` too: a negative one, and no `sqlState`.
  const sent = error instanceof Error && 'errno' in error && 'sqlState' in error ? error.errno : undefined;
  return typeof sent === 'number' && sent > 0 ? sent : undefined;
};

/** https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html */
export const errors = {
  /** ER_CANNOT_USER: CREATE USER of one that is there, ALTER USER of one that is not. */
  cannotUser: 1396,
  /** ER_NO_SUCH_THREAD: it ended before it was killed. */
  noSuchThread: 1094,
} as const;

/** About the server's state, not about what it was asked. */
const unavailable = new Set([
  ...[1037, 1038, 1040, 1041, 1053, 1077, 1079, 1080, 1129, 1135, 1203, 1205, 1213, 1226, 1290, 1317, 1836],
  // MariaDB: connection killed, and max_statement_time exceeded.
  ...[1927, 1969],
]);
/** ER_ACCESS_DENIED_ERROR, ER_DBACCESS_DENIED_ERROR, ER_ACCESS_DENIED_NO_PASSWORD_ERROR, ER_ACCOUNT_HAS_BEEN_LOCKED. */
const login = new Set([1044, 1045, 1698, 3118, 4151]);

/**
 * What the server said about a login: its password is wrong (ER_ACCESS_DENIED_ERROR, also for a host or a connection
 * that the account is not for), or it is not let in whatever its password; undefined for everything else.
 */
export const loginVerdict = (error: unknown): 'wrong' | 'shut' | undefined => {
  const number = serverError(error);
  return number === 1045 ? 'wrong' : number === 3118 || number === 4151 ? 'shut' : undefined;
};

/**
 * @param refusal what is said where the server refused the statement itself
 * @throws ProviderFailure always; what Warder itself refused (a secret while it is sealed) as it is
 */
export const failed = (
  error: unknown,
  signal: AbortSignal,
  refusal = 'the database refused what this scope needs',
): never => {
  if (error instanceof ProviderFailure || error instanceof Refused) throw error;
  if (signal.aborted) throw new ProviderFailure('timeout', 'the database did not answer in time');
  const number = serverError(error);
  if (number === undefined) {
    throw new ProviderFailure('unavailable', 'the database cannot be reached', { cause: nameless(error) });
  }
  const cause = new Error(`MySQL error ${number}`);
  if (unavailable.has(number)) throw new ProviderFailure('unavailable', 'the database is in trouble', { cause });
  if (number === 1045) throw new LoginRefused('refused', 'the database refused Warder’s login', { cause });
  if (login.has(number)) throw new ProviderFailure('refused', 'the database refused Warder’s login', { cause });
  throw new ProviderFailure('refused', refusal, { cause });
};

/** Of an error of the network or the library: which it was. It may carry the statement, and that a password. */
const nameless = (error: unknown): Error => {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  return new Error(/^[A-Z_0-9]{2,50}$/.test(code) ? code : 'not the protocol');
};
