/**
 * A provider is the adapter for one kind of external system.
 *
 * The issuance cycle (services/issue-grant.ts) calls `plan` -> [intent is committed, when the plan has a handle] ->
 * `mint` -> [settle is committed]. Whatever fails after the intent goes through `revoke`, now or after a restart.
 *
 * Contract (test/conformance/provider.ts):
 * - `plan` is pure and quick: it only computes. What it returns as `handle` must be enough for `revoke`, even when
 *   `mint` never ran, died half-way, or did its work without anybody hearing of it.
 * - `mint` may learn a better handle on the way (a lease id): it calls `journal(handle)` and waits for it before it
 *   goes on; from then on that handle is the one to revoke, unless the minted answer brings another.
 * - What `mint` makes ends by itself at `expiresAt` wherever the upstream can do that: the last net below the drain.
 * - `revoke` is idempotent and succeeds when the target is gone or never was. It may be called for one grant more than
 *   once, also at the same time.
 * - A call whose context's signal is aborted ends soon and rejects. All calls reject with {@link ProviderFailure};
 *   nobody waits longer for them than the signal says.
 */
import type { GatewayRule } from '../domain/gateway-rules.ts';
import type { Connection, CredentialType, Enforcement, Grant } from '../domain/model.ts';
import type { SecretText } from '../domain/secret-text.ts';

/** Where a grant's undo finds what was made. JSON, no secret in it: it is stored in clear. */
export type Handle = Record<string, unknown>;

/** What `issue` knows before anything was made. Lives are in milliseconds since the epoch. */
export interface MintRequest {
  grantId: string;
  agent: { id: string; name: string };
  connection: Connection;
  scopes: string[];
  subject: string | null;
  issuedAt: number;
  expiresAt: number;
}

/** A connection's secret in force, as fields: `{ value }` for an API key, `{ username, password }` for a database. */
export interface ConnectionSecret {
  version: number;
  fields: Readonly<Record<string, SecretText>>;
}

export interface ProviderContext {
  now(): number;
  /** Aborted when the time for the call is over. */
  signal: AbortSignal;
  /** The secret in force, read anew at each call; undefined when the connection has none. */
  secret(): Promise<ConnectionSecret | undefined>;
  /** Makes a handle durable before the provider goes on. */
  journal(handle: Handle): Promise<void>;
  /**
   * Replaces the connection's secret (a rotating refresh token) by compare-and-swap on its version.
   * @returns the new version, or undefined when someone else replaced it first: then read `secret()` again
   */
  replaceSecret(from: number, fields: Record<string, string>): Promise<number | undefined>;
  /** Signs a JWT with the broker's current key; only providers of Warder's own tokens use it. */
  signJwt(claims: Record<string, unknown>): Promise<string>;
}

export interface MintPlan {
  credentialType: CredentialType;
  /** null: nothing comes to exist upstream, so there is nothing to undo and no intent to commit. */
  handle: Handle | null;
}

export interface Minted {
  /** What the agent receives; `type` is the plan's `credentialType`. Gateway credentials are made by the cycle. */
  credential: { type: CredentialType } & Record<string, unknown>;
  /** The bearer string Warder must recognise at introspection and revocation, where there is one. */
  bearer?: string;
  /** A better handle than the planned or journalled one, where the upstream's answer brought it. */
  handle?: Handle;
}

/** What the gateway needs of a connection whose requests it forwards. */
export interface GatewayTarget {
  baseUrl: string;
  allowPrivateNetwork: boolean;
  inject: { in: 'header' | 'query'; name: string; value: string };
  /** The secret values to mask wherever the upstream echoes them. */
  secrets: string[];
  timeouts: { connectMs: number; headersMs: number; idleMs: number };
}

export type Checked<T> = { ok: true; value: T } | { ok: false; problems: string[] };

export interface Provider {
  readonly type: string;
  /** Who narrows what this connection issues: of one provider, some upstreams can and others cannot. */
  enforcement(settings: Record<string, unknown>): Enforcement;
  /** JSON Schema of `settings`, for the API description. */
  readonly settingsSchema: Record<string, unknown>;
  /** Checks what an operator wrote and fills in defaults. Problems name the field, never a secret. */
  checkSettings(settings: unknown): Checked<Record<string, unknown>>;
  /** Checks the secret's fields; `ok` with undefined for a provider that keeps none. */
  checkSecret(secret: unknown): Checked<Record<string, string> | undefined>;
  /**
   * Where the secret is sent, from checked settings: `https://api.example.com`. When that changes the secret must be
   * given anew, or whoever may change settings could have it sent to himself. Absent where it goes nowhere.
   */
  secretDestination?(settings: Record<string, unknown>): string;
  /** The scopes a connection offers, from its checked settings. */
  scopes(settings: Record<string, unknown>): string[];
  plan(request: MintRequest): MintPlan;
  mint(request: MintRequest, plan: MintPlan, context: ProviderContext): Promise<Minted>;
  revoke(grant: Pick<Grant, 'id' | 'handle'>, connection: Connection, context: ProviderContext): Promise<void>;
  /** Prolongs at the upstream; absent where the credential's life cannot be changed after it was made. */
  renew?(grant: Grant, connection: Connection, expiresAt: number, context: ProviderContext): Promise<void>;
  /** Rules a scope, for connections whose requests pass through the gateway. */
  gatewayRules?(settings: Record<string, unknown>, scope: string): GatewayRule[];
  gatewayTarget?(connection: Connection, secret: ConnectionSecret): GatewayTarget;
}

/** A provider's failure. `public` may be shown to the agent; the cause stays in the log, without its request. */
export class ProviderFailure extends Error {
  readonly kind: 'unavailable' | 'timeout' | 'refused';

  constructor(kind: 'unavailable' | 'timeout' | 'refused', message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ProviderFailure';
    this.kind = kind;
  }
}
