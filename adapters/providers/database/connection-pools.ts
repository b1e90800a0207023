/** One pool a connection, as long as its settings and its secret are what they were when it was opened. */
import { createHash } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { Connection } from '../../../src/domain/model.ts';
import { type ProviderContext, ProviderFailure } from '../../../src/ports/provider.ts';
import type { ClientPool } from './client-pool.ts';

/** Whom to log in as: kept as long as there are sessions, to open more. */
export interface Login {
  username: string;
  password: string;
}

/** The server did not take the password: before anything was done. */
export class LoginRefused extends ProviderFailure {}

export interface OpenPool<C> {
  pool: ClientPool<C>;
  login: Login;
}

/** The key is another one when the settings or the secret are. */
interface SecretInForce {
  key: string;
  login: Login;
}

/** A password that is changed at the server is committed here a moment later: so long it is waited for, so often looked. */
const replacedWithinMs = 1_000;
const lookMs = 50;

export class ConnectionPools<C> {
  readonly #make: (connection: Connection, login: Login, emptied: () => void) => ClientPool<C>;
  readonly #pools = new Map<string, { key: string; pool: ClientPool<C> }>();

  constructor(make: (connection: Connection, login: Login, emptied: () => void) => ClientPool<C>) {
    this.#make = make;
  }

  /**
   * Runs `work` with the pool of the secret in force; once more with the next one, when the login is refused because
   * the secret is being replaced at this moment. Nobody signs in meanwhile: there are servers that count failures.
   * @throws ProviderFailure `refused` when the connection has no secret; what `work` throws
   */
  async use<T>(connection: Connection, context: ProviderContext, work: (open: OpenPool<C>) => Promise<T>): Promise<T> {
    const first = await secretInForce(connection, context);
    try {
      return await work(this.#poolOf(connection, first));
    } catch (error) {
      if (!(error instanceof LoginRefused)) throw error;
      for (const began = performance.now(); performance.now() - began < replacedWithinMs; ) {
        await pause(lookMs);
        if (context.signal.aborted) break;
        const next = await secretInForce(connection, context);
        if (next.key !== first.key) return work(this.#poolOf(connection, next));
      }
      throw error;
    }
  }

  #poolOf(connection: Connection, { key, login }: SecretInForce): OpenPool<C> {
    const known = this.#pools.get(connection.id);
    if (known?.key === key) return { pool: known.pool, login };
    known?.pool.retire();
    const pool = this.#make(connection, login, () => {
      if (this.#pools.get(connection.id)?.pool === pool) this.#pools.delete(connection.id);
    });
    this.#pools.set(connection.id, { key, pool });
    return { pool, login };
  }
}

/** @throws ProviderFailure `refused` when the connection has no secret */
const secretInForce = async (connection: Connection, context: ProviderContext): Promise<SecretInForce> => {
  const secret = await context.secret();
  const login = {
    username: secret?.fields['username']?.reveal() ?? '',
    password: secret?.fields['password']?.reveal() ?? '',
  };
  if (login.username === '') throw new ProviderFailure('refused', 'this connection has no secret');
  const key = createHash('sha256')
    .update(JSON.stringify([connection.settings, secret?.version, login.username, login.password]))
    .digest('base64');
  return { key, login };
};
