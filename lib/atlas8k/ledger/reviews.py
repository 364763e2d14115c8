"""What a reviewer has to decide: opened, listed, closed with a decision."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from atlas8k.ledger import ranking
from atlas8k.ledger.records import OrganChange, Review
from atlas8k.organs import ORGAN_NAMES

KINDS = ("conflict", "dispute", "double_read", "sample")


def open_review(
    connection: sqlite3.Connection,
    volume: int,
    kind: str,
    submission: int,
    now: float,
    *,
    organ: int | None = None,
    other: int | None = None,
) -> None:
    """Ask a reviewer, unless the same question is open already."""
    connection.execute(
        "INSERT INTO review (volume, organ, kind, submission, other, opened_at)"
        " SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE NOT EXISTS (SELECT 1 FROM review"
        " WHERE volume = ?1 AND organ IS ?2 AND kind = ?3 AND submission = ?4"
        " AND closed_at IS NULL)",
        (volume, organ, kind, submission, other, now),
    )


def close(
    connection: sqlite3.Connection,
    volume: int,
    reviewer: str,
    decision: str,
    now: float,
    *,
    kinds: tuple[str, ...] = KINDS,
    organ: int | None = None,
    note: str | None = None,
) -> int:
    """Close the open questions of a volume, of one organ only where given; how many."""
    marks = ", ".join("?" for _ in kinds)
    return connection.execute(
        "UPDATE review SET closed_at = ?, reviewer = ?, decision = ?, note = ?"
        f" WHERE volume = ? AND closed_at IS NULL AND kind IN ({marks})"
        + (" AND organ = ?" if organ is not None else ""),
        (now, reviewer, decision, note, volume, *kinds, *([] if organ is None else [organ])),
    ).rowcount


def dispute(
    connection: sqlite3.Connection, volume: int, disputed: Mapping[int, int], now: float
) -> None:
    """Keep the open disputes of a volume those of `disputed`: submission by organ."""
    there = connection.execute(
        "SELECT id, organ, submission FROM review WHERE volume = ? AND kind = 'dispute'"
        " AND closed_at IS NULL",
        (volume,),
    ).fetchall()
    for number, organ, submission in there:
        if disputed.get(organ) != submission:
            connection.execute(
                "UPDATE review SET closed_at = ?, reviewer = '', decision = ? WHERE id = ?",
                (now, "no longer in force", number),
            )
    for organ, submission in disputed.items():
        open_review(connection, volume, "dispute", submission, now, organ=organ)


_COLUMNS = (
    "r.id, v.name, r.kind, r.organ, r.submission, r.other, r.opened_at, r.closed_at,"
    " r.reviewer, r.decision, r.note"
)


def _record(row: tuple[object, ...]) -> Review:
    number, name, kind, organ, *rest = row
    named = ORGAN_NAMES[organ - 1] if isinstance(organ, int) else None
    return Review(number, name, kind, named, *rest)  # type: ignore[arg-type]


def open_reviews(connection: sqlite3.Connection, volume: int | None = None) -> list[Review]:
    """Open questions, oldest first; of one volume where given."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM review r JOIN volume v ON v.id = r.volume"
        " WHERE r.closed_at IS NULL AND (?1 IS NULL OR r.volume = ?1) ORDER BY r.id",
        (volume,),
    )
    return [_record(row) for row in rows]


def of_volume(connection: sqlite3.Connection, volume: int) -> list[Review]:
    """Every question about a volume, closed ones with what was decided."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM review r JOIN volume v ON v.id = r.volume"
        " WHERE r.volume = ? ORDER BY r.id",
        (volume,),
    )
    return [_record(row) for row in rows]


def keep_agreement(
    connection: sqlite3.Connection, first: int, second: int, organs: Mapping[str, OrganChange]
) -> None:
    """How far two readings agree, per organ; `before` is the first's, `after` the second's."""
    connection.executemany(
        "INSERT OR REPLACE INTO agreement VALUES (?,?,?,?,?,?,?)",
        [
            (first, second, ranking.organ_id(organ), *change[1:5])
            for organ, change in organs.items()
        ],
    )


def agreements(
    connection: sqlite3.Connection, volume: int | None = None
) -> list[tuple[str, int, int, dict[str, OrganChange]]]:
    """Volume, first and second submission, and per organ how far they agree."""
    rows = connection.execute(
        "SELECT v.name, a.first, a.second, a.organ, a.voxels_first, a.voxels_second,"
        " a.voxels_changed, a.dsc FROM agreement a JOIN submission p ON p.id = a.second"
        " JOIN volume v ON v.id = p.volume WHERE ?1 IS NULL OR v.id = ?1"
        " ORDER BY a.second, a.first, a.organ",
        (volume,),
    )
    found: dict[tuple[str, int, int], dict[str, OrganChange]] = {}
    for name, first, second, organ, *rest in rows:
        state = "confirmed" if rest[2] == 0 else "revised"
        organs = found.setdefault((name, first, second), {})
        organs[ORGAN_NAMES[organ - 1]] = OrganChange(state, *rest)
    return [(*key, organs) for key, organs in found.items()]


def choose(
    connection: sqlite3.Connection,
    volume: int,
    organ: int,
    source: str,
    submission: int | None,
    reviewer: str,
    now: float,
) -> None:
    """Note a reviewer's choice for one volume and organ."""
    connection.execute(
        "INSERT INTO choice (volume, organ, source, submission, reviewer, at) VALUES (?,?,?,?,?,?)",
        (volume, organ, source, submission, reviewer, now),
    )


def next_volume(connection: sqlite3.Connection, holder: str) -> tuple[int, bool] | None:
    """The volume with the oldest open question that nobody holds, and whether it was skipped.

    Other people's submissions come before the reviewer's own: four eyes see more.
    """
    row = connection.execute(
        "SELECT r.volume, k.skipped_at IS NOT NULL FROM review r JOIN volume v ON v.id = r.volume"
        " LEFT JOIN submission p ON p.id = r.submission"
        " LEFT JOIN skip k ON k.holder = ?1 AND k.volume = r.volume"
        " WHERE r.closed_at IS NULL AND v.present = 1 AND v.excluded_reason IS NULL"
        " AND v.lease IS NULL"
        " ORDER BY k.skipped_at IS NOT NULL, p.holder IS ?1, k.skipped_at, r.id LIMIT 1",
        (holder,),
    ).fetchone()
    return None if row is None else (int(row[0]), bool(row[1]))
