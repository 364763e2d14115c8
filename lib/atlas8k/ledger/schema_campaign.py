"""A version of the tables: the priority list of every round, and the audits drawn from it."""

from __future__ import annotations

VERSION_CAMPAIGN = """
-- The list of a round, drawn once: when the networks it is ranked by had scored everything.
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
);
CREATE TABLE plan_volume (
  round INTEGER NOT NULL REFERENCES plan (round),
  place INTEGER NOT NULL,            -- from 1
  volume INTEGER NOT NULL REFERENCES volume (id),
  ml REAL NOT NULL,                  -- figure of the ranking
  audit INTEGER,                     -- order in which audits are given out; NULL: none
  PRIMARY KEY (round, place)
) WITHOUT ROWID;
CREATE UNIQUE INDEX plan_volume_once ON plan_volume (round, volume);
CREATE UNIQUE INDEX plan_volume_audit ON plan_volume (round, audit) WHERE audit IS NOT NULL;

-- Volumes submitted in the round that were drawn for audit: not the budget's.
ALTER TABLE round ADD COLUMN audited INTEGER NOT NULL DEFAULT 0;

-- Trainings that have ended, whatever the gate said; `round` is the one it ended in or ended.
CREATE TABLE training (
  id INTEGER PRIMARY KEY,
  round INTEGER REFERENCES round (id),
  key TEXT NOT NULL UNIQUE,          -- the same training noted twice is one
  at REAL NOT NULL,
  detail TEXT NOT NULL               -- JSON
);
CREATE INDEX submission_round ON submission (round, id);
"""
