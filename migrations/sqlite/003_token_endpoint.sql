-- Whose tokens are believed at the token endpoint, whom agents may act for, and keys that tokens are bound to.

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

ALTER TABLE agents ADD COLUMN dpop TEXT NOT NULL DEFAULT 'optional' CHECK (dpop IN ('optional', 'required'));
-- NULL: the agent acts for itself only.
ALTER TABLE entitlements ADD COLUMN on_behalf_of TEXT;

-- `issuers`: on whose word it was issued, as ids. `jkt`: the RFC 7638 thumbprint of the key it is bound to.
ALTER TABLE agent_tokens ADD COLUMN subject TEXT;
ALTER TABLE agent_tokens ADD COLUMN subject_expires_at INTEGER;
ALTER TABLE agent_tokens ADD COLUMN issuers TEXT NOT NULL DEFAULT '[]';
ALTER TABLE agent_tokens ADD COLUMN jkt TEXT;
ALTER TABLE grants ADD COLUMN issuers TEXT NOT NULL DEFAULT '[]';
ALTER TABLE grants ADD COLUMN jkt TEXT;
ALTER TABLE grants ADD COLUMN authorization_details TEXT;
