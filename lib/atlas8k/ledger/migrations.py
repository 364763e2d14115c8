"""The ledger's schema by version, and how a file is brought up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from atlas8k.ledger.errors import LedgerCorruptError, LedgerVersionError
from atlas8k.ledger.schema_1 import VERSION_1
from atlas8k.ledger.schema_2 import VERSION_2
from atlas8k.ledger.schema_assessed import VERSION_ASSESSED
from atlas8k.ledger.schema_campaign import VERSION_CAMPAIGN
from atlas8k.ledger.schema_rankings import VERSION_RANKINGS
from atlas8k.ledger.schema_rounds import VERSION_ROUNDS
from atlas8k.ledger.schema_usability import VERSION_USABILITY
from atlas8k.ledger.schema_work import VERSION_WORK

MIGRATIONS: tuple[str, ...] = (
    VERSION_1,
    VERSION_2,
    VERSION_RANKINGS,
    VERSION_WORK,
    VERSION_CAMPAIGN,
    VERSION_ROUNDS,
    VERSION_USABILITY,
    VERSION_ASSESSED,
)
"""Script i brings a file of version i to version i + 1. Never edit one that was released."""

VERSION = len(MIGRATIONS)
APPLICATION_ID = 0x41384B31  # "A8K1": what `file` and we know a ledger by


def statements(script: str) -> Iterator[str]:
    """The statements of a script; `executescript` would commit before the first one."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        raise ValueError(f"incomplete statement: {statement}")


def check_version(connection: sqlite3.Connection, path: Path) -> int:
    """The file's version, 0 for a new file.

    Raises
    ------
    LedgerVersionError
        The file was written by a newer release.
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
    return version


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the file to the newest version: all of it, or none.

    Must run inside a write transaction, so that of several processes one migrates.
    """
    version = check_version(connection, path)
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        for statement in statements(script):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number}")
    if version == 0:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
