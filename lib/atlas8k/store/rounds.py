"""Rounds: a model version, a budget of volumes to review, what was done and what ended it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from atlas8k.core.errors import LedgerError
from atlas8k.store import audit_trail, volumes
from atlas8k.store.records import Budget, CampaignSettings, Round, Trained
from atlas8k.store.transaction import Transaction

NEXT_BUDGET = "next_budget"
"""Setting: the budget of the round that begins next, whichever process begins it."""


def open_round(tx: Transaction, model_version_row: int | None) -> int:
    """Begin a round; with the budget that was set for it, where one was."""
    asked = tx.setting(NEXT_BUDGET)
    tx.run("DELETE FROM setting WHERE key = ?", NEXT_BUDGET)
    return tx.insert(
        "round",
        model_version=model_version_row,
        opened_at=tx.now,
        budget=tx.budget if asked is None else float(asked),
    )


def current(tx: Transaction) -> int | None:
    """Return the number of the open round, None where none is open."""
    number: int | None = tx.value("SELECT max(id) FROM round WHERE closed_at IS NULL")
    return number


def ensure(tx: Transaction, model_version_row: int | None) -> int:
    """Return the open round, opened where there is none."""
    return current(tx) or open_round(tx, model_version_row)


def close(
    tx: Transaction, closing: Mapping[str, Any] | None = None, *, only_reviewed: bool = False
) -> int | None:
    """End the open round; its number, None where none is open. The next sample opens one.

    Raises
    ------
    LedgerError
        With `only_reviewed`: nothing was submitted in it.
    """
    number = current(tx)
    if number is None:
        return None
    if only_reviewed and not tx.value("SELECT reviewed FROM round WHERE id = ?", number):
        raise LedgerError(
            f"round {number} is not closed: nothing was submitted in it; review the top of the "
            "list first, or give --force"
        )
    text = json.dumps(closing or {}, sort_keys=True, default=str)
    tx.run("UPDATE round SET closed_at = ?, closing = ? WHERE id = ?", tx.now, text, number)
    audit_trail.record(tx, "round", closed=number)
    return number


def reopen(tx: Transaction) -> int:
    """Open the last round again, which was ended without new networks; its number.

    Raises
    ------
    LedgerError
        None was ended, another is open, or new networks ended it.
    """
    if (number := current(tx)) is not None:
        raise LedgerError(f"round {number} is open; only one can be")
    last = tx.find("SELECT id, closing FROM round ORDER BY id DESC LIMIT 1")
    if last is None:
        raise LedgerError("no round was ended yet")
    number, closing = last
    if "model_version" in json.loads(closing or "{}"):
        raise LedgerError(f"round {number} was ended by new networks; go on with the next")
    tx.run("UPDATE round SET closed_at = NULL, closing = NULL WHERE id = ?", number)
    audit_trail.record(tx, "round", reopened=number)
    return int(number)


def history(tx: Transaction) -> list[Round]:
    """Return every round, the open one last."""
    rows = tx.run(
        "SELECT r.id, s.name, r.opened_at, r.closed_at, r.budget, r.reviewed, r.closing, r.audited"
        " FROM round r LEFT JOIN model_version s ON s.id = r.model_version ORDER BY r.id"
    )
    return [
        Round(number, name, opened, closed, share, reviewed, json.loads(closing or "{}"), audited)
        for number, name, opened, closed, share, reviewed, closing, audited in rows
    ]


# Budget and other settings


def budget(tx: Transaction) -> Budget | None:
    """Return the open round's budget; None before the first."""
    number = current(tx)
    return None if number is None else budget_of(tx, number)


def budget_of(tx: Transaction, number: int) -> Budget:
    """Return a round's budget in volumes, the fraction rounded down: 5 % of 8,448 are 422.

    One volume at least. It is for the places of the round's list: what was reviewed before
    that was drawn, in whatever order there was, takes none of them away.
    """
    fraction, reviewed = tx.one(
        "SELECT r.budget, r.reviewed - r.audited - coalesce(p.reviewed, 0)"
        " FROM round r LEFT JOIN plan p ON p.round = r.id WHERE r.id = ?",
        number,
    )
    there = volumes.counted(tx)
    # 0.29 * 100 is 28.999...; a millionth of a volume makes up for binary fractions.
    return Budget(number, max(1, int(there * fraction + 1e-6)) if there else 0, reviewed)


def campaign_settings(tx: Transaction) -> CampaignSettings:
    """Return share of audits and stop rule as they were set last, for all processes."""
    usual = CampaignSettings()
    return CampaignSettings(
        float(tx.setting("audit_percent") or usual.audit_percent),
        int(tx.setting("stop_after") or usual.stop_after),
    )


def set_campaign(
    tx: Transaction,
    *,
    audit_percent: float | None = None,
    stop_after: int | None = None,
    budget: float | None = None,
) -> None:
    """Set what is given; kept in the file, and current with the next list that is drawn.

    Parameters
    ----------
    budget
        Of the next round, whichever process begins it, fraction of the volumes; of the
        open one while it has no list and nothing was submitted in it.

    Raises
    ------
    LedgerError
        Out of bounds.
    """
    if budget is not None and not 0 < budget <= 1:
        raise LedgerError(f"budget {budget}: a fraction above 0 and up to 1 is needed")
    before = (tx.setting("audit_percent"), tx.setting("stop_after"))
    if audit_percent is not None:
        if not 0 <= audit_percent <= 100:
            raise LedgerError(f"audit_percent {audit_percent}: from 0 to 100 is needed")
        tx.set("audit_percent", float(audit_percent))
    if stop_after is not None:
        if stop_after < 1:
            raise LedgerError(f"stop_after {stop_after}: 1 or more is needed")
        tx.set("stop_after", int(stop_after))
    if budget is not None:
        fresh = tx.run(
            "UPDATE round SET budget = ? WHERE closed_at IS NULL AND reviewed = 0"
            " AND NOT EXISTS (SELECT 1 FROM plan WHERE plan.round = round.id)",
            budget,
        ).rowcount
        if not fresh:
            tx.set(NEXT_BUDGET, budget)
    now = (tx.setting("audit_percent"), tx.setting("stop_after"))
    if now != before or budget is not None:
        changed = {"audit_percent": [before[0], now[0]], "stop_after": [before[1], now[1]]}
        changed = {key: pair for key, pair in changed.items() if pair[0] != pair[1]}
        audit_trail.record(tx, "settings", changed=changed, budget=budget)


# Trainings


def note_training(tx: Transaction, number: int | None, key: str, detail: Mapping[str, Any]) -> bool:
    """Keep what a training did with the round it belongs to; False: it is kept already.

    Parameters
    ----------
    number
        The round that was open when it began.
    key
        What the training is known by.
    detail
        JSON-ready.
    """
    if tx.exists("SELECT 1 FROM training WHERE key = ?", key):
        return False
    text = json.dumps(detail, sort_keys=True, default=str)
    tx.insert("training", round=number, key=key, at=tx.now, detail=text)
    return True


def trainings(tx: Transaction) -> list[Trained]:
    """Return every training that was noted, oldest first."""
    rows = tx.run("SELECT round, at, detail FROM training ORDER BY id")
    return [Trained(number, at, json.loads(detail)) for number, at, detail in rows]
