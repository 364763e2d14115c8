"""Rounds: a model signature, a budget of volumes to review, and what ended it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from atlas8k.errors import LedgerError
from atlas8k.ledger.records import Budget

ASKED = "next_budget"
"""Setting: the budget of the round that begins next, whichever process begins it."""


class Round(NamedTuple):
    """A round as kept; times are UTC seconds, ``budget`` a fraction of the volumes.

    ``audited`` of the ``reviewed`` volumes were drawn for audit.
    """

    number: int
    signature: str | None
    opened_at: float
    closed_at: float | None
    budget: float
    reviewed: int
    closing: dict[str, Any]
    audited: int = 0


def open_round(
    connection: sqlite3.Connection, signature: int | None, budget: float, now: float
) -> int:
    """Begin a round; with the budget that was asked for it, where one was."""
    asked = connection.execute("SELECT value FROM setting WHERE key = ?", (ASKED,)).fetchone()
    if asked is not None:
        connection.execute("DELETE FROM setting WHERE key = ?", (ASKED,))
        budget = float(asked[0])
    cursor = connection.execute(
        "INSERT INTO round (signature, opened_at, budget) VALUES (?,?,?)",
        (signature, now, budget),
    )
    return cast(int, cursor.lastrowid)


def current(connection: sqlite3.Connection) -> int | None:
    """Number of the open round."""
    row = connection.execute(
        "SELECT id FROM round WHERE closed_at IS NULL ORDER BY id DESC LIMIT 1"
    ).fetchone()
    return None if row is None else int(row[0])


def ensure(connection: sqlite3.Connection, signature: int | None, budget: float, now: float) -> int:
    """The open round, opened where there is none."""
    return current(connection) or open_round(connection, signature, budget, now)


def close(connection: sqlite3.Connection, closing: Mapping[str, Any], now: float) -> int | None:
    """Close the open round with what ended it; its number, or None."""
    number = current(connection)
    if number is not None:
        connection.execute(
            "UPDATE round SET closed_at = ?, closing = ? WHERE id = ?",
            (now, json.dumps(closing, sort_keys=True, default=str), number),
        )
    return number


def check_reviewed(connection: sqlite3.Connection) -> None:
    """Raise :class:`LedgerError` where a round is open in which nothing was submitted."""
    row = connection.execute("SELECT id, reviewed FROM round WHERE closed_at IS NULL").fetchone()
    if row is not None and not row[1]:
        raise LedgerError(
            f"round {row[0]} is not closed: nothing was submitted in it; review the top of the "
            "list first, or give --force"
        )


def set_budget(connection: sqlite3.Connection, fraction: float) -> None:
    """Budget of the open round."""
    connection.execute("UPDATE round SET budget = ? WHERE closed_at IS NULL", (fraction,))


def ask_budget(connection: sqlite3.Connection, fraction: float) -> None:
    """Budget of the next round: the open one, as long as nothing has come of it."""
    begun = connection.execute(
        "UPDATE round SET budget = ? WHERE closed_at IS NULL AND reviewed = 0"
        " AND NOT EXISTS (SELECT 1 FROM plan WHERE plan.round = round.id)",
        (fraction,),
    )
    if not begun.rowcount:
        connection.execute("INSERT OR REPLACE INTO setting VALUES (?,?)", (ASKED, str(fraction)))


def check_fraction(fraction: float) -> None:
    """Raise :class:`LedgerError` where `fraction` is no budget."""
    if not 0 < fraction <= 1:
        raise LedgerError(f"budget {fraction}: a fraction above 0 and up to 1 is needed")


def budget(connection: sqlite3.Connection, number: int) -> Budget:
    """5 % of 8,448 are 422: the fraction rounded down, but one volume at least.

    It is for the places of the round's list: what was reviewed before that was drawn, in
    whatever order there was, takes none of them away.
    """
    fraction, reviewed, volumes = connection.execute(
        "SELECT r.budget, r.reviewed - r.audited - coalesce(p.reviewed, 0), t.counted"
        " FROM round r JOIN tally t LEFT JOIN plan p ON p.round = r.id WHERE r.id = ?",
        (number,),
    ).fetchone()
    # 0.29 * 100 is 28.999...; a millionth of a volume makes up for binary fractions.
    total = max(1, int(volumes * fraction + 1e-6)) if volumes else 0
    return Budget(number, total, reviewed)


def history(connection: sqlite3.Connection) -> list[Round]:
    rows = connection.execute(
        "SELECT r.id, s.name, r.opened_at, r.closed_at, r.budget, r.reviewed, r.closing,"
        " r.audited"
        " FROM round r LEFT JOIN signature s ON s.id = r.signature ORDER BY r.id"
    )
    return [
        Round(number, name, opened, closed, share, reviewed, json.loads(closing or "{}"), audited)
        for number, name, opened, closed, share, reviewed, closing, audited in rows
    ]
