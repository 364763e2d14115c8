"""Version 2: provenance and history of every organ, label files, reviews, runs."""

from __future__ import annotations

VERSION_2 = """
-- Settings all processes must share.
CREATE TABLE setting (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- What a submission did to each organ it says anything about.
CREATE TABLE submission_organ (
  submission INTEGER NOT NULL REFERENCES submission (id),
  organ INTEGER NOT NULL CHECK (organ BETWEEN 1 AND 9),
  state TEXT NOT NULL
    CHECK (state IN ('unchanged', 'confirmed', 'revised', 'absent', 'not_confirmed')),
  voxels_before INTEGER,
  voxels_after INTEGER,
  voxels_changed INTEGER,
  dsc REAL,
  PRIMARY KEY (submission, organ)
) WITHOUT ROWID;

-- Where the voxels of each organ in the assembled label come from; no row: pseudo.
CREATE TABLE provenance (
  volume INTEGER NOT NULL REFERENCES volume (id),
  organ INTEGER NOT NULL CHECK (organ BETWEEN 1 AND 9),
  source TEXT NOT NULL CHECK (source IN ('public', 'revised', 'pseudo')),
  state TEXT NOT NULL CHECK
    (state IN ('present', 'absent', 'unknown', 'not_confirmed', 'confirmed', 'revised')),
  dataset TEXT,
  submission INTEGER REFERENCES submission (id),
  disputed INTEGER NOT NULL DEFAULT 0,
  at REAL NOT NULL,
  PRIMARY KEY (volume, organ)
) WITHOUT ROWID;

-- Every label file a volume has had.
CREATE TABLE label (
  id INTEGER PRIMARY KEY,
  volume INTEGER NOT NULL REFERENCES volume (id),
  tag TEXT NOT NULL,
  file TEXT NOT NULL,
  sha256 TEXT,
  signature INTEGER REFERENCES signature (id),
  submission INTEGER REFERENCES submission (id),
  written_at REAL NOT NULL,
  replaced_at REAL
);
CREATE INDEX label_volume ON label (volume, tag, id);

-- What a reviewer has decided or must decide.
CREATE TABLE review (
  id INTEGER PRIMARY KEY,
  volume INTEGER NOT NULL REFERENCES volume (id),
  organ INTEGER,
  kind TEXT NOT NULL CHECK (kind IN ('conflict', 'dispute', 'sample', 'double_read')),
  submission INTEGER REFERENCES submission (id),
  other INTEGER REFERENCES submission (id),
  opened_at REAL NOT NULL,
  closed_at REAL,
  reviewer TEXT,
  decision TEXT,
  note TEXT
);
CREATE INDEX review_open ON review (volume, kind) WHERE closed_at IS NULL;

-- Runs of scoring and training.
CREATE TABLE run (
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,
  signature INTEGER REFERENCES signature (id),
  host TEXT NOT NULL,
  pid INTEGER NOT NULL,
  started_at REAL NOT NULL,
  beat_at REAL NOT NULL,
  ended_at REAL,
  done INTEGER NOT NULL DEFAULT 0,
  total INTEGER NOT NULL,
  note TEXT NOT NULL DEFAULT ''
);
CREATE INDEX run_kind ON run (kind, id);

-- A conflict of version 1 had no row for the reviewer.
INSERT INTO review (volume, kind, submission, other, opened_at)
  SELECT p.volume, 'conflict', v.current_submission, p.id, p.submitted_at
  FROM submission p JOIN volume v ON v.id = p.volume
  WHERE p.conflict = 1 AND v.status = 'conflict';
"""
