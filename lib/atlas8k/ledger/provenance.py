"""Where each organ's voxels come from, and what a reviewer has to decide."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from atlas8k.errors import LedgerError
from atlas8k.ledger import ranking
from atlas8k.ledger.records import LabelFile, OrganChange, OrganSource, Review
from atlas8k.organs import ORGAN_NAMES

# What a reader said of an organ that leaves nothing to guess about it.
_HUMAN_STATES = ("confirmed", "revised", "absent")


def sources(connection: sqlite3.Connection, volume: int) -> dict[str, OrganSource]:
    rows = connection.execute(
        "SELECT organ, source, state, dataset, submission, disputed FROM provenance"
        " WHERE volume = ? ORDER BY organ",
        (volume,),
    )
    return {
        ORGAN_NAMES[organ - 1]: OrganSource(source, state, dataset, submission, bool(disputed))
        for organ, source, state, dataset, submission, disputed in rows
    }


def set_sources(
    connection: sqlite3.Connection, volume: int, organs: Mapping[str, OrganSource], now: float
) -> None:
    """Note the sources of these organs, and rank the volume by what is left to guess."""
    try:
        for organ, source in organs.items():
            connection.execute(
                "INSERT OR REPLACE INTO provenance"
                " (volume, organ, source, state, dataset, submission, disputed, at)"
                " VALUES (?,?,?,?,?,?,?,?)",
                (volume, ranking.organ_id(organ), *source, now),
            )
    except sqlite3.IntegrityError as error:
        raise LedgerError(f"sources of organs: {error}") from error
    ranking.refresh(connection, volume)


def changes(connection: sqlite3.Connection, submission: int) -> dict[str, OrganChange]:
    rows = connection.execute(
        "SELECT organ, state, voxels_before, voxels_after, voxels_changed, dsc"
        " FROM submission_organ WHERE submission = ? ORDER BY organ",
        (submission,),
    )
    return {ORGAN_NAMES[organ - 1]: OrganChange(*rest) for organ, *rest in rows}


def keep_changes(
    connection: sqlite3.Connection, submission: int, organs: Mapping[str, OrganChange]
) -> None:
    try:
        connection.executemany(
            "INSERT INTO submission_organ VALUES (?,?,?,?,?,?,?)",
            [(submission, ranking.organ_id(organ), *change) for organ, change in organs.items()],
        )
    except sqlite3.IntegrityError as error:
        raise LedgerError(f"organs of a submission: {error}") from error


def apply(connection: sqlite3.Connection, volume: int, submission: int, now: float) -> None:
    """Make a submission's organs the revised ones.

    A public organ stays public; a submission that changes it disputes it, for a reviewer.
    """
    there = sources(connection, volume)
    for organ, change in changes(connection, submission).items():
        number = ranking.organ_id(organ)
        if change.state not in (*_HUMAN_STATES, "not_confirmed"):
            continue
        before = there.get(organ)
        if before is not None and before.source == "public":
            if change.state in ("revised", "absent"):
                connection.execute(
                    "UPDATE provenance SET disputed = 1 WHERE volume = ? AND organ = ?",
                    (volume, number),
                )
                open_review(connection, volume, "dispute", submission, now, organ=number)
            continue
        if change.state == "not_confirmed" and before is not None and before.source == "revised":
            continue  # saying nothing takes nothing back
        source = "revised" if change.state in _HUMAN_STATES else "pseudo"
        connection.execute(
            "INSERT OR REPLACE INTO provenance (volume, organ, source, state, submission, at)"
            " VALUES (?,?,?,?,?,?)",
            (volume, number, source, change.state, submission, now),
        )


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


def close_reviews(
    connection: sqlite3.Connection,
    volume: int,
    kind: str,
    reviewer: str,
    decision: str,
    now: float,
) -> None:
    connection.execute(
        "UPDATE review SET closed_at = ?, reviewer = ?, decision = ?"
        " WHERE volume = ? AND kind = ? AND closed_at IS NULL",
        (now, reviewer, decision, volume, kind),
    )


def open_reviews(connection: sqlite3.Connection) -> list[Review]:
    rows = connection.execute(
        "SELECT r.id, v.name, r.kind, r.organ, r.submission, r.other, r.opened_at"
        " FROM review r JOIN volume v ON v.id = r.volume WHERE r.closed_at IS NULL ORDER BY r.id"
    )
    return [
        Review(number, name, kind, ORGAN_NAMES[organ - 1] if organ else None, one, other, at)
        for number, name, kind, organ, one, other, at in rows
    ]


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
