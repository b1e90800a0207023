/**
 * A provider is the adapter for one kind of external system.
 *
 * The issuance cycle (services/issuing/issue-grant.ts) calls `plan` -> [intent is committed, when the plan has a handle] ->
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
 * - A handle is stored in clear. What undo needs and is secret (the very token, where only it can end itself) is given
 *   as `keep`, by the minted answer or to `journal`: it is sealed beside the handle and `revoke` reads it with
 *   `context.kept()`. It goes back only to where it came from: the handle says where that was, for the connection's settings
 *   may lead elsewhere by then. After a crash before it was committed `kept()` has nothing: then the credential is lost to
 *   everybody, and `revoke` says how long it lives on.
 * - What cannot be taken back, because the upstream has no call for it or Warder has nothing to call it with, is said:
 *   `revoke` does what it can and resolves with {@link LivesOn}. The grant stays `live` upstream, with that time, until
 *   it is over; nothing is asked of the provider again. It must be a time after which the upstream itself refuses the
 *   credential, clocks that differ allowed for.
 * - A `mint` that rejects as `refused` made nothing, or `revoke` can take it back: {@link LivesOn} is not asked for then,
 *   unless the failure says `made`.
 * - A call whose context's signal is aborted ends soon and rejects. All calls reject with {@link ProviderFailure};
 *   nobody waits longer for them than the signal says.
 */
import type { GrantedDetails } from '../domain/authorization-details.ts';
import type { GatewayRule } from '../domain/gateway-rules.ts';
import type { Connection, CredentialType, Enforcement, Grant, SecretSource } from '../domain/model.ts';
import type { SecretText } from '../domain/secret-text.ts';
import type { AuthorizationAccess, AuthorizationServer } from './authorization.ts';
import type { CallContext, ConnectionSecret } from './call-context.ts';
import type { SecretRotation } from './rotation.ts';

/**
 * Where a grant's undo finds what was made. JSON, no secret in it: it is stored in clear. Names that begin with `$` are
 * Warder's own (src/domain/stored-handle.ts).
 */
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
  /** RFC 7638 thumbprint of the key a JWT of Warder's own is bound to (RFC 9449 section 6); null or absent = none. */
  jkt?: string | null;
  /** What was granted, where it was asked for as authorization_details: for the JWT (RFC 9396 section 9.1). */
  authorizationDetails?: GrantedDetails[] | null;
  /** What the agent gave beside scopes, as `checkRequest` left it: `{ public_key }` for `ssh`. Absent when nothing. */
  parameters?: Record<string, unknown>;
}

/** Where in a vault the fields of another connection's secret are. */
export type SecretReference = Pick<SecretSource, 'path' | 'fields' | 'version'>;

export interface ProviderContext extends CallContext {
  /** Makes a handle durable before the provider goes on; `keep` as in {@link Minted}, and what was kept before if absent. */
  journal(handle: Handle, keep?: Record<string, string>): Promise<void>;
  /**
   * What is kept of this grant, opened; undefined when nothing is. For `revoke` and `renew`.
   * @throws Refused `sealed`
   */
  kept(): Promise<Readonly<Record<string, SecretText>> | undefined>;
  /**
   * Replaces the connection's secret (a rotating refresh token) by compare-and-swap on its version.
   * @returns the new version, or undefined when someone else replaced it first: then read `secret()` again
   */
  replaceSecret(from: number, fields: Record<string, string>): Promise<number | undefined>;
  /** The tokens of what was consented to; only providers with {@link Provider.authorizations} use it. */
  authorization: AuthorizationAccess;
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
  /** What undo needs and is secret. Needs a handle, planned or better: it is sealed beside it, bound to the grant. */
  keep?: Record<string, string>;
}

/** The credential cannot be taken back: it ends by itself, at this time (ms since the epoch) at the latest. */
export interface LivesOn {
  endsBy: number;
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

/** For credentials that somebody checks without asking Warder: the list of those to refuse before their end. */
export interface RevocationList {
  /** The number by which the credential of a grant is listed. Pure. */
  serial(grantId: string): bigint;
  /**
   * Makes the list. Pure, and quick for a hundred thousand: it runs on the event loop.
   * @param list `number` grows with each list; `at` is now, in milliseconds since the epoch
   */
  make(serials: BigUint64Array, list: { number: number; at: number; comment: string }): Uint8Array;
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
  /** Makes a secret that nobody has seen, as `checkSecret` would leave it; absent where only the upstream can make one. */
  generateSecret?(): Record<string, string>;
  /**
   * Where the secret is sent, from checked settings: `https://api.example.com`. When that changes the secret must be
   * given anew, or whoever may change settings could have it sent to himself. Absent where it goes nowhere.
   */
  secretDestination?(settings: Record<string, unknown>): string;
  /** The scopes a connection offers, from its checked settings. */
  scopes(settings: Record<string, unknown>): string[];
  /**
   * Checks, after the decision and before anything is made, what an agent asks for beyond its entitlement: the
   * `parameters`, and whether these scopes can be had in one credential. Pure. Problems are told to the agent.
   * @returns the parameters `plan` and `mint` are given; without this a request with parameters is refused
   */
  checkRequest?(request: MintRequest): Checked<Record<string, unknown>>;
  plan(request: MintRequest): MintPlan;
  mint(request: MintRequest, plan: MintPlan, context: ProviderContext): Promise<Minted>;
  /** @returns nothing when it is gone or never was; until when it lives on where it cannot be taken back */
  revoke(
    grant: Pick<Grant, 'id' | 'handle'>,
    connection: Connection,
    context: ProviderContext,
  ): Promise<LivesOn | undefined> | Promise<void>;
  /** What a person does upstream when `revoke` failed for good: a sentence that names what to end. No secret in it. Pure. */
  byHand?(grant: Pick<Grant, 'id' | 'handle'>, connection: Connection): string;
  /** Whether grants of this connection can be prolonged, where that depends on the settings; absent: as `renew` is. */
  renewable?(settings: Record<string, unknown>): boolean;
  /** Prolongs at the upstream; absent where the credential's life cannot be changed after it was made. */
  renew?(grant: Grant, connection: Connection, expiresAt: number, context: ProviderContext): Promise<void>;
  /** Rules a scope, for connections whose requests pass through the gateway. */
  gatewayRules?(settings: Record<string, unknown>, scope: string): GatewayRule[];
  gatewayTarget?(connection: Connection, secret: ConnectionSecret): GatewayTarget;
  /** What whoever checks these credentials must know, from the secret: one line of text, public. */
  publicKey?(connection: Connection, secret: ConnectionSecret): string;
  readonly revocationList?: RevocationList;
  /** For providers whose systems keep secrets: problems with a reference, without asking the system. Pure. */
  checkReference?(settings: Record<string, unknown>, reference: SecretReference): string[];
  /** Reads what another connection uses as its secret: text for each field of the reference. */
  readSecret?(
    connection: Connection,
    reference: SecretReference,
    context: Pick<ProviderContext, 'now' | 'signal' | 'secret'>,
  ): Promise<Record<string, string>>;
  /** How the secret is replaced on a schedule; absent where only people can. */
  rotation?: SecretRotation;
  /** For providers whose connections are OAuth clients: how accounts are connected, and their tokens kept alive. */
  authorizations?: AuthorizationServer;
}

/** A provider's failure. `public` may be shown to the agent; the cause stays in the log, without its request. */
export class ProviderFailure extends Error {
  readonly kind: 'unavailable' | 'timeout' | 'refused';
  /** Whether a refusal came after something was made, which `revoke` must end. */
  readonly made: boolean;

  constructor(
    kind: 'unavailable' | 'timeout' | 'refused',
    message: string,
    options: ErrorOptions & { made?: boolean } = {},
  ) {
    super(message, options);
    this.name = 'ProviderFailure';
    this.kind = kind;
    this.made = options.made === true;
  }
}

/** The authorization server takes the refresh token no more (`invalid_grant`): somebody has to consent again. */
export class AuthorizationDead extends ProviderFailure {
  constructor(message: string, options?: ErrorOptions) {
    super('refused', message, options);
    this.name = 'AuthorizationDead';
  }
}

/** What came back to the redirect URI connects nothing. `code` is a stable word of ours, the message is public. */
export class AnswerRefused extends ProviderFailure {
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super('refused', message, options);
    this.name = 'AnswerRefused';
    this.code = code;
  }
}
