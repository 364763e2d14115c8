"""What a reviewer has to decide: questions opened, listed, closed with a decision."""

from __future__ import annotations

from collections.abc import Mapping

from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.store import ranking
from atlas8k.store.records import OrganChange, Review
from atlas8k.store.transaction import Transaction
from atlas8k.store.volumes import volume_row

KINDS = ("conflict", "dispute", "double_read", "sample")


def open_review(
    tx: Transaction,
    row: int,
    kind: str,
    submission: int,
    *,
    organ: int | None = None,
    other: int | None = None,
) -> None:
    """Ask a reviewer, unless the same question is open already."""
    tx.run(
        "INSERT INTO review (volume, organ, kind, submission, other, opened_at)"
        " SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE NOT EXISTS (SELECT 1 FROM review"
        " WHERE volume = ?1 AND organ IS ?2 AND kind = ?3 AND submission = ?4"
        " AND closed_at IS NULL)",
        *(row, organ, kind, submission, other, tx.now),
    )


def close(
    tx: Transaction,
    row: int,
    reviewer: str,
    decision: str,
    *,
    kinds: tuple[str, ...] = KINDS,
    organ: int | None = None,
    note: str | None = None,
) -> int:
    """Close the open questions of a volume, of one organ only where given; how many."""
    marks = ", ".join("?" for _ in kinds)
    return tx.run(
        "UPDATE review SET closed_at = ?, reviewer = ?, decision = ?, note = ?"
        " WHERE volume = ? AND closed_at IS NULL AND organ IS coalesce(?, organ)"
        f" AND kind IN ({marks})",
        *(tx.now, reviewer, decision, note, row, organ, *kinds),
    ).rowcount


def dispute(tx: Transaction, row: int, disputed: Mapping[int, int]) -> None:
    """Keep the open disputes of a volume those of `disputed`: submission by organ."""
    there = tx.run(
        "SELECT id, organ, submission FROM review WHERE volume = ? AND kind = 'dispute'"
        " AND closed_at IS NULL",
        row,
    ).fetchall()
    for number, organ, submission in there:
        if disputed.get(organ) != submission:
            tx.run(
                "UPDATE review SET closed_at = ?, reviewer = '', decision = ? WHERE id = ?",
                *(tx.now, "no longer current", number),
            )
    for organ, submission in disputed.items():
        open_review(tx, row, "dispute", submission, organ=organ)


def reviews(tx: Transaction, volume: str | None = None, *, closed: bool = False) -> list[Review]:
    """Return what a reviewer has to decide, oldest first; of one volume where given.

    `closed`: what was decided, too.
    """
    rows = tx.run(
        "SELECT r.id, v.name, r.kind, r.organ, r.submission, r.other, r.opened_at, r.closed_at,"
        " r.reviewer, r.decision, r.note FROM review r JOIN volume v ON v.id = r.volume"
        " WHERE (?1 OR r.closed_at IS NULL) AND (?2 IS NULL OR r.volume = ?2) ORDER BY r.id",
        closed,
        None if volume is None else volume_row(tx, volume),
    )
    return [
        Review(number, name, kind, None if organ is None else ORGAN_NAMES[organ - 1], *rest)
        for number, name, kind, organ, *rest in rows
    ]


def next_volume(tx: Transaction, holder: str) -> tuple[int, bool] | None:
    """Return the volume with the oldest open question that nobody holds, whether it was skipped.

    Other people's submissions come before the reviewer's own: four eyes see more.
    """
    found = tx.find(
        "SELECT r.volume, k.skipped_at IS NOT NULL FROM review r JOIN volume v ON v.id = r.volume"
        " LEFT JOIN submission p ON p.id = r.submission"
        " LEFT JOIN skip k ON k.holder = ?1 AND k.volume = r.volume"
        " WHERE r.closed_at IS NULL AND v.counted = 1 AND v.lease IS NULL"
        " ORDER BY k.skipped_at IS NOT NULL, p.holder IS ?1, k.skipped_at, r.id LIMIT 1",
        holder,
    )
    return None if found is None else (int(found[0]), bool(found[1]))


def keep_agreement(
    tx: Transaction, first: int, second: int, organs: Mapping[str, OrganChange]
) -> None:
    """Keep how far two readings agree, per organ; `before` is the first's, `after` the second's."""
    tx.connection.executemany(
        "INSERT OR REPLACE INTO agreement VALUES (?,?,?,?,?,?,?)",
        [
            (first, second, ranking.organ_id(organ), *change[1:5])
            for organ, change in organs.items()
        ],
    )


def agreements(
    tx: Transaction, volume: str | None = None
) -> list[tuple[str, int, int, dict[str, OrganChange]]]:
    """Return second readings: volume, first and second submission, agreement by organ."""
    rows = tx.run(
        "SELECT v.name, a.first, a.second, a.organ, a.voxels_first, a.voxels_second,"
        " a.voxels_changed, a.dsc FROM agreement a JOIN submission p ON p.id = a.second"
        " JOIN volume v ON v.id = p.volume WHERE ?1 IS NULL OR v.id = ?1"
        " ORDER BY a.second, a.first, a.organ",
        None if volume is None else volume_row(tx, volume),
    )
    found: dict[tuple[str, int, int], dict[str, OrganChange]] = {}
    for name, first, second, organ, before, after, changed, dsc in rows:
        state = "confirmed" if changed == 0 else "revised"
        organs = found.setdefault((name, first, second), {})
        organs[ORGAN_NAMES[organ - 1]] = OrganChange(state, before, after, changed, dsc)
    return [(*key, organs) for key, organs in found.items()]
