"""What follows a submission: decided, restored, handed back, opened again."""

from __future__ import annotations

import sqlite3

from atlas8k.errors import LedgerError
from atlas8k.ledger import history, leases, offers, provenance, ranking, reviews, rounds
from atlas8k.ledger.records import Holder, Submission
from atlas8k.ledger.volumes import volume_id


def _own(connection: sqlite3.Connection, name: str, submission: int) -> Submission:
    found = [one for one in history.of_volume(connection, name) if one.id == submission]
    if not found:
        raise LedgerError(f"{name}: has no submission {submission}; nothing was changed")
    return found[0]


def resolve(
    connection: sqlite3.Connection, name: str, submission: int, reviewer: str, now: float
) -> None:
    """End a conflict or a double reading with the submission that is to be in force."""
    volume = volume_id(connection, name)
    _own(connection, name, submission)
    connection.execute(
        "UPDATE volume SET status = 'submitted', current_submission = ? WHERE id = ?",
        (submission, volume),
    )
    provenance.derive(connection, volume, now)
    reviews.close(
        connection,
        volume,
        reviewer,
        f"submission {submission}",
        now,
        kinds=("conflict", "double_read"),
    )


def accept(connection: sqlite3.Connection, name: str, reviewer: str, now: float) -> int:
    """What is in force stays; closes every open question but disputes. How many."""
    volume = volume_id(connection, name)
    connection.execute(
        "UPDATE volume SET status = 'submitted' WHERE id = ? AND status = 'conflict'", (volume,)
    )
    kinds = ("conflict", "double_read", "sample")
    return reviews.close(connection, volume, reviewer, "accepted", now, kinds=kinds)


def choose(
    connection: sqlite3.Connection, name: str, organ: str, source: str, reviewer: str, now: float
) -> None:
    """Decide a public organ that a submission has changed.

    Raises
    ------
    LedgerError
        Not both sources say something of it.
    """
    volume, number = volume_id(connection, name), ranking.organ_id(organ)
    if source not in ("public", "revised"):
        raise LedgerError(f"{source}: choose public or revised")
    current = connection.execute(
        "SELECT current_submission FROM volume WHERE id = ?", (volume,)
    ).fetchone()[0]
    public = provenance.dataset_organs(connection, volume).get(organ)
    revised = provenance.revised_organs(connection, current) if current is not None else {}
    if public is None or public.source != "public" or organ not in revised:
        raise LedgerError(
            f"{name}: {organ}: nothing to choose, it takes a public label and a submission"
        )
    reviews.choose(connection, volume, number, source, current, reviewer, now)
    reviews.close(connection, volume, reviewer, source, now, kinds=("dispute",), organ=number)
    provenance.derive(connection, volume, now)


def restore(
    connection: sqlite3.Connection,
    name: str,
    submission: int,
    holder: Holder,
    budget: float,
    now: float,
) -> Submission:
    """Put an earlier submission in force again, as a new entry of the history."""
    volume = volume_id(connection, name)
    old = _own(connection, name, submission)
    signature = connection.execute(
        "SELECT signature FROM submission WHERE id = ?", (submission,)
    ).fetchone()[0]
    row = {
        "volume": volume,
        "holder": holder.key,
        "anonymous": holder.anonymous,
        "submitted_at": now,
        "signature": signature,
        "round": rounds.ensure(connection, signature, budget, now),
        "file": old.file,
        "sha256": old.sha256,
        "purpose": "restore",
        "start_sha256": old.start_sha256,
        "start_submission": old.start_submission,
        "restored": submission if old.restored is None else old.restored,
        "content": old.content,
    }
    number = history.insert(connection, row)
    connection.execute(
        "UPDATE volume SET current_submission = ?, base_submission = ?,"
        " status = CASE status WHEN 'open' THEN 'open' ELSE 'submitted' END WHERE id = ?",
        (number, number, volume),
    )
    reviews.close(
        connection,
        volume,
        holder.key,
        f"submission {submission} restored",
        now,
        kinds=("conflict", "double_read"),
    )
    provenance.derive(connection, volume, now)
    return history.get(connection, number)


def reopen(connection: sqlite3.Connection, name: str) -> None:
    """Serve a submitted volume again; the next submission begins from the one in force."""
    volume = volume_id(connection, name)
    connection.execute(
        "UPDATE volume SET status = 'open', base_submission ="
        " (SELECT max(id) FROM submission WHERE volume = ?1) WHERE id = ?1",
        (volume,),
    )
    offers.withdraw(connection, volume)
    ranking.refresh(connection, volume)


def hand_back(
    connection: sqlite3.Connection,
    name: str,
    now: float,
    *,
    to: str | None,
    note: str,
    reviewer: str,
    decision: str,
) -> None:
    """Offer a submitted volume again before all others, to one holder or to anybody."""
    volume = volume_id(connection, name)
    held = connection.execute(
        "SELECT l.id, l.purpose FROM volume v JOIN lease l ON l.id = v.lease WHERE v.id = ?",
        (volume,),
    ).fetchone()
    if held is not None and held[1] == "review":
        leases.end(connection, held[0], "released", now)
    reviews.close(connection, volume, reviewer, decision, now, note=note or None)
    if to is None:
        reopen(connection, name)
    else:
        # Not open to others: it is in no queue, and offered to this holder alone.
        connection.execute(
            "UPDATE volume SET status = 'submitted', base_submission ="
            " (SELECT max(id) FROM submission WHERE volume = ?1) WHERE id = ?1",
            (volume,),
        )
    provenance.derive(connection, volume, now)
    offers.make(connection, volume, "returned", now, holder=to, note=note, reviewer=reviewer)
