"""Near-duplicates among CTs: their fingerprints, the pairs, and the groups that follow.

The bytes of a fingerprint mean nothing here, see :mod:`atlas8k.content.likeness`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from atlas8k.store import volumes
from atlas8k.store.transaction import Transaction


class Pair(NamedTuple):
    """Two volumes that are copies of one CT (``copy``), or of one patient (``same_patient``)."""

    first: str
    second: str
    kind: str
    shape: float
    brightness: float


def files(tx: Transaction, volume: str | None = None) -> dict[str, str]:
    """Return which file each fingerprint was made of, by volume; of one alone where named."""
    text = "SELECT v.name, l.file FROM likeness l JOIN volume v ON v.id = l.volume"
    if volume is None:
        return dict(tx.run(text).fetchall())
    return dict(tx.run(f"{text} WHERE v.name = ?", volume).fetchall())


def keep(tx: Transaction, volume: str, file: str, cells: bytes) -> None:
    """Keep a volume's fingerprint; the pairs that it was in are to be found again."""
    volumes.ensure(tx, volume)
    row = volumes.volume_row(tx, volume)
    tx.run("INSERT OR REPLACE INTO likeness VALUES (?,?,?)", row, file, cells)
    tx.run("DELETE FROM alike WHERE first = ?1 OR second = ?1", row)
    tx.run("DELETE FROM compared WHERE volume = ?", row)


def not_compared(tx: Transaction, most: int) -> dict[int, bytes]:
    """Return fingerprints of CTs that are there and wait to be compared, so many at most."""
    return dict(
        tx.run(
            "SELECT l.volume, l.cells FROM likeness l JOIN volume v ON v.id = l.volume"
            " WHERE v.present = 1 AND l.volume NOT IN (SELECT volume FROM compared)"
            " ORDER BY l.volume LIMIT ?",
            most,
        ).fetchall()
    )


def compared(tx: Transaction, after: int, most: int) -> dict[int, bytes]:
    """Return fingerprints of CTs that were compared, those that are gone, too.

    Parameters
    ----------
    after
        Row of the last one that is known; the next ones are returned, so many at most.
    """
    return dict(
        tx.run(
            "SELECT volume, cells FROM likeness JOIN compared USING (volume) WHERE volume > ?"
            " ORDER BY volume LIMIT ?",
            *(after, most),
        ).fetchall()
    )


def compared_files(tx: Transaction) -> dict[str, str]:
    """Return which file the fingerprint was made of, by volume; of those that were compared."""
    return dict(
        tx.run(
            "SELECT v.name, l.file FROM likeness l JOIN compared USING (volume)"
            " JOIN volume v ON v.id = l.volume"
        ).fetchall()
    )


def counts(tx: Transaction) -> tuple[int, int]:
    """Return how many fingerprints there are, and how many of them were compared."""
    known = tx.value("SELECT count(*) FROM likeness")
    done = tx.value("SELECT count(*) FROM compared JOIN likeness USING (volume)")
    return int(known), int(done)


def keep_compared(
    tx: Transaction,
    cells: dict[int, bytes],
    others: Iterable[int],
    found: Iterable[tuple[int, int, str, float, float]],
) -> bool:
    """Keep that CTs were compared with all that were before, and which pairs are alike.

    Parameters
    ----------
    cells
        Their fingerprints as they were compared, by row.
    others
        Rows of those that they were compared with.
    found
        Rows of a pair, and what :class:`Pair` says of it.

    Returns
    -------
    bool
        False, and nothing is kept, where another process has changed either meanwhile.
    """
    rows = tx.run("SELECT volume FROM compared").fetchall()
    now = {row: tx.value("SELECT cells FROM likeness WHERE volume = ?", row) for row in cells}
    if now != cells or not {row for (row,) in rows} <= {*others}:
        return False
    for first, second, *rest in found:
        low, high = sorted((first, second))
        tx.run("INSERT OR REPLACE INTO alike VALUES (?,?,?,?,?)", low, high, *rest)
    for row in cells:
        tx.run("INSERT OR REPLACE INTO compared VALUES (?)", row)
    return True


def of_volumes(tx: Transaction, names: Iterable[str]) -> dict[str, list[Pair]]:
    """Return the pairs that each of some volumes is in, it being the first; of volumes there."""
    found: dict[str, list[Pair]] = {}
    for name in names:
        rows = tx.run(
            "SELECT o.name, a.kind, a.shape, a.brightness FROM volume v"
            " JOIN alike a ON v.id IN (a.first, a.second)"
            " JOIN volume o ON o.id = a.first + a.second - v.id"
            " WHERE v.name = ? AND o.present = 1 ORDER BY a.kind, o.name",
            name,
        )
        if pairs_of := [Pair(name, *row) for row in rows]:
            found[name] = pairs_of
    return found


def pairs(tx: Transaction) -> list[Pair]:
    """Return every pair that is alike, of volumes that are there."""
    rows = tx.run(
        "SELECT a.name, b.name, kind, shape, brightness FROM alike JOIN volume a ON a.id = first"
        " JOIN volume b ON b.id = second WHERE a.present AND b.present ORDER BY 1, 2"
    )
    return [Pair(*row) for row in rows]


def groups(tx: Transaction) -> dict[str, str]:
    """Return the group of each volume that is alike another: the first name in it.

    What is alike a third is of one group with it.
    """
    group: dict[str, str] = {}

    def top(name: str) -> str:
        while group.setdefault(name, name) != name:
            name = group[name]
        return name

    for pair in pairs(tx):
        one, two = sorted((top(pair.first), top(pair.second)))
        group[two] = one
    return {name: top(name) for name in group}
