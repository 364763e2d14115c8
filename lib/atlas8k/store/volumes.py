"""Volumes as they come and go, and what state each is in."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from atlas8k.store.errors import UnknownVolumeError
from atlas8k.store.records import Counts, Status, VolumeEntry
from atlas8k.store.transaction import Transaction

STATUS_SQL = """CASE WHEN NOT v.present THEN 'vanished'
  WHEN v.excluded_reason IS NOT NULL THEN 'excluded'
  WHEN v.status <> 'open' THEN v.status
  WHEN v.lease IS NOT NULL THEN 'leased' ELSE 'open' END"""


def find(tx: Transaction, volume: str) -> int | None:
    """Return the row of a volume, None where it was never seen."""
    row: int | None = tx.value("SELECT id FROM volume WHERE name = ?", volume)
    return row


def ensure(tx: Transaction, volume: str) -> None:
    """Have a volume known; one that was never seen counts as present."""
    if find(tx, volume) is None:
        add(tx, [volume])


def is_known(tx: Transaction, volume: str) -> bool:
    """Return whether a volume was ever seen."""
    return find(tx, volume) is not None


def fingerprints(tx: Transaction) -> dict[str, str]:
    """Return what is known of the files of the volumes that are there, by name."""
    rows = tx.run("SELECT name, fingerprint FROM volume WHERE present AND fingerprint IS NOT NULL")
    return dict(rows.fetchall())


def volume_row(tx: Transaction, volume: str) -> int:
    """Return the row of a volume; :class:`UnknownVolumeError` where it was never seen."""
    row = find(tx, volume)
    if row is None:
        raise UnknownVolumeError(volume)
    return row


def _entries(volumes: Iterable[str | VolumeEntry]) -> dict[str, VolumeEntry]:
    entries = (VolumeEntry(v) if isinstance(v, str) else v for v in volumes)
    return {entry.name: entry for entry in entries}


def _changed(entry: VolumeEntry, known: Sequence[Any] | None) -> bool:
    """Return whether a volume is to be written, known by presence, source and fingerprint."""
    if known is None or not known[0]:
        return True
    return not (entry.source in (None, known[1]) and entry.fingerprint in (None, known[2]))


def add(tx: Transaction, volumes: Iterable[str | VolumeEntry]) -> set[str]:
    """Make volumes present, beside those known; returns those that were new or changed."""
    changed = set()
    for entry in sorted(_entries(volumes).values()):
        known = tx.find(
            "SELECT present, source, fingerprint, id FROM volume WHERE name = ?", entry.name
        )
        if not _changed(entry, known):
            continue
        changed.add(entry.name)
        if known is None:
            tx.insert(
                "volume",
                name=entry.name,
                source=entry.source or "",
                fingerprint=entry.fingerprint,
                first_seen=tx.now,
                shuffle=secrets.randbits(62),  # fits SQLite's integer
            )
            continue
        fingerprint, row = known[2:]
        if fingerprint is not None and entry.fingerprint not in (None, fingerprint):
            tx.run("DELETE FROM result WHERE volume = ?", row)  # of another file
            tx.run("UPDATE volume SET failed = 0 WHERE id = ?", row)
        tx.run(
            "UPDATE volume SET present = 1, source = coalesce(?, source),"
            " fingerprint = coalesce(?, fingerprint) WHERE id = ?",
            *(entry.source, entry.fingerprint, row),
        )
    return changed


def remove(tx: Transaction, names: Iterable[str]) -> None:
    """Mark volumes as no longer there; scores, submissions and leases stay."""
    for name in names:
        tx.run("UPDATE volume SET present = 0 WHERE name = ? AND present = 1", name)


def difference(
    tx: Transaction, volumes: Iterable[str | VolumeEntry]
) -> tuple[list[VolumeEntry], list[str]]:
    """Return what :func:`add` and :func:`remove` would have to change."""
    known = {
        name: rest
        for name, *rest in tx.run("SELECT name, present, source, fingerprint FROM volume")
    }
    now_there = _entries(volumes)
    new = [entry for name, entry in now_there.items() if _changed(entry, known.get(name))]
    gone = [name for name, have in known.items() if have[0] and name not in now_there]
    return new, gone


def status(tx: Transaction, volume: str) -> Status:
    """Return one volume's state; :class:`UnknownVolumeError` where it was never seen."""
    found: Status | None = tx.value(f"SELECT {STATUS_SQL} FROM volume v WHERE name = ?", volume)
    if found is None:
        raise UnknownVolumeError(volume)
    return found


def statuses(tx: Transaction) -> dict[str, Status]:
    """Return the state by volume, of every volume ever seen."""
    return dict(tx.run(f"SELECT v.name, {STATUS_SQL} FROM volume v ORDER BY v.name"))


def is_submitted(tx: Transaction, volume: str) -> bool:
    """Return whether somebody submitted it and it was not reopened.

    Whatever else is true of the volume: excluded or vanished, it keeps its submission.
    """
    return tx.exists(
        "SELECT 1 FROM volume WHERE name = ? AND status IN ('submitted', 'conflict')", volume
    )


def counts(tx: Transaction) -> Counts:
    """Count volumes by state."""
    row = tx.one(
        "SELECT total(counted), total(counted AND lease IS NOT NULL),"
        " total(counted AND status = 'submitted'), total(counted AND status = 'conflict'),"
        " total(present AND excluded_reason IS NOT NULL) FROM volume"
    )
    return Counts(*map(int, row))


def counted(tx: Transaction) -> int:
    """Return how many volumes are present and not excluded.

    SQLite counts a whole table without reading it, so that only those that are set aside are.
    """
    number: int = tx.value(
        "SELECT (SELECT count(*) FROM volume) - (SELECT count(*) FROM volume WHERE counted = 0)"
    )
    return number


def to_review(tx: Transaction) -> int:
    """Count volumes that can be predicted and that nobody has submitted, leased ones included."""
    return int(
        tx.value("SELECT count(*) FROM volume WHERE counted = 1 AND status = 'open' AND failed = 0")
    )
