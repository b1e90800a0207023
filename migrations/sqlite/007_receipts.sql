-- What a revocation's receipt has to say later, and does not change when agents move or are deleted. Documents are JSON.
ALTER TABLE revocations ADD COLUMN rotate INTEGER NOT NULL DEFAULT 0 CHECK (rotate IN (0, 1));
-- Connections whose secrets are to be replaced, and what was done about each; NULL until that is worked out.
ALTER TABLE revocations ADD COLUMN rotations TEXT;
-- Agents it suspended; NULL: not recorded, it is from before this column.
ALTER TABLE revocations ADD COLUMN suspended TEXT;
-- Agents the selector's owner owned at that moment; NULL: it names no owner.
ALTER TABLE revocations ADD COLUMN owned_agents TEXT;
CREATE INDEX revocations_to_rotate ON revocations (id) WHERE rotate = 1 AND rotations IS NULL;

-- What could not be taken back is named in receipts, retried by hand, and may still have its sealed box.
DROP INDEX grants_upstream;
CREATE INDEX grants_upstream ON grants (id) WHERE upstream <> 'gone';

-- Keys of another purpose: they sign receipts. SQLite changes a CHECK only by making the table anew.
CREATE TABLE signing_keys_next (
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
INSERT INTO signing_keys_next (id, purpose, algorithm, public_jwk, sealed, state, retire_at, version, created_at)
  SELECT id, purpose, algorithm, public_jwk, sealed, state, retire_at, version, created_at FROM signing_keys;
DROP TABLE signing_keys;
ALTER TABLE signing_keys_next RENAME TO signing_keys;
-- Two that start at once make one key: the second finds it made.
CREATE UNIQUE INDEX signing_keys_receipt ON signing_keys (purpose) WHERE purpose = 'receipt' AND state = 'current';
