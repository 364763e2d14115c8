"""Version 1 of the ledger's tables.

What was measured and what people did (`signature`, `volume`, `result`, `score`, `lease`,
`submission`, `round`) is written once. What follows from it (`queue`, `tally`,
`rank_bucket`, the counters of `signature`) is kept in step by triggers in the same
transaction, so that picking a sample and saying its rank never count through all volumes.

Times are UTC seconds since 1970, sizes millilitres, organs ids 1 to 9; organ 0 stands for
the whole volume.
"""

from __future__ import annotations

VERSION_1 = """
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
CREATE INDEX volume_first ON volume (name) WHERE available = 1 AND failed = 0;
CREATE INDEX volume_random ON volume (shuffle, id) WHERE available = 1 AND failed = 0;
CREATE INDEX volume_source_first ON volume (source, name) WHERE available = 1 AND failed = 0;
CREATE INDEX volume_source_random ON volume (source, shuffle, id)
  WHERE available = 1 AND failed = 0;

-- One row a volume and signature: scored (rank_ml not null) or failed (reason not null).
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
CREATE INDEX result_order ON result (signature, bucket DESC, rank_ml DESC, volume)
  WHERE counted = 1 AND rank_ml IS NOT NULL;

-- One row a volume, organ and signature.
CREATE TABLE score (
  volume INTEGER NOT NULL,
  signature INTEGER NOT NULL,
  organ INTEGER NOT NULL CHECK (organ BETWEEN 1 AND 9),
  attention_ml REAL NOT NULL,
  inconsistency_ml REAL NOT NULL,
  uncertainty_ml REAL NOT NULL,
  overlap_ml REAL NOT NULL,
  ranked INTEGER NOT NULL DEFAULT 1, -- 0: organ is public or revised
  PRIMARY KEY (volume, signature, organ),
  FOREIGN KEY (volume, signature) REFERENCES result (volume, signature) ON DELETE CASCADE
) WITHOUT ROWID;

-- What can be given out now, in order: available volumes under live signatures.
CREATE TABLE queue (
  volume INTEGER NOT NULL,
  signature INTEGER NOT NULL,
  organ INTEGER NOT NULL,
  ml REAL NOT NULL,
  source TEXT NOT NULL,
  PRIMARY KEY (volume, signature, organ)
) WITHOUT ROWID;
CREATE INDEX queue_order ON queue (signature, organ, ml DESC, volume);
CREATE INDEX queue_source ON queue (signature, source, ml DESC, volume) WHERE organ = 0;

CREATE VIEW queue_due AS
  SELECT v.id AS volume, r.signature, 0 AS organ, r.rank_ml AS ml, v.source
  FROM volume v JOIN result r ON r.volume = v.id JOIN signature s ON s.id = r.signature
  WHERE v.available = 1 AND s.live = 1 AND r.rank_ml IS NOT NULL
  UNION ALL
  SELECT v.id, c.signature, c.organ, c.attention_ml, v.source
  FROM volume v JOIN score c ON c.volume = v.id JOIN signature s ON s.id = c.signature
  WHERE v.available = 1 AND s.live = 1 AND c.ranked = 1;

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

-- Volumes by state, one row.
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
INSERT INTO tally (id) VALUES (1);
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

-- How many counted volumes fall into each bucket: a rank without counting them all.
CREATE TABLE rank_bucket (
  signature INTEGER NOT NULL,
  bucket INTEGER NOT NULL,
  n INTEGER NOT NULL,
  PRIMARY KEY (signature, bucket)
) WITHOUT ROWID;
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

CREATE TABLE round (
  id INTEGER PRIMARY KEY,            -- the round's number
  signature INTEGER REFERENCES signature (id),
  opened_at REAL NOT NULL,
  closed_at REAL,
  budget REAL NOT NULL,              -- fraction of the counted volumes
  reviewed INTEGER NOT NULL DEFAULT 0,
  closing TEXT                       -- JSON: the fine-tuning that ended it
);

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
);
-- Two holders of one volume cannot be written, whatever the code above does.
CREATE UNIQUE INDEX lease_one_holder ON lease (volume) WHERE ended_at IS NULL;
CREATE INDEX lease_holder ON lease (holder, ended_at);
CREATE INDEX lease_expiry ON lease (expires_at) WHERE ended_at IS NULL;
CREATE INDEX lease_volume ON lease (volume, holder);

CREATE TABLE skip (
  holder TEXT NOT NULL,
  volume INTEGER NOT NULL REFERENCES volume (id),
  skipped_at REAL NOT NULL,
  until REAL NOT NULL,
  PRIMARY KEY (holder, volume)
) WITHOUT ROWID;
CREATE INDEX skip_until ON skip (until);
CREATE INDEX skip_latest ON skip (holder, skipped_at DESC);

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
);
CREATE INDEX submission_volume ON submission (volume, id);
"""
