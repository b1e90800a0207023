/** One pool a connection, as long as its settings and its secret are what they were when it was opened. */
import { createHash } from 'node:crypto';
import type { Connection } from '../../../src/domain/model.ts';
import { type ProviderContext, ProviderFailure } from '../../../src/ports/provider.ts';
import type { ClientPool } from './client-pool.ts';

/** Whom to log in as: kept as long as there are sessions, to open more. */
export interface Login {
  username: string;
  password: string;
}

export class ConnectionPools<C> {
  readonly #make: (connection: Connection, login: Login, emptied: () => void) => ClientPool<C>;
  readonly #pools = new Map<string, { key: string; pool: ClientPool<C> }>();

  constructor(make: (connection: Connection, login: Login, emptied: () => void) => ClientPool<C>) {
    this.#make = make;
  }

  /** @throws ProviderFailure `refused` when the connection has no secret */
  async of(connection: Connection, context: ProviderContext): Promise<{ pool: ClientPool<C>; login: Login }> {
    const secret = await context.secret();
    const login = {
      username: secret?.fields['username']?.reveal() ?? '',
      password: secret?.fields['password']?.reveal() ?? '',
    };
    if (login.username === '') throw new ProviderFailure('refused', 'this connection has no secret');
    const key = createHash('sha256')
      .update(JSON.stringify([connection.settings, secret?.version, login.username, login.password]))
      .digest('base64');
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
