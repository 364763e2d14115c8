"""A version of the tables: every published ranking's scores, and why a volume ranks so.

The ranking in force is the row ``ranking`` of `setting`; no row means ``eq4``. What is
ranked by it, ``result.rank_ml`` and the rows of `queue`, follows from it and is made anew
when it changes, see :mod:`atlas8k.ledger.rankings`.
"""

from __future__ import annotations

VERSION_RANKINGS = """
-- NULL in scores that were made before: they count under ranking eq4 only.
ALTER TABLE score ADD COLUMN salient_ml REAL;
ALTER TABLE score ADD COLUMN per_slice_ml REAL;

DROP VIEW queue_due;
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

-- Organs and regions in order, as JSON: read whole, with the sample.
CREATE TABLE explanation (
  volume INTEGER NOT NULL,
  signature INTEGER NOT NULL,
  text TEXT NOT NULL,
  PRIMARY KEY (volume, signature),
  FOREIGN KEY (volume, signature) REFERENCES result (volume, signature) ON DELETE CASCADE
) WITHOUT ROWID;
"""
