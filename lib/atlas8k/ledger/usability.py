"""Whether a volume is usable: decided by people, or set aside for what its content looks like.

People have the last word. What the look at a volume's content sets aside stays so until a
person includes it; what a person included or excluded is not touched by another look, unless
the file is another one by then.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from atlas8k.ledger.volumes import exclude, volume_id

PERSON = "person"


class Usability(NamedTuple):
    """One decision about a volume; ``at`` is UTC seconds.

    ``kind`` is ``person``, or the kind of remark for which it was set aside; ``holder`` is the
    key of who decided, empty where nobody did.
    """

    volume: str
    usable: bool
    kind: str
    reason: str
    holder: str
    at: float


def decide(
    connection: sqlite3.Connection,
    name: str,
    *,
    usable: bool,
    reason: str,
    holder: str = "",
    kind: str = PERSON,
    now: float,
) -> None:
    """Keep a decision and let the volume count, or not, by it."""
    volume = volume_id(connection, name)
    connection.execute(
        "INSERT INTO usability (volume, usable, kind, reason, holder, at, fingerprint)"
        " SELECT id, ?, ?, ?, ?, ?, fingerprint FROM volume WHERE id = ?",
        (usable, kind, reason, holder, now, volume),
    )
    exclude(connection, name, None if usable else reason)


def judge(
    connection: sqlite3.Connection, name: str, kind: str | None, reason: str, now: float
) -> bool:
    """Set a volume aside for its content, or let it count again.

    Parameters
    ----------
    kind
        What was found; ``None``: nothing that would keep it out.

    Returns
    -------
    bool
        Whether that changed anything.
    """
    volume = volume_id(connection, name)
    last = connection.execute(
        "SELECT u.usable, u.kind, u.reason, u.fingerprint IS v.fingerprint FROM usability u"
        " JOIN volume v ON v.id = u.volume WHERE u.volume = ? ORDER BY u.id DESC LIMIT 1",
        (volume,),
    ).fetchone()
    if last is None:
        if kind is None:
            return False
    else:
        usable, by, why, same_file = last
        if by == PERSON and (same_file or not usable):
            return False
        if (kind is None) if usable else ((by, why) == (kind, reason)):
            return False
    decide(
        connection,
        name,
        usable=kind is None,
        reason=reason if kind is not None else "nothing is wrong with its content any more",
        kind=kind or "content",
        now=now,
    )
    return True


def not_usable(connection: sqlite3.Connection) -> list[Usability]:
    """The decision in force for each volume that is there and counts nowhere, by name."""
    rows = connection.execute(
        "SELECT v.name, 0, coalesce(u.kind, ?), v.excluded_reason, coalesce(u.holder, ''),"
        " coalesce(u.at, v.first_seen) FROM volume v LEFT JOIN usability u ON u.id ="
        " (SELECT max(id) FROM usability WHERE volume = v.id)"
        " WHERE v.present AND v.excluded_reason IS NOT NULL ORDER BY v.name",
        (PERSON,),
    )
    return [Usability(row[0], bool(row[1]), *row[2:]) for row in rows]


def history(connection: sqlite3.Connection, name: str) -> list[Usability]:
    """Every decision about a volume, oldest first."""
    rows = connection.execute(
        "SELECT ?, usable, kind, reason, holder, at FROM usability WHERE volume = ? ORDER BY id",
        (name, volume_id(connection, name)),
    )
    return [Usability(row[0], bool(row[1]), *row[2:]) for row in rows]
