/** What is asked of the ledger about rotations. */
import type { Lease, Rotation } from '../../domain/rotation.ts';

export interface RotationReader {
  rotation(id: string): Promise<Rotation | undefined>;
  /** Newest first. */
  rotations(
    filter: { policy_id?: string | undefined },
    page: { before?: string | undefined; limit: number },
  ): Promise<Rotation[]>;
  /** The last one that ended well or is in its grace, of each policy that has one. */
  lastRotations(): Promise<Rotation[]>;
  /** Numbers of secrets of a connection that a rotation replaced. */
  rotatedAway(connectionId: string): Promise<number[]>;
  /** The highest number any secret of a connection ever had; 0 when there is none. */
  newestSecretNumber(connectionId: string): Promise<number>;
  lease(id: string): Promise<Lease | undefined>;
}
