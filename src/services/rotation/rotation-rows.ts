/** Rotations that have not ended, in memory: few at any time. A row that ends is dropped when that is heard. */
import { isOpen, type Rotation, type RotationPolicy } from '../../domain/rotation.ts';
import type { Write } from '../../ports/ledger.ts';

export class RotationRows {
  readonly #byId = new Map<string, Rotation>();
  /** The same: every look of the engine asks for those of every policy. */
  readonly #byPolicy = new Map<string, Map<string, Rotation>>();

  constructor(rows: readonly Rotation[]) {
    for (const row of rows) this.put(row);
  }

  get(id: string): Rotation | undefined {
    return this.#byId.get(id);
  }

  all(): Rotation[] {
    return [...this.#byId.values()];
  }

  /** Oldest first: ids begin with the time. */
  ofPolicy(policyId: string): Rotation[] {
    return [...(this.#byPolicy.get(policyId)?.values() ?? [])].sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  put(row: Rotation): void {
    if (!isOpen(row.status)) {
      this.drop(row.id);
      return;
    }
    this.#byId.set(row.id, row);
    const siblings = this.#byPolicy.get(row.policy_id) ?? new Map<string, Rotation>();
    this.#byPolicy.set(row.policy_id, siblings.set(row.id, row));
  }

  drop(id: string): void {
    const row = this.#byId.get(id);
    if (!row) return;
    this.#byId.delete(id);
    const siblings = this.#byPolicy.get(row.policy_id);
    siblings?.delete(id);
    if (siblings?.size === 0) this.#byPolicy.delete(row.policy_id);
  }
}

/**
 * A new secret is in force: the time of the schedule counts from now. Whoever changes the policy at this moment is not
 * disturbed, nor whoever changes both: no version is counted up.
 */
export const rotatedWrite = ({ id }: RotationPolicy, now: number): Write[] => [
  {
    write: 'update',
    table: 'rotation_policies',
    id,
    set: { rotated_at: now, overdue_reported: null },
  },
];
