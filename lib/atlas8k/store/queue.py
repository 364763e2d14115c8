"""Which volume is next: picked and leased in one transaction.

What is offered comes first, then audits that are due, then gold cases that are, then the order
that was asked for. Of skipped volumes the holder gets others first; everybody else gets them at
once.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple, get_args

from atlas8k.core.errors import LedgerError
from atlas8k.core.selection import DRAWN, RANKING
from atlas8k.store import gold, leases, plans, ranking, reviews, rounds, selections
from atlas8k.store.records import Holder, OrganAttention, Sample, Strategy
from atlas8k.store.transaction import Transaction


def next_sample(
    tx: Transaction,
    *,
    holder: Holder,
    strategy: Strategy = "attention",
    model_version: str | None = None,
    organ: str | None = None,
    source: str | None = None,
    looked_at: str | None = None,
    kept: float = 0.0,
    gold_percent: float = 0.0,
) -> Sample | None:
    """Lease the next volume to `holder`; None when nothing is left to give.

    Parameters
    ----------
    holder
        Asking again without submitting skips what it holds, unless it is anonymous.
    strategy
        ``attention``: the first of the list, in the order that it was drawn in; ``first``: by
        name; ``random``: in an order drawn once; ``random_foreground``, ``stratified``: by
        that selection (:mod:`atlas8k.core.selection`), whatever the list was drawn by. Until
        the round has its list, these three are by the ranking.
    model_version
        The served model version. Ranked by it once complete, see :func:`ranking_model_version`;
        the reply says which was used.
    organ
        Rank by this organ's attention size alone.
    source
        Only volumes of this source dataset.
    looked_at
        ``all``: the holder says that every organ of it will be looked at, so that those
        that come back unchanged are right.
    kept
        Part of the budget's places, from the first on, that are for others than this holder.
    gold_percent
        So many of this holder's samples are gold cases, unless it is anonymous; see
        :mod:`~atlas8k.store.gold`.
    """
    organ_id = None if organ is None else ranking.organ_id(organ)
    if strategy not in get_args(Strategy):
        raise LedgerError(
            f"{strategy}: no such strategy; there are {', '.join(get_args(Strategy))}"
        )
    given_back, number = _skip_held(tx, holder), None
    used = None if model_version is None else ranking.ranking_model_version(tx, model_version)
    s = None if used is None else ranking.model_version_row(tx, used)
    if s is not None:
        # However samples are asked for: the round needs its list.
        number = plans.ensure(tx, s) if used == model_version else rounds.ensure(tx, s)
    leases.expire(tx)
    row, skipped, audit = leases.offered(tx, holder.key, source, skipped=False), False, False
    if row is None and number is not None and strategy == "attention" and organ is None:
        row = plans.next_audit(tx, number, holder.key, source)
        audit = row is not None
    listed: str = RANKING
    purpose: str | None = None
    if row is None:
        order = None if organ is not None else _order(tx, strategy, number, s)
        if order is not None:
            listed = order.selection
        elif strategy in DRAWN:
            strategy = "attention"
        row, skipped = _first(tx, holder.key, strategy, s, organ_id, source, order, kept)
        if not holder.anonymous and gold.is_due(tx, holder.key, gold_percent):
            known = gold.next_volume(tx, holder.key, source, row, s)
            if known is not None:
                (row, purpose), skipped = known, False
                usual = strategy == "attention" and organ is None
                audit = usual and gold.looks_like_audit(tx, row, number)
    if row is None or skipped:
        again = leases.offered(tx, holder.key, source, skipped=True)
        row, skipped = (row, skipped) if again is None else (again, True)
    if row is None:
        return None
    sample = _give(tx, row, holder, "audit" if audit else strategy, s, looked_at, purpose)
    return replace(sample, skipped_before=skipped, given_back=given_back, selection=listed)


def next_review(
    tx: Transaction,
    *,
    holder: Holder,
    model_version: str | None = None,
    looked_at: str | None = None,
) -> Sample | None:
    """Lease the volume that has waited longest for a reviewer; None when none waits.

    `looked_at` is as in :func:`next_sample`.
    """
    given_back = _skip_held(tx, holder)
    used = None if model_version is None else ranking.ranking_model_version(tx, model_version)
    s = None if used is None else ranking.model_version_row(tx, used)
    leases.expire(tx)
    found = reviews.next_volume(tx, holder.key)
    if found is None:
        return None
    sample = _give(tx, found[0], holder, "review", s, looked_at)
    return replace(sample, skipped_before=found[1], given_back=given_back)


def _skip_held(tx: Transaction, holder: Holder) -> tuple[str, ...]:
    """Take back what a holder has and did not submit; returns the names of these volumes."""
    tx.run("DELETE FROM skip WHERE until <= ?", tx.now)
    if holder.anonymous:
        return ()
    held = tx.run(
        "SELECT l.id, l.volume, v.name FROM lease l JOIN volume v ON v.id = l.volume"
        " WHERE l.holder = ? AND l.ended_at IS NULL AND l.expires_at > ? ORDER BY l.id",
        holder.key,
        tx.now,
    ).fetchall()
    for lease, row, _ in held:
        leases.end(tx, lease, "skipped")
        tx.run(
            "INSERT OR REPLACE INTO skip VALUES (?,?,?,?)",
            *(holder.key, row, tx.now, tx.now + tx.skip_s),
        )
    return tuple(name for _, _, name in held)


_SCORED = (
    "result r CROSS JOIN volume v ON v.id = r.volume",
    "r.model_version = :model_version AND r.available = 1 AND r.rank_ml IS NOT NULL",
)
_OF_ORGAN = (
    "score c CROSS JOIN result r ON r.volume = c.volume AND r.model_version = c.model_version"
    " CROSS JOIN volume v ON v.id = c.volume",
    "c.model_version = :model_version AND c.organ = :organ AND c.ranked = 1 AND r.available = 1",
)
_ANY = ("volume v", "v.available = 1 AND v.failed = 0")


class _Order(NamedTuple):
    """An order that was drawn for a round."""

    selection: str
    table: str
    where: str


def _order(tx: Transaction, strategy: str, number: int | None, s: int | None) -> _Order | None:
    """Return the drawn order that a strategy goes by; None: it goes by none, or none is drawn."""
    if number is None or s is None:
        return None
    plan = tx.find("SELECT selection, model_version FROM plan WHERE round = ?", number)
    if plan is None or plan[1] != s:
        return None
    if plan[0] != RANKING and strategy in ("attention", plan[0]):
        return _Order(plan[0], "plan_volume", "a.round = :round")
    if strategy not in DRAWN:
        return None
    selections.ensure(tx, strategy, number, s)
    return _Order(strategy, "selected", "a.round = :round AND a.selection = :selection")


def _first(
    tx: Transaction,
    holder: str,
    strategy: str,
    model_version_row: int | None,
    organ: int | None,
    source: str | None,
    drawn: _Order | None = None,
    kept: float = 0.0,
) -> tuple[int | None, bool]:
    """Return the first volume in order, and whether this holder had skipped it.

    Scored before unscored; among each, those not skipped first, then the longest skipped.
    """
    orders = [(*_ANY, "v.shuffle, v.id" if strategy == "random" else "v.name")]
    if strategy not in ("first", "random") and model_version_row is not None:
        if organ is None:
            orders.insert(0, (*_SCORED, "r.rank_ml DESC, r.volume"))
        else:
            figure = ranking.figure(ranking.current(tx))
            orders.insert(0, (*_OF_ORGAN, f"{figure} DESC, c.volume"))
    if drawn is not None:
        tables = f"{drawn.table} a CROSS JOIN volume v ON v.id = a.volume"
        where = f"{drawn.where} AND v.available = 1 AND v.failed = 0"
        orders.insert(0, (tables, where, "a.place"))
    values = {
        "holder": holder,
        "model_version": model_version_row,
        "organ": organ,
        "source": source,
        "round": rounds.current(tx),
        "selection": drawn and drawn.selection,
        "kept": kept,
    }
    more = "" if source is None else " AND v.source = :source"
    more += f" AND NOT {gold.READ.format(':holder')}"  # as with offers
    if kept:
        more += (
            " AND v.id NOT IN (SELECT a.volume FROM plan p JOIN plan_volume a ON a.round = p.round"
            " WHERE p.round = :round AND a.place < 1 + :kept * p.top)"
        )
    for tables, where, order in orders:
        of_source = where + more
        fresh = (
            f"SELECT v.id FROM {tables} WHERE {of_source} AND NOT EXISTS"
            " (SELECT 1 FROM skip k WHERE k.holder = :holder AND k.volume = v.id)"
            f" ORDER BY {order} LIMIT 1"
        )
        skipped = (
            "SELECT k.volume FROM skip k WHERE k.holder = :holder AND EXISTS"
            f" (SELECT 1 FROM {tables} WHERE v.id = k.volume AND {of_source})"
            " ORDER BY k.skipped_at, k.volume LIMIT 1"
        )
        for sql in (fresh, skipped):
            found = tx.connection.execute(sql, values).fetchone()
            if found is not None:
                return int(found[0]), sql is skipped
    return None, False


def _give(
    tx: Transaction,
    row: int,
    holder: Holder,
    strategy: str,
    s: int | None,
    looked_at: str | None,
    purpose: str | None = None,
) -> Sample:
    """Lease a volume and say why it was this one; `s` is the row of the model_version."""
    number = rounds.ensure(tx, s)
    budget = rounds.budget_of(tx, number)
    note = ""
    if purpose is None:
        purpose, note = ("review", "") if strategy == "review" else leases.offered_as(tx, row)
    over = budget.reviewed >= budget.total and strategy not in ("review", "audit")
    name, base = tx.one("SELECT name, base_submission FROM volume WHERE id = ?", row)
    lease = leases.take(
        tx, row, holder, strategy, s, number, purpose=purpose, over_budget=over, looked_at=looked_at
    )
    tx.run("DELETE FROM skip WHERE holder = ? AND volume = ?", holder.key, row)
    model_version, ranked = tx.find("SELECT name, scored FROM model_version WHERE id = ?", s) or (
        None,
        0,
    )
    score = tx.value("SELECT rank_ml FROM result WHERE volume = ? AND model_version = ?", row, s)
    organs: tuple[OrganAttention, ...] = ()
    place = None
    if s is not None and score is not None:
        organs, place = ranking.organs_in_order(tx, row, s), ranking.place(tx, row, s)
    return Sample(
        volume=name,
        strategy=strategy,
        lease=lease,
        expires_at=tx.now + tx.lease_s,
        model_version=model_version,
        attention_ml=math.fsum(organ.attention_ml for organ in organs) if place else None,
        rank=place,
        ranked=ranked,
        organs=organs,
        round=number,
        budget=budget.total,
        budget_left=budget.left,
        over_budget=over,
        unscored=place is None,
        skipped_before=False,
        base_submission=None if purpose == "gold" else base,
        anonymous=holder.anonymous,
        ranking=ranking.current(tx),
        score=score,
        purpose=purpose,
        note=note,
        audit=strategy == "audit",
    )
