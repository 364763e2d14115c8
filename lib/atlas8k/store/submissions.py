"""Submissions: always accepted, all kept, conflicts noted for a reviewer."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from atlas8k.core.errors import LedgerError
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.store import (
    audit_trail,
    drawings,
    gold,
    leases,
    plans,
    provenance,
    ranking,
    reviews,
    rounds,
    volumes,
)
from atlas8k.store.errors import NumberTakenError
from atlas8k.store.records import (
    Holder,
    OrganChange,
    PlacesChanged,
    QualityFound,
    Submission,
    SubmissionContext,
    Worked,
)
from atlas8k.store.transaction import Transaction

_Record = TypeVar("_Record", PlacesChanged, QualityFound)


def submit(
    tx: Transaction,
    volume: str,
    holder: Holder,
    *,
    file: str | None = None,
    sha256: str | None = None,
    model_version: str | None = None,
    organs: Mapping[str, OrganChange] | None = None,
    detail: Mapping[str, Any] | None = None,
    number: int | None = None,
    lease: int | None = None,
    content: str | None = None,
    begun_from: int | None = None,
    start_sha256: str | None = None,
    sample: bool = False,
    second_reading: bool = False,
    agreement: Mapping[str, OrganChange] | None = None,
    at: float | None = None,
    adopted: bool = False,
    blind: bool = False,
) -> Submission:
    """Take in what an annotator submitted: always accepted.

    A volume not seen before is added rather than refused. If somebody else's submission
    landed since this holder began, both stay and the volume is in ``conflict``; so they
    do where an anonymous holder, who may be several people, submits twice. A second
    reading, or that of a gold case, is no conflict; the first stays current. A reviewer's
    submission takes over and closes the volume's open questions.

    Parameters
    ----------
    file, sha256
        The label file and its checksum.
    model_version
        What the draft label's pseudo label came from; else that of the lease.
    organs
        What it says of each organ by name; these become the organs' provenance.
    detail
        Anything else worth keeping, JSON-ready.
    number
        From :meth:`~atlas8k.store.ledger.Ledger.next_number`, where the file says it.
    lease
        Where the client says which of its leases this belongs to.
    content
        Hex sha256 of the file as it came, see :func:`same_again`.
    begun_from, start_sha256
        The submission that was current in its draft label, 0 for none, and that label's
        sha256. Without it, the one that is current now.
    sample
        Ask a reviewer to look at it.
    second_reading
        If it is the volume's first: have somebody else read the volume, too, blind; not a gold
        case, which others read anyway.
    agreement
        For a second reading: per organ, how far it agrees with the current one.
    at
        When it was submitted, where not now.
    adopted
        It was in the folder: a label of the volume, and nobody's work in a round.
    blind
        It is a gold case's, of somebody who was shown nothing of the one that is current.

    Raises
    ------
    NumberTakenError
        Another process has used `number`; nothing was written.
    """
    if number is not None and tx.exists("SELECT 1 FROM submission WHERE id = ?", number):
        raise NumberTakenError(f"submission {number} is there already")
    volumes.ensure(tx, volume)
    row = volumes.volume_row(tx, volume)
    organs, agreement = organs or {}, agreement or {}
    at = tx.now if at is None else at
    s = None if model_version is None else ranking.model_version_row(tx, model_version)
    origin = context(tx, volume, holder, lease, at=at)
    current, status = tx.one("SELECT current_submission, status FROM volume WHERE id = ?", row)
    if blind and origin.purpose == "revise":
        origin = replace(origin, purpose="gold")
    second = origin.purpose in gold.BLIND and current is not None and not adopted
    # What several people made elsewhere is adopted one upon the other, and crosses nothing.
    upon = adopted and begun_from and begun_from == current
    follows = upon and get(tx, current).purpose == "adopted"
    crossed = not second and not follows and _crossed(tx, row, holder, origin, lease)
    # Of the round that it was given out in: what is changed is changed in that round's labels.
    of_round = origin.round or rounds.ensure(tx, s)
    purpose = origin.purpose if second or origin.purpose == "review" else "revise"
    purpose = "adopted" if adopted else purpose
    counts = purpose == "revise" and not tx.exists(
        "SELECT 1 FROM submission WHERE volume = ? AND round = ? AND purpose = 'revise'",
        *(row, of_round),
    )
    first_of_all = not tx.exists("SELECT 1 FROM submission WHERE volume = ?", row)
    if begun_from is None:
        begun_from = origin.base if crossed or second else current
    if s is None:
        s = tx.value("SELECT model_version FROM lease WHERE id = ?", origin.lease)
    unclear = origin.taken_at is None or origin.ambiguous
    submission = tx.insert(
        "submission",
        id=number,
        volume=row,
        holder=holder.key,
        anonymous=holder.anonymous,
        submitted_at=at,
        lease=origin.lease,
        minutes=None if unclear else (at - origin.taken_at) / 60,  # type: ignore[operator]
        model_version=s,
        round=of_round,
        file=file,
        sha256=sha256,
        late=origin.late,
        conflict=crossed,
        detail=json.dumps(detail or {}, sort_keys=True, default=str),
        purpose=purpose,
        content=content,
        start_submission=begun_from or None,
        start_sha256=start_sha256,
    )
    if counts:
        tx.run(
            "UPDATE round SET reviewed = reviewed + 1, audited = audited + ? WHERE id = ?",
            *(plans.is_audit(tx, of_round, row, origin.lease), of_round),
        )
    if origin.lease is not None:
        leases.end(tx, origin.lease, "submitted")
    if not adopted:
        drawings.remove(tx, volume, holder.key)
    provenance.keep_changes(tx, submission, organs)
    _record(tx, row, submission, organs, purpose)
    taken_over = origin.purpose == "review" and not crossed
    if second:
        if purpose == "double_read":  # a gold case may have been returned to its first reader
            leases.withdraw(tx, row)
        reviews.keep_agreement(tx, current, submission, agreement)
        if any(change.voxels_changed != 0 for change in agreement.values()):
            reviews.open_review(tx, row, "double_read", submission, other=current)
    elif crossed or (status == "conflict" and not taken_over):
        # The earlier one stays current until a reviewer decides.
        reviews.open_review(tx, row, "conflict", submission, other=current)
        tx.run("UPDATE volume SET status = 'conflict' WHERE id = ?", row)
    else:
        make_current(tx, row, submission)
        leases.withdraw(tx, row)
        if taken_over:
            _take_over(tx, volume, row, submission, holder.key, organs)
        provenance.derive(tx, row)
        if sample and not taken_over:
            reviews.open_review(tx, row, "sample", submission)
        if second_reading and first_of_all and not gold.is_gold(tx, row):
            leases.offer(tx, row, "double_read", not_holder=holder.key)
    return get(tx, submission)


def _record(
    tx: Transaction, row: int, submission: int, organs: Mapping[str, OrganChange], purpose: str
) -> None:
    """Enter a submission into the audit trail."""
    one = get(tx, submission)
    untouched = organs and all(change.voxels_changed == 0 for change in organs.values())
    audit_trail.record(
        tx,
        "import" if purpose == "adopted" else "confirm" if untouched else "label",
        by=one.holder,
        volume=row,
        submission=submission,
        purpose=purpose,
        round=one.round,
        file_sha256=one.sha256,
        sent_sha256=one.content,
        organs={organ: change.state for organ, change in organs.items()},
        late=one.late,
        conflict=one.conflict,
    )


def make_current(tx: Transaction, row: int, submission: int, status: str = "submitted") -> None:
    """Make a submission the current one."""
    tx.run(
        "UPDATE volume SET status = ?, current_submission = ? WHERE id = ?",
        *(status, submission, row),
    )


def _take_over(
    tx: Transaction,
    volume: str,
    row: int,
    submission: int,
    reviewer: str,
    organs: Mapping[str, OrganChange],
) -> None:
    """Answer every open question with a reviewer's own label, disputes organ by organ."""
    for organ, public in provenance.dataset_organs(tx, volume).items():
        change = organs.get(organ)
        if public.source != "public" or change is None:
            continue
        organ_id = ranking.organ_id(organ)
        last = tx.value(
            "SELECT source FROM choice WHERE volume = ? AND organ = ? ORDER BY id DESC LIMIT 1",
            *(row, organ_id),
        )
        revised = change.state in provenance.CHANGED
        if revised or (change.state == "confirmed" and last != "revised"):
            source = "revised" if revised else "public"
            note_choice(tx, row, organ_id, source, submission, reviewer)
    reviews.close(tx, row, reviewer, f"taken over by submission {submission}")


def note_choice(
    tx: Transaction, row: int, organ_id: int, source: str, submission: int | None, reviewer: str
) -> None:
    """Note a reviewer's choice for one volume and organ; `submission` is the last it knew of."""
    tx.insert(
        "choice",
        volume=row,
        organ=organ_id,
        source=source,
        submission=submission,
        reviewer=reviewer,
        at=tx.now,
    )


# What a submission belongs to


def context(
    tx: Transaction,
    volume: str,
    holder: Holder,
    lease: int | None = None,
    *,
    at: float | None = None,
) -> SubmissionContext:
    """Return what a submission of this holder that comes in now, or came at `at`, belongs to.

    That is the lease that the client names, if it does, else the holder's last at that moment.
    """
    row, at = volumes.find(tx, volume), tx.now if at is None else at
    found = tx.run(
        "SELECT l.id, l.taken_at, l.ended_at, l.outcome, l.expires_at,"
        " coalesce(l.base_submission, 0), s.name, l.purpose, l.round, l.looked_at, l.draft"
        " FROM lease l LEFT JOIN model_version s ON s.id = l.model_version"
        " WHERE l.volume = ? AND l.holder = ? AND l.taken_at <= ?"
        " ORDER BY l.id = ? DESC, l.id DESC LIMIT 2",
        *(row, holder.key, at, lease),
    ).fetchall()
    if not found:
        base = tx.value("SELECT base_submission FROM volume WHERE id = ?", row)
        return SubmissionContext(None, None, True, base or 0, None, "revise", False)
    number, taken_at, ended_at, outcome, expires_at, base, model_version, *rest = found[0]
    purpose, of, looked, draft = rest
    # Saving again after a submission corrects it and is not late.
    ended = expires_at if ended_at is None else min(ended_at, expires_at)
    late = outcome != "submitted" and ended <= at
    several = holder.anonymous and len(found) > 1 and number != lease and found[1][5] >= base
    # Which of several people's leases it is nobody knows: none of them has said anything.
    looked = None if several else looked
    return SubmissionContext(
        number, taken_at, late, base, model_version, purpose, several, of, looked, draft
    )


def _crossed(
    tx: Transaction, row: int, holder: Holder, origin: SubmissionContext, lease: int | None
) -> bool:
    """Return whether another's submission landed since this one began.

    An anonymous holder may be several people: only one who names the lease of the earlier
    submission is known to be the same.
    """
    known = origin.lease if lease is not None and lease == origin.lease else None
    return tx.exists(
        "SELECT 1 FROM submission WHERE volume = ?1 AND id > ?2"
        " AND purpose NOT IN ('double_read', 'gold')"
        " AND (holder <> ?3 OR (anonymous AND (?4 IS NULL OR lease IS NOT ?4)))",
        *(row, origin.base, holder.key, known),
    )


# What was submitted

_SELECT = (
    "SELECT p.id, v.name, p.holder, p.anonymous, p.submitted_at, p.minutes, s.name, p.round,"
    " p.file, p.sha256, p.late, p.conflict, p.purpose, p.start_submission, p.start_sha256,"
    " p.restored, p.content, p.lease FROM submission p JOIN volume v ON v.id = p.volume"
    " LEFT JOIN model_version s ON s.id = p.model_version"
)


def _rows(tx: Transaction, where: str, *values: Any) -> Iterator[list[Any]]:
    """Yield the fields of a :class:`Submission`, and the lease."""
    for row in tx.run(f"{_SELECT} WHERE {where}", *values):
        yield [bool(value) if i in (3, 10, 11) else value for i, value in enumerate(row)]


def _records(tx: Transaction, where: str, *values: Any) -> list[Submission]:
    return [Submission(*fields[:-1]) for fields in _rows(tx, where, *values)]


def worked(tx: Transaction, number: int | None = None) -> list[Worked]:
    """Return submissions of one round or of all, oldest first, with what each says."""
    organs: dict[int, dict[str, OrganChange]] = defaultdict(dict)
    for submission, organ, *change in tx.run(
        "SELECT o.submission, o.organ, o.state, o.voxels_before, o.voxels_after,"
        " o.voxels_changed, o.dsc, o.note FROM submission p JOIN submission_organ o"
        " ON o.submission = p.id WHERE ?1 IS NULL OR p.round = ?1"
        " ORDER BY o.submission, o.organ",
        number,
    ):
        organs[submission][ORGAN_NAMES[organ - 1]] = OrganChange(*change)
    places = _told(tx, "places", PlacesChanged, number)
    quality = _told(tx, "quality", QualityFound, number)
    rows = _rows(tx, "?1 IS NULL OR p.round = ?1 ORDER BY p.id", number)
    return [
        Worked(*[*fields, *(noted.get(fields[0], {}) for noted in (organs, places, quality))])
        for fields in rows
    ]


def _told(
    tx: Transaction, key: str, record: type[_Record], number: int | None
) -> dict[int, dict[str, _Record]]:
    """Return what was noted with submissions of a round under a key, by organ."""
    path = f"$.{key}"
    return {
        submission: {organ: record(*values) for organ, values in json.loads(text).items()}
        for submission, text in tx.run(
            "SELECT id, json_extract(detail, ?2) FROM submission"
            " WHERE (?1 IS NULL OR round = ?1) AND json_extract(detail, ?2) IS NOT NULL",
            *(number, path),
        )
    }


def get(tx: Transaction, submission: int) -> Submission:
    """Return one submission; :class:`LedgerError` where there is none."""
    found = _records(tx, "p.id = ?", submission)
    if not found:
        raise LedgerError(f"there is no submission {submission}")
    return found[0]


def of_volume(tx: Transaction, volume: str) -> list[Submission]:
    """Return every accepted submission of a volume, oldest first."""
    return _records(tx, "p.volume = ? ORDER BY p.id", volumes.volume_row(tx, volume))


def notes(tx: Transaction, volume: str) -> dict[int, dict[str, Any]]:
    """Return what annotators have noted about a volume, by submission.

    Each has ``comment`` and ``difficulty``, which may be empty, and ``kinds`` of error.
    """
    rows = tx.run(
        "SELECT p.id, json_extract(p.detail, '$.note') AS note FROM submission p"
        " WHERE p.volume = ? AND note IS NOT NULL ORDER BY p.id",
        volumes.volume_row(tx, volume),
    )
    nothing: dict[str, Any] = {"comment": "", "difficulty": "", "kinds": []}
    return {number: {**nothing, **json.loads(text)} for number, text in rows}


def kinds_of_error(tx: Transaction) -> list[tuple[str, int]]:
    """Return how many current submissions name each kind of error, the most frequent first."""
    rows = tx.run(
        "SELECT k.value, count(*) AS times FROM volume v"
        " JOIN submission p ON p.id = v.current_submission,"
        " json_each(p.detail, '$.note.kinds') k GROUP BY k.value ORDER BY times DESC, k.value"
    )
    return [(str(kind), int(times)) for kind, times in rows]


def of_holders(tx: Transaction, holders: Sequence[str], limit: int = 20) -> list[Submission]:
    """Return the last submissions of these holders (keys), newest first."""
    marks = ",".join("?" * len(holders))
    return _records(tx, f"p.holder IN ({marks}) ORDER BY p.id DESC LIMIT ?", *holders, limit)


def current(tx: Transaction, volume: str) -> Submission | None:
    """Return the current submission, None before the first."""
    found = _records(tx, "p.id = v.current_submission AND v.name = ?", volume)
    return found[0] if found else None


def same_again(tx: Transaction, volume: str, holder: Holder, content: str) -> Submission | None:
    """Return the holder's last submission, where a file of this sha256 is it, sent again.

    As after a reply that got lost. Not where the volume was given out or handed back since:
    then the same label is a new answer.
    """
    last = tx.find(
        "SELECT p.id, p.content FROM submission p JOIN volume v ON v.id = p.volume"
        " WHERE v.name = ?1 AND p.holder = ?2 AND v.status <> 'open' AND (?3 OR NOT EXISTS"
        " (SELECT 1 FROM lease l WHERE l.volume = v.id AND l.holder = ?2 AND l.ended_at IS NULL))"
        " AND NOT EXISTS (SELECT 1 FROM offer o WHERE o.volume = v.id AND o.purpose = 'returned')"
        " ORDER BY p.id DESC LIMIT 1",
        *(volume, holder.key, holder.anonymous),
    )
    return get(tx, last[0]) if last is not None and last[1] == content else None
