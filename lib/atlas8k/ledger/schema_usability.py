"""A version of the tables: who said, when and why, that a volume is usable or not."""

from __future__ import annotations

VERSION_USABILITY = """
-- The last row of a volume is what counts; `volume.excluded_reason` follows from it.
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
CREATE INDEX usability_volume ON usability (volume, id);
INSERT INTO usability (volume, usable, kind, reason, holder, at, fingerprint)
  SELECT id, 0, 'person', excluded_reason, '', first_seen, fingerprint FROM volume
  WHERE excluded_reason IS NOT NULL;
"""
