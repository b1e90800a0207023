/**
 * What Warder remembers. Fields are spelled the same in the database, in the API and in audit entries, so a name is
 * learnt once. Times are integer milliseconds since the epoch; ids are those of ids.ts. `version` counts the changes
 * of a row and is what a guard holds on to.
 */
import type { GrantedDetails } from './authorization-details.ts';
import type { ClaimRules } from './claim-rules.ts';
import type { RotationAfter } from './revocation.ts';

export type Role = 'admin' | 'operator' | 'approver' | 'reviewer' | 'responder' | 'auditor';
export const roles = ['admin', 'operator', 'approver', 'reviewer', 'responder', 'auditor'] as const satisfies Role[];

/** Signature algorithms accepted in a client assertion; asymmetric ones only (RFC 7523, RFC 8725 section 3.1). */
export const assertionAlgorithms = ['RS256', 'PS256', 'ES256', 'ES384', 'Ed25519', 'EdDSA'] as const;
export type AssertionAlgorithm = (typeof assertionAlgorithms)[number];

/** How an agent proves who it is at the token endpoint. */
export type AgentAuth =
  | { method: 'client_secret_basic' | 'client_secret_post'; secret_digest: string }
  | {
      method: 'private_key_jwt';
      algorithms: AssertionAlgorithm[];
      jwks?: { keys: Record<string, unknown>[] };
      jwks_uri?: string;
      allow_private_network?: boolean;
    }
  /** A token of its platform proves it: of this trusted issuer (an id), with these claims. */
  | { method: 'workload'; issuer: string; claims: ClaimRules };

export interface Agent {
  id: string;
  name: string;
  owner: string;
  purpose: string | null;
  auth: AgentAuth;
  /** `required`: whatever it is issued is bound to a key it proves to hold (RFC 9449). */
  dpop: 'optional' | 'required';
  status: 'active' | 'suspended';
  version: number;
  created_at: number;
  updated_at: number;
}

/** Somebody whose signed tokens are believed: of workloads, to say which agent it is, or of people to act for. */
/** No issuer's tokens are taken when they are older, whatever it is trusted for. */
export const longestTokenAgeSeconds = 86_400;

export interface TrustedIssuer {
  id: string;
  name: string;
  /** The `iss` of its tokens, byte for byte; `spiffe://<trust domain>` where tokens have none and `sub` says it. */
  issuer: string;
  keys: IssuerKeys;
  /** Any of these, alone, must be the audience; none = the URL of this broker. */
  audiences: string[];
  algorithms: AssertionAlgorithm[];
  uses: ('workload' | 'subject')[];
  /** The claim that names the subject. */
  subject_claim: string;
  /** What every token of it must say. */
  claims: ClaimRules;
  /** Counted from `iat`; a token that has none must end within this time. */
  max_token_age_seconds: number;
  /** Whether a workload token proves an agent once only. */
  single_use: boolean;
  status: 'active' | 'suspended';
  version: number;
  created_at: number;
  updated_at: number;
}

/** Where an issuer's keys come from: its metadata, an address, or what was registered. */
export type IssuerKeys =
  | { from: 'discovery'; allow_private_network?: boolean }
  | { from: 'jwks_uri'; jwks_uri: string; allow_private_network?: boolean }
  | { from: 'jwks'; jwks: { keys: Record<string, unknown>[] } };

export interface Operator {
  id: string;
  name: string;
  roles: Role[];
  token_digest: string;
  status: 'active' | 'suspended';
  expires_at: number | null;
  version: number;
  created_at: number;
  updated_at: number;
}

/** Who narrows a credential to its scopes: the upstream itself, or Warder request by request. */
export type Enforcement = 'upstream' | 'gateway';

export interface Connection {
  id: string;
  name: string;
  provider: string;
  owner: string | null;
  settings: Record<string, unknown>;
  status: 'active' | 'suspended';
  /** The version in force of the secret kept here; null when the provider needs none or none was set yet. */
  secret_version: number | null;
  /** Where the secret in force is read instead; null when it is kept here. */
  secret_source: SecretSource | null;
  version: number;
  created_at: number;
  updated_at: number;
}

/** A value that another connection reads whenever it is needed, instead of a secret that Warder keeps. */
export interface SecretSource {
  /** The connection that reads it: one to a vault. */
  connection_id: string;
  path: string;
  /** The secret's fields, each by the name of the field it is read from. */
  fields: Record<string, string>;
  /** Of the value; null follows the newest. */
  version: number | null;
  /** How long a value that was read may be used. */
  max_age_seconds: number;
}

export interface SecretVersion {
  id: string;
  connection_id: string;
  number: number;
  state: 'pending' | 'current' | 'previous' | 'retired';
  sealed: SealedBox;
  version: number;
  created_at: number;
  updated_at: number;
}

/** An AES-256-GCM box: a data key of its own, wrapped by a key-encryption key, and what it encrypts. Base64. */
export interface SealedBox {
  kek: number;
  key_nonce: string;
  key: string;
  nonce: string;
  text: string;
}

export interface Entitlement {
  id: string;
  agent_id: string;
  connection_id: string;
  scopes: string[];
  max_ttl_seconds: number;
  approval: 'none' | 'required';
  /** Hours of the day in UTC, `from` inclusive to `to` exclusive, in minutes; null = always. May wrap midnight. */
  hours: { from: number; to: number } | null;
  /** At most `grants` issued in each window of `per_seconds`; null = no limit. */
  budget: { grants: number; per_seconds: number } | null;
  reason: string | null;
  /** Patterns (glob.ts) over subjects this agent may act for under this rule; null = itself only. */
  on_behalf_of: string[] | null;
  granted_by: string;
  expires_at: number | null;
  version: number;
  created_at: number;
  updated_at: number;
}

export type GrantStatus = 'intended' | 'active' | 'expired' | 'revoked' | 'returned' | 'aborted' | 'unrevocable';
export type CredentialType = 'gateway' | 'bearer' | 'jwt' | (string & {});

export interface Grant {
  id: string;
  /** Ledger sequence number of the entry that issued it (of the intent while intended): what fences compare with. */
  seq: number;
  agent_id: string;
  connection_id: string;
  entitlement_id: string;
  provider: string;
  owner: string;
  /** Whom it acts for (subject.ts); null = the agent itself. */
  subject: string | null;
  /** Ids of the trusted issuers on whose word it was issued: the agent's, the subject's. */
  issuers: string[];
  scopes: string[];
  enforcement: Enforcement;
  credential_type: CredentialType;
  status: GrantStatus;
  /** SHA-256 of the bearer credential Warder itself can recognise; null when the upstream made the credential. */
  token_digest: string | null;
  /** RFC 7638 thumbprint of the key the bearer credential is bound to (RFC 9449); null = to none. */
  jkt: string | null;
  /** RFC 9396: what was granted, where it was asked for in that form. */
  authorization_details: GrantedDetails[] | null;
  /** What undo needs at the provider (stored-handle.ts); null when nothing exists upstream. Holds a {@link SealedBox}. */
  handle: Record<string, unknown> | null;
  /** What became of it upstream; null when nothing ever was there. */
  upstream: 'live' | 'gone' | 'unrevocable' | null;
  reason: string | null;
  /** The revocation whose clean-up ended it upstream. */
  revocation_id: string | null;
  issued_at: number;
  expires_at: number;
  /** The end of the longest life: no renewal goes past it. */
  max_expires_at: number;
  version: number;
}

export interface AgentToken {
  id: string;
  seq: number;
  agent_id: string;
  owner: string;
  /** As of a grant: what it obtains acts for this subject, is bound to this key, rests on the word of these issuers. */
  subject: string | null;
  issuers: string[];
  jkt: string | null;
  /** When the subject's own token ends: nothing obtained for it lives longer. */
  subject_expires_at: number | null;
  token_digest: string;
  status: 'active' | 'revoked';
  issued_at: number;
  expires_at: number;
  version: number;
}

/** A conjunction: every field given must match. `everything` stands alone. Ids, except provider, owner and subject. `issuer`: on its word. */
export interface Selector {
  everything?: true;
  agent?: string;
  connection?: string;
  provider?: string;
  owner?: string;
  subject?: string;
  issuer?: string;
  entitlement?: string;
  grant?: string;
}

export interface Fence {
  id: string;
  seq: number;
  revocation_id: string;
  selector: Selector;
  created_at: number;
}

export interface Revocation {
  id: string;
  seq: number;
  selector: Selector;
  reason: string;
  requested_by: string;
  suspend: boolean;
  /** Agents it suspended; null in rows from before this was recorded. */
  suspended: { id: string; name: string }[] | null;
  /** Agents that the selector's owner owned at that moment; null when it names no owner. */
  owned_agents: string[] | null;
  /** Whether the secrets of connections it reaches are to be replaced, and what was done; null until that is worked out. */
  rotate: boolean;
  rotations: RotationAfter[] | null;
  /** Live grants the fence killed; null until they are counted. */
  grants: number | null;
  upstream_pending: number;
  upstream_revoked: number;
  upstream_unrevocable: number;
  created_at: number;
  completed_at: number | null;
  version: number;
}

/** A key-encryption key, wrapped by the key service. */
export interface KeyEncryptionKey {
  id: string;
  number: number;
  /** The name of the key service that wrapped it. */
  kms: string;
  /** Empty when retired. */
  wrapped: string;
  /** `current` seals what is new; `previous` opens what is not moved yet; `retired`: nothing is under it any more. */
  state: 'current' | 'previous' | 'retired';
  version: number;
  created_at: number;
}

export interface SigningKey {
  id: string;
  purpose: 'jwt' | 'checkpoint' | 'receipt';
  algorithm: 'ES256' | 'Ed25519';
  /** RFC 7517, public members only. */
  public_jwk: Record<string, unknown>;
  sealed: SealedBox;
  /** `next` is published before it signs anything, so that no verifier meets an unknown key at a rotation. */
  state: 'next' | 'current' | 'previous';
  /** After this moment nothing it signed can still be alive, and it leaves `/jwks`; null while current. */
  retire_at: number | null;
  version: number;
  created_at: number;
}

/** What a person, or the organisation, consented to at an authorization server: the tokens of one account. */
export interface Authorization {
  id: string;
  connection_id: string;
  /** The user whose account it is; null for the organisation's own. */
  subject: string | null;
  /** `needs_reconnect`: the server takes the refresh token no more. `disconnected`: about to be revoked there. */
  status: 'connected' | 'needs_reconnect' | 'disconnected';
  sealed: SealedBox;
  /** Counts the tokens that were kept; the sealed box is bound to it. */
  tokens_version: number;
  /** What was granted, as the authorization server spells it. */
  scopes: string[];
  /** Whose account it is, as the server says. */
  account: string | null;
  /** The operator who started the flow. */
  connected_by: string;
  /** Who redeems the refresh token of `from` (a `tokens_version`) at this moment; nobody else does before `until`. */
  redeeming: { by: string; from: number; until: number } | null;
  last_refreshed_at: number | null;
  /** Why it needs to be connected anew, or what failed last, as a stable word. */
  failure: string | null;
  version: number;
  created_at: number;
  updated_at: number;
}

/** One attempt to connect an account: from the link that is handed out to the answer of the authorization server. */
export interface AuthorizationFlow {
  id: string;
  connection_id: string;
  subject: string | null;
  /** Who started it: the one who may ask how it went. */
  operator_id: string;
  status: 'offered' | 'opened' | 'redeeming' | 'connected' | 'failed';
  link_digest: string;
  /** Of the `state` parameter, once the link was opened. */
  state_digest: string | null;
  /** Of the cookie of the browser that opened the link. */
  cookie_digest: string | null;
  /** PKCE verifier and nonce. */
  sealed: SealedBox | null;
  redirect_uri: string;
  failure: string | null;
  authorization_id: string | null;
  expires_at: number;
  version: number;
  created_at: number;
  updated_at: number;
}

/** Something used once: an assertion's `jti`. Its id is the digest of what was used. */
export interface UsedOnce {
  id: string;
  expires_at: number;
}

/** How many grants an entitlement has given in one window of its budget. */
export interface BudgetUse {
  id: string;
  entitlement_id: string;
  window_start: number;
  used: number;
  expires_at: number;
}
