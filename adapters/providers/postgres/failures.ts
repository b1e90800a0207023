/** What went wrong at a PostgreSQL, as agents and logs may hear of it: the code, never the server's words. */
import { Refused } from '../../../src/domain/refusals.ts';
import { ProviderFailure } from '../../../src/ports/provider.ts';
import { LoginRefused } from '../database/connection-pools.ts';
import { divisionByZero } from './statements.ts';

/** The five characters of an error the server sent; undefined for everything else. */
export const sqlState = (error: unknown): string | undefined => {
  const code = error instanceof Error && 'severity' in error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) ? code : undefined;
};

/**
 * Roles are rows that everybody changes: the loser of a race is told so in one of these ways, and may try again
 * (https://www.postgresql.org/docs/current/errcodes-appendix.html).
 */
const passing = new Set([
  '40P01', // deadlock_detected
  '40001', // serialization_failure
  'XX000', // internal_error: "tuple concurrently updated"
  '55006', // object_in_use
  '55P03', // lock_not_available
  '2BP01', // dependent_objects_still_exist: made between looking and dropping
  '23505', // unique_violation in a catalog: two made the same role at once
  '42710', // duplicate_object: likewise
  '42704', // undefined_object: two ended it at once
]);

export const mayPass = (error: unknown): boolean => passing.has(sqlState(error) ?? '');

/** The login is taken, and may not become the role it is to act as. */
export class Powerless extends ProviderFailure {}

/**
 * What the server said about a login: its password is wrong, or it is not let in whatever its password (NOLOGIN, or
 * pg_hba.conf); undefined for everything else.
 */
export const loginVerdict = (error: unknown): 'wrong' | 'shut' | 'powerless' | undefined => {
  if (error instanceof Powerless) return 'powerless';
  const code = sqlState(error);
  return code === '28P01' ? 'wrong' : code === '28000' ? 'shut' : undefined;
};

/** The role is gone, is not ours, has sessions that do not end, or has things: what is so, must be looked at. */
const unusual = new Set([divisionByZero, '42704', '2BP01']);
export const isUnusual = (error: unknown): boolean => unusual.has(sqlState(error) ?? '');

/** Classes of errors that say something about the server's state and not about what it was asked. */
const unavailable = /^(?:08|53|57P|58|XX|40|55)/;

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
  const code = sqlState(error);
  if (code === undefined) {
    throw new ProviderFailure('unavailable', 'the database cannot be reached', { cause: nameless(error) });
  }
  const cause = new Error(`SQLSTATE ${code}`);
  if (code === divisionByZero) {
    throw new ProviderFailure('unavailable', 'sessions of this role do not end', { cause });
  }
  if (code === '57014') throw new ProviderFailure('timeout', 'the database did not answer in time', { cause });
  if (unavailable.test(code)) throw new ProviderFailure('unavailable', 'the database is in trouble', { cause });
  if (code === '28P01') throw new LoginRefused('refused', 'the database refused Warder’s login', { cause });
  if (code.startsWith('28')) throw new ProviderFailure('refused', 'the database refused Warder’s login', { cause });
  throw new ProviderFailure('refused', refusal, { cause });
};

/** Of an error of the network: which it was. Its message may have been written by the other side. */
const nameless = (error: unknown): Error => {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const name = error instanceof Error ? error.name : 'unknown';
  return new Error(/^[A-Z_0-9]{2,50}$/.test(code) ? `${name} ${code}` : name);
};
