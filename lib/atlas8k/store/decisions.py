"""What follows a submission: decided, restored, handed back, opened again."""

from __future__ import annotations

from atlas8k.core.errors import LedgerError
from atlas8k.store import audit_trail, leases, provenance, ranking, reviews, rounds, submissions
from atlas8k.store.records import Holder, Submission
from atlas8k.store.transaction import Transaction
from atlas8k.store.volumes import volume_row


def _own(tx: Transaction, volume: str, submission: int) -> Submission:
    for one in submissions.of_volume(tx, volume):
        if one.id == submission:
            return one
    raise LedgerError(f"{volume}: has no submission {submission}; nothing was changed")


def resolve(tx: Transaction, volume: str, submission: int, reviewer: str = "") -> None:
    """End a conflict or double reading with the submission that is to be current; all are kept."""
    row = volume_row(tx, volume)
    _own(tx, volume, submission)
    submissions.make_current(tx, row, submission)
    provenance.derive(tx, row)
    reviews.close(tx, row, reviewer, f"submission {submission}", kinds=("conflict", "double_read"))
    _record(tx, row, reviewer, "resolved", submission=submission)


def accept(tx: Transaction, volume: str, reviewer: str = "") -> int:
    """Leave what is current; closes all open questions but disputes; how many."""
    row = volume_row(tx, volume)
    tx.run("UPDATE volume SET status = 'submitted' WHERE id = ? AND status = 'conflict'", row)
    kinds = ("conflict", "double_read", "sample")
    closed = reviews.close(tx, row, reviewer, "accepted", kinds=kinds)
    if closed:
        _record(tx, row, reviewer, "accepted", questions=closed)
    return closed


def choose(tx: Transaction, volume: str, organ: str, source: str, reviewer: str = "") -> None:
    """Decide a disputed organ of one volume: ``public`` or ``revised``.

    Raises
    ------
    LedgerError
        There is no public label or no submission of it.
    """
    row, organ_id = volume_row(tx, volume), ranking.organ_id(organ)
    if source not in ("public", "revised"):
        raise LedgerError(f"{source}: choose public or revised")
    current = tx.value("SELECT current_submission FROM volume WHERE id = ?", row)
    public = provenance.dataset_organs(tx, volume).get(organ)
    revised = provenance.revised_organs(tx, current) if current is not None else {}
    if public is None or public.source != "public" or organ not in revised:
        raise LedgerError(
            f"{volume}: {organ}: nothing to choose, it takes a public label and a submission"
        )
    submissions.note_choice(tx, row, organ_id, source, current, reviewer)
    reviews.close(tx, row, reviewer, source, kinds=("dispute",), organ=organ_id)
    provenance.derive(tx, row)
    _record(tx, row, reviewer, "chosen", organ=organ, source=source, submission=current)


def restore(tx: Transaction, volume: str, submission: int, holder: Holder) -> Submission:
    """Make an earlier submission current again; a new entry, nothing is lost.

    One of purpose ``gold`` is its reader's last again and stays beside the current one, where it
    is that reader who restores it.

    Raises
    ------
    LedgerError
        It is no submission of this volume.
    """
    row = volume_row(tx, volume)
    old = _own(tx, volume, submission)
    beside = old.purpose == "gold" and old.holder == holder.key
    model_version = tx.value("SELECT model_version FROM submission WHERE id = ?", submission)
    number = tx.insert(
        "submission",
        volume=row,
        holder=holder.key,
        anonymous=holder.anonymous,
        submitted_at=tx.now,
        model_version=model_version,
        round=rounds.ensure(tx, model_version),
        file=old.file,
        sha256=old.sha256,
        purpose="gold" if beside else "restore",
        content=old.content,
        start_submission=old.start_submission,
        start_sha256=old.start_sha256,
        restored=submission if old.restored is None else old.restored,
    )
    _record(
        tx, row, holder.key, "restored", submission=number, restored=submission,
        file_sha256=old.sha256,
    )  # fmt: skip
    if beside:
        return submissions.get(tx, number)
    status = tx.value("SELECT status FROM volume WHERE id = ?", row)
    submissions.make_current(tx, row, number, "open" if status == "open" else "submitted")
    tx.run("UPDATE volume SET base_submission = ? WHERE id = ?", number, row)
    decision = f"submission {submission} restored"
    reviews.close(tx, row, holder.key, decision, kinds=("conflict", "double_read"))
    provenance.derive(tx, row)
    return submissions.get(tx, number)


def reopen(tx: Transaction, volume: str) -> None:
    """Serve a submitted volume again; the next submission begins from the current one."""
    row = volume_row(tx, volume)
    _begin_anew(tx, row, "open")
    leases.withdraw(tx, row)
    ranking.refresh(tx, row)
    _record(tx, row, "", "reopened")


def _begin_anew(tx: Transaction, row: int, status: str) -> None:
    tx.run(
        "UPDATE volume SET status = ?1, base_submission ="
        " (SELECT max(id) FROM submission WHERE volume = ?2 AND purpose <> 'gold') WHERE id = ?2",
        status,
        row,
    )


def hand_back(
    tx: Transaction,
    volume: str,
    *,
    to: str | None = None,
    note: str = "",
    reviewer: str = "",
    decision: str = "returned",
) -> None:
    """Offer a submitted volume again, before all others; its open questions are closed.

    Parameters
    ----------
    to
        Key of the only holder it is for; else it is open to anybody.
    note
        Comes with the next sample.
    """
    row = volume_row(tx, volume)
    held = tx.value(
        "SELECT l.id FROM volume v JOIN lease l ON l.id = v.lease"
        " WHERE v.id = ? AND l.purpose = 'review'",
        row,
    )
    if held is not None:
        leases.end(tx, held, "released")
    reviews.close(tx, row, reviewer, decision, note=note or None)
    # For one holder it is not open to others: it is in no list, and offered to it alone.
    _begin_anew(tx, row, "open" if to is None else "submitted")
    provenance.derive(tx, row)
    leases.offer(tx, row, "returned", holder=to, note=note, reviewer=reviewer)
    _record(tx, row, reviewer, decision, why=note, to=to)


def ask_again(tx: Transaction, volume: str, reviewer: str = "") -> int:
    """Undo the latest decision about a volume: its questions are open again; how many.

    A volume that was returned is not offered any more. The current label stays current until
    somebody decides otherwise. What was decided stays in the history.

    Raises
    ------
    LedgerError
        Nothing was decided, or somebody works on it or has submitted it since.
    """
    row = volume_row(tx, volume)
    at = tx.value("SELECT max(closed_at) FROM review WHERE volume = ? AND reviewer <> ''", row)
    returned = tx.value("SELECT at FROM offer WHERE volume = ? AND purpose = 'returned'", row)
    if at is None and returned is None:
        raise LedgerError(f"{volume}: nothing was decided, so there is nothing to undo")
    if returned is not None and (at is None or returned > at):
        at = returned  # nothing was open when it was returned, and nothing is opened now
    last = "SELECT max(submitted_at) FROM submission WHERE volume = ? AND purpose <> 'gold'"
    if tx.value(last, row) > at:
        raise LedgerError(f"{volume}: was submitted again since it was decided; look at that label")
    if tx.value("SELECT lease FROM volume WHERE id = ?", row) is not None:
        raise LedgerError(f"{volume}: somebody works on it now; try again when it is given back")
    closed = tx.run(
        "SELECT kind, organ, submission, other FROM review"
        " WHERE volume = ? AND closed_at = ? AND reviewer <> ''",
        row,
        at,
    ).fetchall()
    before = tx.value(_OPEN, row)
    for kind, organ, submission, other in closed:
        if kind == "dispute":  # back to the public label, and asked about
            submissions.note_choice(tx, row, organ, "public", None, reviewer)
        else:
            reviews.open_review(tx, row, kind, submission, organ=organ, other=other)
    leases.withdraw(tx, row)
    status = "conflict" if any(kind == "conflict" for kind, *_ in closed) else "submitted"
    tx.run("UPDATE volume SET status = ? WHERE id = ?", status, row)
    provenance.derive(tx, row)
    opened = int(tx.value(_OPEN, row)) - int(before)
    if not opened and returned is None:
        raise LedgerError(f"{volume}: its questions are open already")
    _record(tx, row, reviewer, "asked again", questions=opened)
    return opened


_OPEN = "SELECT count(*) FROM review WHERE volume = ? AND closed_at IS NULL"


def _record(
    tx: Transaction, row: int, by: str, decision: str, *, why: str = "", **detail: object
) -> None:
    """Enter a decision into the audit trail."""
    audit_trail.record(tx, "review", by=by, volume=row, why=why, decision=decision, **detail)
