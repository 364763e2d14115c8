"""Labels: taken in by name, understood, put together by source, with where each came from.

A client's file goes through ``ingest``: ``nrrd_file`` or ``dicom_seg`` (what is in it),
``label_mapping`` (which organ a segment is), ``grid_alignment`` (on the CT's grid); then
``submission_diff`` (what it says of each organ) → ``fusion`` (with the other sources) →
``provenance`` (in the file).
"""
