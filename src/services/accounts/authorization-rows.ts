/** The authorizations in memory: whole, because each call through the gateway asks for one. About 1.5 KB each. */
import type { Authorization } from '../../domain/model.ts';

export class AuthorizationRows {
  readonly #byId = new Map<string, Authorization>();
  /** Of each connection by subject; null is the organisation's own. */
  readonly #byConnection = new Map<string, Map<string | null, Authorization>>();

  constructor(rows: readonly Authorization[]) {
    for (const row of rows) this.put(row);
  }

  get(id: string): Authorization | undefined {
    return this.#byId.get(id);
  }

  /** A user's account, or with null the organisation's own: never the one instead of the other. */
  of(connectionId: string, subject: string | null): Authorization | undefined {
    return this.#byConnection.get(connectionId)?.get(subject);
  }

  ofConnection(connectionId: string): Authorization[] {
    return [...(this.#byConnection.get(connectionId)?.values() ?? [])];
  }

  /** How many there are, by status. */
  count(): Record<Authorization['status'], number> {
    const counts = { connected: 0, needs_reconnect: 0, disconnected: 0 };
    for (const { status } of this.#byId.values()) counts[status] += 1;
    return counts;
  }

  put(row: Authorization): void {
    this.drop(row.id);
    this.#byId.set(row.id, row);
    const siblings = this.#byConnection.get(row.connection_id) ?? new Map<string | null, Authorization>();
    siblings.set(row.subject, row);
    this.#byConnection.set(row.connection_id, siblings);
  }

  drop(id: string): void {
    const old = this.#byId.get(id);
    if (!old) return;
    this.#byId.delete(id);
    const siblings = this.#byConnection.get(old.connection_id);
    siblings?.delete(old.subject);
    if (siblings?.size === 0) this.#byConnection.delete(old.connection_id);
  }
}
