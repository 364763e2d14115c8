"""What is known about an archive's series and about labels sent to it, in one SQLite file.

The server writes it; processes that score and train read from it which series there are.
No patient's name, id or date is in it; that studies are of one patient is.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from atlas8k.services.studies.errors import StudiesFolderError
from atlas8k.store.database import Database

REGISTER_NAME = "archive.sqlite3"
VERSION = 2
APPLICATION_ID = 0x41384B44  # "A8KD"

State = Literal["waiting", "volume", "refused"]

_PATIENT = """CREATE TABLE patient (
         study TEXT PRIMARY KEY,
         first TEXT NOT NULL          -- the study that stands for whose it is
       ) WITHOUT ROWID"""
_TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    """CREATE TABLE series (
         uid TEXT PRIMARY KEY,
         study TEXT NOT NULL,
         instances INTEGER NOT NULL,  -- as the archive counts them
         state TEXT NOT NULL,         -- waiting, volume, refused
         reason TEXT NOT NULL,        -- why it is refused
         fingerprint TEXT NOT NULL    -- changes with its instances
       ) WITHOUT ROWID""",
    """CREATE TABLE sent (
         volume TEXT PRIMARY KEY,
         submission INTEGER NOT NULL,
         sha256 TEXT NOT NULL,        -- of the label file
         series TEXT,                 -- SeriesInstanceUID of the SEG; NULL: not sent
         tries INTEGER NOT NULL,
         reason TEXT NOT NULL,        -- why not, after the last try
         at REAL NOT NULL
       ) WITHOUT ROWID""",
    _PATIENT,
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)
_LATER = (_PATIENT,)
"""What came with version 2, 3, ..."""
_SEQ = """INSERT INTO meta VALUES ('seq', 1)
          ON CONFLICT DO UPDATE SET value = value + 1"""


class Series(NamedTuple):
    """A series of the archive and what it was found to be."""

    uid: str
    study: str
    instances: int
    state: State
    reason: str = ""
    fingerprint: str = ""


class Sent(NamedTuple):
    """The last label of a volume that was sent, or tried to be."""

    volume: str
    submission: int
    sha256: str
    series: str | None
    tries: int
    reason: str
    at: float


class Register(Database):
    """The file; several threads and processes may each have it open.

    Raises
    ------
    LedgerFileError
        It cannot be used; the subclass says why.
    StudiesFolderError
        It is of a newer release.
    """

    def _prepare(self) -> None:
        connection = self._open()
        try:
            self._retry(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone())
            self._begin(connection)
            try:
                version = int(connection.execute("PRAGMA user_version").fetchone()[0])
                if version > VERSION:
                    raise StudiesFolderError(self.path, "of a newer release; update this one")
                missing = _TABLES if version == 0 else (*_LATER[version - 1 :], *_TABLES[-2:])
                for statement in missing:
                    connection.execute(statement)  # also finds out now if it is read-only
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)

    # --- series ---------------------------------------------------------------------------

    def seq(self) -> int:
        """A number that grows with every change of the series."""
        with self.read() as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = 'seq'").fetchone()
        return int(row[0]) if row else 0

    def series(self) -> dict[str, Series]:
        """All series, by UID."""
        with self.read() as connection:
            rows = connection.execute("SELECT * FROM series").fetchall()
        return {row[0]: Series(*row) for row in rows}

    def one(self, uid: str) -> Series | None:
        """One series."""
        with self.read() as connection:
            row = connection.execute("SELECT * FROM series WHERE uid = ?", (uid,)).fetchone()
        return Series(*row) if row else None

    def write_series(self, rows: Iterable[Series], gone: Iterable[str] = ()) -> None:
        """Take in what was found out; and forget series that are gone."""
        rows, gone = list(rows), list(gone)
        if not rows and not gone:
            return
        with self.write() as connection:
            connection.executemany("INSERT OR REPLACE INTO series VALUES (?,?,?,?,?,?)", rows)
            connection.executemany("DELETE FROM series WHERE uid = ?", [(uid,) for uid in gone])
            connection.execute(_SEQ)

    def patients(self) -> dict[str, str]:
        """Studies to the study that stands for their patient; studies of one share it."""
        with self.read() as connection:
            return dict(connection.execute("SELECT study, first FROM patient").fetchall())

    def write_patients(self, rows: Mapping[str, str]) -> None:
        """Take in whose studies are whose."""
        if not rows:
            return
        with self.write() as connection:
            connection.executemany("INSERT OR REPLACE INTO patient VALUES (?,?)", rows.items())

    # --- labels sent ----------------------------------------------------------------------

    def sent(self) -> dict[str, Sent]:
        """What was sent, or tried to be, by volume."""
        with self.read() as connection:
            rows = connection.execute("SELECT * FROM sent").fetchall()
        return {row[0]: Sent(*row) for row in rows}

    def write_sent(self, row: Sent) -> None:
        """Note a try."""
        with self.write(durable=True) as connection:
            connection.execute("INSERT OR REPLACE INTO sent VALUES (?,?,?,?,?,?,?)", row)

    # --- the archive ----------------------------------------------------------------------

    def note(self, values: Mapping[str, str | float]) -> None:
        """Keep something said of the archive as a whole."""
        with self.write() as connection:
            connection.executemany("INSERT OR REPLACE INTO meta VALUES (?,?)", values.items())

    def said(self, key: str) -> str | float | None:
        """What :meth:`note` kept."""
        with self.read() as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def note_answer(self, error: str = "") -> None:
        """The archive has answered, or why it has not."""
        if not error:
            self.note({"answered_at": time.time(), "error": ""})
        elif self.said("error") != error:
            self.note({"error": error})
