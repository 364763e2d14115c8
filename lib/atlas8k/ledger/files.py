"""Label files in the ledger: every one there was, and which do not fit it yet."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from atlas8k.ledger.records import LabelFile


class Reserved(NamedTuple):
    """The number of a submission that is being written, or whose process was killed."""

    number: int
    volume: str
    at: float


def keep_label(connection: sqlite3.Connection, volume: int, label: LabelFile, now: float) -> None:
    """Note a label file that is now the volume's label of its tag; earlier ones stay listed."""
    connection.execute(
        "UPDATE label SET replaced_at = ? WHERE volume = ? AND tag = ? AND replaced_at IS NULL",
        (now, volume, label.tag),
    )
    connection.execute(
        "INSERT INTO label (volume, tag, file, sha256, signature, submission, written_at)"
        " VALUES (?,?,?,?, (SELECT id FROM signature WHERE name = ?), ?, ?)",
        (volume, label.tag, label.file, label.sha256, label.signature, label.submission, now),
    )


def labels(connection: sqlite3.Connection, volume: int) -> list[LabelFile]:
    """Every label file the volume has had, oldest first."""
    rows = connection.execute(
        "SELECT l.tag, l.file, l.sha256, s.name, l.submission, l.written_at, l.replaced_at"
        " FROM label l LEFT JOIN signature s ON s.id = l.signature WHERE l.volume = ?"
        " ORDER BY l.id",
        (volume,),
    )
    return [LabelFile(*row) for row in rows]


def reserve(connection: sqlite3.Connection, volume: str, now: float) -> int:
    """A number for a submission whose file is written before it is booked."""
    number = connection.execute(
        "SELECT 1 + max(coalesce((SELECT max(id) FROM submission), 0),"
        " coalesce((SELECT max(id) FROM reserved), 0))"
    ).fetchone()[0]
    connection.execute("INSERT INTO reserved VALUES (?,?,?)", (number, volume, now))
    return int(number)


def forget(connection: sqlite3.Connection, number: int) -> None:
    """The number is booked, or never will be."""
    connection.execute("DELETE FROM reserved WHERE id = ?", (number,))


def reserved(connection: sqlite3.Connection, volume: str | None = None) -> list[Reserved]:
    rows = connection.execute(
        "SELECT id, volume, at FROM reserved WHERE ?1 IS NULL OR volume = ?1 ORDER BY id",
        (volume,),
    )
    return [Reserved(*row) for row in rows]


def unsettled(connection: sqlite3.Connection, volume: str | None = None) -> dict[str, int]:
    """Volumes whose label files may not fit the ledger; a number that grows with changes."""
    return dict(
        connection.execute(
            "SELECT v.name, u.n FROM unsettled u JOIN volume v ON v.id = u.volume"
            " WHERE ?1 IS NULL OR v.name = ?1 ORDER BY v.name",
            (volume,),
        )
    )


def unsettle(connection: sqlite3.Connection, volume: int) -> None:
    connection.execute(
        "INSERT INTO unsettled VALUES (?, 1) ON CONFLICT DO UPDATE SET n = n + 1", (volume,)
    )


def settled(connection: sqlite3.Connection, volume: int, n: int) -> None:
    """The files fit what the ledger said at `n`; what came later stays to be done."""
    connection.execute("DELETE FROM unsettled WHERE volume = ? AND n = ?", (volume, n))
