/** What every call of a provider to the outside is handed: the time, a deadline, and the connection's secret. */
import type { SecretText } from '../domain/secret-text.ts';

/** A connection's secret in force, as fields: `{ value }` for an API key, `{ username, password }` for a database. */
export interface ConnectionSecret {
  version: number;
  fields: Readonly<Record<string, SecretText>>;
}

export interface CallContext {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Aborted when the time for the call is over. */
  signal: AbortSignal;
  /** The secret in force, read anew at each call; undefined when the connection has none. */
  secret(): Promise<ConnectionSecret | undefined>;
}
