"""Submissions: always accepted, all kept, conflicts noted for a reviewer."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any, cast

from atlas8k.errors import LedgerError
from atlas8k.ledger import leases, provenance, ranking, rounds
from atlas8k.ledger.records import Holder, OrganChange, Submission
from atlas8k.ledger.volumes import volume_id


def submit(
    connection: sqlite3.Connection,
    name: str,
    holder: Holder,
    *,
    file: str | None,
    sha256: str | None,
    signature: int | None,
    organs: Mapping[str, OrganChange],
    detail: Mapping[str, Any],
    budget: float,
    now: float,
) -> Submission:
    """Take a submission in: with a lease, after it ran out, or without one."""
    volume = volume_id(connection, name)
    lease, taken_at, late, base, lease_signature = _lease(connection, volume, holder, now)
    other = connection.execute(
        "SELECT 1 FROM submission WHERE volume = ? AND id > ? AND holder <> ? LIMIT 1",
        (volume, base, holder.key),
    ).fetchone()
    conflict = other is not None
    number = rounds.ensure(connection, signature, budget, now)
    first = connection.execute(
        "SELECT 1 FROM submission WHERE volume = ? AND round = ? LIMIT 1", (volume, number)
    ).fetchone()
    minutes = None if taken_at is None else (now - taken_at) / 60
    cursor = connection.execute(
        "INSERT INTO submission (volume, holder, anonymous, submitted_at, lease, minutes,"
        " signature, round, file, sha256, late, conflict, detail)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (
            volume,
            holder.key,
            holder.anonymous,
            now,
            lease,
            minutes,
            lease_signature or signature,
            number,
            file,
            sha256,
            late,
            conflict,
            json.dumps(detail, sort_keys=True, default=str),
        ),
    )
    submission = cast(int, cursor.lastrowid)
    if first is None:
        connection.execute("UPDATE round SET reviewed = reviewed + 1 WHERE id = ?", (number,))
    if lease is not None:
        leases.end(connection, lease, "submitted", now)
    provenance.keep_changes(connection, submission, organs)
    current, status = connection.execute(
        "SELECT current_submission, status FROM volume WHERE id = ?", (volume,)
    ).fetchone()
    conflict = conflict or status == "conflict"
    if conflict:
        provenance.open_review(connection, volume, "conflict", submission, now, other=current)
    else:
        provenance.apply(connection, volume, submission, now)
    # In a conflict the earlier one stays in force until a reviewer decides.
    connection.execute(
        "UPDATE volume SET status = ?, current_submission = ? WHERE id = ?",
        ("conflict" if conflict else "submitted", current if conflict else submission, volume),
    )
    return get(connection, submission)


def _lease(
    connection: sqlite3.Connection, volume: int, holder: Holder, now: float
) -> tuple[int | None, float | None, bool, int, int | None]:
    """The holder's last lease on the volume: row, start, late, what it began from, signature."""
    row = connection.execute(
        "SELECT id, taken_at, ended_at, outcome, expires_at, coalesce(base_submission, 0),"
        " signature FROM lease WHERE volume = ? AND holder = ? ORDER BY id DESC LIMIT 1",
        (volume, holder.key),
    ).fetchone()
    if row is None:
        base = connection.execute(
            "SELECT coalesce(base_submission, 0) FROM volume WHERE id = ?", (volume,)
        ).fetchone()[0]
        return None, None, True, base, None
    lease, taken_at, ended_at, outcome, expires_at, base, signature = row
    # Saving again after a submission corrects it and is not late.
    late = outcome != "submitted" and (ended_at is not None or expires_at <= now)
    return lease, taken_at, late, base, signature


_COLUMNS = (
    "p.id, v.name, p.holder, p.anonymous, p.submitted_at, p.minutes, s.name, p.round, p.file,"
    " p.sha256, p.late, p.conflict"
)
_FROM = "submission p JOIN volume v ON v.id = p.volume LEFT JOIN signature s ON s.id = p.signature"


def _record(row: tuple[Any, ...]) -> Submission:
    i, volume, holder, anonymous, at, minutes, signature, number, file, sha, late, conflict = row
    return Submission(
        i,
        volume,
        holder,
        bool(anonymous),
        at,
        minutes,
        signature,
        number,
        file,
        sha,
        bool(late),
        bool(conflict),
    )


def get(connection: sqlite3.Connection, submission: int) -> Submission:
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM {_FROM} WHERE p.id = ?", (submission,)
    ).fetchone()
    return _record(row)


def of_volume(connection: sqlite3.Connection, name: str) -> list[Submission]:
    """Every accepted submission of a volume, oldest first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM {_FROM} WHERE p.volume = ? ORDER BY p.id",
        (volume_id(connection, name),),
    )
    return [_record(row) for row in rows]


def resolve(
    connection: sqlite3.Connection, name: str, submission: int, reviewer: str, now: float
) -> None:
    """End a conflict with the submission that is to be in force."""
    volume = volume_id(connection, name)
    if submission not in {kept.id for kept in of_volume(connection, name)}:
        raise LedgerError(f"{name}: has no submission {submission}; nothing was changed")
    connection.execute(
        "UPDATE volume SET status = 'submitted', current_submission = ? WHERE id = ?",
        (submission, volume),
    )
    provenance.apply(connection, volume, submission, now)
    provenance.close_reviews(
        connection, volume, "conflict", reviewer, f"submission {submission}", now
    )


def reopen(connection: sqlite3.Connection, name: str) -> None:
    """Serve a submitted volume again; the next submission begins from the one in force."""
    volume = volume_id(connection, name)
    connection.execute(
        "UPDATE volume SET status = 'open', base_submission ="
        " (SELECT max(id) FROM submission WHERE volume = ?1) WHERE id = ?1",
        (volume,),
    )
    ranking.refresh(connection, volume)
