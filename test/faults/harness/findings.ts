/** What a run found, and its figures. */

/** Of design: 1 recorded before delivered, 2 nothing lost, 3 revoked is dead, 6 expired is dead, 10 backups, 11 orphans. */
export const invariants = {
  1: 'no credential leaves, and no call is made, before its entry is durable',
  2: 'nothing acknowledged is lost',
  3: 'after an acknowledged revocation no use of a matching grant succeeds',
  6: 'expiry is checked at use',
  10: 'a restored backup brings nothing back to life',
  11: 'nothing minted upstream is orphaned, and the secret in force is the one that works',
  12: 'nothing fails in a way nobody foresaw',
} as const;
export type Invariant = keyof typeof invariants;

export interface Finding {
  invariant: Invariant;
  /** Lane and life: `0.17` is the eighteenth life of the first lane. */
  at: string;
  what: string;
}

export const killKinds = ['time', 'sync', 'start', 'start-sync', 'recovery'] as const;
export type KillKind = (typeof killKinds)[number];

/** Counts by name; a name is there from its first time. */
export class Tally {
  readonly #counts = new Map<string, number>();
  add(name: string, count = 1): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + count);
  }
  get(name: string): number {
    return this.#counts.get(name) ?? 0;
  }
  entries(): [string, number][] {
    return [...this.#counts].sort(([a], [b]) => a.localeCompare(b));
  }
}

export class Figures {
  /** Answered with success: `issue gate`, `revoke agent`, `rotate secret`, … */
  readonly done = new Tally();
  /** Answered otherwise, by code. */
  readonly refused = new Tally();
  /** No answer came: the broker died. */
  unanswered = 0;
  readonly kills = new Tally();
  /** What was checked, by invariant and what: to see that a check had something to check. */
  readonly checked = new Tally();
  readonly findings: Finding[] = [];
  /** From the start of the process until it said it was ready, after each kill. */
  readonly readyMs: number[] = [];
  /** From there until everything upstream was as it must be. */
  readonly quietMs: number[] = [];

  get points(): number {
    return this.kills.entries().reduce((sum, [, count]) => sum + count, 0);
  }

  /** Issues, rotations and revocations that were acknowledged. */
  get operations(): number {
    return this.done
      .entries()
      .filter(([name]) => /^(issue|rotate|revoke) /.test(name))
      .reduce((sum, [, count]) => sum + count, 0);
  }
}
