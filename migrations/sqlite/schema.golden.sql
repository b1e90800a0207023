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

CREATE TABLE freezes (
  id TEXT PRIMARY KEY,
  seq INTEGER NOT NULL,
  selector TEXT NOT NULL,
  reason TEXT NOT NULL,
  incident_id TEXT,
  created_by TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  lifted_at INTEGER,
  lifted_by TEXT,
  lift_reason TEXT,
  version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX freezes_by_incident ON freezes (incident_id) WHERE incident_id IS NOT NULL;

CREATE INDEX freezes_standing ON freezes (id) WHERE lifted_at IS NULL;

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

CREATE INDEX grants_upstream ON grants (id) WHERE upstream <> 'gone';

CREATE TABLE incident_items (
  id TEXT PRIMARY KEY,
  incident_id TEXT NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
  number INTEGER NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('rotate', 'by_hand', 'disconnect', 'narrow', 'tell', 'other')),
  about TEXT NOT NULL,
  text TEXT NOT NULL,
  assigned_to TEXT,
  status TEXT NOT NULL CHECK (status IN ('open', 'done', 'waived')),
  note TEXT,
  closed_by TEXT,
  closed_at INTEGER,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  UNIQUE (incident_id, number),
  -- The same thing is put on a list once.
  UNIQUE (incident_id, kind, about)
) STRICT, WITHOUT ROWID;

CREATE TABLE incidents (
  id TEXT PRIMARY KEY,
  title TEXT NOT NULL,
  severity TEXT NOT NULL CHECK (severity IN ('low', 'medium', 'high', 'critical')),
  status TEXT NOT NULL CHECK (status IN ('open', 'contained', 'remediating', 'recovered', 'closed')),
  drill INTEGER NOT NULL CHECK (drill IN (0, 1)),
  selector TEXT NOT NULL,
  -- What the ids in it were called when it was opened.
  names TEXT NOT NULL,
  window_from INTEGER NOT NULL,
  -- NULL: not over, as far as anybody knows.
  window_to INTEGER,
  reason TEXT NOT NULL,
  opened_by TEXT NOT NULL,
  -- Ids of what was done to contain it.
  measures TEXT NOT NULL,
  -- What recovering changed: before and after.
  changes TEXT NOT NULL,
  contained_at INTEGER,
  recovered_at INTEGER,
  closed_at INTEGER,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX incidents_by_status ON incidents (status);

CREATE TABLE "key_encryption_keys" (
  id TEXT PRIMARY KEY,
  number INTEGER NOT NULL UNIQUE,
  kms TEXT NOT NULL,
  wrapped TEXT NOT NULL CHECK ((wrapped = '') = (state = 'retired')),
  state TEXT NOT NULL CHECK (state IN ('current', 'previous', 'retired')),
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE leases (
  id TEXT PRIMARY KEY,
  holder TEXT NOT NULL,
  until INTEGER NOT NULL,
  version INTEGER NOT NULL
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
, rotate INTEGER NOT NULL DEFAULT 0 CHECK (rotate IN (0, 1)), rotations TEXT, suspended TEXT, owned_agents TEXT) STRICT, WITHOUT ROWID;

CREATE INDEX revocations_open ON revocations (id) WHERE completed_at IS NULL;

CREATE INDEX revocations_to_rotate ON revocations (id) WHERE rotate = 1 AND rotations IS NULL;

CREATE TABLE rotation_policies (
  id TEXT PRIMARY KEY,
  connection_id TEXT REFERENCES connections (id) ON DELETE CASCADE,
  schedule TEXT,
  "window" TEXT,
  grace_seconds INTEGER NOT NULL CHECK (grace_seconds >= 0),
  fence INTEGER NOT NULL CHECK (fence IN (0, 1)),
  method TEXT,
  rotated_at INTEGER,
  overdue_reported INTEGER,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  CHECK (connection_id IS NULL OR connection_id = id)
) STRICT, WITHOUT ROWID;

CREATE INDEX rotation_policies_by_connection ON rotation_policies (connection_id);

CREATE TABLE rotations (
  id TEXT PRIMARY KEY,
  policy_id TEXT NOT NULL,
  connection_id TEXT,
  status TEXT NOT NULL CHECK (status IN ('asked', 'running', 'grace', 'stuck', 'done', 'failed', 'cancelled')),
  step TEXT NOT NULL CHECK (step IN ('create', 'set', 'test', 'finish', 'retire', 'undo')),
  from_version INTEGER,
  to_version INTEGER,
  settings TEXT NOT NULL,
  method TEXT NOT NULL,
  grace_seconds INTEGER NOT NULL,
  fence INTEGER NOT NULL CHECK (fence IN (0, 1)),
  handle TEXT,
  attempt INTEGER NOT NULL,
  tries INTEGER NOT NULL,
  cause TEXT NOT NULL CHECK (cause IN ('asked', 'schedule', 'revocation', 'incident')),
  reason TEXT,
  requested_by TEXT NOT NULL,
  revocation_id TEXT,
  at_once INTEGER NOT NULL CHECK (at_once IN (0, 1)),
  not_before INTEGER NOT NULL,
  retire_at INTEGER,
  failure TEXT,
  started_at INTEGER,
  finished_at INTEGER,
  ended_at INTEGER,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX rotations_by_policy ON rotations (policy_id);

CREATE INDEX rotations_open ON rotations (id) WHERE status IN ('asked', 'running', 'grace', 'stuck');

CREATE UNIQUE INDEX rotations_under_way ON rotations (policy_id) WHERE status IN ('running', 'grace', 'stuck');

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

CREATE TABLE signal_streams (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  aud TEXT NOT NULL,
  token_digest TEXT NOT NULL,
  events_supported TEXT NOT NULL,
  events_requested TEXT,
  allow_private_network INTEGER NOT NULL CHECK (allow_private_network IN (0, 1)),
  share_reasons INTEGER NOT NULL CHECK (share_reasons IN (0, 1)),
  method TEXT NOT NULL CHECK (method IN ('push', 'poll')),
  endpoint_url TEXT CHECK ((endpoint_url IS NOT NULL) = (method = 'push')),
  sealed TEXT,
  status TEXT NOT NULL CHECK (status IN ('absent', 'enabled', 'paused', 'disabled')),
  status_reason TEXT,
  description TEXT,
  acked TEXT NOT NULL,
  cursor INTEGER NOT NULL CHECK (cursor >= 0),
  cursor_part TEXT NOT NULL,
  progress INTEGER NOT NULL,
  tries INTEGER NOT NULL,
  next_try_at INTEGER,
  failing_since INTEGER,
  failing_told INTEGER NOT NULL CHECK (failing_told IN (0, 1)),
  last_failure TEXT,
  last_delivered_at INTEGER,
  delivered INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  skipped INTEGER NOT NULL,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE "signing_keys" (
  id TEXT PRIMARY KEY,
  purpose TEXT NOT NULL CHECK (purpose IN ('jwt', 'checkpoint', 'receipt')),
  algorithm TEXT NOT NULL,
  public_jwk TEXT NOT NULL,
  sealed TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('next', 'current', 'previous')),
  retire_at INTEGER,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX signing_keys_receipt ON signing_keys (purpose) WHERE purpose = 'receipt' AND state = 'current';

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

CREATE TABLE webhooks (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  url TEXT NOT NULL,
  events TEXT NOT NULL,
  allow_private_network INTEGER NOT NULL CHECK (allow_private_network IN (0, 1)),
  status TEXT NOT NULL CHECK (status IN ('active', 'disabled')),
  disabled_because TEXT CHECK ((disabled_because IS NULL) = (status = 'active')),
  sealed TEXT NOT NULL,
  secret_number INTEGER NOT NULL,
  previous_until INTEGER,
  cursor INTEGER NOT NULL CHECK (cursor >= 0),
  cursor_part TEXT NOT NULL,
  progress INTEGER NOT NULL,
  tries INTEGER NOT NULL,
  next_try_at INTEGER,
  failing_since INTEGER,
  failing_told INTEGER NOT NULL CHECK (failing_told IN (0, 1)),
  last_failure TEXT,
  last_delivered_at INTEGER,
  delivered INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  skipped INTEGER NOT NULL,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
