"""CTs that are alike: their fingerprints, the pairs, and the groups that follow.

The bytes of a fingerprint mean nothing here, see :mod:`atlas8k.content.likeness`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


def files(tx: Transaction) -> dict[str, str]:
    """Return which file each fingerprint was made of, by volume."""
    return dict(
        tx.run("SELECT v.name, l.file FROM likeness l JOIN volume v ON v.id = l.volume").fetchall()
    )


def keep(tx: Transaction, volume: str, file: str, cells: bytes) -> None:
    """Keep a volume's fingerprint; the pairs that it was in are to be found again."""
    volumes.ensure(tx, volume)
    row = volumes.volume_row(tx, volume)
    tx.run("INSERT OR REPLACE INTO likeness VALUES (?,?,?)", row, file, cells)
    tx.run("DELETE FROM alike WHERE first = ?1 OR second = ?1", row)


def fingerprints(tx: Transaction) -> Iterator[tuple[str, bytes]]:
    """Yield the fingerprint of every volume that is there, by name."""
    yield from tx.run(
        "SELECT v.name, l.cells FROM likeness l JOIN volume v ON v.id = l.volume"
        " WHERE v.present = 1 ORDER BY v.name"
    )


def keep_pairs(tx: Transaction, found: Iterable[Pair]) -> None:
    """Keep pairs that are alike."""
    for first, second, *rest in found:
        rows = sorted(volumes.volume_row(tx, name) for name in (first, second))
        tx.run("INSERT OR REPLACE INTO alike VALUES (?,?,?,?,?)", *rows, *rest)


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
