"""The tables of the state file and what their rows are here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

STATE_NAME = "studies.sqlite3"
VERSION = 2
APPLICATION_ID = 0x41384B53  # "A8KS"

REMARKS = """CREATE TABLE remark (
         id TEXT NOT NULL, source TEXT NOT NULL,         -- image, and who looked into it
         size INTEGER, mtime_ns INTEGER, inode INTEGER,  -- the file that was looked into
         stamp TEXT NOT NULL,
         remarks TEXT NOT NULL,                          -- JSON list of objects
         seq INTEGER NOT NULL,
         PRIMARY KEY (id, source)
       ) WITHOUT ROWID"""
REMARKS_BY_SEQ = "CREATE INDEX remark_seq ON remark (seq)"

TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    """CREATE TABLE image (
         id TEXT PRIMARY KEY,
         info TEXT NOT NULL,   -- JSON object
         removed TEXT,         -- SHA256 of an image that was removed on request
         seq INTEGER NOT NULL
       ) WITHOUT ROWID""",
    "CREATE INDEX image_seq ON image (seq)",
    """CREATE TABLE label (
         id TEXT NOT NULL, tag TEXT NOT NULL,
         ext TEXT,             -- NULL: removed
         info TEXT NOT NULL,
         size INTEGER, mtime_ns INTEGER, inode INTEGER,  -- the file this is about
         seq INTEGER NOT NULL,
         PRIMARY KEY (id, tag)
       ) WITHOUT ROWID""",
    "CREATE INDEX label_seq ON label (seq)",
    """CREATE TABLE intent (
         id TEXT NOT NULL, tag TEXT NOT NULL, ext TEXT NOT NULL, info TEXT NOT NULL,
         size INTEGER, mtime_ns INTEGER, inode INTEGER,
         PRIMARY KEY (id, tag)
       ) WITHOUT ROWID""",
    """CREATE TABLE checksum (
         path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode INTEGER,
         sha256 TEXT NOT NULL
       ) WITHOUT ROWID""",
    REMARKS,
    REMARKS_BY_SEQ,
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)


UPGRADES: dict[int, tuple[str, ...]] = {
    1: (REMARKS, REMARKS_BY_SEQ, "PRAGMA user_version = 2"),
}
"""Statements that make a file of that version one of the next."""


class Print(NamedTuple):
    """What tells one file from another of the same name."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, path: str | Path) -> Print | None:
        """Of the file at `path`, links followed; ``None`` where there is none."""
        try:
            found = os.stat(path)  # noqa: PTH116
        except OSError:
            return None
        return cls(found.st_size, found.st_mtime_ns, found.st_ino)


class ImageRow(NamedTuple):
    """What is known about an image; `info` is a JSON object."""

    id: str
    info: str
    removed: str | None


class LabelRow(NamedTuple):
    """What is known about a label; ``ext`` is ``None`` where it was removed."""

    id: str
    tag: str
    ext: str | None
    info: str
    print: Print


class RemarkRow(NamedTuple):
    """What one inspector found in one image; `remarks` is a JSON list."""

    id: str
    source: str
    print: Print
    stamp: str
    remarks: str


class Changes(NamedTuple):
    """Rows written after some number of the sequence, and the last number."""

    seq: int
    images: list[ImageRow]
    labels: list[LabelRow]
    remarks: list[RemarkRow]


def label_row(row: tuple[Any, ...]) -> LabelRow:
    """A row of table ``label`` or ``intent``, columns in order."""
    label_id, tag, ext, info, size, mtime_ns, inode = row
    return LabelRow(label_id, tag, ext, info, Print(size, mtime_ns, inode))
