/** What `oidc-provider` keeps, in memory, so that a test can look at it and end it. */
import type { Adapter, AdapterPayload } from 'oidc-provider';

/** A server may revoke an access token alone, or all that came of the same consent (RFC 7009 section 2.1). */
export const families = { part: false };

const stores = new Map<string, Map<string, AdapterPayload>>();

export const storeOf = (model: string): Map<string, AdapterPayload> => {
  const known = stores.get(model) ?? new Map<string, AdapterPayload>();
  stores.set(model, known);
  return known;
};

const seconds = (): number => Math.floor(Date.now() / 1000);

/** Those whose time is not over. */
export const living = (model: string): AdapterPayload[] =>
  [...storeOf(model).values()].filter(({ exp }) => exp === undefined || exp > seconds());

export class MemoryStore implements Adapter {
  readonly #rows: Map<string, AdapterPayload>;

  constructor(model: string) {
    this.#rows = storeOf(model);
  }

  async upsert(id: string, payload: AdapterPayload): Promise<void> {
    this.#rows.set(id, payload);
  }

  async find(id: string): Promise<AdapterPayload | undefined> {
    return this.#rows.get(id);
  }

  async findByUserCode(): Promise<undefined> {
    return undefined;
  }

  async findByUid(uid: string): Promise<AdapterPayload | undefined> {
    return [...this.#rows.values()].find((row) => row.uid === uid);
  }

  async consume(id: string): Promise<void> {
    const row = this.#rows.get(id);
    if (row) row.consumed = seconds();
  }

  async destroy(id: string): Promise<void> {
    this.#rows.delete(id);
  }

  async revokeByGrantId(grantId: string): Promise<void> {
    if (families.part) return;
    for (const rows of stores.values()) {
      for (const [id, row] of rows) if (row.grantId === grantId) rows.delete(id);
    }
  }
}
