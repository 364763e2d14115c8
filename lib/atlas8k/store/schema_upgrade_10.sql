-- From version 10 and those before it, before schema.sql: how a list was drawn, and what lists are
-- drawn by. Of scores that were explained, the features of the CT are there.
ALTER TABLE plan ADD COLUMN selection TEXT NOT NULL DEFAULT 'ranking';
ALTER TABLE result ADD COLUMN traits TEXT;
UPDATE result SET traits = (
  SELECT json_group_object(json_extract(f.value, '$.name'), json_extract(f.value, '$.value'))
  FROM explanation e, json_each(e.text, '$.familiar.features') f
  WHERE e.volume = result.volume AND e.signature = result.signature
    AND json_extract(f.value, '$.name') IN ('organs', 'phase', 'coverage', 'body_cm2')
  HAVING count(*) > 0
);
