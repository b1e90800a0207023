/** Which freezes stand: nothing new is issued for what one of them matches. */
import { type FenceFacts, selectorMatches } from './fences.ts';
import type { Freeze } from './incident.ts';

/** There are none on an ordinary day, and a handful on a bad one: they are walked. */
export class FreezeIndex {
  readonly #standing = new Map<string, Freeze>();

  constructor(freezes: Iterable<Freeze> = []) {
    for (const freeze of freezes) this.put(freeze);
  }

  get(id: string): Freeze | undefined {
    return this.#standing.get(id);
  }

  /** Keeps it while it stands. */
  put(freeze: Freeze): void {
    if (freeze.lifted_at === null) this.#standing.set(freeze.id, freeze);
    else this.#standing.delete(freeze.id);
  }

  drop(id: string): void {
    this.#standing.delete(id);
  }

  all(): Freeze[] {
    return [...this.#standing.values()];
  }

  /** @returns a freeze that matches, or undefined when none does */
  frozenBy(facts: FenceFacts): Freeze | undefined {
    if (this.#standing.size === 0) return undefined;
    for (const freeze of this.#standing.values()) if (selectorMatches(freeze.selector, facts)) return freeze;
    return undefined;
  }
}
