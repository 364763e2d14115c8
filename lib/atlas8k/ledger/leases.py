"""Who holds which volume: picked and written in one transaction.

A volume is one holder's until submitted, skipped (the holder asks again) or expired. Of
skipped volumes the holder gets others first; everybody else gets them at once.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import cast, get_args

from atlas8k.errors import LedgerError
from atlas8k.ledger import ranking, rounds
from atlas8k.ledger.records import Holder, Lease, Sample, Strategy
from atlas8k.ledger.volumes import volume_id

_SKIPS_REMEMBERED = 2000  # a holder; each is stepped over at every pick, half a microsecond
_EXPIRE_AT_ONCE = 50  # bounds the time of one request after a night with many open leases


@dataclass(frozen=True)
class Wish:
    """What the next sample shall be; `signature` is the row to rank by, None for unscored."""

    strategy: Strategy
    holder: Holder
    signature: int | None
    organ: int = 0
    source: str | None = None


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
    if not wish.holder.anonymous:
        _skip_held(connection, wish.holder, now, skip_s)
    if wish.signature is not None:
        ranking.revive(connection, wish.signature)
    while True:
        expired = expire(connection, now, _EXPIRE_AT_ONCE)
        picked = _pick(connection, wish)
        if picked is not None:
            volume, skipped_before = picked
            return _give(connection, wish, volume, skipped_before, lease_s, budget, now)
        if expired < _EXPIRE_AT_ONCE:
            return None


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


def _skip_held(connection: sqlite3.Connection, holder: Holder, now: float, skip_s: float) -> None:
    rows = connection.execute(
        "SELECT id, volume FROM lease WHERE holder = ? AND ended_at IS NULL AND expires_at > ?",
        (holder.key, now),
    ).fetchall()
    for lease, volume in rows:
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


_NOT_SKIPPED = "NOT EXISTS (SELECT 1 FROM skip k WHERE k.holder = :holder AND k.volume = {volume})"
_SCORED = {  # by whether a source is asked for
    False: "queue q INDEXED BY queue_order WHERE q.signature = :signature AND q.organ = :organ",
    True: "queue q INDEXED BY queue_source WHERE q.signature = :signature AND q.organ = 0"
    " AND q.source = :source",
}
_SCORED_ORDER = "ORDER BY q.ml DESC, q.volume LIMIT 1"
_ANY_ORDER = {"first": "v.name", "random": "v.shuffle, v.id"}
_ANY_INDEX = {
    ("first", False): "volume_first",
    ("first", True): "volume_source_first",
    ("random", False): "volume_random",
    ("random", True): "volume_source_random",
}


def _pick(connection: sqlite3.Connection, wish: Wish) -> tuple[int, bool] | None:
    """The volume and whether this holder had skipped it.

    Scored before unscored; among each, those not skipped first, then the longest skipped.
    """
    values = {
        "holder": wish.holder.key,
        "signature": wish.signature,
        "organ": wish.organ,
        "source": wish.source,
    }
    queries: list[tuple[str, bool]] = []
    if wish.strategy == "attention" and wish.signature is not None:
        queries += _scored_queries(wish)
    queries += _any_queries("random" if wish.strategy == "random" else "first", wish)
    for query, skipped_before in queries:
        row = connection.execute(query, values).fetchone()
        if row is not None:
            return int(row[0]), skipped_before
    return None


def _scored_queries(wish: Wish) -> list[tuple[str, bool]]:
    table = _SCORED[wish.source is not None and wish.organ == 0]
    if wish.source is not None and wish.organ:
        table += " AND q.source = :source"
    skipped = (
        "SELECT q.volume FROM skip k CROSS JOIN queue q ON q.volume = k.volume"
        " AND q.signature = :signature AND q.organ = :organ"
        " WHERE k.holder = :holder AND (:source IS NULL OR q.source = :source)"
        " ORDER BY k.skipped_at, k.volume LIMIT 1"
    )
    fresh = f"SELECT q.volume FROM {table} AND {_NOT_SKIPPED.format(volume='q.volume')}"
    return [(f"{fresh} {_SCORED_ORDER}", False), (skipped, True)]


def _any_queries(order: str, wish: Wish) -> list[tuple[str, bool]]:
    by_source = wish.source is not None
    open_ones = "v.available = 1 AND v.failed = 0"
    fresh = (
        f"SELECT v.id FROM volume v INDEXED BY {_ANY_INDEX[order, by_source]}"
        f" WHERE {open_ones} {'AND v.source = :source' if by_source else ''}"
        f" AND {_NOT_SKIPPED.format(volume='v.id')} ORDER BY {_ANY_ORDER[order]} LIMIT 1"
    )
    skipped = (
        "SELECT v.id FROM skip k CROSS JOIN volume v ON v.id = k.volume"
        f" WHERE k.holder = :holder AND {open_ones} AND (:source IS NULL OR v.source = :source)"
        " ORDER BY k.skipped_at, k.volume LIMIT 1"
    )
    return [(fresh, False), (skipped, True)]


def _give(
    connection: sqlite3.Connection,
    wish: Wish,
    volume: int,
    skipped_before: bool,
    lease_s: float,
    budget: float,
    now: float,
) -> Sample:
    number = rounds.ensure(connection, wish.signature, budget, now)
    purse = rounds.budget(connection, number)
    over = purse.reviewed >= purse.total
    name, base = connection.execute(
        "SELECT name, base_submission FROM volume WHERE id = ?", (volume,)
    ).fetchone()
    lease = take(
        connection, volume, wish.holder, wish.strategy, wish.signature, number, lease_s, over, now
    )
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
    return Sample(
        volume=name,
        strategy=wish.strategy,
        lease=lease,
        expires_at=now + lease_s,
        signature=signature,
        attention_ml=size[0] if size else None,
        rank=ranking.rank(connection, volume, wish.signature) if scored else None,  # type: ignore[arg-type]
        ranked=ranked,
        organs=ranking.organs_in_order(connection, volume, wish.signature) if scored else (),  # type: ignore[arg-type]
        round=number,
        budget=purse.total,
        budget_left=purse.left,
        over_budget=over,
        unscored=not scored,
        skipped_before=skipped_before,
        base_submission=base,
        anonymous=wish.holder.anonymous,
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
) -> int:
    """Write a lease on a volume that nobody holds."""
    cursor = connection.execute(
        "INSERT INTO lease (volume, holder, anonymous, strategy, signature, round, taken_at,"
        " expires_at, over_budget, base_submission) VALUES (?,?,?,?,?,?,?,?,?,"
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
            volume,
        ),
    )
    lease = cast(int, cursor.lastrowid)
    connection.execute("UPDATE volume SET lease = ? WHERE id = ?", (lease, volume))
    return lease


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


def running(connection: sqlite3.Connection, now: float) -> list[Lease]:
    """Leases that have not ended, oldest first."""
    rows = connection.execute(
        "SELECT l.id, v.name, l.holder, l.anonymous, l.taken_at, l.expires_at"
        " FROM lease l JOIN volume v ON v.id = l.volume"
        " WHERE l.ended_at IS NULL AND l.expires_at > ? ORDER BY l.taken_at, l.id",
        (now,),
    )
    return [Lease(i, v, h, bool(a), t, e) for i, v, h, a, t, e in rows]
