/** What is asked of the ledger for those who are told of what happens. */

/** An entry that may have to be told; `body` is null when retention has dropped it. */
export interface EntryToTell {
  seq: number;
  type: string;
  at: number;
  body: string | null;
}

export interface AlertReader {
  /**
   * The first `limit` entries of these types with a number of at least `from`, in order. No type may be one of those
   * that are most of the log: the cost is that of what is found, however long the log.
   */
  entriesToTell(types: readonly string[], from: number, limit: number): Promise<EntryToTell[]>;
  /**
   * Ids of agents, in order and after `after`, to whom something was issued on this connection that would still be alive
   * at `aliveAt`.
   */
  agentsWithGrants(connectionId: string, aliveAt: number, after: string, limit: number): Promise<string[]>;
}
