-- From version 8: queues, tallies and places that triggers kept are not kept any more; organs
-- are those of the structure set, not the numbers 1 to 9. What schema.sql has and version 8
-- had not is made by schema.sql afterwards; schema_import.sql then fills it.
DROP TRIGGER volume_closes;
DROP TRIGGER volume_opens;
DROP TRIGGER volume_moves;
DROP TRIGGER volume_counts;
DROP TRIGGER tally_insert;
DROP TRIGGER tally_update;
DROP TRIGGER result_enters;
DROP TRIGGER result_leaves;
DROP TRIGGER result_changes;
DROP TRIGGER submission_in_force;
DROP TRIGGER provenance_enters;
DROP TRIGGER provenance_leaves;
DROP VIEW queue_due;
DROP TABLE queue;
DROP TABLE tally;
DROP TABLE rank_bucket;
DROP TABLE run;
DROP INDEX result_order;
DROP INDEX skip_latest;
DROP INDEX volume_source_first;
DROP INDEX volume_source_random;
ALTER TABLE signature DROP COLUMN failed;
ALTER TABLE signature DROP COLUMN live;
ALTER TABLE signature DROP COLUMN swept;
ALTER TABLE result DROP COLUMN bucket;
ALTER TABLE result ADD COLUMN available INTEGER NOT NULL DEFAULT 0;
UPDATE result SET available = (SELECT v.available FROM volume v WHERE v.id = result.volume);
DROP INDEX choice_organ;
ALTER TABLE lease ADD COLUMN draft INTEGER REFERENCES label_version (id);
ALTER TABLE score RENAME TO score_8;
ALTER TABLE submission_organ RENAME TO submission_organ_8;
ALTER TABLE dataset_organ RENAME TO dataset_organ_8;
ALTER TABLE choice RENAME TO choice_8;
ALTER TABLE provenance RENAME TO provenance_8;
ALTER TABLE agreement RENAME TO agreement_8;
-- Label files are entered anew from the studies folder (services/studies/import_state.py), which
-- has all that these said, and what a killed process had left undone.
INSERT OR REPLACE INTO setting SELECT 'labels_to_remake', json_group_array(v.name)
  FROM unsettled u JOIN volume v ON v.id = u.volume HAVING count(*) > 0;
INSERT OR REPLACE INTO setting SELECT 'submissions_not_recorded', json_group_array(volume)
  FROM reserved HAVING count(*) > 0;
DROP TABLE unsettled;
DROP TABLE reserved;
DROP INDEX label_volume;
DROP TABLE label;
