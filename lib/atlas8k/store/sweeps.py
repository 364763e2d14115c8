"""Looks at the outlines of every volume's current label: fine or flagged, a few seconds each.

A look is no submission: nothing is confirmed by it, and no source of an organ changes. It counts
for the label that was shown; where that was replaced without anybody's submission, as by other
networks, the volume is to be looked at again. A flag makes a case of the volume: one that nobody
has submitted is given out before all others, of one that is submitted a reviewer is asked.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Literal, NamedTuple, get_args

from atlas8k.core.errors import LedgerError
from atlas8k.store import audit_trail, leases, reviews
from atlas8k.store.records import Holder
from atlas8k.store.transaction import Transaction
from atlas8k.store.volumes import volume_row

Verdict = Literal["fine", "flag"]
SweepOrder = Literal["worst", "random"]
NOTE = "flagged in a sweep: its outlines looked wrong"
_SEED = "sweep:seed"

_LABEL = """(SELECT f.sha256 FROM label l JOIN label_version f ON f.id = l.version
  WHERE l.image = v.name AND l.tag IN ('original', 'pseudo') ORDER BY l.tag LIMIT 1)"""
"""What a volume's outlines are of: the draft label, else the pseudo label."""
_LINES = f"""
WITH last AS (SELECT volume, max(id) AS id FROM sweep_look WHERE undone_at IS NULL GROUP BY volume),
  person AS (SELECT volume, min(submitted_at) AS first, max(submitted_at) AS last FROM submission
    WHERE purpose <> 'adopted' GROUP BY volume),
  line AS (SELECT v.id, v.name, {_LABEL} AS sha256, p.first, p.last, k.verdict, k.at,
      k.sha256 AS shown, k.holder
    FROM volume v LEFT JOIN person p ON p.volume = v.id LEFT JOIN last ON last.volume = v.id
    LEFT JOIN sweep_look k ON k.id = last.id WHERE v.counted = 1),
  counted AS (SELECT *, at IS NOT NULL AND (shown = sha256 OR coalesce(last > at, 0)) AS looked
    FROM line WHERE sha256 IS NOT NULL)
"""


class SweepLine(NamedTuple):
    """A volume that has a label.

    Attributes
    ----------
    verdict
        Of the last look that counts; None: not looked at.
    seen
        Somebody had submitted it before any look.
    decided
        Somebody has submitted it since the look.
    changed
        One of these submissions changed the label.
    """

    volume: str
    verdict: Verdict | None
    seen: bool
    decided: bool
    changed: bool


class Waiting(NamedTuple):
    """A volume to look at.

    Attributes
    ----------
    sha256
        Of the label that is to be shown.
    figure
        What it is ranked by; None without a score.
    findings
        Of anatomical rules against the label; None: not checked.
    """

    volume: str
    sha256: str
    figure: float | None
    findings: int | None


class Flag(NamedTuple):
    """A flag that nobody has answered by a submission."""

    volume: str
    holder: str
    at: float


def seed(tx: Transaction) -> str:
    """Return what the random order is drawn by; empty where nobody has asked for one yet."""
    return tx.setting(_SEED) or ""


def ensure_seed(tx: Transaction) -> str:
    """Return what the random order is drawn by; made once, for all processes."""
    if not seed(tx):
        tx.set(_SEED, secrets.token_hex(4))
    return seed(tx)


def place_at_random(seed: str, volume: str) -> bytes:
    """Return what the random order sorts by: SHA256 of ``seed:volume``."""
    return hashlib.sha256(f"{seed}:{volume}".encode()).digest()


def lines(tx: Transaction) -> list[SweepLine]:
    """Return every volume that counts and has a label."""
    rows = tx.run(
        f"{_LINES} SELECT name, CASE WHEN looked THEN verdict END,"
        " coalesce(first < CASE WHEN looked THEN at ELSE 1e300 END, 0),"
        " coalesce(looked AND last > at, 0), looked AND EXISTS (SELECT 1 FROM submission s"
        " JOIN submission_organ o ON o.submission = s.id WHERE s.volume = counted.id"
        " AND s.purpose <> 'adopted' AND s.submitted_at > counted.at AND o.voxels_changed > 0)"
        " FROM counted ORDER BY name"
    )
    return [
        SweepLine(name, verdict, bool(seen), bool(decided), bool(changed))
        for name, verdict, seen, decided, changed in rows
    ]


def waiting(
    tx: Transaction, order: SweepOrder, model_version: str | None, *, seen: bool = False
) -> list[Waiting]:
    """Return what was not looked at yet, in order.

    Parameters
    ----------
    order
        ``worst``: the priority list's, then by findings of anatomical rules, then by name;
        ``random``: by :func:`place_at_random`.
    model_version
        Of the scores; None where there are none.
    seen
        Also volumes that somebody has submitted.
    """
    if order not in get_args(SweepOrder):
        raise LedgerError(f"{order}: no such order; there are worst and random")
    rows = tx.run(
        f"{_LINES} SELECT name, sha256, r.rank_ml, (SELECT json_array_length(c.findings)"
        " FROM label_check c WHERE c.volume = counted.id AND c.label <> 'submitted'"
        " ORDER BY c.label LIMIT 1) AS found FROM counted"
        " LEFT JOIN result r ON r.volume = counted.id"
        " AND r.model_version = (SELECT id FROM model_version WHERE name = ?)"
        " WHERE NOT looked AND (? OR first IS NULL)"
        " ORDER BY r.rank_ml IS NULL, r.rank_ml DESC, found DESC, name",
        *(model_version, seen),
    )
    found = [Waiting(*row) for row in rows]
    if order == "random":
        drawn_by = seed(tx)
        found.sort(key=lambda one: place_at_random(drawn_by, one.volume))
    return found


def look(tx: Transaction, volume: str, sha256: str, verdict: Verdict, holder: Holder) -> int | None:
    """Record a look; a flag makes a case of the volume. Return the look's number.

    None, and nothing is recorded, where the label that was looked at is not the current one any
    more.
    """
    row = volume_row(tx, volume)
    ensure_seed(tx)
    if tx.value(f"SELECT {_LABEL} FROM volume v WHERE v.id = ?", row) != sha256:
        return None
    question = _make_case(tx, row, holder) if verdict == "flag" else None
    number = tx.insert(
        "sweep_look",
        volume=row,
        holder=holder.key,
        sha256=sha256,
        verdict=verdict,
        at=tx.now,
        review=question,
    )
    audit_trail.record(
        tx, "sweep", by=holder.key, volume=row, look=number, verdict=verdict, label=sha256
    )
    return number


def _make_case(tx: Transaction, row: int, holder: Holder) -> int | None:
    """Offer an open volume before all others, or ask a reviewer; return the question, if new."""
    status, current = tx.one("SELECT status, current_submission FROM volume WHERE id = ?", row)
    if status == "open" or current is None:
        if not tx.exists("SELECT 1 FROM offer WHERE volume = ?", row):
            leases.offer(tx, row, "returned", note=NOTE, reviewer=holder.key)
        return None
    before = tx.value("SELECT max(id) FROM review")
    reviews.open_review(tx, row, "sample", current)
    after: int | None = tx.value("SELECT max(id) FROM review")
    return after if after != before else None


def undo(tx: Transaction, look: int, holder: Holder) -> str | None:
    """Take a look back, and the case that it made; return the volume.

    None where it is somebody else's, or was taken back.
    """
    found = tx.find(
        "SELECT k.volume, v.name, k.verdict, k.review FROM sweep_look k"
        " JOIN volume v ON v.id = k.volume WHERE k.id = ? AND k.holder = ? AND undone_at IS NULL",
        *(look, holder.key),
    )
    if found is None:
        return None
    row, name, verdict, question = found
    tx.run("UPDATE sweep_look SET undone_at = ? WHERE id = ?", tx.now, look)
    if verdict == "flag":
        tx.run(
            "DELETE FROM offer WHERE volume = ? AND purpose = 'returned' AND note = ?"
            " AND reviewer = ? AND NOT EXISTS (SELECT 1 FROM sweep_look k WHERE k.volume ="
            " offer.volume AND k.verdict = 'flag' AND k.undone_at IS NULL)",
            *(row, NOTE, holder.key),
        )
        tx.run(
            "UPDATE review SET closed_at = ?, reviewer = ?, decision = 'flag taken back'"
            " WHERE id = ? AND closed_at IS NULL",
            *(tx.now, holder.key, question),
        )
    audit_trail.record(tx, "sweep", by=holder.key, volume=row, look=look, verdict="taken back")
    return str(name)


def flags(tx: Transaction) -> list[Flag]:
    """Return the flags that nobody has answered by a submission, the oldest first."""
    rows = tx.run(
        f"{_LINES} SELECT name, holder, at FROM counted WHERE looked AND verdict = 'flag'"
        " AND NOT coalesce(last > at, 0) ORDER BY at"
    )
    return [Flag(*row) for row in rows]
