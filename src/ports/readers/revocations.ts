/** What is asked of the ledger about revocations: what they reach, what is left of it, what their receipts list. */
import type { Grant, Revocation, Selector } from '../../domain/model.ts';
import type { ListedCounts } from '../../domain/receipt.ts';

/** A fence that stands, as facts that do not change any more. */
export interface StandingFence {
  selector: Selector;
  /** Agents the selector's owner owned when it was put up. */
  ownedAgents: readonly string[];
  /** Its place in the ledger. */
  seq: number;
  /** Milliseconds since the epoch. */
  at: number;
}

/** An agent, a connection or a subject, and how many live grants of it a selector matches. */
export interface Touched {
  id: string;
  grants: number;
  /** Those with something to clean up upstream. */
  upstream: number;
}

export interface BlastCount {
  total: number;
  upstream: number;
  /** Those with most grants first; of each at most 10 000 are named. */
  connections: Touched[];
  agents: Touched[];
  subjects: { items: Touched[]; more: boolean };
  /** Which subject is acted for through which connection; null: the organisation itself. */
  acted_for: { connection_id: string; subject: string | null }[];
}

/** A page of a receipt's list. */
export interface ListedPage {
  /** In order, each as `listedLine` (domain/receipt.ts) writes it. */
  lines: string[];
  counts: ListedCounts;
  /** Ids of the agents and connections they name. */
  named: string[];
  /** Where the next page begins; null at the end. */
  after: string | null;
}

export interface RevocationReader {
  /** As `countLiveGrants` before a fence stands, with what is touched. */
  blastRadius(selector: Selector, now: number, ownedAgents: string[]): Promise<BlastCount>;
  /**
   * What a fence that stands has killed, in one look, so that a clean-up that goes on is counted once: what is not
   * cleaned up upstream or has nothing there, and how the others ended.
   */
  countKilled(
    revocationId: string,
    fence: StandingFence,
  ): Promise<{ live: { total: number; upstream: number }; revoked: number; unrevocable: number }>;
  /**
   * Grants of before the fence that it matches and that are `live` upstream, by id from after `after`; also those that
   * are intended. Without those of the connections `without`, and those known to end by themselves later than `now`.
   */
  upstreamGrantsOf(
    fence: StandingFence,
    now: number,
    after: string,
    limit: number,
    without: readonly string[],
  ): Promise<Grant[]>;
  /** When the next of those that a revocation killed and that end by themselves later than `now` does; null: none. */
  nextEndOf(revocationId: string, now: number): Promise<number | null>;
  /** Connections with grants that were killed by this fence, or may have been. */
  connectionsOf(revocationId: string, fence: StandingFence): Promise<string[]>;
  /**
   * What a receipt lists, by id from after `after`, looking at no more than `limit` grants.
   * @param now what ends by itself is counted by whether it has by then
   */
  listedGrants(fence: StandingFence, now: number, after: string, limit: number): Promise<ListedPage>;
  /** Grants that a revocation killed and that are `unrevocable`, by id. */
  unrevocableGrants(revocationId: string, limit: number): Promise<Grant[]>;
  /** Revocations that are to rotate secrets and have not yet worked out which. */
  revocationsToRotate(): Promise<Revocation[]>;
}
