"""Volumes that are given out before all others: returned ones, and blind second readings."""

from __future__ import annotations

import sqlite3

from atlas8k.ledger.records import Offer

# A second reading is for anybody but the first reader. Anonymous holders of one key may be
# several people; the same key never gets both all the same.
_FOR_HOLDER = (
    "(o.holder IS NULL OR o.holder = :holder)"
    " AND (o.not_holder IS NULL OR o.not_holder <> :holder)"
    " AND (o.holder = :holder OR NOT EXISTS (SELECT 1 FROM submission p"
    " WHERE o.purpose = 'double_read' AND p.volume = o.volume AND p.holder = :holder))"
)


def make(
    connection: sqlite3.Connection,
    volume: int,
    purpose: str,
    now: float,
    *,
    holder: str | None = None,
    not_holder: str | None = None,
    note: str = "",
    reviewer: str = "",
) -> None:
    """Offer a volume, in place of an earlier offer of it."""
    connection.execute(
        "INSERT OR REPLACE INTO offer VALUES (?,?,?,?,?,?,?)",
        (volume, purpose, holder, not_holder, note, reviewer, now),
    )


def withdraw(connection: sqlite3.Connection, volume: int) -> None:
    connection.execute("DELETE FROM offer WHERE volume = ?", (volume,))


def withdraw_own(connection: sqlite3.Connection, volume: int, holder: str) -> bool:
    """Take back what a holder has opened again for itself; False where it has not."""
    return bool(
        connection.execute(
            "DELETE FROM offer WHERE volume = ?1 AND purpose = 'returned' AND holder = ?2"
            " AND reviewer = ?2",
            (volume, holder),
        ).rowcount
    )


def pick(
    connection: sqlite3.Connection, holder: str, source: str | None, *, skipped: bool
) -> int | None:
    """The oldest offer for this holder, among those it has skipped or the others."""
    row = connection.execute(
        "SELECT o.volume FROM offer o CROSS JOIN volume v ON v.id = o.volume"
        " LEFT JOIN skip k ON k.holder = :holder AND k.volume = o.volume"
        " WHERE v.present = 1 AND v.excluded_reason IS NULL AND v.lease IS NULL"
        f" AND (:source IS NULL OR v.source = :source) AND {_FOR_HOLDER}"
        " AND (k.skipped_at IS NOT NULL) = :skipped ORDER BY k.skipped_at, o.at LIMIT 1",
        {"holder": holder, "source": source, "skipped": skipped},
    ).fetchone()
    return None if row is None else int(row[0])


def of(connection: sqlite3.Connection, volume: int) -> tuple[str, str]:
    """Purpose and note of a volume's offer, ``revise`` and nothing where there is none."""
    row = connection.execute(
        "SELECT purpose, note FROM offer WHERE volume = ?", (volume,)
    ).fetchone()
    if row is None:
        return "revise", ""
    return ("double_read" if row[0] == "double_read" else "revise"), str(row[1])


def listing(connection: sqlite3.Connection) -> list[Offer]:
    """Every offer, the oldest first."""
    rows = connection.execute(
        "SELECT v.name, o.purpose, o.holder, o.not_holder, o.note, o.at FROM offer o"
        " JOIN volume v ON v.id = o.volume ORDER BY o.at"
    )
    return [Offer(*row) for row in rows]
