/** The last tries of one endpoint, for people who look into it. In memory: what became of a message is in the audit log. */
export interface Tried {
  message: string;
  type: string;
  seq: number;
  /** When it began; ms since the epoch. */
  at: number;
  ms: number;
  /** What it answered; null when it did not. */
  status: number | null;
  /** A stable word; null when it was taken. */
  failure: string | null;
}

const kept = 50;

export class Recently {
  readonly #tries: Tried[] = [];
  #failed = 0;

  add(tried: Tried): void {
    this.#tries.push(tried);
    if (this.#tries.length > kept) this.#tries.shift();
    if (tried.failure !== null) this.#failed += 1;
  }

  /** Newest first. */
  list(): readonly Tried[] {
    return this.#tries.toReversed();
  }

  /** Tries that failed since this process started. */
  get failed(): number {
    return this.#failed;
  }
}
