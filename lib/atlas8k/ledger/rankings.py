"""Which published ranking orders the list, and what follows from a change of it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from atlas8k.errors import LedgerError
from atlas8k.ledger.scale import bucket

COLUMNS: Mapping[str, str] = {
    "eq4": "attention_ml",
    "salient": "salient_ml",
    "per_slice": "per_slice_ml",
}
"""Column of `score` by ranking; ``per_slice`` is in ml a slice, the others in ml."""

DEFAULT = "eq4"
"""Of a ledger that was never told: ledgers of older releases are ordered so."""


def column(ranking: str) -> str:
    """Column of `score` that holds a ranking's figures.

    Raises
    ------
    LedgerError
        There is no such ranking.
    """
    if ranking not in COLUMNS:
        raise LedgerError(f"{ranking}: no such ranking; there are {', '.join(COLUMNS)}")
    return COLUMNS[ranking]


def in_force(connection: sqlite3.Connection) -> str:
    """The ranking that orders the queue."""
    row = connection.execute("SELECT value FROM setting WHERE key = 'ranking'").fetchone()
    return DEFAULT if row is None else str(row[0])


def choose(connection: sqlite3.Connection, ranking: str) -> bool:
    """Order everything by another ranking; False where that is the one in force.

    Scores without its figures, from a release that kept only Eq. 4, are forgotten under
    the signatures in use: their volumes are stale and the next scoring makes them again.
    """
    figure = column(ranking)
    before = in_force(connection)
    connection.execute("INSERT OR REPLACE INTO setting VALUES ('ranking', ?)", (ranking,))
    if ranking == before:
        return False
    connection.execute("DELETE FROM queue WHERE signature IN (SELECT id FROM signature WHERE live)")
    connection.execute(
        "DELETE FROM result WHERE reason IS NULL"
        " AND signature IN (SELECT id FROM signature WHERE live) AND EXISTS"
        " (SELECT 1 FROM score c WHERE c.volume = result.volume"
        f" AND c.signature = result.signature AND c.{figure} IS NULL)"
    )
    # Whole-list order of every signature, since a rollback may serve an old one again.
    rows = connection.execute(
        f"SELECT r.volume, r.signature, coalesce(sum(c.{figure}) FILTER (WHERE c.ranked = 1), 0)"
        " FROM result r LEFT JOIN score c ON c.volume = r.volume AND c.signature = r.signature"
        " WHERE r.rank_ml IS NOT NULL GROUP BY r.volume, r.signature"
    ).fetchall()
    connection.executemany(
        "UPDATE result SET rank_ml = ?, bucket = ? WHERE volume = ? AND signature = ?",
        [(size, bucket(size), volume, signature) for volume, signature, size in rows],
    )
    connection.execute(
        "INSERT INTO queue SELECT volume, signature, organ, ml, source FROM queue_due"
    )
    return True


def propose(connection: sqlite3.Connection, ranking: str) -> bool:
    """Order by a ranking where none was chosen yet and nothing is scored; else do nothing."""
    settled = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM setting WHERE key = 'ranking')"
        " OR EXISTS (SELECT 1 FROM result)"
    ).fetchone()[0]
    return not settled and choose(connection, ranking)


def keep_explanation(
    connection: sqlite3.Connection, volume: int, signature: int, explanation: Mapping[str, Any]
) -> None:
    """Keep why a volume ranks so; what a superseded signature said of it goes."""
    connection.execute(
        "DELETE FROM explanation WHERE volume = ? AND signature IN"
        " (SELECT id FROM signature WHERE live = 0)",
        (volume,),
    )
    connection.execute(
        "INSERT OR REPLACE INTO explanation VALUES (?,?,?)",
        (volume, signature, json.dumps(explanation, separators=(",", ":"), allow_nan=False)),
    )


def explanation(
    connection: sqlite3.Connection, volume: str, signature: str
) -> dict[str, Any] | None:
    """What was kept of a volume under a signature; None where nothing was."""
    row = connection.execute(
        "SELECT e.text FROM explanation e WHERE e.volume = (SELECT id FROM volume WHERE name = ?)"
        " AND e.signature = (SELECT id FROM signature WHERE name = ?)",
        (volume, signature),
    ).fetchone()
    return None if row is None else dict(json.loads(row[0]))


def familiar(connection: sqlite3.Connection, signature: str) -> dict[str, dict[str, Any]]:
    """By volume, whether its CT is like the training CTs, where that was noted."""
    rows = connection.execute(
        "SELECT v.name, json_extract(e.text, '$.familiar') FROM explanation e"
        " JOIN volume v ON v.id = e.volume"
        " WHERE e.signature = (SELECT id FROM signature WHERE name = ?)"
        " AND json_extract(e.text, '$.familiar') IS NOT NULL ORDER BY v.name",
        (signature,),
    )
    return {name: dict(json.loads(text)) for name, text in rows}
