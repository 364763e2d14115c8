"""How lists are drawn in this ledger, and the pool that they are drawn from."""

from __future__ import annotations

import json
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import cast

from atlas8k.core.errors import LedgerError
from atlas8k.core.selection import DRAWN, RANKING, SELECTIONS, Candidate, Selection, drawn
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.store import audit_trail, ranking, rounds
from atlas8k.store.errors import NotMeasuredError
from atlas8k.store.transaction import Transaction

Line = tuple[int, str, float]
"""Row, name and figure of the ranking of a volume."""

_SEED = "audit_seed"
"""Setting: what is drawn in this campaign, audits too, is drawn by a hash of it."""


def current(tx: Transaction) -> Selection:
    """Return how the next list is drawn, one of :data:`~atlas8k.core.selection.SELECTIONS`."""
    return cast("Selection", tx.setting("selection") or RANKING)


def set_selection(tx: Transaction, selection: str) -> bool:
    """Set how lists are drawn from now on; True where it was another way.

    Kept in the file, since all processes must draw alike. Scores of releases that did not keep
    what is drawn by are forgotten: their volumes are stale and the next scoring makes them again.

    Raises
    ------
    LedgerError
        There is no such selection.
    """
    if selection not in SELECTIONS:
        raise LedgerError(f"{selection}: no such selection; there are {', '.join(SELECTIONS)}")
    if selection == current(tx):
        return False
    audit_trail.record(tx, "settings", changed={"selection": [current(tx), selection]})
    tx.set("selection", selection)
    if selection in DRAWN:
        tx.run("DELETE FROM result WHERE reason IS NULL AND traits IS NULL")
    return True


def forget_unusable(tx: Transaction, model_version: str) -> None:
    """Forget scores of networks that are served again, which now lack what is ranked or drawn by.

    While they were superseded, another ranking or selection may have been chosen.
    """
    row = ranking.model_version_row(tx, model_version)
    ranking.forget_unmeasured(tx, "model_version = ?", row)
    if current(tx) in DRAWN:
        tx.run(
            "DELETE FROM result WHERE reason IS NULL AND traits IS NULL AND model_version = ?", row
        )


def seed(tx: Transaction) -> str:
    """Return what everything in this campaign is drawn by; made where there is none."""
    found = tx.setting(_SEED)
    if found is None:
        found = secrets.token_hex(8)
        tx.set(_SEED, found)
    return found


def lines(tx: Transaction, number: int, model_version_row: int) -> list[Line]:
    """Return what nobody has submitted, nor anybody in this round, largest figure first."""
    return tx.run(
        "SELECT v.id, v.name, r.rank_ml FROM result r CROSS JOIN volume v ON v.id = r.volume"
        " WHERE r.model_version = ? AND r.counted = 1 AND r.rank_ml IS NOT NULL"
        " AND v.status = 'open' AND NOT EXISTS"
        " (SELECT 1 FROM submission p WHERE p.volume = v.id AND p.round = ?)"
        " ORDER BY r.rank_ml DESC, r.volume",
        model_version_row,
        number,
    ).fetchall()


def in_order(
    tx: Transaction, found: list[Line], selection: Selection, number: int, model_version_row: int
) -> list[Line]:
    """Return lines that are in the order of the ranking in that of a selection.

    Raises
    ------
    NotMeasuredError
        Volumes were scored by a release that did not keep what is drawn by.
    """
    if selection == RANKING:
        return found
    by_name = {line[1]: line for line in found}
    pool = _pool(tx, found, selection, model_version_row)
    budget = rounds.budget_of(tx, number).total
    return [by_name[name] for name in drawn(selection, pool, budget, seed(tx), number)]


def candidates(tx: Transaction, model_version: str, by: str) -> list[Candidate]:
    """Return every scored volume as lists are drawn of it by a ranking, in order of the names."""
    ids = dict(tx.run("SELECT name, id FROM volume").fetchall())
    listed = sorted(ranking.listing(tx, model_version, by=by), key=lambda one: one.volume)
    found = [(ids[one.volume], one.volume, one.score) for one in listed]
    return _pool(tx, found, RANKING, ranking.model_version_row(tx, model_version), by)


def ensure(tx: Transaction, selection: Selection, number: int, model_version_row: int) -> None:
    """Draw an order that was asked for by name, once in a round that has its list."""
    if tx.exists("SELECT 1 FROM selected WHERE round = ? AND selection = ?", number, selection):
        return
    order = in_order(tx, lines(tx, number, model_version_row), selection, number, model_version_row)
    tx.connection.executemany(
        "INSERT INTO selected VALUES (?,?,?,?)",
        [(number, selection, place, row) for place, (row, _, _) in enumerate(order, start=1)],
    )


def _pool(
    tx: Transaction,
    found: Sequence[Line],
    selection: Selection,
    model_version_row: int,
    by: str | None = None,
) -> list[Candidate]:
    kept = dict(
        tx.run(
            "SELECT volume, traits FROM result WHERE model_version = ?", model_version_row
        ).fetchall()
    )
    missing = sum(kept[row] is None for row, _, _ in found)
    if missing and selection in DRAWN:
        raise NotMeasuredError(
            f"{missing} of {len(found)} volumes were scored by a release that did not keep what"
            f" selection {selection} goes by; score again: `--conf selection {selection}` with"
            " the server or `atlas8k score`, which predicts them anew"
        )
    figure = ranking.figure(by or ranking.current(tx))
    figures: Mapping[int, dict[str, float | None]] = defaultdict(dict)
    for row, organ, value in tx.run(
        f"SELECT c.volume, c.organ, {figure} FROM score c WHERE c.model_version = ?"
        " AND c.ranked = 1",
        model_version_row,
    ):
        figures[row][ORGAN_NAMES[organ - 1]] = value
    sources = dict(tx.run("SELECT id, source FROM volume").fetchall())
    return [
        Candidate.of(name, ml, figures[row], json.loads(kept[row] or "{}"), sources[row])
        for row, name, ml in found
    ]
