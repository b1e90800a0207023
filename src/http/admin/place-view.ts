/** How far an endpoint has been told, as operators see it. */
import type { DeliveryPlace } from '../../domain/delivery.ts';

const isoOrNull = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());

export const placeView = (row: DeliveryPlace & { created_at: number; updated_at: number }) => ({
  /** Number of the first audit entry that is not dealt with. */
  cursor: row.cursor,
  tries: row.tries,
  next_try_at: isoOrNull(row.next_try_at),
  failing_since: isoOrNull(row.failing_since),
  last_failure: row.last_failure,
  last_delivered_at: isoOrNull(row.last_delivered_at),
  delivered: row.delivered,
  failed: row.failed,
  skipped: row.skipped,
  created_at: new Date(row.created_at).toISOString(),
  updated_at: new Date(row.updated_at).toISOString(),
});
