"""Who holds which volume: picked and written in one transaction.

A volume is one holder's until submitted, skipped (the holder asks again) or expired. Of
skipped volumes the holder gets others first; everybody else gets them at once.
"""

from __future__ import annotations

import math
import sqlite3
from dataclasses import replace
from typing import cast, get_args

from atlas8k.errors import LedgerError
from atlas8k.ledger import audits, offers, plans, ranking, rankings, reviews, rounds
from atlas8k.ledger.picking import Wish, pick
from atlas8k.ledger.records import Holder, Lease, Sample, Strategy
from atlas8k.ledger.volumes import volume_id

_SKIPS_REMEMBERED = 2000  # a holder; each is stepped over at every pick, half a microsecond
_EXPIRE_AT_ONCE = 50  # bounds the time of one request after a night with many open leases


def next_sample(
    connection: sqlite3.Connection,
    wish: Wish,
    *,
    lease_s: float,
    skip_s: float,
    budget: float,
    now: float,
) -> Sample | None:
    """Lease the next volume; None when nothing is left that nobody else holds."""
    if wish.strategy not in get_args(Strategy):
        raise LedgerError(
            f"{wish.strategy}: no such strategy; there are {', '.join(get_args(Strategy))}"
        )
    connection.execute("DELETE FROM skip WHERE until <= ?", (now,))
    given_back: tuple[str, ...] = ()
    if not wish.holder.anonymous:
        given_back = _skip_held(connection, wish.holder, now, skip_s)
    number = None
    if wish.signature is not None:
        ranking.revive(connection, wish.signature)
        # However samples are asked for: the round needs its list.
        begin = plans.keep if wish.own else rounds.ensure
        number = begin(connection, wish.signature, budget, now)
    while True:
        expired = expire(connection, now, _EXPIRE_AT_ONCE)
        picked, audit = _offered(connection, wish, skipped=False), None
        if picked is None:
            audit = None if number is None else audits.due(connection, number, wish)
            picked = pick(connection, wish) if audit is None else (audit, False)
        if picked is None or picked[1]:
            picked = _offered(connection, wish, skipped=True) or picked
        if picked is not None:
            given = (*picked, lease_s, budget, now)
            sample = _give(connection, wish, *given, audit=audit is not None)
            return replace(sample, given_back=given_back)
        if expired < _EXPIRE_AT_ONCE:
            return None


def _offered(
    connection: sqlite3.Connection, wish: Wish, *, skipped: bool
) -> tuple[int, bool] | None:
    volume = offers.pick(connection, wish.holder.key, wish.source, skipped=skipped)
    return None if volume is None else (volume, skipped)


def next_review(
    connection: sqlite3.Connection,
    wish: Wish,
    *,
    lease_s: float,
    skip_s: float,
    budget: float,
    now: float,
) -> Sample | None:
    """Lease the volume that has waited longest for a reviewer; None when none waits."""
    connection.execute("DELETE FROM skip WHERE until <= ?", (now,))
    given_back: tuple[str, ...] = ()
    if not wish.holder.anonymous:
        given_back = _skip_held(connection, wish.holder, now, skip_s)
    while expire(connection, now, _EXPIRE_AT_ONCE) == _EXPIRE_AT_ONCE:
        pass
    picked = reviews.next_volume(connection, wish.holder.key)
    if picked is None:
        return None
    sample = _give(connection, wish, *picked, lease_s, budget, now, review=True)
    return replace(sample, given_back=given_back)


def expire(connection: sqlite3.Connection, now: float, limit: int) -> int:
    """End leases that have run out, oldest first; returns how many."""
    rows = connection.execute(
        "SELECT id FROM lease WHERE ended_at IS NULL AND expires_at <= ?"
        " ORDER BY expires_at LIMIT ?",
        (now, limit),
    ).fetchall()
    for (lease,) in rows:
        end(connection, lease, "expired", now)
    return len(rows)


def end(connection: sqlite3.Connection, lease: int, outcome: str, now: float) -> None:
    """End a lease that is still running."""
    connection.execute(
        "UPDATE lease SET ended_at = ?, outcome = ? WHERE id = ? AND ended_at IS NULL",
        (now, outcome, lease),
    )
    # By the lease's volume: `volume.lease` has no index.
    connection.execute(
        "UPDATE volume SET lease = NULL WHERE lease = ?1"
        " AND id = (SELECT volume FROM lease WHERE id = ?1)",
        (lease,),
    )


def _skip_held(
    connection: sqlite3.Connection, holder: Holder, now: float, skip_s: float
) -> tuple[str, ...]:
    """Take back what a holder has and did not submit; returns the names of these volumes."""
    rows = connection.execute(
        "SELECT l.id, l.volume, v.name FROM lease l JOIN volume v ON v.id = l.volume"
        " WHERE l.holder = ? AND l.ended_at IS NULL AND l.expires_at > ? ORDER BY l.id",
        (holder.key, now),
    ).fetchall()
    for lease, volume, _ in rows:
        end(connection, lease, "skipped", now)
        connection.execute(
            "INSERT OR REPLACE INTO skip VALUES (?,?,?,?)",
            (holder.key, volume, now, now + skip_s),
        )
    connection.execute(
        "DELETE FROM skip WHERE (holder, volume) IN (SELECT holder, volume FROM skip"
        " WHERE holder = ? ORDER BY skipped_at DESC LIMIT -1 OFFSET ?)",
        (holder.key, _SKIPS_REMEMBERED),
    )
    return tuple(name for _, _, name in rows)


def _give(
    connection: sqlite3.Connection,
    wish: Wish,
    volume: int,
    skipped_before: bool,
    lease_s: float,
    budget: float,
    now: float,
    *,
    review: bool = False,
    audit: bool = False,
) -> Sample:
    number = rounds.ensure(connection, wish.signature, budget, now)
    purse = rounds.budget(connection, number)
    purpose, note = ("review", "") if review else offers.of(connection, volume)
    over = purse.reviewed >= purse.total and not (review or audit)
    name, base = connection.execute(
        "SELECT name, base_submission FROM volume WHERE id = ?", (volume,)
    ).fetchone()
    strategy = "review" if review else "audit" if audit else wish.strategy
    given = (wish.holder, strategy, wish.signature, number, lease_s, over, now, purpose)
    lease = take(connection, volume, *given, looked_at=wish.looked_at)
    connection.execute(
        "DELETE FROM skip WHERE holder = ? AND volume = ?", (wish.holder.key, volume)
    )
    signature, size, ranked = None, None, 0
    if wish.signature is not None:
        signature, ranked = connection.execute(
            "SELECT name, scored FROM signature WHERE id = ?", (wish.signature,)
        ).fetchone()
        size = connection.execute(
            "SELECT rank_ml FROM result WHERE volume = ? AND signature = ? AND reason IS NULL",
            (volume, wish.signature),
        ).fetchone()
    scored = size is not None and wish.signature is not None
    organs = ranking.organs_in_order(connection, volume, wish.signature) if scored else ()  # type: ignore[arg-type]
    by = rankings.in_force(connection)
    return Sample(
        volume=name,
        strategy=strategy,
        lease=lease,
        expires_at=now + lease_s,
        signature=signature,
        attention_ml=math.fsum(organ.attention_ml for organ in organs) if scored else None,
        rank=ranking.rank(connection, volume, wish.signature) if scored else None,  # type: ignore[arg-type]
        ranked=ranked,
        organs=organs,
        round=number,
        budget=purse.total,
        budget_left=purse.left,
        over_budget=over,
        unscored=not scored,
        skipped_before=skipped_before,
        base_submission=base,
        anonymous=wish.holder.anonymous,
        ranking=by,
        score=size[0] if size else None,
        purpose=purpose,
        note=note,
        audit=audit,
    )


def take(
    connection: sqlite3.Connection,
    volume: int,
    holder: Holder,
    strategy: str,
    signature: int | None,
    number: int | None,
    lease_s: float,
    over_budget: bool,
    now: float,
    purpose: str = "revise",
    looked_at: str | None = None,
) -> int:
    """Write a lease on a volume that nobody holds."""
    cursor = connection.execute(
        "INSERT INTO lease (volume, holder, anonymous, strategy, signature, round, taken_at,"
        " expires_at, over_budget, purpose, looked_at, base_submission)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?,"
        " (SELECT max(id) FROM submission WHERE volume = ?))",
        (
            volume,
            holder.key,
            holder.anonymous,
            strategy,
            signature,
            number,
            now,
            now + lease_s,
            over_budget,
            purpose,
            looked_at,
            volume,
        ),
    )
    lease = cast(int, cursor.lastrowid)
    connection.execute("UPDATE volume SET lease = ? WHERE id = ?", (lease, volume))
    return lease


def take_named(
    connection: sqlite3.Connection,
    name: str,
    holder: Holder,
    signature: int | None,
    number: int,
    *,
    lease_s: float,
    now: float,
    purpose: str = "revise",
) -> Lease | None:
    """Lease a certain volume, or lease it for longer; None while somebody else holds it."""
    volume = volume_id(connection, name)
    row = connection.execute(
        "SELECT id, holder, expires_at, taken_at FROM lease WHERE volume = ? AND ended_at IS NULL",
        (volume,),
    ).fetchone()
    taken_at = now
    if row is None or row[2] <= now:
        if row is not None:
            end(connection, row[0], "expired", now)
        lease = take(
            connection, volume, holder, "named", signature, number, lease_s, False, now, purpose
        )
    elif row[1] == holder.key and not holder.anonymous:
        lease, taken_at = row[0], row[3]
        connection.execute(
            "UPDATE lease SET expires_at = ?, purpose = ? WHERE id = ?",
            (now + lease_s, purpose, lease),
        )
    else:
        return None
    return Lease(lease, name, holder.key, holder.anonymous, taken_at, now + lease_s)


def release(connection: sqlite3.Connection, name: str, holder: Holder, now: float) -> bool:
    """Give a volume back without submitting; False where the holder does not hold it."""
    row = connection.execute(
        "SELECT id FROM lease WHERE volume = ? AND holder = ? AND ended_at IS NULL",
        (volume_id(connection, name), holder.key),
    ).fetchone()
    if row is None:
        return False
    end(connection, row[0], "released", now)
    return True


def purpose(connection: sqlite3.Connection, name: str, now: float) -> str | None:
    """What a volume is held for now, None where nobody holds it."""
    row = connection.execute(
        "SELECT l.purpose FROM volume v JOIN lease l ON l.id = v.lease"
        " WHERE v.name = ? AND l.expires_at > ?",
        (name, now),
    ).fetchone()
    return None if row is None else str(row[0])


def running(connection: sqlite3.Connection, now: float) -> list[Lease]:
    """Leases that have not ended, oldest first."""
    rows = connection.execute(
        "SELECT l.id, v.name, l.holder, l.anonymous, l.taken_at, l.expires_at"
        " FROM lease l JOIN volume v ON v.id = l.volume"
        " WHERE l.ended_at IS NULL AND l.expires_at > ? ORDER BY l.taken_at, l.id",
        (now,),
    )
    return [Lease(i, v, h, bool(a), t, e) for i, v, h, a, t, e in rows]
