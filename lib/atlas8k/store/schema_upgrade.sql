-- From version 8: queues, tallies and places that triggers kept are not kept any more. What
-- schema.sql has and version 8 had not is made by schema.sql afterwards.
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
