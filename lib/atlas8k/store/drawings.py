"""What annotators have drawn in the browser and not submitted yet: one a volume and person.

The label lies in a file; what is here says which, and which version of several that two tabs saved.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from atlas8k.store import volumes
from atlas8k.store.transaction import Transaction


@dataclass(frozen=True)
class Drawing:
    """A drawing that is kept.

    Attributes
    ----------
    version
        1 for the first that was saved, one more with each.
    saved_at
        UTC seconds since 1970.
    file, sha256
        The label, by its name in the folder of drawings.
    fingerprint
        Of the CT's file that it was drawn on.
    said
        What is said of the organs so far, as the page sent it.
    """

    volume: str
    holder: str
    version: int
    saved_at: float
    file: str
    sha256: str
    fingerprint: str
    said: Mapping[str, Any]


def find(tx: Transaction, volume: str, holders: Collection[str]) -> Drawing | None:
    """Return the last drawing of a person, under any of their keys; None where there is none."""
    marks = ",".join("?" * len(holders))
    row = tx.find(
        "SELECT d.holder, d.version, d.saved_at, d.file, d.sha256, d.fingerprint, d.said"
        " FROM drawing d JOIN volume v ON v.id = d.volume"
        f" WHERE v.name = ? AND d.holder IN ({marks}) ORDER BY d.saved_at DESC LIMIT 1",
        volume,
        *holders,
    )
    if row is None:
        return None
    holder, version, saved_at, file, sha256, fingerprint, said = row
    return Drawing(volume, holder, version, saved_at, file, sha256, fingerprint, json.loads(said))


def of_person(tx: Transaction, holders: Collection[str]) -> list[Drawing]:
    """Return what a person has drawn, under any of their keys, the latest first."""
    marks = ",".join("?" * len(holders))
    rows = tx.run(
        "SELECT v.name, d.holder, d.version, d.saved_at, d.file, d.sha256, d.fingerprint, d.said"
        " FROM drawing d JOIN volume v ON v.id = d.volume"
        f" WHERE d.holder IN ({marks}) ORDER BY d.saved_at DESC",
        *holders,
    )
    return [
        Drawing(volume, holder, version, saved_at, file, sha256, fingerprint, json.loads(said))
        for volume, holder, version, saved_at, file, sha256, fingerprint, said in rows
    ]


def save(
    tx: Transaction,
    volume: str,
    holder: str,
    *,
    version: int,
    file: str,
    sha256: str,
    fingerprint: str,
    said: Mapping[str, Any],
) -> bool:
    """Keep a drawing in place of that of the same person; False where `version` is not the next."""
    row = volumes.volume_row(tx, volume)
    known = tx.value("SELECT version FROM drawing WHERE volume = ? AND holder = ?", row, holder)
    if version != (known or 0) + 1:
        return False
    tx.run(
        "INSERT OR REPLACE INTO drawing VALUES (?,?,?,?,?,?,?,?)",
        *(row, holder, version, tx.now, file, sha256, fingerprint, json.dumps(said)),
    )
    return True


def restore(tx: Transaction, drawing: Drawing) -> bool:
    """Enter a drawing of a ledger that is lost; False where its person has one."""
    row = volumes.volume_row(tx, drawing.volume)
    return bool(
        tx.run(
            "INSERT OR IGNORE INTO drawing VALUES (?,?,?,?,?,?,?,?)",
            *(row, drawing.holder, drawing.version, drawing.saved_at, drawing.file),
            *(drawing.sha256, drawing.fingerprint, json.dumps(dict(drawing.said))),
        ).rowcount
    )


def remove(tx: Transaction, volume: str, holder: str) -> None:
    """Forget a drawing: it was submitted, or is not wanted."""
    tx.run(
        "DELETE FROM drawing WHERE holder = ? AND volume = (SELECT id FROM volume WHERE name = ?)",
        *(holder, volume),
    )


def files(tx: Transaction) -> set[str]:
    """Return the names of all files that drawings have."""
    return {name for (name,) in tx.run("SELECT file FROM drawing")}
