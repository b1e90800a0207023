-- When secrets are to be replaced, each attempt at it, and who leads.
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

-- Rotations outlive their connection, for the audits: no foreign keys.
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
-- One at a time: whoever starts a second one while a first is under way is refused by the database itself.
CREATE UNIQUE INDEX rotations_under_way ON rotations (policy_id) WHERE status IN ('running', 'grace', 'stuck');

-- Who does a kind of work that one process may do at a time. The version is the fencing token.
CREATE TABLE leases (
  id TEXT PRIMARY KEY,
  holder TEXT NOT NULL,
  until INTEGER NOT NULL,
  version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
