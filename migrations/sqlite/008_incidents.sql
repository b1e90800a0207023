-- Freezes: nothing new is issued for what a selector matches, until somebody lifts it. Incidents and their check lists.

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
CREATE INDEX freezes_standing ON freezes (id) WHERE lifted_at IS NULL;
CREATE INDEX freezes_by_incident ON freezes (incident_id) WHERE incident_id IS NOT NULL;

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
