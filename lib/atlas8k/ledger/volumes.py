"""Volumes as they come and go, and what state each is in.

Functions here and in the modules beside take an open transaction; the facade
:class:`~atlas8k.ledger.Ledger` opens it.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable
from typing import cast

from atlas8k.ledger.errors import UnknownVolumeError
from atlas8k.ledger.records import Counts, Status, VolumeEntry

STATUS_SQL = """CASE WHEN NOT v.present THEN 'vanished'
  WHEN v.excluded_reason IS NOT NULL THEN 'excluded'
  WHEN v.status <> 'open' THEN v.status
  WHEN v.lease IS NOT NULL THEN 'leased' ELSE 'open' END"""


def volume_id(connection: sqlite3.Connection, name: str) -> int:
    """Row of the volume; :class:`UnknownVolumeError` where there is none."""
    row = connection.execute("SELECT id FROM volume WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise UnknownVolumeError(name)
    return int(row[0])


def find(connection: sqlite3.Connection, name: str) -> int | None:
    """Row of the volume, None where there is none."""
    row = connection.execute("SELECT id FROM volume WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])


def _shuffle() -> int:
    """A place in the order of strategy `random`; 62 bits, so that it fits SQLite's integer."""
    return secrets.randbits(62)


def insert(connection: sqlite3.Connection, entry: VolumeEntry, now: float) -> int:
    cursor = connection.execute(
        "INSERT INTO volume (name, source, fingerprint, first_seen, shuffle) VALUES (?,?,?,?,?)",
        (entry.name, entry.source or "", entry.fingerprint, now, _shuffle()),
    )
    return cast(int, cursor.lastrowid)


def _entries(volumes: Iterable[str | VolumeEntry]) -> dict[str, VolumeEntry]:
    entries = (VolumeEntry(v) if isinstance(v, str) else v for v in volumes)
    return {entry.name: entry for entry in entries}


def add(
    connection: sqlite3.Connection, volumes: Iterable[str | VolumeEntry], now: float
) -> set[str]:
    """Make these volumes present; unchanged ones cost a look-up. Returns those that changed."""
    changed = set()
    for entry in sorted(_entries(volumes).values()):
        row = connection.execute(
            "SELECT id, present, source, fingerprint FROM volume WHERE name = ?", (entry.name,)
        ).fetchone()
        if row is None:
            insert(connection, entry, now)
            changed.add(entry.name)
            continue
        source = row[2] if entry.source is None else entry.source
        fingerprint = row[3] if entry.fingerprint is None else entry.fingerprint
        if (1, source, fingerprint) == tuple(row[1:]):
            continue
        changed.add(entry.name)
        if row[3] is not None and fingerprint != row[3]:
            forget_results(connection, row[0])
        connection.execute(
            "UPDATE volume SET present = 1, source = ?, fingerprint = ? WHERE id = ?",
            (source, fingerprint, row[0]),
        )
    return changed


def remove(connection: sqlite3.Connection, names: Iterable[str]) -> None:
    """Mark volumes as no longer there; scores, submissions and leases stay."""
    connection.executemany(
        "UPDATE volume SET present = 0 WHERE name = ? AND present = 1", ((name,) for name in names)
    )


def difference(
    connection: sqlite3.Connection, volumes: Iterable[str | VolumeEntry]
) -> tuple[list[VolumeEntry], list[str]]:
    """What :func:`add` and :func:`remove` would have to change, found by reading only."""
    known = {
        row[0]: row[1:]
        for row in connection.execute("SELECT name, present, source, fingerprint FROM volume")
    }
    now_there = _entries(volumes)
    new = []
    for entry in now_there.values():
        have = known.get(entry.name)
        if (
            have is None
            or not have[0]
            or entry.source not in (None, have[1])
            or entry.fingerprint not in (None, have[2])
        ):
            new.append(entry)
    gone = [name for name, have in known.items() if have[0] and name not in now_there]
    return new, gone


def forget_results(connection: sqlite3.Connection, volume: int) -> None:
    """Scores and failures of a file that is now another one."""
    connection.execute("DELETE FROM queue WHERE volume = ?", (volume,))
    connection.execute("DELETE FROM result WHERE volume = ?", (volume,))
    connection.execute("UPDATE volume SET failed = 0 WHERE id = ?", (volume,))


def exclude(connection: sqlite3.Connection, name: str, reason: str | None) -> None:
    """Set or, with None, take back the reason why a volume counts nowhere."""
    connection.execute(
        "UPDATE volume SET excluded_reason = ? WHERE id = ?",
        (reason, volume_id(connection, name)),
    )


def excluded_reason(connection: sqlite3.Connection, name: str) -> str | None:
    """Return why a volume counts nowhere, ``None`` where it counts."""
    row = connection.execute(
        "SELECT excluded_reason FROM volume WHERE id = ?", (volume_id(connection, name),)
    ).fetchone()
    return None if row[0] is None else str(row[0])


def status(connection: sqlite3.Connection, name: str) -> Status:
    row = connection.execute(
        f"SELECT {STATUS_SQL} FROM volume v WHERE name = ?", (name,)
    ).fetchone()
    if row is None:
        raise UnknownVolumeError(name)
    return cast(Status, row[0])


def statuses(connection: sqlite3.Connection) -> dict[str, Status]:
    """Every volume ever seen."""
    return dict(connection.execute(f"SELECT v.name, {STATUS_SQL} FROM volume v ORDER BY v.name"))


def counts(connection: sqlite3.Connection) -> Counts:
    row = connection.execute(
        "SELECT counted, available, leased, submitted, conflict, excluded, present, failed"
        " FROM tally"
    ).fetchone()
    return Counts(*row)


def to_review(connection: sqlite3.Connection) -> int:
    """Volumes that count, can be predicted, and that nobody has submitted."""
    row = connection.execute(
        "SELECT count(*) FROM volume WHERE counted = 1 AND status = 'open' AND failed = 0"
    ).fetchone()
    return int(row[0])


def add_if_missing(connection: sqlite3.Connection, name: str, now: float) -> None:
    """A submission may come before the folder was looked at again."""
    if connection.execute("SELECT 1 FROM volume WHERE name = ?", (name,)).fetchone() is None:
        insert(connection, VolumeEntry(name), now)


def is_submitted(connection: sqlite3.Connection, name: str) -> bool:
    """Whatever else is true of the volume: excluded or vanished, it keeps its submission."""
    row = connection.execute(
        "SELECT status IN ('submitted', 'conflict') FROM volume WHERE name = ?", (name,)
    ).fetchone()
    return row is not None and bool(row[0])
