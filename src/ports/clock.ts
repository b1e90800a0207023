/** Milliseconds since the epoch. Never goes back, not even over a restart, and never stands still. */
export interface Clock {
  now(): number;
}

/** Cryptographically secure random bytes. */
export type Entropy = (bytes: number) => Uint8Array;
