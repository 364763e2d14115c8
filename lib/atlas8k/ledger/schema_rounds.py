"""A version of the tables: a submission belongs to the round that its volume was given out in.

Until then it was booked into the round that was open when it came in, so that a case still in
hand when a round ended was held against the next round's networks. Rounds are counted anew.
"""

from __future__ import annotations

VERSION_ROUNDS = """
-- So many in a row end the campaign: as it was set when the list was drawn.
ALTER TABLE plan ADD COLUMN stop_after INTEGER NOT NULL DEFAULT 10;
UPDATE plan SET stop_after =
  coalesce((SELECT CAST(value AS INTEGER) FROM setting WHERE key = 'stop_after'), 10);

-- Another purpose, 'adopted': a label that was in the folder, nobody's work of a round.
UPDATE submission SET purpose = 'adopted'
  WHERE holder = 'folder:labels/final' AND purpose = 'revise';

UPDATE submission SET round = (SELECT l.round FROM lease l WHERE l.id = submission.lease)
  WHERE EXISTS (SELECT 1 FROM lease l WHERE l.id = submission.lease AND l.round IS NOT NULL);

-- Second readings, reviewers' labels, restored and adopted ones are no review of the round.
UPDATE round SET
  reviewed = (SELECT count(DISTINCT p.volume) FROM submission p
    WHERE p.round = round.id AND p.purpose = 'revise'),
  audited = (SELECT count(DISTINCT p.volume) FROM submission p JOIN plan_volume a
    ON a.round = round.id AND a.volume = p.volume AND a.audit IS NOT NULL
    WHERE p.round = round.id AND p.purpose = 'revise');
"""
