"""Submissions: always accepted, all kept, conflicts noted for a reviewer."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from atlas8k.errors import LedgerError
from atlas8k.ledger import audits, files, leases, offers, provenance, ranking, reviews, rounds
from atlas8k.ledger.records import Begun, Holder, OrganChange, Submission
from atlas8k.ledger.volumes import volume_id


@dataclass(frozen=True)
class Entry:
    """A submission to be booked; see :meth:`~atlas8k.ledger.Ledger.submit`.

    ``begun_from`` is the submission in force in its start label, 0 for none, None where
    nobody knows. ``at`` is when it was submitted, where not now.
    """

    holder: Holder
    file: str | None = None
    sha256: str | None = None
    signature: int | None = None
    organs: Mapping[str, OrganChange] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
    number: int | None = None
    lease: int | None = None
    content: str | None = None
    begun_from: int | None = None
    start_sha256: str | None = None
    sample: bool = False
    second_reading: bool = False
    agreement: Mapping[str, OrganChange] = field(default_factory=dict)
    at: float | None = None
    adopted: bool = False


def submit(
    connection: sqlite3.Connection, name: str, entry: Entry, *, budget: float, now: float
) -> Submission:
    """Take a submission in: with a lease, after it ran out, or without one."""
    volume = volume_id(connection, name)
    at = now if entry.at is None else entry.at
    begun = begun_from(connection, volume, entry.holder, entry.lease, at)
    current, status = connection.execute(
        "SELECT current_submission, status FROM volume WHERE id = ?", (volume,)
    ).fetchone()
    second = begun.purpose == "double_read" and current is not None
    crossed = not second and _crossed(connection, volume, entry.holder, begun, entry.lease)
    # Of the round that it was given out in: what is changed is changed in that round's labels.
    number = begun.round or rounds.ensure(connection, entry.signature, budget, now)
    purpose = begun.purpose if second or begun.purpose == "review" else "revise"
    purpose = "adopted" if entry.adopted else purpose
    counts = purpose == "revise" and not _reviewed(connection, volume, number)
    first_of_all = connection.execute(
        "SELECT 1 FROM submission WHERE volume = ? LIMIT 1", (volume,)
    ).fetchone()
    start = entry.begun_from
    if start is None:
        start = begun.base if crossed or second else current
    row = {
        "id": entry.number,
        "volume": volume,
        "holder": entry.holder.key,
        "anonymous": entry.holder.anonymous,
        "submitted_at": at,
        "lease": begun.lease,
        "minutes": None
        if begun.taken_at is None or begun.ambiguous
        else (at - begun.taken_at) / 60,
        "signature": entry.signature or _lease_signature(connection, begun.lease),
        "round": number,
        "file": entry.file,
        "sha256": entry.sha256,
        "late": begun.late,
        "conflict": crossed,
        "detail": json.dumps(entry.detail, sort_keys=True, default=str),
        "purpose": purpose,
        "content": entry.content,
        "start_submission": start or None,
        "start_sha256": entry.start_sha256,
    }
    submission = insert(connection, row)
    if entry.number is not None:
        files.forget(connection, entry.number)
    if counts:
        connection.execute(
            "UPDATE round SET reviewed = reviewed + 1, audited = audited + ? WHERE id = ?",
            (audits.is_drawn(connection, number, volume), number),
        )
    if begun.lease is not None:
        leases.end(connection, begun.lease, "submitted", now)
    provenance.keep_changes(connection, submission, entry.organs)
    if second:
        offers.withdraw(connection, volume)
        reviews.keep_agreement(connection, current, submission, entry.agreement)
        if any(change.voxels_changed != 0 for change in entry.agreement.values()):
            reviews.open_review(connection, volume, "double_read", submission, now, other=current)
        return get(connection, submission)
    taken_over = begun.purpose == "review" and not crossed
    if crossed or (status == "conflict" and not taken_over):
        # The earlier one stays in force until a reviewer decides.
        reviews.open_review(connection, volume, "conflict", submission, now, other=current)
        connection.execute("UPDATE volume SET status = 'conflict' WHERE id = ?", (volume,))
        return get(connection, submission)
    connection.execute(
        "UPDATE volume SET status = 'submitted', current_submission = ? WHERE id = ?",
        (submission, volume),
    )
    offers.withdraw(connection, volume)
    if taken_over:
        _take_over(connection, volume, submission, entry, now)
    provenance.derive(connection, volume, now)
    if entry.sample and not taken_over:
        reviews.open_review(connection, volume, "sample", submission, now)
    if entry.second_reading and first_of_all is None:
        offers.make(connection, volume, "double_read", now, not_holder=entry.holder.key)
    return get(connection, submission)


def _reviewed(connection: sqlite3.Connection, volume: int, number: int) -> bool:
    """Whether a volume counts as reviewed in a round already."""
    row = connection.execute(
        "SELECT 1 FROM submission WHERE volume = ? AND round = ? AND purpose = 'revise' LIMIT 1",
        (volume, number),
    ).fetchone()
    return row is not None


def insert(connection: sqlite3.Connection, row: Mapping[str, Any]) -> int:
    cursor = connection.execute(
        f"INSERT INTO submission ({', '.join(row)}) VALUES ({', '.join('?' for _ in row)})",
        tuple(row.values()),
    )
    return cast(int, cursor.lastrowid)


def _take_over(
    connection: sqlite3.Connection, volume: int, submission: int, entry: Entry, now: float
) -> None:
    """A reviewer's own label answers every open question, disputes organ by organ."""
    who = entry.holder.key
    for organ, one in provenance.dataset_organs(connection, volume).items():
        change = entry.organs.get(organ)
        if one.source != "public" or change is None:
            continue
        number = ranking.organ_id(organ)
        if change.state in provenance.CHANGED:
            reviews.choose(connection, volume, number, "revised", submission, who, now)
        elif change.state == "confirmed" and not _chosen_revised(connection, volume, number):
            reviews.choose(connection, volume, number, "public", submission, who, now)
    reviews.close(connection, volume, who, f"taken over by submission {submission}", now)


def _chosen_revised(connection: sqlite3.Connection, volume: int, organ: int) -> bool:
    row = connection.execute(
        "SELECT source FROM choice WHERE volume = ? AND organ = ? ORDER BY id DESC LIMIT 1",
        (volume, organ),
    ).fetchone()
    return row is not None and row[0] == "revised"


def begun_from(
    connection: sqlite3.Connection, volume: int, holder: Holder, lease: int | None, at: float
) -> Begun:
    """The lease a submission of time `at` belongs to: the one it names, else the holder's last.

    One that was written and not booked may come in when its holder has the volume anew.
    """
    rows = connection.execute(
        "SELECT l.id, l.taken_at, l.ended_at, l.outcome, l.expires_at,"
        " coalesce(l.base_submission, 0), s.name, l.purpose, l.round, l.looked_at"
        " FROM lease l LEFT JOIN signature s ON s.id = l.signature"
        " WHERE l.volume = ? AND l.holder = ? AND l.taken_at <= ?"
        " ORDER BY l.id = ? DESC, l.id DESC LIMIT 2",
        (volume, holder.key, at, lease),
    ).fetchall()
    if not rows:
        base = connection.execute(
            "SELECT coalesce(base_submission, 0) FROM volume WHERE id = ?", (volume,)
        ).fetchone()[0]
        return Begun(None, None, True, base, None, "revise", False)
    number, taken_at, ended_at, outcome, expires_at, base, signature, purpose, of, looked = rows[0]
    # Saving again after a submission corrects it and is not late.
    ended = expires_at if ended_at is None else min(ended_at, expires_at)
    late = outcome != "submitted" and ended <= at
    several = holder.anonymous and len(rows) > 1 and number != lease and rows[1][5] >= base
    # Which of several people's leases it is nobody knows: none of them has said anything.
    looked = None if several else looked
    return Begun(number, taken_at, late, base, signature, purpose, several, of, looked)


def _lease_signature(connection: sqlite3.Connection, lease: int | None) -> int | None:
    row = connection.execute("SELECT signature FROM lease WHERE id = ?", (lease,)).fetchone()
    return None if row is None else row[0]


def _crossed(
    connection: sqlite3.Connection, volume: int, holder: Holder, begun: Begun, lease: int | None
) -> bool:
    """Whether another's submission landed since this one began.

    An anonymous holder may be several people: only one who names the lease of the earlier
    submission is known to be the same.
    """
    known = begun.lease if lease is not None and lease == begun.lease else None
    row = connection.execute(
        "SELECT 1 FROM submission WHERE volume = ? AND id > ? AND purpose <> 'double_read'"
        " AND (holder <> ? OR (anonymous AND (? IS NULL OR lease IS NOT ?))) LIMIT 1",
        (volume, begun.base, holder.key, known, known),
    ).fetchone()
    return row is not None


_COLUMNS = (
    "p.id, v.name, p.holder, p.anonymous, p.submitted_at, p.minutes, s.name, p.round, p.file,"
    " p.sha256, p.late, p.conflict, p.purpose, p.start_submission, p.start_sha256, p.restored,"
    " p.content"
)
_FROM = "submission p JOIN volume v ON v.id = p.volume LEFT JOIN signature s ON s.id = p.signature"


def _record(row: tuple[Any, ...]) -> Submission:
    fields = list(row)
    for flag in (3, 10, 11):
        fields[flag] = bool(fields[flag])
    return Submission(*fields)


def get(connection: sqlite3.Connection, submission: int) -> Submission:
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM {_FROM} WHERE p.id = ?", (submission,)
    ).fetchone()
    if row is None:
        raise LedgerError(f"there is no submission {submission}")
    return _record(row)


def of_volume(connection: sqlite3.Connection, name: str) -> list[Submission]:
    """Every accepted submission of a volume, oldest first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM {_FROM} WHERE p.volume = ? ORDER BY p.id",
        (volume_id(connection, name),),
    )
    return [_record(row) for row in rows]


def of_holders(
    connection: sqlite3.Connection, holders: Sequence[str], limit: int
) -> list[Submission]:
    """The last submissions of these holders, newest first."""
    marks = ",".join("?" * len(holders))
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM {_FROM} WHERE p.holder IN ({marks}) ORDER BY p.id DESC LIMIT ?",
        (*holders, limit),
    )
    return [_record(row) for row in rows]


def in_force(connection: sqlite3.Connection, name: str) -> Submission | None:
    row = connection.execute(
        "SELECT current_submission FROM volume WHERE name = ?", (name,)
    ).fetchone()
    return None if row is None or row[0] is None else get(connection, row[0])


def same_again(
    connection: sqlite3.Connection, name: str, holder: Holder, content: str
) -> Submission | None:
    """The holder's last submission, where this is the same file sent again.

    As after a reply that got lost. Not where the volume was given out or handed back since:
    then the same label is a new answer.
    """
    row = connection.execute(
        "SELECT p.id, p.content FROM submission p JOIN volume v ON v.id = p.volume"
        " WHERE v.name = ?1 AND p.holder = ?2 AND v.status <> 'open' AND (?3 OR NOT EXISTS"
        " (SELECT 1 FROM lease l WHERE l.volume = v.id AND l.holder = ?2 AND l.ended_at IS NULL))"
        " AND NOT EXISTS (SELECT 1 FROM offer o WHERE o.volume = v.id AND o.purpose = 'returned')"
        " ORDER BY p.id DESC LIMIT 1",
        (name, holder.key, holder.anonymous),
    ).fetchone()
    return get(connection, row[0]) if row is not None and row[1] == content else None
