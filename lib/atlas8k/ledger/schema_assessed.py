"""A version of the tables: what nobody looked at is not confirmed.

Until then an organ that came back as it went out was ``confirmed``, one that was not sent
``unchanged``, and one empty before and after ``not_confirmed``. The last two say nothing of
the organ, and are one state now. What was confirmed stays so, and is marked.
"""

from __future__ import annotations

VERSION_ASSESSED = """
-- What its holder said, when the volume was given out, that will be looked at: 'all' or NULL.
ALTER TABLE lease ADD COLUMN looked_at TEXT;

CREATE TABLE submission_organ_anew (
  submission INTEGER NOT NULL REFERENCES submission (id),
  organ INTEGER NOT NULL CHECK (organ BETWEEN 1 AND 9),
  state TEXT NOT NULL CHECK (state IN ('confirmed', 'revised', 'absent', 'not_assessed')),
  voxels_before INTEGER,
  voxels_after INTEGER,
  voxels_changed INTEGER,
  dsc REAL,
  note TEXT,                         -- why it is so, where that needs saying
  PRIMARY KEY (submission, organ)
) WITHOUT ROWID;
INSERT INTO submission_organ_anew
  SELECT submission, organ,
    CASE WHEN state IN ('unchanged', 'not_confirmed') THEN 'not_assessed' ELSE state END,
    voxels_before, voxels_after, voxels_changed, dsc,
    CASE WHEN state = 'confirmed'
      THEN 'by the older rule, under which an untouched organ was confirmed' END
  FROM submission_organ;
DROP TABLE submission_organ;
ALTER TABLE submission_organ_anew RENAME TO submission_organ;

-- Its triggers go with the table and are made anew.
CREATE TABLE provenance_anew (
  volume INTEGER NOT NULL REFERENCES volume (id),
  organ INTEGER NOT NULL CHECK (organ BETWEEN 1 AND 9),
  source TEXT NOT NULL CHECK (source IN ('public', 'revised', 'pseudo')),
  state TEXT NOT NULL CHECK
    (state IN ('present', 'absent', 'unknown', 'confirmed', 'revised', 'not_assessed')),
  dataset TEXT,
  submission INTEGER REFERENCES submission (id),
  disputed INTEGER NOT NULL DEFAULT 0,
  at REAL NOT NULL,
  PRIMARY KEY (volume, organ)
) WITHOUT ROWID;
INSERT INTO provenance_anew
  SELECT volume, organ, source, state, dataset, submission, disputed, at FROM provenance
  WHERE state <> 'not_confirmed';
DROP TABLE provenance;
ALTER TABLE provenance_anew RENAME TO provenance;
CREATE TRIGGER provenance_enters AFTER INSERT ON provenance
BEGIN
  INSERT INTO unsettled VALUES (NEW.volume, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER provenance_leaves AFTER DELETE ON provenance
BEGIN
  INSERT INTO unsettled VALUES (OLD.volume, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
"""
