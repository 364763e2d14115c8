-- The ledger's tables, version 9.
--
-- What was measured and what people did is written once. What follows from it and is kept
-- beside it: `result.counted` and `result.available`, so that the next sample is the first
-- entry of an index, and `signature.scored`, which is asked for with every sample, by the
-- triggers at the end; and `provenance`, see provenance.py.
--
-- Times are UTC seconds since 1970, sizes millilitres, organs ids 1 to 9.

CREATE TABLE IF NOT EXISTS signature (
  id INTEGER PRIMARY KEY,            -- order registered
  name TEXT NOT NULL UNIQUE,
  detail TEXT NOT NULL,              -- JSON: checkpoints, preprocessing, attention settings
  registered_at REAL NOT NULL,
  scored INTEGER NOT NULL DEFAULT 0, -- counted volumes with a score, by trigger
  completed_at REAL                  -- first time nothing was stale
);

CREATE TABLE IF NOT EXISTS volume (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  source TEXT NOT NULL DEFAULT '',
  fingerprint TEXT,
  first_seen REAL NOT NULL,
  present INTEGER NOT NULL DEFAULT 1,
  excluded_reason TEXT,
  status TEXT NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'submitted', 'conflict')),
  lease INTEGER,                     -- the lease that holds it now
  failed INTEGER NOT NULL DEFAULT 0, -- the last attempt to score it failed
  shuffle INTEGER NOT NULL,          -- random: its order is the order of strategy `random`
  base_submission INTEGER,           -- what a submission without a lease began from
  current_submission INTEGER,        -- the one that is current
  counted INTEGER NOT NULL GENERATED ALWAYS AS (present AND excluded_reason IS NULL) VIRTUAL,
  available INTEGER NOT NULL GENERATED ALWAYS AS
    (present AND excluded_reason IS NULL AND status = 'open' AND lease IS NULL) VIRTUAL
);
CREATE INDEX IF NOT EXISTS volume_first ON volume (name) WHERE available = 1 AND failed = 0;
CREATE INDEX IF NOT EXISTS volume_random ON volume (shuffle, id)
  WHERE available = 1 AND failed = 0;
CREATE INDEX IF NOT EXISTS volume_aside ON volume (id) WHERE counted = 0;

-- One row a volume and signature: scored (rank_ml not null) or failed (reason not null).
CREATE TABLE IF NOT EXISTS result (
  volume INTEGER NOT NULL REFERENCES volume (id),
  signature INTEGER NOT NULL REFERENCES signature (id),
  at REAL NOT NULL,
  seconds REAL,
  attention_ml REAL,                 -- all organs
  rank_ml REAL,                      -- figure of the ranking, of organs that are ranked by
  reason TEXT,
  counted INTEGER NOT NULL,          -- copy of volume.counted, by trigger
  available INTEGER NOT NULL DEFAULT 0, -- copy of volume.available, by trigger
  PRIMARY KEY (volume, signature)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS result_next ON result (signature, available, rank_ml DESC, volume);
CREATE INDEX IF NOT EXISTS result_order ON result (signature, counted, rank_ml DESC, volume);

-- One row a volume, organ and signature.
CREATE TABLE IF NOT EXISTS score (
  volume INTEGER NOT NULL,
  signature INTEGER NOT NULL,
  organ INTEGER NOT NULL CHECK (organ BETWEEN 1 AND 9),
  attention_ml REAL NOT NULL,
  inconsistency_ml REAL NOT NULL,
  uncertainty_ml REAL NOT NULL,
  overlap_ml REAL NOT NULL,
  ranked INTEGER NOT NULL DEFAULT 1, -- 0: organ is public or revised
  salient_ml REAL,                   -- NULL: made by a release that ranked by Eq. 4 only
  per_slice_ml REAL,
  PRIMARY KEY (volume, signature, organ),
  FOREIGN KEY (volume, signature) REFERENCES result (volume, signature) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS score_order ON score (signature, organ, attention_ml DESC, volume);

-- Organs and regions in order, as JSON: read whole, with the sample.
CREATE TABLE IF NOT EXISTS explanation (
  volume INTEGER NOT NULL,
  signature INTEGER NOT NULL,
  text TEXT NOT NULL,
  PRIMARY KEY (volume, signature),
  FOREIGN KEY (volume, signature) REFERENCES result (volume, signature) ON DELETE CASCADE
) WITHOUT ROWID;

-- Settings all processes must share.
CREATE TABLE IF NOT EXISTS setting (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS round (
  id INTEGER PRIMARY KEY,            -- the round's number
  signature INTEGER REFERENCES signature (id),
  opened_at REAL NOT NULL,
  closed_at REAL,
  budget REAL NOT NULL,              -- fraction of the counted volumes
  reviewed INTEGER NOT NULL DEFAULT 0,
  closing TEXT,                      -- JSON: the fine-tuning that ended it
  audited INTEGER NOT NULL DEFAULT 0 -- of the reviewed, those drawn for audit: not the budget's
);

-- The list of a round, drawn once: when the networks it is ranked by had scored everything.
CREATE TABLE IF NOT EXISTS plan (
  round INTEGER PRIMARY KEY REFERENCES round (id),
  signature INTEGER NOT NULL REFERENCES signature (id),
  ranking TEXT NOT NULL,
  drawn_at REAL NOT NULL,
  top INTEGER NOT NULL,              -- so many places are the budget's
  reviewed INTEGER NOT NULL,         -- volumes of the round that were reviewed before
  audit_percent REAL NOT NULL,
  seed TEXT NOT NULL,                -- audits are drawn by a hash of it, round and name
  audits INTEGER NOT NULL,           -- so many were drawn
  stop_after INTEGER NOT NULL DEFAULT 10 -- so many in a row end the campaign, as set then
);
CREATE TABLE IF NOT EXISTS plan_volume (
  round INTEGER NOT NULL REFERENCES plan (round),
  place INTEGER NOT NULL,            -- from 1
  volume INTEGER NOT NULL REFERENCES volume (id),
  ml REAL NOT NULL,                  -- figure of the ranking
  audit INTEGER,                     -- order in which audits are given out; NULL: none
  PRIMARY KEY (round, place)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS plan_volume_once ON plan_volume (round, volume);
CREATE UNIQUE INDEX IF NOT EXISTS plan_volume_audit ON plan_volume (round, audit)
  WHERE audit IS NOT NULL;

-- Trainings that have ended, whatever the gate said; `round` is the one it ended in or ended.
CREATE TABLE IF NOT EXISTS training (
  id INTEGER PRIMARY KEY,
  round INTEGER REFERENCES round (id),
  key TEXT NOT NULL UNIQUE,          -- the same training noted twice is one
  at REAL NOT NULL,
  detail TEXT NOT NULL               -- JSON
);

CREATE TABLE IF NOT EXISTS lease (
  id INTEGER PRIMARY KEY,
  volume INTEGER NOT NULL REFERENCES volume (id),
  holder TEXT NOT NULL,
  anonymous INTEGER NOT NULL,
  purpose TEXT NOT NULL DEFAULT 'revise',
  strategy TEXT NOT NULL,
  signature INTEGER REFERENCES signature (id),
  round INTEGER REFERENCES round (id),
  taken_at REAL NOT NULL,
  expires_at REAL NOT NULL,
  ended_at REAL,
  outcome TEXT CHECK (outcome IN ('submitted', 'skipped', 'released', 'expired')),
  over_budget INTEGER NOT NULL DEFAULT 0,
  base_submission INTEGER,
  looked_at TEXT                     -- 'all': its holder says that every organ will be looked at
);
-- Two holders of one volume cannot be written, whatever the code above does.
CREATE UNIQUE INDEX IF NOT EXISTS lease_one_holder ON lease (volume) WHERE ended_at IS NULL;
CREATE INDEX IF NOT EXISTS lease_holder ON lease (holder, ended_at);
CREATE INDEX IF NOT EXISTS lease_expiry ON lease (expires_at) WHERE ended_at IS NULL;
CREATE INDEX IF NOT EXISTS lease_volume ON lease (volume, holder);

CREATE TABLE IF NOT EXISTS skip (
  holder TEXT NOT NULL,
  volume INTEGER NOT NULL REFERENCES volume (id),
  skipped_at REAL NOT NULL,
  until REAL NOT NULL,
  PRIMARY KEY (holder, volume)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS skip_until ON skip (until);

-- Volumes to be given out before all others: returned ones and second readings.
CREATE TABLE IF NOT EXISTS offer (
  volume INTEGER PRIMARY KEY REFERENCES volume (id),
  purpose TEXT NOT NULL CHECK (purpose IN ('returned', 'double_read')),
  holder TEXT,                       -- to this holder only
  not_holder TEXT,                   -- to anybody but this one
  note TEXT NOT NULL DEFAULT '',
  reviewer TEXT NOT NULL DEFAULT '',
  at REAL NOT NULL
);

CREATE TABLE IF NOT EXISTS submission (
  id INTEGER PRIMARY KEY,
  volume INTEGER NOT NULL REFERENCES volume (id),
  holder TEXT NOT NULL,
  anonymous INTEGER NOT NULL,
  submitted_at REAL NOT NULL,
  lease INTEGER REFERENCES lease (id),
  minutes REAL,
  signature INTEGER REFERENCES signature (id),
  round INTEGER REFERENCES round (id), -- the one that its volume was given out in
  file TEXT,
  sha256 TEXT,
  late INTEGER NOT NULL DEFAULT 0,
  conflict INTEGER NOT NULL DEFAULT 0,
  detail TEXT NOT NULL DEFAULT '{}',
  -- 'revise', 'review' (a reviewer's own), 'double_read' (blind, beside another), 'restore' or
  -- 'adopted' (it was in the folder); only the first counts as reviewed in its round.
  purpose TEXT NOT NULL DEFAULT 'revise',
  content TEXT,                      -- SHA256 of the file as it came
  start_submission INTEGER,          -- the one in its start label
  start_sha256 TEXT,                 -- of its start label
  restored INTEGER                   -- the one it makes current again
);
CREATE INDEX IF NOT EXISTS submission_volume ON submission (volume, id);
CREATE INDEX IF NOT EXISTS submission_round ON submission (round, id);

-- What a submission did to each organ it says anything about.
CREATE TABLE IF NOT EXISTS submission_organ (
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

-- What public labels say, whatever is made of it; `provenance` is what follows.
CREATE TABLE IF NOT EXISTS dataset_organ (
  volume INTEGER NOT NULL REFERENCES volume (id),
  organ INTEGER NOT NULL CHECK (organ BETWEEN 1 AND 9),
  state TEXT NOT NULL CHECK (state IN ('present', 'absent', 'unknown')),
  dataset TEXT,
  at REAL NOT NULL,
  PRIMARY KEY (volume, organ)
) WITHOUT ROWID;

-- A reviewer's choice for one volume and organ; the last one counts.
CREATE TABLE IF NOT EXISTS choice (
  id INTEGER PRIMARY KEY,
  volume INTEGER NOT NULL REFERENCES volume (id),
  organ INTEGER NOT NULL CHECK (organ BETWEEN 1 AND 9),
  source TEXT NOT NULL CHECK (source IN ('public', 'revised')),
  submission INTEGER REFERENCES submission (id), -- the last one it knew of
  reviewer TEXT NOT NULL,
  at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS choice_organ ON choice (volume, organ, id);

-- Where the voxels of each organ in the fused label come from; no row: pseudo.
CREATE TABLE IF NOT EXISTS provenance (
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

-- Two readings of one volume, neither of which knew the other.
CREATE TABLE IF NOT EXISTS agreement (
  first INTEGER NOT NULL REFERENCES submission (id),
  second INTEGER NOT NULL REFERENCES submission (id),
  organ INTEGER NOT NULL CHECK (organ BETWEEN 1 AND 9),
  voxels_first INTEGER,
  voxels_second INTEGER,
  voxels_changed INTEGER,            -- in one of them only
  dsc REAL,
  PRIMARY KEY (first, second, organ)
) WITHOUT ROWID;

-- What a reviewer has decided or must decide.
CREATE TABLE IF NOT EXISTS review (
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
CREATE INDEX IF NOT EXISTS review_open ON review (volume, kind) WHERE closed_at IS NULL;

-- Every label file a volume has had.
CREATE TABLE IF NOT EXISTS label (
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
CREATE INDEX IF NOT EXISTS label_volume ON label (volume, tag, id);

-- Numbers of submissions whose file is being written; one that stays belongs to a process
-- that was killed.
CREATE TABLE IF NOT EXISTS reserved (
  id INTEGER PRIMARY KEY,
  volume TEXT NOT NULL,
  at REAL NOT NULL
);

-- Volumes whose label files do not yet say what this ledger says; `n` grows with each change.
CREATE TABLE IF NOT EXISTS unsettled (volume INTEGER PRIMARY KEY, n INTEGER NOT NULL);

-- Whether a volume is usable: its last row counts; `volume.excluded_reason` follows from it.
CREATE TABLE IF NOT EXISTS usability (
  id INTEGER PRIMARY KEY,
  volume INTEGER NOT NULL REFERENCES volume (id),
  usable INTEGER NOT NULL,
  kind TEXT NOT NULL,                -- 'person', or what the look at its content found
  reason TEXT NOT NULL,
  holder TEXT NOT NULL,              -- who; '' for the look at its content
  at REAL NOT NULL,
  fingerprint TEXT                   -- of the file that was looked at
);
CREATE INDEX IF NOT EXISTS usability_volume ON usability (volume, id);

CREATE TRIGGER IF NOT EXISTS volume_changes AFTER UPDATE ON volume
  WHEN OLD.counted <> NEW.counted OR OLD.available <> NEW.available
BEGIN
  UPDATE result SET counted = NEW.counted, available = NEW.available WHERE volume = NEW.id;
END;
CREATE TRIGGER IF NOT EXISTS result_enters AFTER INSERT ON result
  WHEN NEW.counted AND NEW.rank_ml IS NOT NULL
BEGIN
  UPDATE signature SET scored = scored + 1 WHERE id = NEW.signature;
END;
CREATE TRIGGER IF NOT EXISTS result_leaves AFTER DELETE ON result
  WHEN OLD.counted AND OLD.rank_ml IS NOT NULL
BEGIN
  UPDATE signature SET scored = scored - 1 WHERE id = OLD.signature;
END;
CREATE TRIGGER IF NOT EXISTS result_changes AFTER UPDATE OF counted ON result
  WHEN OLD.counted <> NEW.counted AND NEW.rank_ml IS NOT NULL
BEGIN
  UPDATE signature SET scored = scored + NEW.counted - OLD.counted WHERE id = NEW.signature;
END;
