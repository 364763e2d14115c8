"""Label files in the ledger: every one there was, and which do not fit it yet."""

from __future__ import annotations

from atlas8k.store.records import LabelFile, Reserved
from atlas8k.store.transaction import Transaction
from atlas8k.store.volumes import volume_row


def keep_label(tx: Transaction, volume: str, label: LabelFile) -> None:
    """Note a label file just written; the one before of the same tag stays listed."""
    row = volume_row(tx, volume)
    tx.run(
        "UPDATE label SET replaced_at = ? WHERE volume = ? AND tag = ? AND replaced_at IS NULL",
        *(tx.now, row, label.tag),
    )
    tx.insert(
        "label",
        volume=row,
        tag=label.tag,
        file=label.file,
        sha256=label.sha256,
        signature=tx.value("SELECT id FROM signature WHERE name = ?", label.signature),
        submission=label.submission,
        written_at=tx.now,
    )


def labels(tx: Transaction, volume: str) -> list[LabelFile]:
    """Return every label file the volume has had, oldest first."""
    rows = tx.run(
        "SELECT l.tag, l.file, l.sha256, s.name, l.submission, l.written_at, l.replaced_at"
        " FROM label l LEFT JOIN signature s ON s.id = l.signature WHERE l.volume = ?"
        " ORDER BY l.id",
        volume_row(tx, volume),
    )
    return [LabelFile(*row) for row in rows]


def reserve(tx: Transaction, volume: str) -> int:
    """Return a number for a submission, to be written into its file before it is booked."""
    number = tx.value(
        "SELECT 1 + max(coalesce((SELECT max(id) FROM submission), 0),"
        " coalesce((SELECT max(id) FROM reserved), 0))"
    )
    return tx.insert("reserved", id=number, volume=volume, at=tx.now)


def forget(tx: Transaction, number: int) -> None:
    """Give a reserved number up: it is booked, or never will be."""
    tx.run("DELETE FROM reserved WHERE id = ?", number)


def reserved(tx: Transaction, volume: str | None = None) -> list[Reserved]:
    """Return numbers that are reserved and not booked."""
    rows = tx.run(
        "SELECT id, volume, at FROM reserved WHERE ?1 IS NULL OR volume = ?1 ORDER BY id", volume
    )
    return [Reserved(*row) for row in rows]


def unsettled(tx: Transaction, volume: str | None = None) -> dict[str, int]:
    """Return volumes whose label files may not fit the ledger, with a number for `settled`."""
    return dict(
        tx.run(
            "SELECT v.name, u.n FROM unsettled u JOIN volume v ON v.id = u.volume"
            " WHERE ?1 IS NULL OR v.name = ?1 ORDER BY v.name",
            volume,
        )
    )


def unsettle(tx: Transaction, volume: str) -> None:
    """Note that a volume's label files are about to change."""
    unsettle_row(tx, volume_row(tx, volume))


def unsettle_row(tx: Transaction, row: int) -> None:
    """Note that a volume's label files do not fit the ledger any more."""
    tx.run("INSERT INTO unsettled VALUES (?, 1) ON CONFLICT DO UPDATE SET n = n + 1", row)


def settled(tx: Transaction, volume: str, n: int) -> None:
    """Note that label files fit what the ledger said when `unsettled` gave `n`.

    What came later stays to be done.
    """
    tx.run("DELETE FROM unsettled WHERE volume = ? AND n = ?", volume_row(tx, volume), n)
