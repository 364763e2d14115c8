"""The priority list of a round as it was drawn, and the low-ranked volumes that are audited.

A list is drawn once in a round, when the networks that it is ranked by have scored every
volume: what nobody has submitted by then, in order. The first places are the budget's. Of
those behind, a share is drawn for audit, by a hash of a seed that the ledger keeps, the
round and the volume's name: it cannot be foreseen from the list, and is the same for every
process.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3

from atlas8k.errors import LedgerError
from atlas8k.ledger import rankings, rounds
from atlas8k.ledger.picking import Wish
from atlas8k.ledger.records_campaign import CampaignSettings, Plan, Planned
from atlas8k.ledger.volumes import STATUS_SQL

PERCENT, STOP, SEED = "audit_percent", "stop_after", "audit_seed"
USUAL_PERCENT, USUAL_STOP = 1.0, 10


def _setting(connection: sqlite3.Connection, key: str) -> str | None:
    row = connection.execute("SELECT value FROM setting WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def _set(connection: sqlite3.Connection, key: str, value: object) -> None:
    connection.execute("INSERT OR REPLACE INTO setting VALUES (?,?)", (key, str(value)))


def settings(connection: sqlite3.Connection) -> CampaignSettings:
    """What was set last; without any, no audits are drawn."""
    percent, stop = _setting(connection, PERCENT), _setting(connection, STOP)
    return CampaignSettings(
        0.0 if percent is None else float(percent), USUAL_STOP if stop is None else int(stop)
    )


def choose(
    connection: sqlite3.Connection, audit_percent: float | None, stop_after: int | None
) -> None:
    """Set what is given; audits change with the next list that is drawn.

    Raises
    ------
    LedgerError
        Out of bounds.
    """
    if audit_percent is not None:
        if not 0 <= audit_percent <= 100:
            raise LedgerError(f"audit_percent {audit_percent}: from 0 to 100 is needed")
        _set(connection, PERCENT, float(audit_percent))
    if stop_after is not None:
        if stop_after < 1:
            raise LedgerError(f"stop_after {stop_after}: 1 or more is needed")
        _set(connection, STOP, int(stop_after))


def ensure(connection: sqlite3.Connection, number: int, signature: int | None, now: float) -> bool:
    """Draw the list of a round, unless there is one or its scores are not complete yet.

    Parameters
    ----------
    signature
        Row of the signature that is served and ranked by. Until it has scored everything,
        volumes are given out by the list of the one before, which is not this round's.
    """
    if signature is None or exists(connection, number):
        return False
    complete = connection.execute(
        "SELECT completed_at IS NOT NULL FROM signature WHERE id = ?", (signature,)
    ).fetchone()[0]
    if not complete:
        return False
    lines = connection.execute(
        "SELECT v.id, v.name, r.rank_ml FROM result r CROSS JOIN volume v ON v.id = r.volume"
        " WHERE r.signature = ? AND r.counted = 1 AND r.rank_ml IS NOT NULL"
        " AND v.status = 'open' AND NOT EXISTS"
        " (SELECT 1 FROM submission p WHERE p.volume = v.id AND p.round = ?)"
        " ORDER BY r.bucket DESC, r.rank_ml DESC, r.volume",
        (signature, number),
    ).fetchall()
    if not lines:
        return False
    _write(connection, number, signature, lines, now)
    return True


def exists(connection: sqlite3.Connection, number: int) -> bool:
    """Whether a round has a list."""
    row = connection.execute("SELECT 1 FROM plan WHERE round = ?", (number,)).fetchone()
    return row is not None


def _write(
    connection: sqlite3.Connection,
    number: int,
    signature: int,
    lines: list[tuple[int, str, float]],
    now: float,
) -> None:
    seed = _setting(connection, SEED)
    if seed is None:
        seed = secrets.token_hex(8)
        _set(connection, SEED, seed)
    percent = settings(connection).audit_percent
    budget = rounds.budget(connection, number)
    top = min(len(lines), max(1, budget.left))
    names = [name for _, name, _ in lines]
    audits = drawn(names[top:], percent, seed, number)
    order = {name: place for place, name in enumerate(audits, start=1)}
    connection.execute(
        "INSERT INTO plan (round, signature, ranking, drawn_at, top, reviewed, audit_percent,"
        " seed, audits) VALUES (?,?,?,?,?,?,?,?,?)",
        (
            number,
            signature,
            rankings.in_force(connection),
            now,
            top,
            budget.reviewed,
            percent,
            seed,
            len(audits),
        ),
    )
    connection.executemany(
        "INSERT INTO plan_volume VALUES (?,?,?,?,?)",
        [
            (number, place, volume, ml, order.get(name))
            for place, (volume, name, ml) in enumerate(lines, start=1)
        ],
    )


def drawn(names: list[str], percent: float, seed: str, number: int) -> list[str]:
    """So many per cent of `names`, to the nearest, in an order that is a hash's."""
    count = int(len(names) * percent / 100 + 0.5)
    return sorted(names, key=lambda name: _hashed(seed, number, name))[:count]


def _hashed(seed: str, number: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed} {number} {name}".encode()).digest()


def to_audit(
    connection: sqlite3.Connection, wish: Wish, budget: float, now: float
) -> tuple[int, bool] | None:
    """A low-ranked volume for who asks for the next one by attention, where it is its turn.

    In the form of :func:`~atlas8k.ledger.picking.pick`.
    """
    if wish.strategy != "attention" or wish.organ or wish.signature is None:
        return None
    number = rounds.ensure(connection, wish.signature, budget, now)
    if wish.own:
        ensure(connection, number, wish.signature, now)
    volume = audit_due(connection, number, wish)
    return None if volume is None else (volume, False)


def audit_due(connection: sqlite3.Connection, number: int, wish: Wish) -> int | None:
    """The volume to audit now, None where it is not an audit's turn.

    Audits come in step with the budget's volumes: after half of those, half of the audits
    have been given out. One that somebody has skipped, or that has an offer or a lease,
    waits; the next one comes in its place.
    """
    row = connection.execute(
        "SELECT p.top, p.audits, r.reviewed - r.audited - p.reviewed, r.audited FROM plan p"
        " JOIN round r ON r.id = p.round WHERE p.round = ?",
        (number,),
    ).fetchone()
    if row is None or not row[1]:
        return None
    top, audits, reviewed, audited = row
    due = min(audits, audits * reviewed // top)
    if audited >= due:
        return None
    held = connection.execute(
        "SELECT count(*) FROM plan_volume a JOIN volume v ON v.id = a.volume"
        " WHERE a.round = ? AND a.audit IS NOT NULL AND v.lease IS NOT NULL"
        " AND v.status = 'open'",
        (number,),
    ).fetchone()[0]
    if audited + held >= due:
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


def is_audit(connection: sqlite3.Connection, number: int, volume: int) -> bool:
    """Whether a volume was drawn for audit in a round."""
    row = connection.execute(
        "SELECT 1 FROM plan_volume WHERE round = ? AND volume = ? AND audit IS NOT NULL",
        (number, volume),
    ).fetchone()
    return row is not None


def get(connection: sqlite3.Connection, number: int) -> Plan | None:
    """The list of a round, None where none was drawn."""
    row: tuple[int, str, str, float, int, float, str, int] | None = connection.execute(
        "SELECT p.round, s.name, p.ranking, p.drawn_at, p.top, p.audit_percent, p.seed, p.audits"
        " FROM plan p JOIN signature s ON s.id = p.signature WHERE p.round = ?",
        (number,),
    ).fetchone()
    if row is None:
        return None
    lines = connection.execute(
        f"SELECT a.place, v.name, a.ml, a.audit, {STATUS_SQL} FROM plan_volume a"
        " CROSS JOIN volume v ON v.id = a.volume WHERE a.round = ? ORDER BY a.place",
        (number,),
    )
    return Plan(*row, lines=tuple(Planned(*line) for line in lines))
