/** Rotations that have not ended, in memory: few at any time. A row that ends is dropped when that is heard. */
import { isOpen, type Rotation, type RotationPolicy } from '../../domain/rotation.ts';
import type { Write } from '../../ports/ledger.ts';

export class RotationRows {
  readonly #byId = new Map<string, Rotation>();

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
    return this.all()
      .filter((row) => row.policy_id === policyId)
      .sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  put(row: Rotation): void {
    if (isOpen(row.status)) this.#byId.set(row.id, row);
    else this.#byId.delete(row.id);
  }

  drop(id: string): void {
    this.#byId.delete(id);
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
