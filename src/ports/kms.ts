/**
 * A key service wraps small keys under a root key that never leaves it.
 *
 * Contract: `unwrap` gives back what `wrap` was given only with the same context; anything else rejects with
 * {@link KmsRefused} (the key is wrong, gone, disabled, or the context differs). A service that cannot be reached
 * rejects with {@link KmsUnavailable}. The messages of both are public (`/readyz` shows them to anybody): what is wrong,
 * without key material and without the place of the key, which `name` tells the log. Both calls end within seconds.
 */
export interface KeyService {
  /** E.g. `local:/var/lib/warder/root.key`: what `warder key list` shows, and what wrapped keys are filed under. */
  readonly name: string;
  wrap(key: Uint8Array, context: Record<string, string>): Promise<string>;
  unwrap(wrapped: string, context: Record<string, string>): Promise<Uint8Array>;
}

export class KmsUnavailable extends Error {
  override readonly name = 'KmsUnavailable';
}

export class KmsRefused extends Error {
  override readonly name = 'KmsRefused';
}
