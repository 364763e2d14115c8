"""The priority list: its order, a volume's rank in it, and the queue that is left of it."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence

from atlas8k.errors import LedgerError
from atlas8k.ledger import rankings
from atlas8k.ledger.records import OrganAttention, Ranked
from atlas8k.ledger.scale import bucket
from atlas8k.ledger.volumes import STATUS_SQL
from atlas8k.organs import ORGAN_IDS, ORGAN_NAMES


def organ_id(organ: str | None) -> int:
    """1 to 9, 0 for the whole volume.

    Raises
    ------
    LedgerError
        No organ has that name.
    """
    if organ is None:
        return 0
    if organ not in ORGAN_IDS:
        raise LedgerError(f"{organ}: no such organ; there are {', '.join(ORGAN_NAMES)}")
    return ORGAN_IDS[organ]


def known_organs(connection: sqlite3.Connection, volume: int) -> frozenset[int]:
    """Organs that are public or revised, and so not ranked by."""
    rows = connection.execute(
        "SELECT organ FROM provenance WHERE volume = ? AND source IN ('public', 'revised')"
        " AND state NOT IN ('unknown', 'not_assessed')"
        " AND NOT EXISTS (SELECT 1 FROM setting WHERE key = 'rank_all_organs')",
        (volume,),
    )
    return frozenset(row[0] for row in rows)


def refresh(connection: sqlite3.Connection, volume: int) -> None:
    """Rank a volume anew by the organs that are still pseudo labels.

    A submitted volume keeps the place it was given out for until it is reopened or scored
    under another signature.
    """
    row = connection.execute("SELECT status FROM volume WHERE id = ?", (volume,)).fetchone()
    if row[0] != "open":
        return
    known = known_organs(connection, volume)
    figure = rankings.column(rankings.in_force(connection))
    signatures = connection.execute(
        "SELECT r.signature FROM result r JOIN signature s ON s.id = r.signature"
        " WHERE r.volume = ? AND r.rank_ml IS NOT NULL AND s.live = 1",
        (volume,),
    ).fetchall()
    for (signature,) in signatures:
        scores = connection.execute(
            f"SELECT organ, coalesce({figure}, 0) FROM score WHERE volume = ? AND signature = ?",
            (volume, signature),
        ).fetchall()
        ml = math.fsum(size for organ, size in scores if organ not in known)
        connection.executemany(
            "UPDATE score SET ranked = ? WHERE volume = ? AND signature = ? AND organ = ?",
            [(organ not in known, volume, signature, organ) for organ, _ in scores],
        )
        connection.execute(
            "UPDATE result SET rank_ml = ?, bucket = ? WHERE volume = ? AND signature = ?",
            (ml, bucket(ml), volume, signature),
        )
        connection.execute(
            "DELETE FROM queue WHERE volume = ? AND signature = ?", (volume, signature)
        )
        enqueue(connection, volume, signature)


def set_rank_all(connection: sqlite3.Connection, on: bool) -> None:
    """Rank by all organs or only by pseudo labels; every labelled volume is ranked anew."""
    changed = connection.execute(
        "INSERT OR IGNORE INTO setting VALUES ('rank_all_organs', '1')"
        if on
        else "DELETE FROM setting WHERE key = 'rank_all_organs'"
    )
    if changed.rowcount:
        rows = connection.execute("SELECT DISTINCT volume FROM provenance").fetchall()
        for (volume,) in rows:
            refresh(connection, volume)


def enqueue(connection: sqlite3.Connection, volume: int, signature: int) -> None:
    """Put the volume's rows for one signature into the queue, where they are due."""
    connection.execute(
        "INSERT OR REPLACE INTO queue SELECT volume, signature, organ, ml, source FROM queue_due"
        " WHERE volume = ? AND signature = ?",
        (volume, signature),
    )


def revive(connection: sqlite3.Connection, signature: int) -> None:
    """Rebuild the queue of a signature that had been superseded and is served again."""
    row = connection.execute("SELECT live FROM signature WHERE id = ?", (signature,)).fetchone()
    if row is None or row[0]:
        return
    connection.execute("UPDATE signature SET live = 1, swept = 0 WHERE id = ?", (signature,))
    connection.execute("DELETE FROM queue WHERE signature = ?", (signature,))
    connection.execute(
        "INSERT INTO queue SELECT volume, signature, organ, ml, source FROM queue_due"
        " WHERE signature = ?",
        (signature,),
    )


def rank(connection: sqlite3.Connection, volume: int, signature: int) -> int | None:
    """Place in the priority list from 1, None where the volume is not in it."""
    row = connection.execute(
        "SELECT bucket, rank_ml FROM result WHERE volume = ? AND signature = ? AND counted = 1"
        " AND rank_ml IS NOT NULL",
        (volume, signature),
    ).fetchone()
    if row is None:
        return None
    place, ml = row
    above = connection.execute(
        "SELECT coalesce(sum(n), 0) FROM rank_bucket WHERE signature = ? AND bucket > ?",
        (signature, place),
    ).fetchone()[0]
    within = connection.execute(
        "SELECT count(*) FROM result INDEXED BY result_order WHERE signature = ?"
        " AND bucket = ? AND counted = 1 AND rank_ml IS NOT NULL"
        " AND (rank_ml > ? OR (rank_ml = ? AND volume < ?))",
        (signature, place, ml, ml, volume),
    ).fetchone()[0]
    return 1 + int(above) + int(within)


def organs_in_order(
    connection: sqlite3.Connection, volume: int, signature: int
) -> tuple[OrganAttention, ...]:
    """Organs that are ranked by, most attention first."""
    rows = connection.execute(
        "SELECT organ, attention_ml FROM score WHERE volume = ? AND signature = ? AND ranked = 1",
        (volume, signature),
    ).fetchall()
    rows.sort(key=lambda row: (-row[1], row[0]))
    return tuple(OrganAttention(ORGAN_NAMES[organ - 1], ml) for organ, ml in rows)


def listing(
    connection: sqlite3.Connection,
    signature: int,
    *,
    organs: Sequence[str] | None = None,
    source: str | None = None,
    open_only: bool = False,
    limit: int | None = None,
    by: str | None = None,
) -> list[Ranked]:
    """The priority list, largest first.

    Reads every volume when `organs` are given, or another ranking than the one in force.
    """
    where = ["r.signature = :signature", "r.counted = 1", "r.rank_ml IS NOT NULL"]
    ruling = rankings.in_force(connection)
    used = by or ruling
    # Both terms come from the same rows, so that the default list need not add anything up.
    size, order = "r.rank_ml", "r.bucket DESC, r.rank_ml DESC, r.volume"
    if organs or used != ruling:
        size, order = _sum(rankings.column(used), organs), "score DESC, r.volume"
    attention = size if used == rankings.DEFAULT else _sum("attention_ml", organs)
    if source is not None:
        where.append("v.source = :source")
    # The rank is the place in the whole list, so that filters of state come after numbering.
    rows = connection.execute(
        f"SELECT v.id, v.name, {size} AS score, {attention}, {STATUS_SQL}, v.source, v.available"
        f" FROM result r CROSS JOIN volume v ON v.id = r.volume WHERE {' AND '.join(where)}"
        f" ORDER BY {order}",
        {"signature": signature, "source": source},
    )
    found: list[Ranked] = []
    for number, (volume, name, score, ml, status, origin, available) in enumerate(rows, start=1):
        if open_only and not available:
            continue
        if limit is not None and len(found) >= limit:
            break
        in_order = organs_in_order(connection, volume, signature)
        found.append(Ranked(name, ml, number, in_order, status, origin, used, score))
    return found


def _sum(figure: str, organs: Sequence[str] | None) -> str:
    """SQL for one figure summed over a result's organs that are ranked by."""
    only = ", ".join(str(organ_id(organ)) for organ in organs or ())
    return (
        f"(SELECT coalesce(sum(c.{figure}), 0) FROM score c WHERE c.volume = r.volume"
        " AND c.signature = r.signature AND c.ranked = 1"
        + (f" AND c.organ IN ({only}))" if only else ")")
    )
