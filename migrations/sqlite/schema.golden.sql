-- What the migrations of this folder make together. Regenerate: WARDER_UPDATE_GOLDEN=1 npm test -- migrate

CREATE TABLE agent_tokens (
  id TEXT PRIMARY KEY,
  seq INTEGER NOT NULL,
  agent_id TEXT NOT NULL,
  owner TEXT NOT NULL,
  token_digest TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('active', 'revoked')),
  issued_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  version INTEGER NOT NULL
, subject TEXT, subject_expires_at INTEGER, issuers TEXT NOT NULL DEFAULT '[]', jkt TEXT) STRICT, WITHOUT ROWID;

CREATE INDEX agent_tokens_by_expiry ON agent_tokens (expires_at);

CREATE TABLE agents (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  owner TEXT NOT NULL,
  purpose TEXT,
  auth TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('active', 'suspended')),
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
, dpop TEXT NOT NULL DEFAULT 'optional' CHECK (dpop IN ('optional', 'required'))) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  type TEXT NOT NULL,
  agent_id TEXT,
  connection_id TEXT,
  grant_id TEXT,
  leaf BLOB NOT NULL,
  body TEXT
) STRICT;

CREATE INDEX audit_by_agent ON audit (agent_id) WHERE agent_id IS NOT NULL;

CREATE INDEX audit_by_connection ON audit (connection_id) WHERE connection_id IS NOT NULL;

CREATE INDEX audit_by_time ON audit (at);

CREATE INDEX audit_by_type ON audit (type) WHERE type NOT IN ('grant.issued', 'gateway.call', 'gateway.completed');

CREATE TABLE authorization_flows (
  id TEXT PRIMARY KEY,
  connection_id TEXT NOT NULL REFERENCES connections (id) ON DELETE CASCADE,
  subject TEXT,
  operator_id TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('offered', 'opened', 'redeeming', 'connected', 'failed')),
  link_digest TEXT NOT NULL,
  state_digest TEXT,
  cookie_digest TEXT,
  -- The PKCE verifier and the nonce, while the person is at the authorization server.
  sealed TEXT,
  redirect_uri TEXT NOT NULL,
  failure TEXT,
  authorization_id TEXT,
  expires_at INTEGER NOT NULL,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX authorization_flows_by_connection ON authorization_flows (connection_id);

CREATE INDEX authorization_flows_by_expiry ON authorization_flows (expires_at);

CREATE TABLE authorizations (
  id TEXT PRIMARY KEY,
  connection_id TEXT NOT NULL REFERENCES connections (id) ON DELETE CASCADE,
  -- NULL: the organisation's own.
  subject TEXT,
  status TEXT NOT NULL CHECK (status IN ('connected', 'needs_reconnect', 'disconnected')),
  sealed TEXT NOT NULL,
  -- Counts the tokens that were kept; the sealed box is bound to it.
  tokens_version INTEGER NOT NULL,
  scopes TEXT NOT NULL,
  account TEXT,
  connected_by TEXT NOT NULL,
  -- Who redeems the refresh token at this moment, from which tokens, until when.
  redeeming TEXT,
  last_refreshed_at INTEGER,
  failure TEXT,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX authorizations_of_organisations ON authorizations (connection_id) WHERE subject IS NULL;

CREATE UNIQUE INDEX authorizations_of_subjects ON authorizations (connection_id, subject) WHERE subject IS NOT NULL;

CREATE TABLE budget_uses (
  id TEXT PRIMARY KEY,
  entitlement_id TEXT NOT NULL,
  window_start INTEGER NOT NULL,
  used INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX budget_uses_by_expiry ON budget_uses (expires_at);

CREATE TABLE connections (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  provider TEXT NOT NULL,
  owner TEXT,
  settings TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('active', 'suspended')),
  secret_version INTEGER,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
, secret_source TEXT) STRICT, WITHOUT ROWID;

CREATE TABLE entitlements (
  id TEXT PRIMARY KEY,
  agent_id TEXT NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
  connection_id TEXT NOT NULL REFERENCES connections (id) ON DELETE CASCADE,
  scopes TEXT NOT NULL,
  max_ttl_seconds INTEGER NOT NULL CHECK (max_ttl_seconds > 0),
  approval TEXT NOT NULL CHECK (approval IN ('none', 'required')),
  hours TEXT,
  budget TEXT,
  reason TEXT,
  granted_by TEXT NOT NULL,
  expires_at INTEGER,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
, on_behalf_of TEXT) STRICT, WITHOUT ROWID;

CREATE INDEX entitlements_by_agent ON entitlements (agent_id);

CREATE INDEX entitlements_by_connection ON entitlements (connection_id);

CREATE TABLE fences (
  id TEXT PRIMARY KEY,
  seq INTEGER NOT NULL,
  revocation_id TEXT NOT NULL,
  selector TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX fences_by_seq ON fences (seq);

CREATE TABLE grants (
  id TEXT PRIMARY KEY,
  seq INTEGER NOT NULL,
  agent_id TEXT NOT NULL,
  connection_id TEXT NOT NULL,
  entitlement_id TEXT NOT NULL,
  provider TEXT NOT NULL,
  owner TEXT NOT NULL,
  subject TEXT,
  scopes TEXT NOT NULL,
  enforcement TEXT NOT NULL CHECK (enforcement IN ('upstream', 'gateway')),
  credential_type TEXT NOT NULL,
  status TEXT NOT NULL
    CHECK (status IN ('intended', 'active', 'expired', 'revoked', 'returned', 'aborted', 'unrevocable')),
  token_digest TEXT,
  handle TEXT,
  upstream TEXT CHECK (upstream IN ('live', 'gone', 'unrevocable')),
  reason TEXT,
  revocation_id TEXT,
  issued_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  max_expires_at INTEGER NOT NULL CHECK (expires_at <= max_expires_at),
  version INTEGER NOT NULL
, issuers TEXT NOT NULL DEFAULT '[]', jkt TEXT, authorization_details TEXT) STRICT, WITHOUT ROWID;

CREATE INDEX grants_alive ON grants (expires_at, agent_id, connection_id) WHERE status = 'active';

CREATE INDEX grants_by_agent ON grants (agent_id);

CREATE INDEX grants_by_connection ON grants (connection_id);

CREATE INDEX grants_by_revocation ON grants (revocation_id, upstream) WHERE revocation_id IS NOT NULL;

CREATE INDEX grants_intended ON grants (id) WHERE status = 'intended';

CREATE INDEX grants_upstream ON grants (id) WHERE upstream = 'live';

CREATE TABLE "key_encryption_keys" (
  id TEXT PRIMARY KEY,
  number INTEGER NOT NULL UNIQUE,
  kms TEXT NOT NULL,
  wrapped TEXT NOT NULL CHECK ((wrapped = '') = (state = 'retired')),
  state TEXT NOT NULL CHECK (state IN ('current', 'previous', 'retired')),
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT;

CREATE TABLE operators (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  roles TEXT NOT NULL,
  token_digest TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('active', 'suspended')),
  expires_at INTEGER,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE revocations (
  id TEXT PRIMARY KEY,
  seq INTEGER NOT NULL,
  selector TEXT NOT NULL,
  reason TEXT NOT NULL,
  requested_by TEXT NOT NULL,
  suspend INTEGER NOT NULL CHECK (suspend IN (0, 1)),
  grants INTEGER,
  upstream_pending INTEGER NOT NULL,
  upstream_revoked INTEGER NOT NULL,
  upstream_unrevocable INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  completed_at INTEGER,
  version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX revocations_open ON revocations (id) WHERE completed_at IS NULL;

CREATE TABLE secrets (
  id TEXT PRIMARY KEY,
  connection_id TEXT NOT NULL REFERENCES connections (id) ON DELETE CASCADE,
  number INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('pending', 'current', 'previous', 'retired')),
  sealed TEXT NOT NULL,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  UNIQUE (connection_id, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE signing_keys (
  id TEXT PRIMARY KEY,
  purpose TEXT NOT NULL CHECK (purpose IN ('jwt', 'checkpoint')),
  algorithm TEXT NOT NULL,
  public_jwk TEXT NOT NULL,
  sealed TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('next', 'current', 'previous')),
  retire_at INTEGER,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tree_head (
  only INTEGER PRIMARY KEY CHECK (only = 1),
  size INTEGER NOT NULL,
  frontier BLOB NOT NULL
) STRICT;

CREATE TABLE tree_nodes (
  level INTEGER NOT NULL,
  position INTEGER NOT NULL,
  hash BLOB NOT NULL,
  PRIMARY KEY (level, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE trusted_issuers (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  -- Exactly the `iss` of its tokens; `spiffe://<trust domain>` for those that have none.
  issuer TEXT NOT NULL UNIQUE,
  keys TEXT NOT NULL,
  audiences TEXT NOT NULL,
  algorithms TEXT NOT NULL,
  uses TEXT NOT NULL,
  subject_claim TEXT NOT NULL,
  claims TEXT NOT NULL,
  max_token_age_seconds INTEGER NOT NULL CHECK (max_token_age_seconds > 0),
  single_use INTEGER NOT NULL CHECK (single_use IN (0, 1)),
  status TEXT NOT NULL CHECK (status IN ('active', 'suspended')),
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE used_once (
  id TEXT PRIMARY KEY,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX used_once_by_expiry ON used_once (expires_at);
