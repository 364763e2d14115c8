"""The priority list of a round as it was drawn.

A list is drawn once in a round, when the networks that it is ranked by have scored every
volume: what nobody has submitted by then, in order. The first places are the budget's, however
much was reviewed before there was a list; of those behind, a share is drawn for audit, see
:mod:`atlas8k.ledger.audits`.
"""

from __future__ import annotations

import secrets
import sqlite3

from atlas8k.ledger import audits, campaign_settings, rankings, rounds
from atlas8k.ledger.records_campaign import Plan, Planned
from atlas8k.ledger.volumes import STATUS_SQL

SEED = "audit_seed"
REORDERED = "the order of the list was changed"

Lines = list[tuple[int, str, float]]
"""Row, name and figure of the ranking of each volume, largest first."""


def keep(connection: sqlite3.Connection, signature: int, budget: float, now: float) -> int:
    """The open round, with its list where that can be drawn by now.

    A list stays as it was drawn while the order that it was drawn by is in force. Where
    volumes are given out in another one (another ranking was chosen, other attention
    settings or earlier networks are served), the round ends and the next one's list is in
    that order; a list by which nothing was submitted yet is just drawn anew.

    Parameters
    ----------
    signature
        Row of the signature that is served. Until it has scored everything, volumes are
        given out by the list of the one before, which is not this round's.
    """
    number = rounds.ensure(connection, signature, budget, now)
    before = connection.execute(
        "SELECT signature, ranking FROM plan WHERE round = ?", (number,)
    ).fetchone()
    if before == (signature, rankings.in_force(connection)):
        return number
    if not _complete(connection, signature, now=before is not None):
        return number
    lines = _lines(connection, number, signature)
    if not lines:
        return number
    if before is not None:
        if _worked_by(connection, number):
            rounds.close(connection, {"note": REORDERED}, now)
            number = rounds.open_round(connection, signature, budget, now)
            lines = _lines(connection, number, signature)
        else:
            connection.execute("DELETE FROM plan_volume WHERE round = ?", (number,))
            connection.execute("DELETE FROM plan WHERE round = ?", (number,))
    _write(connection, number, signature, lines, now)
    return number


def exists(connection: sqlite3.Connection, number: int) -> bool:
    """Whether a round has a list."""
    row = connection.execute("SELECT 1 FROM plan WHERE round = ?", (number,)).fetchone()
    return row is not None


def _complete(connection: sqlite3.Connection, signature: int, *, now: bool) -> bool:
    """Whether everything was scored once; `now`: and nothing is stale.

    A volume that appears later does not hold a first list up. But another ranking may need
    scores anew, and a list is not given up for half of one.
    """
    row = connection.execute(
        "SELECT completed_at IS NOT NULL, scored + failed >= (SELECT counted FROM tally)"
        " FROM signature WHERE id = ?",
        (signature,),
    ).fetchone()
    return bool(row[0] and (row[1] or not now))


def _lines(connection: sqlite3.Connection, number: int, signature: int) -> Lines:
    return connection.execute(
        "SELECT v.id, v.name, r.rank_ml FROM result r CROSS JOIN volume v ON v.id = r.volume"
        " WHERE r.signature = ? AND r.counted = 1 AND r.rank_ml IS NOT NULL"
        " AND v.status = 'open' AND NOT EXISTS"
        " (SELECT 1 FROM submission p WHERE p.volume = v.id AND p.round = ?)"
        " ORDER BY r.bucket DESC, r.rank_ml DESC, r.volume",
        (signature, number),
    ).fetchall()


def _worked_by(connection: sqlite3.Connection, number: int) -> bool:
    """Whether anything was reviewed in a round since its list was drawn."""
    row = connection.execute(
        "SELECT r.audited OR r.reviewed > p.reviewed FROM round r JOIN plan p ON p.round = r.id"
        " WHERE r.id = ?",
        (number,),
    ).fetchone()
    return bool(row[0])


def _write(
    connection: sqlite3.Connection, number: int, signature: int, lines: Lines, now: float
) -> None:
    seed = campaign_settings.get(connection, SEED)
    if seed is None:
        seed = secrets.token_hex(8)
        campaign_settings.put(connection, SEED, seed)
    percent, stop_after = campaign_settings.settings(connection)
    budget = rounds.budget(connection, number)
    top = min(len(lines), budget.total)
    names = [name for _, name, _ in lines]
    chosen = audits.drawn(names[top:], percent, seed, number)
    order = {name: place for place, name in enumerate(chosen, start=1)}
    connection.execute(
        "INSERT INTO plan (round, signature, ranking, drawn_at, top, reviewed, audit_percent,"
        " seed, audits, stop_after) VALUES (?,?,?,?,?,?,?,?,?,?)",
        (
            number,
            signature,
            rankings.in_force(connection),
            now,
            top,
            budget.reviewed,
            percent,
            seed,
            len(chosen),
            stop_after,
        ),
    )
    connection.executemany(
        "INSERT INTO plan_volume VALUES (?,?,?,?,?)",
        [
            (number, place, volume, ml, order.get(name))
            for place, (volume, name, ml) in enumerate(lines, start=1)
        ],
    )


def get(connection: sqlite3.Connection, number: int) -> Plan | None:
    """The list of a round, None where none was drawn."""
    row: tuple[int, str, str, float, int, float, str, int, int, int] | None = connection.execute(
        "SELECT p.round, s.name, p.ranking, p.drawn_at, p.top, p.audit_percent, p.seed, p.audits,"
        " p.reviewed, p.stop_after"
        " FROM plan p JOIN signature s ON s.id = p.signature WHERE p.round = ?",
        (number,),
    ).fetchone()
    if row is None:
        return None
    lines = connection.execute(
        "SELECT a.place, v.name, a.ml, a.audit,"
        # Not given out as long as it cannot be predicted.
        f" CASE WHEN v.available AND v.failed THEN 'failed' ELSE {STATUS_SQL} END"
        " FROM plan_volume a CROSS JOIN volume v ON v.id = a.volume WHERE a.round = ?"
        " ORDER BY a.place",
        (number,),
    )
    return Plan(*row, lines=tuple(Planned(*line) for line in lines))
