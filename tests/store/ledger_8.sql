-- A ledger as the release before wrote it (schema 8), as SQLite dumps it.
PRAGMA application_id = 1094208305;
PRAGMA user_version = 8;
BEGIN TRANSACTION;
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
CREATE TABLE choice (
  id INTEGER PRIMARY KEY,
  volume INTEGER NOT NULL REFERENCES volume (id),
  organ INTEGER NOT NULL CHECK (organ BETWEEN 1 AND 9),
  source TEXT NOT NULL CHECK (source IN ('public', 'revised')),
  submission INTEGER REFERENCES submission (id), -- the last one it knew of
  reviewer TEXT NOT NULL,
  at REAL NOT NULL
);
CREATE TABLE dataset_organ (
  volume INTEGER NOT NULL REFERENCES volume (id),
  organ INTEGER NOT NULL CHECK (organ BETWEEN 1 AND 9),
  state TEXT NOT NULL CHECK (state IN ('present', 'absent', 'unknown')),
  dataset TEXT,
  at REAL NOT NULL,
  PRIMARY KEY (volume, organ)
) WITHOUT ROWID;
INSERT INTO "dataset_organ" VALUES(2,5,'present','LiTS',1700000480.0);
INSERT INTO "dataset_organ" VALUES(2,8,'unknown','LiTS',1700000480.0);
CREATE TABLE explanation (
  volume INTEGER NOT NULL,
  signature INTEGER NOT NULL,
  text TEXT NOT NULL,
  PRIMARY KEY (volume, signature),
  FOREIGN KEY (volume, signature) REFERENCES result (volume, signature) ON DELETE CASCADE
) WITHOUT ROWID;
INSERT INTO "explanation" VALUES(1,1,'{"regions":[]}');
INSERT INTO "explanation" VALUES(2,1,'{"regions":[]}');
INSERT INTO "explanation" VALUES(3,1,'{"regions":[]}');
INSERT INTO "explanation" VALUES(4,1,'{"regions":[]}');
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
INSERT INTO "label" VALUES(1,2,'final','labels/final/b.nii.gz','1111111111111111111111111111111111111111111111111111111111111111',1,3,1700000780.0,NULL);
CREATE TABLE lease (
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
  base_submission INTEGER
, looked_at TEXT);
INSERT INTO "lease" VALUES(1,1,'user:anna',0,'revise','attention',1,1,1700000540.0,1700004140.0,1700000600.0,'submitted',0,NULL,NULL);
INSERT INTO "lease" VALUES(2,3,'client:ben',0,'revise','named',1,1,1700000840.0,1700004440.0,NULL,NULL,0,NULL,NULL);
CREATE TABLE offer (
  volume INTEGER PRIMARY KEY REFERENCES volume (id),
  purpose TEXT NOT NULL CHECK (purpose IN ('returned', 'double_read')),
  holder TEXT,                       -- to this holder only
  not_holder TEXT,                   -- to anybody but this one
  note TEXT NOT NULL DEFAULT '',
  reviewer TEXT NOT NULL DEFAULT '',
  at REAL NOT NULL
);
CREATE TABLE plan (
  round INTEGER PRIMARY KEY REFERENCES round (id),
  signature INTEGER NOT NULL REFERENCES signature (id),
  ranking TEXT NOT NULL,
  drawn_at REAL NOT NULL,
  top INTEGER NOT NULL,              -- so many places are the budget's
  reviewed INTEGER NOT NULL,         -- volumes of the round that were reviewed before
  audit_percent REAL NOT NULL,
  seed TEXT NOT NULL,                -- audits are drawn by a hash of it, round and name
  audits INTEGER NOT NULL            -- so many were drawn
, stop_after INTEGER NOT NULL DEFAULT 10);
INSERT INTO "plan" VALUES(1,1,'eq4',1700000540.0,2,0,1.0,'26fe74d19801ccb9',1,10);
CREATE TABLE plan_volume (
  round INTEGER NOT NULL REFERENCES plan (round),
  place INTEGER NOT NULL,            -- from 1
  volume INTEGER NOT NULL REFERENCES volume (id),
  ml REAL NOT NULL,                  -- figure of the ranking
  audit INTEGER,                     -- order in which audits are given out; NULL: none
  PRIMARY KEY (round, place)
) WITHOUT ROWID;
INSERT INTO "plan_volume" VALUES(1,1,1,10.0,NULL);
INSERT INTO "plan_volume" VALUES(1,2,3,8.0,NULL);
INSERT INTO "plan_volume" VALUES(1,3,4,7.0,1);
INSERT INTO "plan_volume" VALUES(1,4,2,1.0,NULL);
CREATE TABLE "provenance" (
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
INSERT INTO "provenance" VALUES(1,5,'revised','revised',NULL,1,0,1700000600.0);
INSERT INTO "provenance" VALUES(2,5,'public','present','LiTS',NULL,1,1700000720.0);
INSERT INTO "provenance" VALUES(2,8,'pseudo','unknown','LiTS',NULL,0,1700000480.0);
CREATE TABLE queue (
  volume INTEGER NOT NULL,
  signature INTEGER NOT NULL,
  organ INTEGER NOT NULL,
  ml REAL NOT NULL,
  source TEXT NOT NULL,
  PRIMARY KEY (volume, signature, organ)
) WITHOUT ROWID;
CREATE TABLE rank_bucket (
  signature INTEGER NOT NULL,
  bucket INTEGER NOT NULL,
  n INTEGER NOT NULL,
  PRIMARY KEY (signature, bucket)
) WITHOUT ROWID;
INSERT INTO "rank_bucket" VALUES(1,0,1);
INSERT INTO "rank_bucket" VALUES(1,179,0);
INSERT INTO "rank_bucket" VALUES(1,192,1);
INSERT INTO "rank_bucket" VALUES(1,202,0);
INSERT INTO "rank_bucket" VALUES(1,212,1);
CREATE TABLE reserved (
  id INTEGER PRIMARY KEY,
  volume TEXT NOT NULL,
  at REAL NOT NULL
);
CREATE TABLE result (
  volume INTEGER NOT NULL REFERENCES volume (id),
  signature INTEGER NOT NULL REFERENCES signature (id),
  at REAL NOT NULL,
  seconds REAL,
  attention_ml REAL,                 -- all organs
  rank_ml REAL,                      -- organs that are neither public nor revised
  bucket INTEGER,                    -- rank_ml on a logarithmic scale, see ranking.bucket
  reason TEXT,
  counted INTEGER NOT NULL,          -- copy of volume.counted, by trigger
  PRIMARY KEY (volume, signature)
) WITHOUT ROWID;
INSERT INTO "result" VALUES(1,1,1700000180.0,NULL,10.0,10.0,212,NULL,1);
INSERT INTO "result" VALUES(2,1,1700000240.0,NULL,9.0,1.0,0,NULL,1);
INSERT INTO "result" VALUES(3,1,1700000300.0,NULL,8.0,8.0,192,NULL,1);
INSERT INTO "result" VALUES(4,1,1700000360.0,NULL,7.0,7.0,179,NULL,0);
INSERT INTO "result" VALUES(5,1,1700000420.0,NULL,NULL,NULL,NULL,'damaged',1);
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
INSERT INTO "review" VALUES(1,1,NULL,'conflict',2,1,1700000660.0,NULL,NULL,NULL,NULL);
INSERT INTO "review" VALUES(2,2,5,'dispute',3,NULL,1700000720.0,NULL,NULL,NULL,NULL);
CREATE TABLE round (
  id INTEGER PRIMARY KEY,            -- the round's number
  signature INTEGER REFERENCES signature (id),
  opened_at REAL NOT NULL,
  closed_at REAL,
  budget REAL NOT NULL,              -- fraction of the counted volumes
  reviewed INTEGER NOT NULL DEFAULT 0,
  closing TEXT                       -- JSON: the fine-tuning that ended it
, audited INTEGER NOT NULL DEFAULT 0);
INSERT INTO "round" VALUES(1,1,1700000120.0,NULL,0.5,2,NULL,0);
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
CREATE TABLE score (
  volume INTEGER NOT NULL,
  signature INTEGER NOT NULL,
  organ INTEGER NOT NULL CHECK (organ BETWEEN 1 AND 9),
  attention_ml REAL NOT NULL,
  inconsistency_ml REAL NOT NULL,
  uncertainty_ml REAL NOT NULL,
  overlap_ml REAL NOT NULL,
  ranked INTEGER NOT NULL DEFAULT 1, salient_ml REAL, per_slice_ml REAL, -- 0: organ is public or revised
  PRIMARY KEY (volume, signature, organ),
  FOREIGN KEY (volume, signature) REFERENCES result (volume, signature) ON DELETE CASCADE
) WITHOUT ROWID;
INSERT INTO "score" VALUES(1,1,5,9.0,1.0,1.0,1.0,1,2.0,0.5);
INSERT INTO "score" VALUES(1,1,8,1.0,1.0,1.0,1.0,1,1.0,0.5);
INSERT INTO "score" VALUES(2,1,5,8.0,1.0,1.0,1.0,0,3.0,0.5);
INSERT INTO "score" VALUES(2,1,8,1.0,1.0,1.0,1.0,1,1.0,0.5);
INSERT INTO "score" VALUES(3,1,5,7.0,1.0,1.0,1.0,1,4.0,0.5);
INSERT INTO "score" VALUES(3,1,8,1.0,1.0,1.0,1.0,1,1.0,0.5);
INSERT INTO "score" VALUES(4,1,5,6.0,1.0,1.0,1.0,1,5.0,0.5);
INSERT INTO "score" VALUES(4,1,8,1.0,1.0,1.0,1.0,1,1.0,0.5);
CREATE TABLE setting (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "setting" VALUES('audit_seed','26fe74d19801ccb9');
CREATE TABLE signature (
  id INTEGER PRIMARY KEY,            -- order registered
  name TEXT NOT NULL UNIQUE,
  detail TEXT NOT NULL,              -- JSON: checkpoints, preprocessing, attention settings
  registered_at REAL NOT NULL,
  scored INTEGER NOT NULL DEFAULT 0, -- counted volumes with a score, by trigger
  failed INTEGER NOT NULL DEFAULT 0, -- counted volumes with a failure, by trigger
  completed_at REAL,                 -- first time nothing was stale
  live INTEGER NOT NULL DEFAULT 1,   -- its rows in `queue` are kept in step
  swept INTEGER NOT NULL DEFAULT 0   -- not live, and no row left in `queue`
);
INSERT INTO "signature" VALUES(1,'one','{"unet": "sha"}',1700000120.0,3,1,1700000420.0,1,0);
CREATE TABLE skip (
  holder TEXT NOT NULL,
  volume INTEGER NOT NULL REFERENCES volume (id),
  skipped_at REAL NOT NULL,
  until REAL NOT NULL,
  PRIMARY KEY (holder, volume)
) WITHOUT ROWID;
CREATE TABLE submission (
  id INTEGER PRIMARY KEY,
  volume INTEGER NOT NULL REFERENCES volume (id),
  holder TEXT NOT NULL,
  anonymous INTEGER NOT NULL,
  submitted_at REAL NOT NULL,
  lease INTEGER REFERENCES lease (id),
  minutes REAL,
  signature INTEGER REFERENCES signature (id),
  round INTEGER REFERENCES round (id),
  file TEXT,
  sha256 TEXT,
  late INTEGER NOT NULL DEFAULT 0,
  conflict INTEGER NOT NULL DEFAULT 0,
  detail TEXT NOT NULL DEFAULT '{}'
, purpose TEXT NOT NULL DEFAULT 'revise', content TEXT, start_submission INTEGER, start_sha256 TEXT, restored INTEGER);
INSERT INTO "submission" VALUES(1,1,'user:anna',0,1700000600.0,1,1.0,1,1,'a.nii.gz','0000000000000000000000000000000000000000000000000000000000000000',0,0,'{}','revise',NULL,NULL,NULL,NULL);
INSERT INTO "submission" VALUES(2,1,'client:ben',0,1700000660.0,NULL,NULL,NULL,1,NULL,NULL,1,1,'{}','revise',NULL,NULL,NULL,NULL);
INSERT INTO "submission" VALUES(3,2,'user:anna',0,1700000720.0,NULL,NULL,NULL,1,NULL,NULL,1,0,'{}','revise',NULL,NULL,NULL,NULL);
CREATE TABLE "submission_organ" (
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
INSERT INTO "submission_organ" VALUES(1,5,'revised',9,8,1,0.9,NULL);
INSERT INTO "submission_organ" VALUES(2,8,'absent',1,0,1,0.0,NULL);
INSERT INTO "submission_organ" VALUES(3,5,'revised',9,8,1,0.9,NULL);
CREATE TABLE tally (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  present INTEGER NOT NULL DEFAULT 0,
  counted INTEGER NOT NULL DEFAULT 0,
  available INTEGER NOT NULL DEFAULT 0,
  submitted INTEGER NOT NULL DEFAULT 0,
  conflict INTEGER NOT NULL DEFAULT 0,
  leased INTEGER NOT NULL DEFAULT 0,
  excluded INTEGER NOT NULL DEFAULT 0,
  failed INTEGER NOT NULL DEFAULT 0
);
INSERT INTO "tally" VALUES(1,5,4,1,1,1,1,1,1);
CREATE TABLE training (
  id INTEGER PRIMARY KEY,
  round INTEGER REFERENCES round (id),
  key TEXT NOT NULL UNIQUE,          -- the same training noted twice is one
  at REAL NOT NULL,
  detail TEXT NOT NULL               -- JSON
);
CREATE TABLE unsettled (volume INTEGER PRIMARY KEY, n INTEGER NOT NULL);
INSERT INTO "unsettled" VALUES(1,2);
INSERT INTO "unsettled" VALUES(2,5);
CREATE TABLE usability (
  id INTEGER PRIMARY KEY,
  volume INTEGER NOT NULL REFERENCES volume (id),
  usable INTEGER NOT NULL,
  kind TEXT NOT NULL,                -- 'person', or what the look at its content found
  reason TEXT NOT NULL,
  holder TEXT NOT NULL,              -- who; '' for the look at its content
  at REAL NOT NULL,
  fingerprint TEXT                   -- of the file that was looked at
);
INSERT INTO "usability" VALUES(1,4,0,'person','motion','user:anna',1700000900.0,NULL);
CREATE TABLE volume (
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
  current_submission INTEGER,        -- the one in force
  counted INTEGER NOT NULL GENERATED ALWAYS AS (present AND excluded_reason IS NULL) VIRTUAL,
  available INTEGER NOT NULL GENERATED ALWAYS AS
    (present AND excluded_reason IS NULL AND status = 'open' AND lease IS NULL) VIRTUAL
);
INSERT INTO "volume" VALUES(1,'a','LiTS','1',1700000060.0,1,NULL,'conflict',NULL,0,3677443320193153576,NULL,1);
INSERT INTO "volume" VALUES(2,'b','','2',1700000060.0,1,NULL,'submitted',NULL,0,3145256834510838504,NULL,3);
INSERT INTO "volume" VALUES(3,'c','',NULL,1700000060.0,1,NULL,'open',2,0,23800622485553437,NULL,NULL);
INSERT INTO "volume" VALUES(4,'d','',NULL,1700000060.0,1,'motion','open',NULL,0,3709211083699109807,NULL,NULL);
INSERT INTO "volume" VALUES(5,'e','',NULL,1700000060.0,1,NULL,'open',NULL,1,42700333907832643,NULL,NULL);
CREATE INDEX volume_first ON volume (name) WHERE available = 1 AND failed = 0;
CREATE INDEX volume_random ON volume (shuffle, id) WHERE available = 1 AND failed = 0;
CREATE INDEX volume_source_first ON volume (source, name) WHERE available = 1 AND failed = 0;
CREATE INDEX volume_source_random ON volume (source, shuffle, id)
  WHERE available = 1 AND failed = 0;
CREATE INDEX result_order ON result (signature, bucket DESC, rank_ml DESC, volume)
  WHERE counted = 1 AND rank_ml IS NOT NULL;
CREATE INDEX queue_order ON queue (signature, organ, ml DESC, volume);
CREATE INDEX queue_source ON queue (signature, source, ml DESC, volume) WHERE organ = 0;
CREATE TRIGGER volume_closes AFTER UPDATE ON volume WHEN OLD.available AND NOT NEW.available
BEGIN
  DELETE FROM queue WHERE volume = NEW.id;
END;
CREATE TRIGGER volume_opens AFTER UPDATE ON volume WHEN NEW.available AND NOT OLD.available
BEGIN
  INSERT OR REPLACE INTO queue SELECT volume, signature, organ, ml, source
    FROM queue_due WHERE volume = NEW.id;
END;
CREATE TRIGGER volume_moves AFTER UPDATE OF source ON volume WHEN OLD.source <> NEW.source
BEGIN
  UPDATE queue SET source = NEW.source WHERE volume = NEW.id;
END;
CREATE TRIGGER volume_counts AFTER UPDATE ON volume WHEN OLD.counted <> NEW.counted
BEGIN
  UPDATE result SET counted = NEW.counted WHERE volume = NEW.id;
END;
CREATE TRIGGER tally_insert AFTER INSERT ON volume
BEGIN
  UPDATE tally SET
    present = present + NEW.present, counted = counted + NEW.counted,
    available = available + NEW.available,
    submitted = submitted + (NEW.counted AND NEW.status = 'submitted'),
    conflict = conflict + (NEW.counted AND NEW.status = 'conflict'),
    leased = leased + (NEW.counted AND NEW.lease IS NOT NULL),
    excluded = excluded + (NEW.present AND NEW.excluded_reason IS NOT NULL),
    failed = failed + (NEW.counted AND NEW.failed);
END;
CREATE TRIGGER tally_update AFTER UPDATE ON volume
BEGIN
  UPDATE tally SET
    present = present + NEW.present - OLD.present,
    counted = counted + NEW.counted - OLD.counted,
    available = available + NEW.available - OLD.available,
    submitted = submitted + (NEW.counted AND NEW.status = 'submitted')
      - (OLD.counted AND OLD.status = 'submitted'),
    conflict = conflict + (NEW.counted AND NEW.status = 'conflict')
      - (OLD.counted AND OLD.status = 'conflict'),
    leased = leased + (NEW.counted AND NEW.lease IS NOT NULL)
      - (OLD.counted AND OLD.lease IS NOT NULL),
    excluded = excluded + (NEW.present AND NEW.excluded_reason IS NOT NULL)
      - (OLD.present AND OLD.excluded_reason IS NOT NULL),
    failed = failed + (NEW.counted AND NEW.failed) - (OLD.counted AND OLD.failed);
END;
CREATE TRIGGER result_enters AFTER INSERT ON result WHEN NEW.counted
BEGIN
  UPDATE signature SET scored = scored + (NEW.reason IS NULL),
    failed = failed + (NEW.reason IS NOT NULL) WHERE id = NEW.signature;
  INSERT INTO rank_bucket SELECT NEW.signature, NEW.bucket, 1 WHERE NEW.bucket IS NOT NULL
    ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER result_leaves AFTER DELETE ON result WHEN OLD.counted
BEGIN
  UPDATE signature SET scored = scored - (OLD.reason IS NULL),
    failed = failed - (OLD.reason IS NOT NULL) WHERE id = OLD.signature;
  UPDATE rank_bucket SET n = n - 1 WHERE signature = OLD.signature AND bucket = OLD.bucket;
END;
CREATE TRIGGER result_changes AFTER UPDATE OF counted, bucket ON result
BEGIN
  UPDATE signature SET scored = scored + (NEW.counted - OLD.counted) * (NEW.reason IS NULL),
    failed = failed + (NEW.counted - OLD.counted) * (NEW.reason IS NOT NULL)
    WHERE id = NEW.signature AND NEW.counted <> OLD.counted;
  UPDATE rank_bucket SET n = n - 1
    WHERE OLD.counted AND signature = OLD.signature AND bucket = OLD.bucket;
  INSERT INTO rank_bucket SELECT NEW.signature, NEW.bucket, 1
    WHERE NEW.counted AND NEW.bucket IS NOT NULL ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE UNIQUE INDEX lease_one_holder ON lease (volume) WHERE ended_at IS NULL;
CREATE INDEX lease_holder ON lease (holder, ended_at);
CREATE INDEX lease_expiry ON lease (expires_at) WHERE ended_at IS NULL;
CREATE INDEX lease_volume ON lease (volume, holder);
CREATE INDEX skip_until ON skip (until);
CREATE INDEX skip_latest ON skip (holder, skipped_at DESC);
CREATE INDEX submission_volume ON submission (volume, id);
CREATE INDEX label_volume ON label (volume, tag, id);
CREATE INDEX review_open ON review (volume, kind) WHERE closed_at IS NULL;
CREATE INDEX run_kind ON run (kind, id);
CREATE VIEW queue_due AS
  SELECT v.id AS volume, r.signature, 0 AS organ, r.rank_ml AS ml, v.source
  FROM volume v JOIN result r ON r.volume = v.id JOIN signature s ON s.id = r.signature
  WHERE v.available = 1 AND s.live = 1 AND r.rank_ml IS NOT NULL
  UNION ALL
  SELECT v.id, c.signature, c.organ,
    coalesce(CASE (SELECT value FROM setting WHERE key = 'ranking')
      WHEN 'salient' THEN c.salient_ml
      WHEN 'per_slice' THEN c.per_slice_ml
      ELSE c.attention_ml END, 0), v.source
  FROM volume v JOIN score c ON c.volume = v.id JOIN signature s ON s.id = c.signature
  WHERE v.available = 1 AND s.live = 1 AND c.ranked = 1;
CREATE INDEX choice_organ ON choice (volume, organ, id);
CREATE TRIGGER submission_in_force AFTER UPDATE OF current_submission ON volume
BEGIN
  INSERT INTO unsettled VALUES (NEW.id, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE UNIQUE INDEX plan_volume_once ON plan_volume (round, volume);
CREATE UNIQUE INDEX plan_volume_audit ON plan_volume (round, audit) WHERE audit IS NOT NULL;
CREATE INDEX submission_round ON submission (round, id);
CREATE INDEX usability_volume ON usability (volume, id);
CREATE TRIGGER provenance_enters AFTER INSERT ON provenance
BEGIN
  INSERT INTO unsettled VALUES (NEW.volume, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER provenance_leaves AFTER DELETE ON provenance
BEGIN
  INSERT INTO unsettled VALUES (OLD.volume, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
COMMIT;
