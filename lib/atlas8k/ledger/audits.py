"""Low-ranked volumes that are given out all the same: drawn by a hash, in step with the budget's.

The hash is of a seed that the ledger keeps, the round and the volume's name: it cannot be
foreseen from the list, and is the same for every process.
"""

from __future__ import annotations

import hashlib
import math
import sqlite3

from atlas8k.ledger.picking import Wish


def drawn(names: list[str], percent: float, seed: str, number: int) -> list[str]:
    """So many per cent of `names`, in an order that is a hash's.

    Rounded up: where audits are wanted and there is anything to audit, one is drawn at least,
    and nothing would be known without.
    """
    # 0.29 * 100 is 28.999..., and 7 * 100 / 100 may come out above 7.
    count = math.ceil(len(names) * percent / 100 - 1e-9)
    return sorted(names, key=lambda name: _hashed(seed, number, name))[:count]


def _hashed(seed: str, number: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed} {number} {name}".encode()).digest()


def due(connection: sqlite3.Connection, number: int, wish: Wish) -> int | None:
    """The volume to audit now for who asks for the next one by attention; None: not its turn.

    Audits come in step with the budget's volumes and a little ahead of them: the last one has
    its turn before the budget is used, since the round may end then. One that somebody has
    skipped, or that has an offer or a lease, waits; the next one comes in its place.
    """
    if wish.strategy != "attention" or wish.organ:
        return None
    row = connection.execute(
        "SELECT p.top, p.audits, r.reviewed - r.audited - p.reviewed, r.audited FROM plan p"
        " JOIN round r ON r.id = p.round WHERE p.round = ?",
        (number,),
    ).fetchone()
    if row is None or not row[1]:
        return None
    top, audits, reviewed, audited = row
    turn = min(audits, -(-audits * reviewed // top))
    if audited >= turn:
        return None
    held = connection.execute(
        "SELECT count(*) FROM plan_volume a JOIN volume v ON v.id = a.volume"
        " WHERE a.round = ? AND a.audit IS NOT NULL AND v.lease IS NOT NULL"
        " AND v.status = 'open'",
        (number,),
    ).fetchone()[0]
    if audited + held >= turn:
        return None
    found = connection.execute(
        "SELECT a.volume FROM plan_volume a CROSS JOIN volume v ON v.id = a.volume"
        " WHERE a.round = :round AND a.audit IS NOT NULL AND v.available = 1 AND v.failed = 0"
        " AND (:source IS NULL OR v.source = :source)"
        " AND NOT EXISTS (SELECT 1 FROM offer o WHERE o.volume = a.volume)"
        " AND NOT EXISTS (SELECT 1 FROM skip k WHERE k.holder = :holder AND k.volume = a.volume)"
        " ORDER BY a.audit LIMIT 1",
        {"round": number, "source": wish.source, "holder": wish.holder.key},
    ).fetchone()
    return None if found is None else int(found[0])


def is_drawn(connection: sqlite3.Connection, number: int, volume: int) -> bool:
    """Whether a volume was drawn for audit in a round."""
    row = connection.execute(
        "SELECT 1 FROM plan_volume WHERE round = ? AND volume = ? AND audit IS NOT NULL",
        (number, volume),
    ).fetchone()
    return row is not None
