"""Who holds which volume, and who is to get one before all others.

A volume is one holder's until submitted, skipped (the holder asks for another), released or
expired. An offer is a volume to be given out before all others: one that a reviewer has
returned, or a blind second reading.
"""

from __future__ import annotations

from collections.abc import Collection

from atlas8k.store import audit_trail, label_files, rounds
from atlas8k.store.ranking import model_version_row
from atlas8k.store.records import Holder, Lease, Offer
from atlas8k.store.transaction import Transaction
from atlas8k.store.volumes import find, volume_row


def lease(
    tx: Transaction,
    volume: str,
    holder: Holder,
    *,
    model_version: str | None = None,
    purpose: str = "revise",
) -> Lease | None:
    """Lease one volume by name, whatever its state; None while somebody else holds it.

    A holder that has it already keeps it for another full time. What else it holds
    stays: this is how a case is opened on purpose, not a next sample.

    Parameters
    ----------
    purpose
        ``revise``, ``review``, ``double_read`` or ``gold``.
    """
    expire(tx)
    s = None if model_version is None else model_version_row(tx, model_version)
    row, until, taken_at = volume_row(tx, volume), tx.now + tx.lease_s, tx.now
    held = tx.find(
        "SELECT id, holder, taken_at FROM lease WHERE volume = ? AND ended_at IS NULL", row
    )
    if held is None:
        found = take(tx, row, holder, "named", s, rounds.ensure(tx, s), purpose=purpose)
    elif held[1] == holder.key and not holder.anonymous:
        found, taken_at = held[0], held[2]
        tx.run(
            "UPDATE lease SET expires_at = ?, purpose = ? WHERE id = ?", *(until, purpose, found)
        )
    else:
        return None
    return Lease(found, volume, holder.key, holder.anonymous, taken_at, until)


def renew(tx: Transaction, lease: int) -> Lease | None:
    """Give a lease that runs another full time; None where it has ended or run out."""
    tx.run(
        "UPDATE lease SET expires_at = max(expires_at, ?)"
        " WHERE id = ? AND ended_at IS NULL AND expires_at > ?",
        *(tx.now + tx.lease_s, lease, tx.now),
    )
    return next((one for one in running(tx) if one.id == lease), None)


def take(
    tx: Transaction,
    row: int,
    holder: Holder,
    strategy: str,
    model_version_row: int | None,
    number: int,
    *,
    purpose: str = "revise",
    over_budget: bool = False,
    looked_at: str | None = None,
) -> int:
    """Write a lease on a volume that nobody holds; its id."""
    lease = tx.insert(
        "lease",
        volume=row,
        holder=holder.key,
        anonymous=holder.anonymous,
        purpose=purpose,
        strategy=strategy,
        model_version=model_version_row,
        round=number,
        taken_at=tx.now,
        expires_at=tx.now + tx.lease_s,
        over_budget=over_budget,
        base_submission=tx.value(
            "SELECT max(id) FROM submission WHERE volume = ?1"
            " AND (?2 IS NULL AND purpose <> 'gold' OR holder = ?2)",
            *(row, holder.key if purpose == "gold" else None),
        ),
        looked_at=looked_at,
        draft=_draft(tx, row, holder.key, purpose),
    )
    tx.run("UPDATE volume SET lease = ? WHERE id = ?", lease, row)
    audit_trail.record(
        tx,
        "sample",
        by=holder.key,
        volume=row,
        lease=lease,
        purpose=purpose,
        strategy=strategy,
        round=number,
    )
    return lease


def _draft(tx: Transaction, row: int, holder: str, purpose: str) -> int | None:
    """Return the label file that a lease begins with: the draft label.

    Of a gold case the first reader's, or what follows from this holder's last reading.
    """
    if purpose == "gold":
        name = tx.value("SELECT name FROM volume WHERE id = ?", row)
        own = tx.value(
            "SELECT coalesce(restored, id) FROM submission WHERE volume = ? AND holder = ?"
            " ORDER BY id DESC LIMIT 1",
            *(row, holder),
        )
        if own is not None and (found := label_files.draft_of(tx, name, own)) is not None:
            return found.id
        start = tx.value(
            "SELECT start_sha256 FROM submission WHERE volume = ? ORDER BY id LIMIT 1", row
        )
        first = label_files.find(tx, name, start or "")
        return None if first is None else first.id
    number: int | None = tx.value(
        "SELECT l.version FROM volume v JOIN label l ON l.image = v.name AND l.tag = 'original'"
        " WHERE v.id = ?",
        row,
    )
    return number


def end(tx: Transaction, lease: int, outcome: str) -> None:
    """End a lease that is still running."""
    tx.run(
        "UPDATE lease SET ended_at = ?, outcome = ? WHERE id = ? AND ended_at IS NULL",
        *(tx.now, outcome, lease),
    )
    # By the lease's volume: `volume.lease` has no index.
    tx.run(
        "UPDATE volume SET lease = NULL WHERE lease = ?1"
        " AND id = (SELECT volume FROM lease WHERE id = ?1)",
        lease,
    )


def given(tx: Transaction, volume: str, holder: str) -> dict[str, float]:
    """Return when a volume was last given to a holder as a next sample, by strategy."""
    rows = tx.run(
        "SELECT iif(l.strategy = 'audit', 'attention', l.strategy), max(l.taken_at)"
        " FROM lease l JOIN volume v ON v.id = l.volume"
        " WHERE v.name = ? AND l.holder = ? AND l.strategy <> 'named' GROUP BY 1",
        *(volume, holder),
    )
    return dict(rows.fetchall())


def expire(tx: Transaction) -> None:
    """End leases that have run out."""
    over = "ended_at IS NULL AND expires_at <= ?1"
    tx.run(
        f"UPDATE volume SET lease = NULL WHERE id IN (SELECT volume FROM lease WHERE {over})",
        tx.now,
    )
    tx.run(f"UPDATE lease SET ended_at = ?1, outcome = 'expired' WHERE {over}", tx.now)


def release(tx: Transaction, volume: str, holder: Holder) -> bool:
    """Give a volume back without submitting; False where the holder does not hold it."""
    held = tx.value(
        "SELECT id FROM lease WHERE volume = ? AND holder = ? AND ended_at IS NULL",
        volume_row(tx, volume),
        holder.key,
    )
    if held is not None:
        end(tx, held, "released")
    return held is not None


def running(tx: Transaction) -> list[Lease]:
    """Return who holds what now, oldest first."""
    rows = tx.run(
        "SELECT l.id, v.name, l.holder, l.anonymous, l.taken_at, l.expires_at"
        " FROM lease l JOIN volume v ON v.id = l.volume"
        " WHERE l.ended_at IS NULL AND l.expires_at > ? ORDER BY l.taken_at, l.id",
        tx.now,
    )
    return [Lease(i, v, h, bool(a), t, e) for i, v, h, a, t, e in rows]


def hides_first(
    tx: Transaction, volume: str, holders: Collection[str], *, reviews: bool, known: bool
) -> bool:
    """Return whether who asks may not see the first reading of a volume, since it is read twice.

    From the first submission on until the second, it is hidden from whoever may be, or is, the
    second reader. Nobody who has submitted a label of the volume can be.

    Parameters
    ----------
    holders
        Keys of who asks.
    reviews
        Who asks is known for a reviewer; sees it unless it is the second reader.
    known
        Who asks has signed in. Others may be anybody: they see it until somebody reads it.
    """
    row = find(tx, volume)
    if row is None:
        return False
    reader = tx.value(
        "SELECT l.holder FROM volume v JOIN lease l ON l.id = v.lease"
        " WHERE v.id = ? AND l.expires_at > ? AND l.purpose = 'double_read'",
        *(row, tx.now),
    )
    if reader is not None and reader in holders:
        return True
    waits = tx.exists("SELECT 1 FROM offer WHERE volume = ? AND purpose = 'double_read'", row)
    if reviews or (reader is None and not (waits and known)):
        return False
    return not any(
        tx.exists("SELECT 1 FROM submission WHERE volume = ? AND holder = ?", row, one)
        for one in holders
    )


def read_twice(tx: Transaction) -> list[str]:
    """Return the volumes that were submitted once and wait for a second reading, or are in it."""
    rows = tx.run(
        "SELECT v.name FROM offer o JOIN volume v ON v.id = o.volume"
        " WHERE o.purpose = 'double_read'"
        " UNION SELECT v.name FROM volume v JOIN lease l ON l.id = v.lease"
        " WHERE l.expires_at > ? AND l.purpose = 'double_read' ORDER BY 1",
        tx.now,
    )
    return [name for (name,) in rows]


# Offers

# A second reading is for anybody but the first reader. Anonymous holders of one key may be
# several people; the same key never gets both all the same. Nor does who has read a gold case
# correct another's label of it.
_FOR_HOLDER = (
    "(o.holder IS NULL OR o.holder = ?1) AND (o.not_holder IS NULL OR o.not_holder <> ?1)"
    " AND (o.holder = ?1 OR NOT EXISTS (SELECT 1 FROM submission p"
    " WHERE p.volume = o.volume AND p.holder = ?1"
    " AND (o.purpose = 'double_read' OR p.purpose = 'gold')))"
)


def offers(tx: Transaction) -> list[Offer]:
    """Return the volumes that are given out before all others, the oldest offer first."""
    rows = tx.run(
        "SELECT v.name, o.purpose, o.holder, o.not_holder, o.note, o.at FROM offer o"
        " JOIN volume v ON v.id = o.volume ORDER BY o.at"
    )
    return [Offer(*row) for row in rows]


def offer(
    tx: Transaction,
    row: int,
    purpose: str,
    *,
    holder: str | None = None,
    not_holder: str | None = None,
    note: str = "",
    reviewer: str = "",
) -> None:
    """Offer a volume, in place of an earlier offer of it."""
    tx.run(
        "INSERT OR REPLACE INTO offer VALUES (?,?,?,?,?,?,?)",
        *(row, purpose, holder, not_holder, note, reviewer, tx.now),
    )


def withdraw(tx: Transaction, row: int) -> None:
    """Offer a volume no longer."""
    tx.run("DELETE FROM offer WHERE volume = ?", row)


def close_again(tx: Transaction, volume: str, holder: str) -> bool:
    """Take back that a holder (key) has opened a case for itself; False where it has not."""
    gone = tx.run(
        "DELETE FROM offer WHERE volume = ?1 AND purpose = 'returned' AND holder = ?2"
        " AND reviewer = ?2",
        volume_row(tx, volume),
        holder,
    )
    return bool(gone.rowcount)


def offered(tx: Transaction, holder: str, source: str | None, *, skipped: bool) -> int | None:
    """Return the oldest offer for this holder, among those it has skipped or the others."""
    row: int | None = tx.value(
        "SELECT o.volume FROM offer o CROSS JOIN volume v ON v.id = o.volume"
        " LEFT JOIN skip k ON k.holder = ?1 AND k.volume = o.volume"
        " WHERE v.counted = 1 AND v.lease IS NULL"
        f" AND (?2 IS NULL OR v.source = ?2) AND {_FOR_HOLDER}"
        " AND (k.skipped_at IS NOT NULL) = ?3 ORDER BY k.skipped_at, o.at LIMIT 1",
        *(holder, source, skipped),
    )
    return row


def offered_as(tx: Transaction, row: int) -> tuple[str, str]:
    """Return purpose and note of a volume's offer, ``revise`` and nothing where there is none."""
    found = tx.find("SELECT purpose, note FROM offer WHERE volume = ?", row)
    purpose, note = found or ("", "")
    return "double_read" if purpose == "double_read" else "revise", str(note)
