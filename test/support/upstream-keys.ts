/**
 * The keys of an account at the upstream of the tests: which are accepted. As strict as a cloud is: two at most, so that
 * one that was left behind is in the way of the next.
 */
import { randomBytes } from 'node:crypto';

export interface UpstreamKey {
  id: string;
  value: string;
}

const mostKeys = 2;

export class UpstreamKeys {
  readonly #accepted = new Map<string, UpstreamKey>();

  /** What an administrator does by hand. */
  put(key: UpstreamKey): void {
    this.#accepted.set(key.id, key);
  }

  get all(): UpstreamKey[] {
    return [...this.#accepted.values()];
  }

  accepts(key: unknown): boolean {
    const { id, value } = key as Partial<UpstreamKey>;
    return value !== undefined && this.#accepted.get(String(id))?.value === value;
  }

  /** @returns undefined when there is one of this id, or there are too many */
  create(id: string): UpstreamKey | undefined {
    if (this.#accepted.has(id) || this.#accepted.size >= mostKeys) return undefined;
    const key = { id, value: randomBytes(18).toString('base64url') };
    this.#accepted.set(id, key);
    return key;
  }

  /** @returns whether there was one */
  delete(id: string): boolean {
    return this.#accepted.delete(id);
  }
}
