-- A key-encryption key that nothing is sealed under any more: its wrapped form is dropped, the row stays as history.
-- SQLite changes a CHECK only by making the table anew.
CREATE TABLE key_encryption_keys_next (
  id TEXT PRIMARY KEY,
  number INTEGER NOT NULL UNIQUE,
  kms TEXT NOT NULL,
  wrapped TEXT NOT NULL CHECK ((wrapped = '') = (state = 'retired')),
  state TEXT NOT NULL CHECK (state IN ('current', 'previous', 'retired')),
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO key_encryption_keys_next (id, number, kms, wrapped, state, version, created_at)
  SELECT id, number, kms, wrapped, state, version, created_at FROM key_encryption_keys;
DROP TABLE key_encryption_keys;
ALTER TABLE key_encryption_keys_next RENAME TO key_encryption_keys;
