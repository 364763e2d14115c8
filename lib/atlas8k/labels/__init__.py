"""Labels: taken in by name, understood, put together by source, with where each came from.

A client's file goes through ``ingest``: a reader of :mod:`atlas8k.formats` (what is in it),
organs by name and code, the CT's grid; then ``submission_diff`` (what it says of each organ) →
``fusion`` (with the other sources) → ``provenance`` (in the file's header).
"""
