"""Version 4: what a submission began from, decisions on organs, second readings, loose ends."""

from __future__ import annotations

VERSION_WORK = """
-- 'revise', 'review' (a reviewer's own), 'double_read' (blind, beside another) or 'restore'.
ALTER TABLE submission ADD COLUMN purpose TEXT NOT NULL DEFAULT 'revise';
ALTER TABLE submission ADD COLUMN content TEXT;             -- SHA256 of the file as it came
ALTER TABLE submission ADD COLUMN start_submission INTEGER; -- the one in its start label
ALTER TABLE submission ADD COLUMN start_sha256 TEXT;        -- of its start label
ALTER TABLE submission ADD COLUMN restored INTEGER;         -- the one it puts in force again
UPDATE submission SET start_submission = (SELECT max(q.id) FROM submission q
  WHERE q.volume = submission.volume AND q.id < submission.id AND q.conflict = 0);

-- What public labels say, whatever is made of it; `provenance` is what follows.
CREATE TABLE dataset_organ (
  volume INTEGER NOT NULL REFERENCES volume (id),
  organ INTEGER NOT NULL CHECK (organ BETWEEN 1 AND 9),
  state TEXT NOT NULL CHECK (state IN ('present', 'absent', 'unknown')),
  dataset TEXT,
  at REAL NOT NULL,
  PRIMARY KEY (volume, organ)
) WITHOUT ROWID;
INSERT INTO dataset_organ SELECT volume, organ,
  CASE WHEN state IN ('absent', 'unknown') THEN state ELSE 'present' END, dataset, at
  FROM provenance WHERE source = 'public';

-- A reviewer's choice for one volume and organ; the last one counts.
CREATE TABLE choice (
  id INTEGER PRIMARY KEY,
  volume INTEGER NOT NULL REFERENCES volume (id),
  organ INTEGER NOT NULL CHECK (organ BETWEEN 1 AND 9),
  source TEXT NOT NULL CHECK (source IN ('public', 'revised')),
  submission INTEGER REFERENCES submission (id), -- the last one it knew of
  reviewer TEXT NOT NULL,
  at REAL NOT NULL
);
CREATE INDEX choice_organ ON choice (volume, organ, id);

-- Two readings of one volume, neither of which knew the other.
CREATE TABLE agreement (
  first INTEGER NOT NULL REFERENCES submission (id),
  second INTEGER NOT NULL REFERENCES submission (id),
  organ INTEGER NOT NULL CHECK (organ BETWEEN 1 AND 9),
  voxels_first INTEGER,
  voxels_second INTEGER,
  voxels_changed INTEGER,            -- in one of them only
  dsc REAL,
  PRIMARY KEY (first, second, organ)
) WITHOUT ROWID;

-- Volumes to be given out before all others: returned ones and second readings.
CREATE TABLE offer (
  volume INTEGER PRIMARY KEY REFERENCES volume (id),
  purpose TEXT NOT NULL CHECK (purpose IN ('returned', 'double_read')),
  holder TEXT,                       -- to this holder only
  not_holder TEXT,                   -- to anybody but this one
  note TEXT NOT NULL DEFAULT '',
  reviewer TEXT NOT NULL DEFAULT '',
  at REAL NOT NULL
);

-- Numbers of submissions whose file is being written; one that stays belongs to a process
-- that was killed.
CREATE TABLE reserved (
  id INTEGER PRIMARY KEY,
  volume TEXT NOT NULL,
  at REAL NOT NULL
);

-- Volumes whose label files do not yet say what this ledger says.
CREATE TABLE unsettled (volume INTEGER PRIMARY KEY, n INTEGER NOT NULL);
INSERT INTO unsettled SELECT id, 1 FROM volume WHERE current_submission IS NOT NULL;
CREATE TRIGGER submission_in_force AFTER UPDATE OF current_submission ON volume
BEGIN
  INSERT INTO unsettled VALUES (NEW.id, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER provenance_enters AFTER INSERT ON provenance
BEGIN
  INSERT INTO unsettled VALUES (NEW.volume, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER provenance_leaves AFTER DELETE ON provenance
BEGIN
  INSERT INTO unsettled VALUES (OLD.volume, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
"""
