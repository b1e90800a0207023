-- What people and organisations consented to at an authorization server, and the flows in which they do so.

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
-- Two indexes, because NULL equals nothing: a connection has one authorization of the organisation, and one a subject.
CREATE UNIQUE INDEX authorizations_of_subjects ON authorizations (connection_id, subject) WHERE subject IS NOT NULL;
CREATE UNIQUE INDEX authorizations_of_organisations ON authorizations (connection_id) WHERE subject IS NULL;

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
