"""What the functions of the ledger work on: one open transaction.

Functions whose first argument is a :class:`Transaction` name volumes and model versions as
people do; those that take a ``row`` or a ``model_version_row`` want the id of a table's row.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast


@dataclass(frozen=True)
class Transaction:
    """An open transaction, and what was set when its ledger was opened.

    Parameters
    ----------
    connection
        Where the transaction is open.
    path
        The ledger file.
    now
        When the transaction began, UTC seconds since 1970.
    budget
        Fraction of the volumes to review in a round that begins now.
    lease_s
        How long a volume stays with its holder, seconds.
    skip_s
        How long a holder gets others before one that was skipped, seconds.
    audited
        Whether what is done goes into the audit trail.
    """

    connection: sqlite3.Connection
    path: Path
    now: float
    budget: float
    lease_s: float
    skip_s: float
    audited: bool = True

    def run(self, sql: str, *values: Any) -> sqlite3.Cursor:
        """Execute one statement."""
        return self.connection.execute(sql, values)

    def find(self, sql: str, *values: Any) -> tuple[Any, ...] | None:
        """Return the first row, None where there is none."""
        return cast("tuple[Any, ...] | None", self.run(sql, *values).fetchone())

    def one(self, sql: str, *values: Any) -> tuple[Any, ...]:
        """Return the first row, of which it is known that it is there."""
        return cast("tuple[Any, ...]", self.run(sql, *values).fetchone())

    def value(self, sql: str, *values: Any) -> Any:
        """Return the first column of the first row, None where there is no row."""
        row = self.find(sql, *values)
        return None if row is None else row[0]

    def exists(self, sql: str, *values: Any) -> bool:
        """Return whether there is any row."""
        return self.find(sql, *values) is not None

    def insert(self, table: str, **columns: Any) -> int:
        """Insert one row and return its id."""
        marks = ", ".join("?" for _ in columns)
        sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        return cast(int, self.run(sql, *columns.values()).lastrowid)

    def setting(self, key: str) -> str | None:
        """Return what is set for all processes under a key, None where nothing was."""
        found: str | None = self.value("SELECT value FROM setting WHERE key = ?", key)
        return found

    def set(self, key: str, value: object) -> None:
        """Set something for all processes."""
        self.run("INSERT OR REPLACE INTO setting VALUES (?,?)", key, str(value))

    def next_in_sequence(self, name: str) -> int:
        """Return the next number of a sequence of changes."""
        return cast(
            int,
            self.value(
                "INSERT INTO counter VALUES (?, 1)"
                " ON CONFLICT DO UPDATE SET value = value + 1 RETURNING value",
                name,
            ),
        )

    def last_in_sequence(self, name: str) -> int:
        """Return the last number of a sequence of changes, 0 before the first."""
        return self.value("SELECT value FROM counter WHERE name = ?", name) or 0
