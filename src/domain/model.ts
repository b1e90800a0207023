/**
 * What Warder remembers. Fields are spelled the same in the database, in the API and in audit entries, so a name is
 * learnt once. Times are integer milliseconds since the epoch; ids are those of ids.ts. `version` counts the changes
 * of a row and is what a guard holds on to.
 */

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
    };

export interface Agent {
  id: string;
  name: string;
  owner: string;
  purpose: string | null;
  auth: AgentAuth;
  status: 'active' | 'suspended';
  version: number;
  created_at: number;
  updated_at: number;
}

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
  /** The version of the secret in force; null when the provider needs none or none was set yet. */
  secret_version: number | null;
  version: number;
  created_at: number;
  updated_at: number;
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
  subject: string | null;
  scopes: string[];
  enforcement: Enforcement;
  credential_type: CredentialType;
  status: GrantStatus;
  /** SHA-256 of the bearer credential Warder itself can recognise; null when the upstream made the credential. */
  token_digest: string | null;
  /** What undo needs at the provider; null when nothing exists upstream. */
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
  token_digest: string;
  status: 'active' | 'revoked';
  issued_at: number;
  expires_at: number;
  version: number;
}

/** A conjunction: every field given must match. `everything` stands alone. Ids, except provider, owner and subject. */
export interface Selector {
  everything?: true;
  agent?: string;
  connection?: string;
  provider?: string;
  owner?: string;
  subject?: string;
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
  kms: string;
  wrapped: string;
  state: 'current' | 'previous';
  version: number;
  created_at: number;
}

export interface SigningKey {
  id: string;
  purpose: 'jwt' | 'checkpoint';
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
