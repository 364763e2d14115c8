"""The priority list of a round as it was drawn.

A list is drawn once in a round, when the networks that it is ranked by have scored every
volume: what nobody has submitted by then, in the order of the ranking or drawn otherwise
(:mod:`atlas8k.core.selection`). The first places are the budget's, however
much was reviewed before there was a list. Of those behind, a share is drawn for audit, to see
what errors are left there: by a hash of a seed that the ledger keeps, the round and the
volume's name, which cannot be foreseen from the list and is the same for every process.
"""

from __future__ import annotations

import hashlib
import math

from atlas8k.core.selection import Selection
from atlas8k.store import gold, ranking, rounds, selections, volumes
from atlas8k.store.records import Plan, Planned
from atlas8k.store.transaction import Transaction

REORDERED = "the order of the list was changed"


def begin_round(tx: Transaction, model_version: str) -> tuple[int, bool]:
    """Open a round, where none is, and draw its list, where its scores are complete.

    Returns
    -------
    number, drawn
        The open round, and whether it has a list now.
    """
    row = ranking.model_version_row(tx, model_version)
    own = ranking.ranking_model_version(tx, model_version) == model_version
    number = ensure(tx, row) if own else rounds.ensure(tx, row)
    return number, tx.exists("SELECT 1 FROM plan WHERE round = ?", number)


def ensure(tx: Transaction, model_version_row: int) -> int:
    """Return the open round, with its list where that can be drawn by now.

    A list stays as it was drawn while the order that it was drawn by is current. Where
    volumes are given out in another one (another ranking was chosen, other attention
    settings or earlier networks are served), the round ends and the next one's list is in
    that order; a list by which nothing was submitted yet is just drawn anew.

    Parameters
    ----------
    model_version_row
        Of the model version that is served. Until it has scored everything, volumes are
        given out by the list of the one before, which is not this round's.
    """
    number = rounds.ensure(tx, model_version_row)
    before = tx.find(
        "SELECT p.model_version, p.ranking, p.selection, r.audited OR r.reviewed > p.reviewed"
        " FROM plan p JOIN round r ON r.id = p.round WHERE r.id = ?",
        number,
    )
    selection = selections.current(tx)
    if before is not None and before[:3] == (model_version_row, ranking.current(tx), selection):
        return number
    once, scored = tx.one(
        "SELECT s.completed_at IS NOT NULL, count(r.volume) FROM model_version s"
        " LEFT JOIN result r ON r.model_version = s.id AND r.counted = 1 WHERE s.id = ?",
        model_version_row,
    )
    # Once all volumes were scored, one that appears later does not hold up the first list of a
    # round. A list that is there is replaced only when every volume has a score by the new
    # ranking.
    if not once or (before is not None and scored < volumes.counted(tx)):
        return number
    lines = selections.lines(tx, number, model_version_row)
    if not lines:
        return number
    if before is not None:
        if before[3]:  # something was reviewed by it
            rounds.close(tx, {"note": REORDERED})
            number = rounds.open_round(tx, model_version_row)
            lines = selections.lines(tx, number, model_version_row)
        else:
            for table in ("selected", "plan_volume", "plan"):
                tx.run(f"DELETE FROM {table} WHERE round = ?", number)
    _draw(tx, number, model_version_row, selection, lines)
    return number


def _draw(
    tx: Transaction,
    number: int,
    model_version_row: int,
    selection: Selection,
    lines: list[selections.Line],
) -> None:
    seed = selections.seed(tx)
    lines = selections.in_order(tx, lines, selection, number, model_version_row)
    percent, stop_after = rounds.campaign_settings(tx)
    budget = rounds.budget_of(tx, number)
    top = min(len(lines), budget.total)
    audits = drawn([name for _, name, _ in lines[top:]], percent, seed, number)
    order = {name: place for place, name in enumerate(audits, start=1)}
    tx.insert(
        "plan",
        round=number,
        model_version=model_version_row,
        ranking=ranking.current(tx),
        drawn_at=tx.now,
        top=top,
        reviewed=budget.reviewed,
        audit_percent=percent,
        seed=seed,
        audits=len(audits),
        stop_after=stop_after,
        selection=selection,
    )
    tx.connection.executemany(
        "INSERT INTO plan_volume VALUES (?,?,?,?,?)",
        [
            (number, place, row, ml, order.get(name))
            for place, (row, name, ml) in enumerate(lines, start=1)
        ],
    )


def drawn(names: list[str], percent: float, seed: str, number: int) -> list[str]:
    """Return so many per cent of `names`, in an order that is a hash's.

    Rounded up: where audits are wanted and there is anything to audit, one is drawn at least,
    and nothing would be known without.
    """
    # 0.29 * 100 is 28.999..., and 7 * 100 / 100 may come out above 7.
    count = math.ceil(len(names) * percent / 100 - 1e-9)

    def place(name: str) -> bytes:
        return hashlib.sha256(f"{seed} {number} {name}".encode()).digest()

    return sorted(names, key=place)[:count]


def is_audit(tx: Transaction, number: int, row: int, lease: int | None) -> bool:
    """Return whether a volume was drawn for audit in a round, or came as one, a gold case."""
    return tx.exists(
        "SELECT 1 FROM plan_volume WHERE round = ? AND volume = ? AND audit IS NOT NULL"
        " UNION ALL SELECT 1 FROM lease WHERE id = ? AND strategy = 'audit'",
        *(number, row, lease),
    )


def next_audit(tx: Transaction, number: int, holder: str, source: str | None) -> int | None:
    """Return the volume to audit now for who asks for the next one; None: not its turn.

    Audits come in step with the budget's volumes and a little ahead of them: the last one has
    its turn before the budget is used, since the round may end then. One that somebody has
    skipped, or that has an offer or a lease, waits; the next one comes in its place.
    """
    plan = tx.find(
        "SELECT p.top, p.audits, r.reviewed - r.audited - p.reviewed,"
        # Of those that were drawn: a gold case that came as an audit is none.
        " (SELECT count(*) FROM plan_volume a WHERE a.round = p.round AND a.audit IS NOT NULL"
        "  AND EXISTS (SELECT 1 FROM submission q WHERE q.volume = a.volume AND q.round = p.round"
        "  AND q.purpose = 'revise')),"
        " (SELECT count(*) FROM lease l CROSS JOIN volume v ON v.id = l.volume"
        "  CROSS JOIN plan_volume a ON a.round = p.round AND a.volume = l.volume"
        "  WHERE l.ended_at IS NULL AND v.status = 'open' AND a.audit IS NOT NULL)"
        " FROM plan p JOIN round r ON r.id = p.round WHERE p.round = ?",
        number,
    )
    if plan is None:
        return None
    top, audits, reviewed, audited, held = plan
    if not audits or audited + held >= min(audits, -(-audits * reviewed // top)):
        return None
    row: int | None = tx.value(
        "SELECT a.volume FROM plan_volume a CROSS JOIN volume v ON v.id = a.volume"
        " WHERE a.round = ?1 AND a.audit IS NOT NULL AND v.available = 1 AND v.failed = 0"
        f" AND (?2 IS NULL OR v.source = ?2) AND NOT {gold.READ.format('?3')}"
        " AND NOT EXISTS (SELECT 1 FROM offer o WHERE o.volume = a.volume)"
        " AND NOT EXISTS (SELECT 1 FROM skip k WHERE k.holder = ?3 AND k.volume = a.volume)"
        " ORDER BY a.audit LIMIT 1",
        *(number, source, holder),
    )
    return row


def get(tx: Transaction, number: int) -> Plan | None:
    """Return the list of a round as it was drawn, None where none was."""
    plan = tx.find(
        "SELECT p.round, s.name, p.ranking, p.drawn_at, p.top, p.audit_percent, p.seed, p.audits,"
        " p.reviewed, p.stop_after, p.selection"
        " FROM plan p JOIN model_version s ON s.id = p.model_version WHERE p.round = ?",
        number,
    )
    if plan is None:
        return None
    lines = tx.run(
        "SELECT a.place, v.name, a.ml, a.audit,"
        # Not given out as long as it cannot be predicted.
        " CASE WHEN v.available AND v.failed THEN 'failed' ELSE"
        f" {volumes.STATUS_SQL} END"
        " FROM plan_volume a CROSS JOIN volume v ON v.id = a.volume WHERE a.round = ?"
        " ORDER BY a.place",
        number,
    )
    *fields, selection = plan
    return Plan(*fields, tuple(map(Planned._make, lines)), selection)  # type: ignore[call-arg]
