"""Labels: taken in by name, understood, put together by source, with where each came from.

A client's file goes ``formats`` (what is in it) → ``naming`` (which organ a segment is) →
``placing`` (on the CT's grid) → ``ingest`` (one map of organ ids) → ``meaning`` (what it
says of each organ) → ``assemble`` (with the other sources) → ``provenance`` (in the file).
"""
