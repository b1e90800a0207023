/**
 * How a provider replaces the secret of a connection without ever being without one.
 *
 * The engine (services/rotation) goes through `create` -> [the new secret is committed, pending] -> `set` -> `test` ->
 * [it is committed as the one in force] -> the grace -> `retire` of the one before. It commits each step before it takes
 * it, and may be killed anywhere: every call may come again, after it did its work and nobody heard, or after it did not.
 *
 * Contract (test/conformance/rotation.ts):
 * - `create` makes or obtains a new secret, another one at each call. What it makes upstream can be found again from the
 *   connection, the secret in force and what it journalled before it acted, or `undo` could not remove it.
 * - `set` has the upstream accept `next`. It is idempotent, and finds out for itself which of the two secrets it can
 *   sign in with: a call before may have done its work unheard.
 * - `test` makes a real call with a secret, changes nothing, and resolves when the upstream accepted it. It rejects as
 *   `refused` only when the upstream said that this secret is not valid; in doubt as `unavailable` or `timeout`.
 * - `undo` has the upstream accept the secret in force, and `next` no more; it removes what `create` made, with or
 *   without its answer (`next` is undefined when it was never committed). It is idempotent.
 * - `retire` ends a secret that is in force no more, and succeeds when it is gone already. It never touches another one.
 * - Where {@link SecretRotation.overlaps} says no, one secret replaces the other at `set`: nothing is left to retire, and
 *   the engine decides by `test` which of the two is in force after a crash.
 * - All calls reject with `ProviderFailure`, whose message is public. Nobody waits longer than the signal says.
 */
import type { Connection } from '../domain/model.ts';
import type { SecretText } from '../domain/secret-text.ts';
import type { Checked, Handle } from './provider.ts';

/** A secret, opened: its fields as `Provider.checkSecret` names them. */
export type SecretFields = Readonly<Record<string, SecretText>>;

export interface RotationContext {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Aborted when the time for this call is over. */
  readonly signal: AbortSignal;
  /** Of this attempt: a name for what is made upstream, and the key of requests that must not take place twice. */
  readonly rotationId: string;
  readonly connection: Connection;
  /** How, as `checkMethod` left it. */
  readonly method: Readonly<Record<string, unknown>>;
  /** The secret in force. */
  readonly current: SecretFields;
  /** What was journalled last in this rotation; null when nothing was. */
  readonly handle: Handle | null;
  /** Makes durable, before acting, what `undo` and `set` will have to know. Stored in clear: no secret in it. */
  journal(handle: Handle): Promise<void>;
}

export interface SecretRotation {
  /** JSON Schema of the method, for the API description. */
  readonly methodSchema: Record<string, unknown>;
  /**
   * Checks what an operator wrote about how to rotate, and fills in defaults; undefined asks for the usual way of this
   * provider, where there is one. Problems name the field, never a secret.
   */
  checkMethod(method: unknown, settings: Record<string, unknown>): Checked<Record<string, unknown>>;
  /**
   * Where secrets are sent by this method beside the connection's own `secretDestination`: origins, or `script:<name>`.
   * Whoever may write connections must not have the secret in force sent to himself: a method that adds one needs the
   * secret given anew in the same request.
   */
  destinations(method: Readonly<Record<string, unknown>>, settings: Record<string, unknown>): string[];
  /** Whether the secret that is replaced works until `retire`, so that a grace means something. */
  overlaps(method: Readonly<Record<string, unknown>>, settings: Record<string, unknown>): boolean;
  create(context: RotationContext): Promise<Record<string, string>>;
  set(next: SecretFields, context: RotationContext): Promise<void>;
  test(secret: SecretFields, context: RotationContext): Promise<void>;
  undo(next: SecretFields | undefined, context: RotationContext): Promise<void>;
  retire(previous: SecretFields, context: RotationContext): Promise<void>;
}
