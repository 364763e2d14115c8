"""What is known about images and labels, in one SQLite file beside the ledger.

The files on disk say which images and labels there are; this says what came with them.
Every change takes the next number of one sequence, so that another process learns what
has changed by asking for what came after the last number it saw: as many rows as there
were changes, however many volumes there are.

A label and what is known about it lie in two places and must change as one. Before a new
label file is renamed into place, an *intent* names that very file (size, time, inode) and
what will be known about it. Whoever finds an intent later looks at the disk: if that file
is in place, the intent holds, else the old state does.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Mapping
from typing import Any

from atlas8k.services.studies.errors import StudiesFolderError
from atlas8k.services.studies.plain import dumps, merged
from atlas8k.services.studies.rows import (
    APPLICATION_ID,
    TABLES,
    UPGRADES,
    VERSION,
    Changes,
    ImageRow,
    LabelRow,
    Print,
    RemarkRow,
    label_row,
)
from atlas8k.store.database import Database
from atlas8k.store.errors import translated

# After a fork the parent's connections must be neither used nor closed, not even by the
# garbage collector.
_INHERITED: list[object] = []

_NEXT = """INSERT INTO meta VALUES ('seq', 1)
           ON CONFLICT DO UPDATE SET value = value + 1 RETURNING value"""


class StateFile(Database):
    """The SQLite file; several threads and processes may each have one open.

    Raises
    ------
    LedgerFileError
        It cannot be opened, read or written; the subclass says why.
    StudiesFolderError
        It is of a newer release, or something else.
    """

    def _forget(self) -> None:
        super()._forget()
        self._watching: sqlite3.Connection | None = None
        self._generation = getattr(self, "_generation", 0)
        self._watch_lock = threading.Lock()

    def _prepare(self) -> None:
        connection = self._open()
        try:
            self._retry(lambda: self._version(connection))
            self._retry(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone())
            self._begin(connection)
            try:
                # Read again: another process may have made the tables meanwhile.
                version = self._version(connection)
                for statement in _statements(version):
                    connection.execute(statement)  # also finds out now if it is read-only
                connection.execute("ROLLBACK" if version == VERSION else "COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)

    def _version(self, connection: sqlite3.Connection) -> int:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        kind = int(connection.execute("PRAGMA application_id").fetchone()[0])
        if version > VERSION:
            raise StudiesFolderError(
                self.path, f"of version {version}, newer than this release's {VERSION}; update it"
            )
        if kind not in (0, APPLICATION_ID):
            raise StudiesFolderError(self.path, "not a file of this kind; move it away")
        return version

    # --- reading ----------------------------------------------------------------------

    def version(self) -> tuple[int, int]:
        """Something that changes with every transaction of anybody; microseconds."""
        if self._pid != os.getpid():
            _INHERITED.append((self._idle, self._watching))
            self._forget()
        with translated(self.path), self._watch_lock:
            if self._watching is None:
                self._watching = self._open()
                self._generation += 1
            watching = self._watching
            version = self._retry(lambda: watching.execute("PRAGMA data_version").fetchone()[0])
            # Each connection counts from where it likes.
            return self._generation, int(version)

    def close(self) -> None:
        """Close the file; it is opened again if used again."""
        super().close()
        with self._watch_lock:
            if self._watching is not None:
                self._watching.close()
                self._watching = None

    def changes(self, since: int = 0) -> Changes:
        """Rows written after number `since`, removed labels included."""
        with self.read() as connection:
            run = connection.execute
            last = run("SELECT value FROM meta WHERE key = 'seq'").fetchone()
            images = run("SELECT id, info, removed FROM image WHERE seq > ?", (since,))
            image_rows = [ImageRow(*row) for row in images]
            labels = run(
                "SELECT id, tag, ext, info, size, mtime_ns, inode FROM label WHERE seq > ?",
                (since,),
            )
            label_rows = [label_row(row) for row in labels]
            remarks = run(
                "SELECT id, source, size, mtime_ns, inode, stamp, remarks FROM remark"
                " WHERE seq > ?",
                (since,),
            )
            return Changes(
                last[0] if last else 0,
                image_rows,
                label_rows,
                [RemarkRow(row[0], row[1], Print(*row[2:5]), *row[5:]) for row in remarks],
            )

    def image(self, image_id: str) -> ImageRow | None:
        """What is known about an image."""
        with self.read() as connection:
            row = connection.execute(
                "SELECT id, info, removed FROM image WHERE id = ?", (image_id,)
            ).fetchone()
            return ImageRow(*row) if row else None

    def label(self, label_id: str, tag: str) -> LabelRow | None:
        """What is known about a label."""
        with self.read() as connection:
            return self._label_row(connection, label_id, tag)

    @staticmethod
    def _label_row(connection: sqlite3.Connection, label_id: str, tag: str) -> LabelRow | None:
        row = connection.execute(
            "SELECT id, tag, ext, info, size, mtime_ns, inode FROM label WHERE id = ? AND tag = ?",
            (label_id, tag),
        ).fetchone()
        return label_row(row) if row else None

    def intents(self, label_id: str | None = None) -> list[LabelRow]:
        """Label files that were about to be put in place."""
        with self.read() as connection:
            rows = connection.execute(
                "SELECT id, tag, ext, info, size, mtime_ns, inode FROM intent"
                " WHERE ?1 IS NULL OR id = ?1",
                (label_id,),
            )
            return [label_row(row) for row in rows]

    def checksum(self, path: str, print_: Print) -> str | None:
        """SHA256, hex, of the file that had this print; ``None`` where it is not known."""
        with self.read() as connection:
            row = connection.execute(
                "SELECT sha256 FROM checksum"
                " WHERE path = ? AND size = ? AND mtime_ns = ? AND inode = ?",
                (path, *print_),
            ).fetchone()
            return str(row[0]) if row else None

    def meta(self, key: str) -> str | None:
        """A setting of the whole folder."""
        with self.read() as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
            return str(row[0]) if row else None

    # --- writing ----------------------------------------------------------------------

    def set_meta(self, key: str, value: str) -> None:
        """Keep a setting of the whole folder."""
        with self.write() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def keep_checksum(self, path: str, print_: Print, sha256: str) -> None:
        """Remember a checksum, at the cost of forgetting that of an older file."""
        with self.write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO checksum VALUES (?, ?, ?, ?, ?)", (path, *print_, sha256)
            )

    def keep_remarks(self, row: RemarkRow) -> None:
        """Keep what an inspector found, in place of what it found before."""
        with self.write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO remark VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (row.id, row.source, *row.print, row.stamp, row.remarks, self._next(connection)),
            )

    def update_image(
        self,
        image_id: str,
        more: Mapping[str, Any],
        *,
        removed: str | None = None,
        fresh: bool = False,
    ) -> None:
        """Merge into what is known about an image, in one transaction.

        Parameters
        ----------
        removed
            SHA256 of the image that is being removed; else the mark is taken off.
        fresh
            Forget what was known: it was about another file.
        """
        with self.write(durable=fresh or removed is not None) as connection:
            row = connection.execute("SELECT info FROM image WHERE id = ?", (image_id,)).fetchone()
            known = json.loads(row[0]) if row and not fresh else {}
            connection.execute(
                "INSERT OR REPLACE INTO image VALUES (?, ?, ?, ?)",
                (image_id, dumps(merged(known, more)), removed, self._next(connection)),
            )

    def update_label(
        self,
        label_id: str,
        tag: str,
        change: Callable[[LabelRow | None], LabelRow],
        *,
        durable: bool = False,
    ) -> None:
        """Replace what is known about a label by what `change` makes of it; ends its intent."""
        with self.write(durable=durable) as connection:
            row = change(self._label_row(connection, label_id, tag))
            connection.execute(
                "INSERT OR REPLACE INTO label VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*row[:4], *row.print, self._next(connection)),
            )
            connection.execute("DELETE FROM intent WHERE id = ? AND tag = ?", (label_id, tag))

    def intend(self, row: LabelRow) -> None:
        """Announce a label file; on disk before this returns."""
        with self.write(durable=True) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO intent VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*row[:4], *row.print),
            )

    def drop_intent(self, row: LabelRow) -> None:
        """Its file never got into place."""
        with self.write() as connection:
            connection.execute("DELETE FROM intent WHERE id = ? AND tag = ?", (row.id, row.tag))

    @staticmethod
    def _next(connection: sqlite3.Connection) -> int:
        return int(connection.execute(_NEXT).fetchone()[0])


def _statements(version: int) -> tuple[str, ...]:
    """Make a file of that version one of this release; 0: an empty one."""
    if version == 0:
        return TABLES
    newer = [statement for old in range(version, VERSION) for statement in UPGRADES[old]]
    return tuple(newer) or TABLES[-1:]
