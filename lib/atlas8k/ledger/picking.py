"""Which volume is next: one look-up in an index, past what its holder has skipped."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from atlas8k.ledger.records import Holder, Strategy


@dataclass(frozen=True)
class Wish:
    """What the next sample shall be; `signature` is the row to rank by, None for unscored.

    ``own`` says that it is the one that is served, not one before it; ``looked_at`` is ``all``
    where the holder says that every organ will be looked at.
    """

    strategy: Strategy
    holder: Holder
    signature: int | None
    organ: int = 0
    source: str | None = None
    own: bool = False
    looked_at: str | None = None


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


def pick(connection: sqlite3.Connection, wish: Wish) -> tuple[int, bool] | None:
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
