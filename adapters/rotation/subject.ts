/** What the shared ways of rotating (recipe, webhook, script) have to know of the provider whose secret they replace. */
import { z } from 'zod';
import type { Checked, Provider } from '../../src/ports/provider.ts';
import type { RotationContext, SecretFields } from '../../src/ports/rotation.ts';
import type { Credentials } from './call.ts';

type Settings = Readonly<Record<string, unknown>>;

export interface Subject {
  /** Which field of the secret is replaced. */
  readonly field: 'value' | 'client_secret';
  readonly checkSecret: Provider['checkSecret'];
  /** Why no secret of a connection with these settings can be replaced. */
  problem?(settings: Settings): string | undefined;
  /** Where declared calls go, unless the recipe says otherwise: without a slash at its end. */
  baseUrl(settings: Settings): string | undefined;
  allowsPrivateNetwork(settings: Settings): boolean;
  /**
   * How a declared call proves who asks, with this secret.
   * @param scopes of OAuth, where a token is asked for
   */
  credentials(secret: SecretFields, context: RotationContext, scopes: readonly string[]): Promise<Credentials>;
  /** Whether `credentials` asks for a token, so that scopes mean something. */
  readonly asksForTokens: boolean;
  /**
   * The provider's own test of a secret; absent: the method says how.
   * @param patient whether a new secret may take some moments to be known
   */
  test?(secret: SecretFields, context: RotationContext, patient: boolean): Promise<void>;
}

/** One of the ways: as `SecretRotation`, for what its part of the method says. */
export interface Way<M> {
  problems(method: M, settings: Settings): string[];
  destinations(method: M, settings: Settings): string[];
  overlaps(method: M): boolean;
  create(method: M, context: RotationContext): Promise<Record<string, string>>;
  set(method: M, next: SecretFields, context: RotationContext): Promise<void>;
  test(method: M, secret: SecretFields, context: RotationContext): Promise<void>;
  undo(method: M, next: SecretFields | undefined, context: RotationContext): Promise<void>;
  retire(method: M, previous: SecretFields, context: RotationContext): Promise<void>;
}

const visible = (max: number) => z.string().regex(new RegExp(`^[\\x21-\\x7e]{1,${max}}$`), 'visible ASCII, no blanks');

/**
 * Fields that a secret may have for the sake of its rotation. None of them is ever put into a request of an agent.
 * `webhook_secret`: Standard Webhooks, "Signature scheme": 24 to 64 bytes in base64 behind `whsec_`.
 */
export const rotationFields = {
  /** By which the service knows this secret: what is revoked when it is replaced. */
  id: visible(500).optional(),
  /** A second key, which may make and revoke keys. */
  admin_key: visible(8192).optional(),
  webhook_secret: z
    .string()
    .regex(/^whsec_[A-Za-z0-9+/]{32,86}={0,2}$/, 'whsec_ and 24 to 64 bytes in base64')
    .optional(),
};

const kept = ['admin_key', 'webhook_secret'] as const;

/** What the next secret takes over: it is replaced as a whole, and these are nobody's to replace but the operator's. */
export const carriedOver = (current: SecretFields): Record<string, string> =>
  Object.fromEntries(
    kept.flatMap((name) => {
      const found = current[name];
      return found === undefined ? [] : [[name, found.reveal()]];
    }),
  );

/** Leaves out what is absent: stored fields are texts. */
export const present = (fields: Record<string, string | undefined>): Record<string, string> =>
  Object.fromEntries(Object.entries(fields).filter((pair): pair is [string, string] => pair[1] !== undefined));

/** @returns the fields as they are stored, or undefined when no secret of this provider looks so */
export const usable = (
  subject: Subject,
  fields: unknown,
  current: SecretFields,
): Record<string, string> | undefined => {
  if (typeof fields !== 'object' || fields === null) return undefined;
  const checked: Checked<Record<string, string> | undefined> = subject.checkSecret({
    ...fields,
    ...carriedOver(current),
  });
  return checked.ok ? checked.value : undefined;
};

export const revealed = (fields: SecretFields): Record<string, string> =>
  Object.fromEntries(Object.entries(fields).map(([name, text]) => [name, text.reveal()]));
