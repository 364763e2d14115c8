-- The ledger's tables, version 14.
--
-- What was measured and what people did is written once. What follows from it and is kept
-- beside it: `result.counted` and `result.available`, so that the next sample is the first
-- entry of an index, and `model_version.scored`, which is asked for with every sample, by the
-- triggers at the end; and `provenance`, see provenance.py.
--
-- Label files lie in the studies folder under their hash; which one is current, and all that is
-- known of each, is here. What lies in labels/final, labels/original and so on is made of it.
--
-- Times are UTC seconds since 1970, sizes millilitres, organs ids of the structure set.

-- The structure set: what is annotated. Filled from core/structures.py.
CREATE TABLE IF NOT EXISTS structure (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
);

CREATE TABLE IF NOT EXISTS model_version (
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

-- One row a volume and model version: scored (rank_ml not null) or failed (reason not null).
CREATE TABLE IF NOT EXISTS result (
  volume INTEGER NOT NULL REFERENCES volume (id),
  model_version INTEGER NOT NULL REFERENCES model_version (id),
  at REAL NOT NULL,
  seconds REAL,
  attention_ml REAL,                 -- all organs
  rank_ml REAL,                      -- figure of the ranking, of organs that are ranked by
  reason TEXT,
  counted INTEGER NOT NULL,          -- copy of volume.counted, by trigger
  available INTEGER NOT NULL DEFAULT 0, -- copy of volume.available, by trigger
  traits TEXT,                       -- JSON: what a list is drawn by beside the ranking; NULL: not known
  PRIMARY KEY (volume, model_version)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS result_next ON result (model_version, available, rank_ml DESC, volume);
CREATE INDEX IF NOT EXISTS result_order ON result (model_version, counted, rank_ml DESC, volume);

-- One row a volume, organ and model version.
CREATE TABLE IF NOT EXISTS score (
  volume INTEGER NOT NULL,
  model_version INTEGER NOT NULL,
  organ INTEGER NOT NULL REFERENCES structure (id),
  attention_ml REAL NOT NULL,
  inconsistency_ml REAL NOT NULL,
  uncertainty_ml REAL NOT NULL,
  overlap_ml REAL NOT NULL,
  ranked INTEGER NOT NULL DEFAULT 1, -- 0: organ is public or revised
  figures TEXT NOT NULL DEFAULT '{}', -- JSON: what the other rankings go by, by name
  PRIMARY KEY (volume, model_version, organ),
  FOREIGN KEY (volume, model_version) REFERENCES result (volume, model_version) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS score_order ON score (model_version, organ, attention_ml DESC, volume);

-- Organs and regions in order, as JSON: read whole, with the sample.
CREATE TABLE IF NOT EXISTS explanation (
  volume INTEGER NOT NULL,
  model_version INTEGER NOT NULL,
  text TEXT NOT NULL,
  PRIMARY KEY (volume, model_version),
  FOREIGN KEY (volume, model_version) REFERENCES result (volume, model_version) ON DELETE CASCADE
) WITHOUT ROWID;

-- Settings all processes must share.
CREATE TABLE IF NOT EXISTS setting (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS round (
  id INTEGER PRIMARY KEY,            -- the round's number
  model_version INTEGER REFERENCES model_version (id),
  opened_at REAL NOT NULL,
  closed_at REAL,
  budget REAL NOT NULL,              -- fraction of the counted volumes
  reviewed INTEGER NOT NULL DEFAULT 0,
  closing TEXT,                      -- JSON: the fine-tuning that ended it
  audited INTEGER NOT NULL DEFAULT 0 -- of the reviewed, those that came as audits: not the budget's
);

-- The list of a round, drawn once: when the networks it is ranked by had scored everything.
CREATE TABLE IF NOT EXISTS plan (
  round INTEGER PRIMARY KEY REFERENCES round (id),
  model_version INTEGER NOT NULL REFERENCES model_version (id),
  ranking TEXT NOT NULL,
  drawn_at REAL NOT NULL,
  top INTEGER NOT NULL,              -- so many places are the budget's
  reviewed INTEGER NOT NULL,         -- volumes of the round that were reviewed before
  audit_percent REAL NOT NULL,
  seed TEXT NOT NULL,                -- audits are drawn by a hash of it, round and name
  audits INTEGER NOT NULL,           -- so many were drawn
  -- So many in a row end the campaign, as set then; and how the list was drawn.
  stop_after INTEGER NOT NULL DEFAULT 10,
  selection TEXT NOT NULL DEFAULT 'ranking'
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
-- Orders other than the list's that somebody asked for by name, drawn once in a round.
CREATE TABLE IF NOT EXISTS selected (
  round INTEGER NOT NULL REFERENCES plan (round),
  selection TEXT NOT NULL,
  place INTEGER NOT NULL,            -- from 1
  volume INTEGER NOT NULL REFERENCES volume (id),
  PRIMARY KEY (round, selection, place)
) WITHOUT ROWID;

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
  model_version INTEGER REFERENCES model_version (id),
  round INTEGER REFERENCES round (id),
  taken_at REAL NOT NULL,
  expires_at REAL NOT NULL,
  ended_at REAL,
  outcome TEXT CHECK (outcome IN ('submitted', 'skipped', 'released', 'expired')),
  over_budget INTEGER NOT NULL DEFAULT 0,
  base_submission INTEGER,
  looked_at TEXT,                    -- 'all': its holder says that every organ will be looked at
  draft INTEGER REFERENCES label_version (id) -- the draft label that it was given out with
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
  model_version INTEGER REFERENCES model_version (id),
  round INTEGER REFERENCES round (id), -- the one that its volume was given out in
  file TEXT,
  sha256 TEXT,
  late INTEGER NOT NULL DEFAULT 0,
  conflict INTEGER NOT NULL DEFAULT 0,
  detail TEXT NOT NULL DEFAULT '{}',
  -- 'revise', 'review' (a reviewer's own), 'double_read' (blind, beside another), 'gold' (the
  -- same, to measure its reader), 'restore' or 'adopted' (it was in the folder); only the first
  -- counts as reviewed in its round.
  purpose TEXT NOT NULL DEFAULT 'revise',
  content TEXT,                      -- SHA256 of the file as it came
  start_submission INTEGER,          -- the one in its draft label
  start_sha256 TEXT,                 -- of its draft label
  restored INTEGER                   -- the one it makes current again
);
CREATE INDEX IF NOT EXISTS submission_volume ON submission (volume, id);
CREATE INDEX IF NOT EXISTS submission_round ON submission (round, id);

-- What a submission did to each organ it says anything about.
CREATE TABLE IF NOT EXISTS submission_organ (
  submission INTEGER NOT NULL REFERENCES submission (id),
  organ INTEGER NOT NULL REFERENCES structure (id),
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
  organ INTEGER NOT NULL REFERENCES structure (id),
  state TEXT NOT NULL CHECK (state IN ('present', 'absent', 'unknown')),
  dataset TEXT,
  at REAL NOT NULL,
  PRIMARY KEY (volume, organ)
) WITHOUT ROWID;

-- A reviewer's choice for one volume and organ; the last one counts.
CREATE TABLE IF NOT EXISTS choice (
  id INTEGER PRIMARY KEY,
  volume INTEGER NOT NULL REFERENCES volume (id),
  organ INTEGER NOT NULL REFERENCES structure (id),
  source TEXT NOT NULL CHECK (source IN ('public', 'revised')),
  submission INTEGER REFERENCES submission (id), -- the last one it knew of
  reviewer TEXT NOT NULL,
  at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS choice_organ ON choice (volume, organ, id);

-- Where the voxels of each organ in the fused label come from; no row: pseudo.
CREATE TABLE IF NOT EXISTS provenance (
  volume INTEGER NOT NULL REFERENCES volume (id),
  organ INTEGER NOT NULL REFERENCES structure (id),
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
  organ INTEGER NOT NULL REFERENCES structure (id),
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

-- Looks of a sweep: somebody saw the outlines of a volume's label. It confirms nothing.
CREATE TABLE IF NOT EXISTS sweep_look (
  id INTEGER PRIMARY KEY,
  volume INTEGER NOT NULL REFERENCES volume (id),
  holder TEXT NOT NULL,
  sha256 TEXT NOT NULL,              -- of the label that was shown
  verdict TEXT NOT NULL CHECK (verdict IN ('fine', 'flag')),
  at REAL NOT NULL,
  review INTEGER REFERENCES review (id), -- the question that it has opened
  undone_at REAL
);
CREATE INDEX IF NOT EXISTS sweep_look_volume ON sweep_look (volume, id) WHERE undone_at IS NULL;

-- Images and label files of the studies folder. `seq` is the number of the change that wrote a
-- row: another process asks for what came after the last one it has seen.
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS image (
  id TEXT PRIMARY KEY,
  info TEXT NOT NULL,                -- JSON object, as clients sent it
  removed TEXT,                      -- SHA256 of an image that was removed on request
  seq INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS image_seq ON image (seq);

CREATE TABLE IF NOT EXISTS checksum (
  path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode INTEGER,
  sha256 TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS remark (
  id TEXT NOT NULL, source TEXT NOT NULL,         -- image, and the inspector
  size INTEGER, mtime_ns INTEGER, inode INTEGER,  -- the file that was looked into
  stamp TEXT NOT NULL,
  remarks TEXT NOT NULL,                          -- JSON list of objects
  seq INTEGER NOT NULL,
  PRIMARY KEY (id, source)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS remark_seq ON remark (seq);

-- Every label file there was, of images that are in the folder or were.
CREATE TABLE IF NOT EXISTS label_version (
  id INTEGER PRIMARY KEY,
  image TEXT NOT NULL,
  tag TEXT NOT NULL,                 -- the tag that it was made for
  file TEXT NOT NULL,                -- relative to the labels folder
  ext TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  size INTEGER NOT NULL,             -- size and time tell the file from others; copies share them
  mtime_ns INTEGER NOT NULL,
  info TEXT NOT NULL,                -- JSON object
  model_version INTEGER REFERENCES model_version (id),
  submission INTEGER REFERENCES submission (id),
  written_at REAL NOT NULL,
  replaced_at REAL                   -- when it ceased to be current, if it did
);
CREATE INDEX IF NOT EXISTS label_version_image ON label_version (image, tag, id);

-- The current label of an image and tag.
CREATE TABLE IF NOT EXISTS label (
  image TEXT NOT NULL,
  tag TEXT NOT NULL,
  version INTEGER REFERENCES label_version (id), -- NULL: removed, or a file put there by others
  ext TEXT,                          -- of such a file, with its size and time; NULL: removed
  size INTEGER,
  mtime_ns INTEGER,
  info TEXT NOT NULL,                -- JSON object
  seq INTEGER NOT NULL,
  PRIMARY KEY (image, tag)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS label_seq ON label (seq);

-- What anatomical rules have against the last label of each kind; no row: not checked.
CREATE TABLE IF NOT EXISTS label_check (
  volume INTEGER NOT NULL REFERENCES volume (id),
  label TEXT NOT NULL CHECK (label IN ('pseudo', 'submitted', 'fused')),
  at REAL NOT NULL,
  findings TEXT NOT NULL,            -- JSON: organ, rule and text of each
  PRIMARY KEY (volume, label)
) WITHOUT ROWID;

-- What a CT is compared with others by, see content/likeness.py, and the pairs that are alike.
CREATE TABLE IF NOT EXISTS likeness (
  volume INTEGER PRIMARY KEY REFERENCES volume (id),
  file TEXT NOT NULL,                -- changes with the CT's file
  cells BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS alike (
  first INTEGER NOT NULL REFERENCES volume (id),
  second INTEGER NOT NULL REFERENCES volume (id),
  kind TEXT NOT NULL CHECK (kind IN ('copy', 'same_patient')),
  shape REAL NOT NULL,
  brightness REAL NOT NULL,
  PRIMARY KEY (first, second)
) WITHOUT ROWID;

-- CTs that were compared with each other: a pair of them is in `alike`, or is not alike.
CREATE TABLE IF NOT EXISTS compared (
  volume INTEGER PRIMARY KEY REFERENCES volume (id)
);

-- In which set of a dataset a volume is; `rule` stands for how it is split.
CREATE TABLE IF NOT EXISTS split (
  rule TEXT NOT NULL,
  volume INTEGER NOT NULL REFERENCES volume (id),
  part TEXT NOT NULL,
  PRIMARY KEY (rule, volume)
) WITHOUT ROWID;

-- A CT's contrast phase as people say it, in place of the estimate in `result.traits`.
CREATE TABLE IF NOT EXISTS phase (
  volume INTEGER PRIMARY KEY REFERENCES volume (id),
  phase TEXT NOT NULL,
  holder TEXT NOT NULL,
  at REAL NOT NULL
);

-- Series of a DICOM archive, where images come from one.
CREATE TABLE IF NOT EXISTS series (
  uid TEXT PRIMARY KEY,
  study TEXT NOT NULL,
  instances INTEGER NOT NULL,        -- as the archive counts them
  state TEXT NOT NULL,               -- waiting, volume, refused
  reason TEXT NOT NULL,              -- why it is refused
  fingerprint TEXT NOT NULL          -- changes with its instances
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS patient (
  study TEXT PRIMARY KEY,
  first TEXT NOT NULL                -- the study that stands for whose it is
) WITHOUT ROWID;
-- The last label of a volume that was sent to the archive, or tried to be.
CREATE TABLE IF NOT EXISTS sent (
  volume TEXT PRIMARY KEY,
  submission INTEGER NOT NULL,
  sha256 TEXT NOT NULL,              -- of the label file
  series TEXT,                       -- SeriesInstanceUID of the SEG; NULL: not sent
  tries INTEGER NOT NULL,
  reason TEXT NOT NULL,              -- why not, after the last try
  at REAL NOT NULL
) WITHOUT ROWID;

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
  UPDATE model_version SET scored = scored + 1 WHERE id = NEW.model_version;
END;
CREATE TRIGGER IF NOT EXISTS result_leaves AFTER DELETE ON result
  WHEN OLD.counted AND OLD.rank_ml IS NOT NULL
BEGIN
  UPDATE model_version SET scored = scored - 1 WHERE id = OLD.model_version;
END;
CREATE TRIGGER IF NOT EXISTS result_changes AFTER UPDATE OF counted ON result
  WHEN OLD.counted <> NEW.counted AND NEW.rank_ml IS NOT NULL
BEGIN
  UPDATE model_version SET scored = scored + NEW.counted - OLD.counted WHERE id = NEW.model_version;
END;

-- What annotators have drawn in the browser and not submitted yet, see drawings.py.
CREATE TABLE IF NOT EXISTS drawing (
  volume INTEGER NOT NULL REFERENCES volume (id),
  holder TEXT NOT NULL,
  version INTEGER NOT NULL,          -- one more with each that is saved
  saved_at REAL NOT NULL,
  file TEXT NOT NULL,                -- name in the folder of drawings
  sha256 TEXT NOT NULL,
  fingerprint TEXT NOT NULL,         -- of the CT's file that it was drawn on
  said TEXT NOT NULL,                -- JSON: what is said of the organs so far
  PRIMARY KEY (volume, holder)
) WITHOUT ROWID;

-- Which tools from outside helped to draw what, see assistance.py.
CREATE TABLE IF NOT EXISTS assistance (
  volume INTEGER NOT NULL REFERENCES volume (id),
  holder TEXT NOT NULL,
  organ INTEGER NOT NULL REFERENCES structure (id),
  tool TEXT NOT NULL,
  licence TEXT NOT NULL,             -- of its weights, as it stated then
  at REAL NOT NULL,
  PRIMARY KEY (volume, holder, organ, tool, licence)
) WITHOUT ROWID;

-- Who did what when, see audit_trail.py: rows are added, one after the other, and that is all.
CREATE TABLE IF NOT EXISTS audit_trail (
  id INTEGER PRIMARY KEY,            -- 1, 2, 3 and so on
  text TEXT NOT NULL,                -- JSON object; holds the hash of the row before
  sha256 TEXT NOT NULL               -- of `text`
);
CREATE TABLE IF NOT EXISTS audit_reason (
  sha256 TEXT PRIMARY KEY,
  text TEXT NOT NULL                 -- as it was typed
) WITHOUT ROWID;
-- The first one stops INSERT OR REPLACE, too, which removes a row without a trigger.
CREATE TRIGGER IF NOT EXISTS audit_trail_grows BEFORE INSERT ON audit_trail
  WHEN NEW.id IS NOT (SELECT coalesce(max(id), 0) + 1 FROM audit_trail)
BEGIN
  SELECT RAISE(ABORT, 'a record of the audit trail follows the last one');
END;
CREATE TRIGGER IF NOT EXISTS audit_trail_is_as_it_was BEFORE UPDATE ON audit_trail
BEGIN
  SELECT RAISE(ABORT, 'a record of the audit trail is not changed');
END;
CREATE TRIGGER IF NOT EXISTS audit_trail_is_kept BEFORE DELETE ON audit_trail
BEGIN
  SELECT RAISE(ABORT, 'a record of the audit trail is not removed');
END;
CREATE TRIGGER IF NOT EXISTS audit_reason_is_as_it_was BEFORE UPDATE ON audit_reason
BEGIN
  SELECT RAISE(ABORT, 'a reason in the audit trail is not changed');
END;
CREATE TRIGGER IF NOT EXISTS audit_reason_is_kept BEFORE DELETE ON audit_reason
BEGIN
  SELECT RAISE(ABORT, 'a reason in the audit trail is not removed');
END;
