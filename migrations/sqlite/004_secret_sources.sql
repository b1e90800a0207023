-- Secrets that are read from a vault when they are needed: where, as JSON. NULL: the secret is kept here.
ALTER TABLE connections ADD COLUMN secret_source TEXT;
