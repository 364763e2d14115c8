-- From version 8, after schema.sql: rows of tables that were made anew.
INSERT INTO score (volume, model_version, organ, attention_ml, inconsistency_ml, uncertainty_ml,
    overlap_ml, ranked, figures)
  SELECT volume, model_version, organ, attention_ml, inconsistency_ml, uncertainty_ml, overlap_ml,
    ranked, json_patch('{}', json_object('salient', salient_ml, 'per_slice', per_slice_ml))
  FROM score_8;
DROP TABLE score_8;
INSERT INTO submission_organ (submission, organ, state, voxels_before, voxels_after, voxels_changed, dsc, note) SELECT submission, organ, state, voxels_before, voxels_after, voxels_changed, dsc, note FROM submission_organ_8;
DROP TABLE submission_organ_8;
INSERT INTO dataset_organ (volume, organ, state, dataset, at) SELECT volume, organ, state, dataset, at FROM dataset_organ_8;
DROP TABLE dataset_organ_8;
INSERT INTO choice (id, volume, organ, source, submission, reviewer, at) SELECT id, volume, organ, source, submission, reviewer, at FROM choice_8;
DROP TABLE choice_8;
INSERT INTO provenance (volume, organ, source, state, dataset, submission, disputed, at) SELECT volume, organ, source, state, dataset, submission, disputed, at FROM provenance_8;
DROP TABLE provenance_8;
INSERT INTO agreement (first, second, organ, voxels_first, voxels_second, voxels_changed, dsc) SELECT first, second, organ, voxels_first, voxels_second, voxels_changed, dsc FROM agreement_8;
DROP TABLE agreement_8;
