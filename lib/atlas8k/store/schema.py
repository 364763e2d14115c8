"""The ledger's tables: made in a new file, checked in one that is there."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from pathlib import Path

from atlas8k import __version__
from atlas8k.core.files import publishing
from atlas8k.core.structure_sets import DEFAULT_SET, built_in
from atlas8k.store import audit_trail
from atlas8k.store.errors import LedgerCorruptError, LedgerVersionError

logger = logging.getLogger(__name__)

VERSION = 15
"""Of schema.sql."""
OLDEST = 8
"""That is brought up to date: two scripts beside schema.sql are for it, and a third one is for
all up to version 10. Version 9 lacks the audit trail too, 11 the checks of labels, and 12 the
looks of a sweep, the drawings and what CTs are compared by, 14 what tools helped with, which
schema.sql adds. Up to 13 a model version was called a signature, see `_rename_model_versions`."""

APPLICATION_ID = 0x41384B31  # "A8K1": what `file` and we know a ledger by


BEGUN = "begun"
"""Setting of a ledger that a studies folder has been opened with."""


def _run(connection: sqlite3.Connection, script: str) -> None:
    """Execute a script; `executescript` would commit before the first statement."""
    statement = ""
    for line in Path(__file__).with_name(script).read_text(encoding="utf-8").splitlines(True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


def check_version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the file's version, 0 for a new file.

    Raises
    ------
    LedgerVersionError
        The file was written by a newer release, or by one that is too old.
    LedgerCorruptError
        It is another program's database.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    tables = int(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
    if application != APPLICATION_ID and (application or version or tables):
        raise LedgerCorruptError(path, "a database of another program; choose another file")
    if version > VERSION:
        raise LedgerVersionError(
            path,
            f"written by a newer release (schema {version}, this one knows up to {VERSION}); "
            "upgrade atlas8k, nothing was changed",
        )
    if 0 < version < OLDEST:
        raise LedgerVersionError(
            path,
            f"written by a release that is too old (schema {version}, this one reads "
            f"{OLDEST} to {VERSION}); open it once with the release before this one, or move "
            "it away and run `atlas8k ledger rebuild`; nothing was changed",
        )
    return version


def is_blank(path: Path) -> bool:
    """Return whether no campaign is in a ledger file: there is none, or it knows of nothing.

    A file that cannot be read is not blank: whoever opens it says why.
    """
    if not path.exists():
        return True
    if path.stat().st_size == 0 and not path.with_name(f"{path.name}-wal").exists():
        return True
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        ) as connection:
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}
            if not tables:
                return True
            known = tables & {"volume", "submission", "label_version"}
            return not (
                any(connection.execute(f"SELECT 1 FROM {one} LIMIT 1").fetchone() for one in known)
                or connection.execute("SELECT 1 FROM setting WHERE key = ?", (BEGUN,)).fetchone()
            )
    except sqlite3.DatabaseError:
        return False


def check_still(connection: sqlite3.Connection, path: Path) -> None:
    """Raise where another release has changed the tables since the file was opened.

    Raises
    ------
    LedgerVersionError
        It has.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version != VERSION:
        raise LedgerVersionError(
            path,
            f"another release brought it to schema {version} while this one (schema {VERSION}) "
            "was using it; stop this one and start that release; nothing was written",
        )


def keep_former(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """Keep a copy of a file of a version before, as the way back."""
    target = path.with_name(f"{path.stem}-version-{version}{path.suffix}")
    with publishing(target) as temporary, contextlib.closing(sqlite3.connect(temporary)) as copy:
        connection.backup(copy)
    logger.warning("%s: is of a release before; kept as %s and brought up to date", path, target)


def _rename_model_versions(connection: sqlite3.Connection) -> None:
    """Rename what versions up to 13 called a signature: tables, columns, and keys in JSON."""
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    for (table,) in tables:
        if any(row[1] == "signature" for row in connection.execute(f"PRAGMA table_info({table})")):
            connection.execute(f"ALTER TABLE {table} RENAME COLUMN signature TO model_version")
    present = {table for (table,) in tables}
    if "signature" in present:
        connection.execute("ALTER TABLE signature RENAME TO model_version")
    for table, column, key in (
        ("label_version", "info", "model_signature"),
        ("label", "info", "model_signature"),
        ("round", "closing", "signature"),
    ):
        if table in present:
            connection.execute(
                f"UPDATE {table} SET {column} = json_remove(json_set({column}, "
                f"'$.model_version', json_extract({column}, '$.{key}')), '$.{key}') "
                f"WHERE json_type({column}, '$.{key}') IS NOT NULL"
            )


def bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables, or bring those of a version before up to date: all of it, or none.

    Must run inside a write transaction, so that of several processes one does it.
    """
    version = check_version(connection, path)
    if version == OLDEST:
        _run(connection, "schema_upgrade.sql")
    if 0 < version <= 10:
        _run(connection, "schema_upgrade_10.sql")
    if 0 < version <= 13:
        _rename_model_versions(connection)
    if version < VERSION:
        _run(connection, "schema.sql")
    if version <= 13:  # there was no other set; from 14 on structures.py enters it
        connection.executemany(
            "INSERT OR IGNORE INTO structure (id, name) VALUES (?, ?)",
            [(number, name) for name, number in built_in(DEFAULT_SET).ids.items()],
        )
    if version == OLDEST:
        _run(connection, "schema_import.sql")
    if version < VERSION:
        before = {"upgraded_from": version} if version else {}
        audit_trail.begin(connection, time.time(), schema=VERSION, version=__version__, **before)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
