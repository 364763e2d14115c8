"""What a page shows of thousands of volumes: a part of the list, its course, its people.

Every function reads what is shown and no more, whatever there is.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from atlas8k.core.errors import LedgerError
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.store import ranking
from atlas8k.store.transaction import Transaction

State = Literal["open", "leased", "submitted", "conflict", "failed", "excluded"]
"""A lease that has run out leaves a volume ``open``; ``failed``: it cannot be predicted."""
Show = Literal[
    "all", "open", "leased", "submitted", "conflict", "failed", "excluded", "review", "alike"
]
"""States to show; whatever the state, ``failed``: cannot be predicted, ``review``: with a question
for a reviewer, ``alike``: a copy of another CT, or of the same patient."""
Order = Literal["priority", "name", "source", "state", "changed"]
SHOWN_ORGANS = 3

_STATE = """CASE WHEN v.excluded_reason IS NOT NULL THEN 'excluded'
  WHEN v.status <> 'open' THEN v.status
  WHEN l.expires_at > :now THEN 'leased'
  WHEN v.failed THEN 'failed' ELSE 'open' END"""
_LISTED = f"""
WITH asked AS MATERIALIZED (SELECT volume, count(*) AS questions FROM review
    WHERE closed_at IS NULL GROUP BY volume),
  listed AS (SELECT v.id, v.name, v.source, {_STATE} AS state,
      CASE WHEN v.counted THEN r.rank_ml END AS rank_ml, r.attention_ml,
      CASE WHEN l.expires_at > :now THEN l.holder END AS holder,
      CASE WHEN l.expires_at > :now THEN l.expires_at END AS until,
      coalesce(v.excluded_reason, CASE WHEN v.failed THEN r.reason END, '') AS reason,
      v.failed AND v.counted AS failed, s.submitted_at, coalesce(a.questions, 0) AS questions
    FROM volume v LEFT JOIN result r ON r.volume = v.id AND r.model_version = :model_version
    LEFT JOIN lease l ON l.id = v.lease LEFT JOIN submission s ON s.id = v.current_submission
    LEFT JOIN asked a ON a.volume = v.id
    WHERE v.present = 1)
"""
_ALIKE = """SELECT v.id FROM alike a JOIN volume v ON v.id IN (a.first, a.second)
  JOIN volume o ON o.id = a.first + a.second - v.id WHERE v.present = 1 AND o.present = 1"""
"""Volumes that are there with another that they are alike."""
_PRIORITY = "rank_ml IS NULL, rank_ml DESC, id"
"""As :func:`~atlas8k.store.ranking.place` counts."""
_ORDERS: dict[str, str] = {
    "priority": _PRIORITY,
    "name": "name",
    "source": f"source, {_PRIORITY}",
    "state": f"state, {_PRIORITY}",
    "changed": "submitted_at IS NULL, submitted_at DESC",
}


class ListedOrgan(NamedTuple):
    """An organ, its figure of the ranking, and its predicted quality where that is known."""

    organ: str
    figure: float
    quality: dict[str, Any] | None


class Listed(NamedTuple):
    """A line of the list as a page shows it.

    ``place`` in the priority list and ``figure`` it is ranked by are None without a score;
    ``organs`` are those with most of that figure. ``holder`` has it until ``until``.
    ``reason``: why it is excluded or cannot be predicted. ``questions`` wait for a reviewer.
    """

    volume: str
    source: str
    state: State
    place: int | None
    figure: float | None
    attention_ml: float | None
    holder: str | None
    until: float | None
    reason: str
    submitted_at: float | None
    questions: int
    organs: tuple[ListedOrgan, ...]


class ListPart(NamedTuple):
    """Lines of one page, and how many there are on all pages."""

    total: int
    lines: tuple[Listed, ...]


@dataclass(frozen=True)
class Bin:
    """Neighbouring places of the priority list.

    ``mean`` and ``most`` are of the figure that is ranked by; ``done`` of the ``count`` volumes
    were submitted.
    """

    first: int
    last: int
    mean: float
    most: float
    done: int
    count: int


def _row_of(tx: Transaction, model_version: str | None) -> int | None:
    return None if model_version is None else ranking.model_version_row(tx, model_version)


def listed(
    tx: Transaction,
    model_version: str | None,
    *,
    text: str = "",
    show: Show = "all",
    source: str | None = None,
    among: Collection[str] | None = None,
    order: Order = "priority",
    offset: int = 0,
    limit: int = 50,
) -> ListPart:
    """Return a part of the volumes that are there, filtered and ordered.

    Parameters
    ----------
    model_version
        Of the scores; None where there are none.
    text
        Part of the name, in any case.
    source
        Source dataset; ``""``: those without one.
    among
        Names of which to show; None: all.

    Raises
    ------
    LedgerError
        No such state or order.
    """
    if show not in get_args(Show) or order not in _ORDERS:
        raise LedgerError(f"{show}, {order}: no such state or order of a list")
    s = _row_of(tx, model_version)
    values = {
        "model_version": s,
        "now": tx.now,
        "text": text.strip().lower(),
        "show": show,
        "source": source,
        "among": None if among is None else json.dumps(list(among)),
        "limit": limit,
        "offset": offset,
    }
    where = (
        "instr(lower(name), :text) AND (:source IS NULL OR source = :source)"
        " AND (:show = 'all' OR state = :show OR (:show = 'review' AND questions)"
        " OR (:show = 'failed' AND failed)"
        f" OR (:show = 'alike' AND id IN ({_ALIKE})))"
    )
    if among is not None:
        where += " AND name IN (SELECT value FROM json_each(:among))"
    everything = not values["text"] and show == "all" and source is None and among is None
    if everything:  # nothing has to be looked at to count it
        total = tx.value("SELECT count(*) FROM volume WHERE present = 1")
    else:
        total = tx.connection.execute(
            f"{_LISTED} SELECT count(*) FROM listed WHERE {where}", values
        ).fetchone()[0]
    rows = tx.connection.execute(
        f"{_LISTED} SELECT id, name, source, state, rank_ml, attention_ml, holder, until, reason,"
        f" submitted_at, questions FROM listed WHERE {where} ORDER BY {_ORDERS[order]}, name"
        " LIMIT :limit OFFSET :offset",
        values,
    ).fetchall()
    if everything and order == "priority":  # a line's place is where it stands
        places = {row[0]: offset + at for at, row in enumerate(rows, 1) if row[4] is not None}
    else:
        places = _places(tx, s, [row for row, *_ in rows])
    lines = [
        Listed._make((name, origin, state, places.get(row), *rest, _organs(tx, row, s)))
        for row, name, origin, state, *rest in rows
    ]
    return ListPart(total, tuple(lines))


def _places(tx: Transaction, model_version_row: int | None, rows: list[int]) -> dict[int, int]:
    """Return places as :func:`~atlas8k.store.ranking.place`, by volume: one walk for all."""
    marks = ",".join("?" * len(rows))
    return dict(
        tx.run(
            "SELECT volume, place FROM (SELECT volume, row_number() OVER"
            " (ORDER BY rank_ml DESC, volume) AS place FROM result WHERE model_version = ?"
            f" AND counted = 1 AND rank_ml IS NOT NULL) WHERE volume IN ({marks})",
            *(model_version_row, *rows),
        )
    )


def _organs(tx: Transaction, row: int, model_version_row: int | None) -> tuple[ListedOrgan, ...]:
    """Return the organs that a volume ranks for, with the figure of each, the largest first."""
    figure = ranking.figure(ranking.current(tx))
    rows = tx.run(
        f"SELECT c.organ, {figure} AS size FROM score c WHERE c.volume = ? AND c.model_version = ?"
        " AND c.ranked = 1 AND size > 0 ORDER BY size DESC, c.organ LIMIT ?",
        *(row, model_version_row, SHOWN_ORGANS),
    ).fetchall()
    text = tx.value(
        "SELECT json_extract(text, '$.quality') FROM explanation"
        " WHERE volume = ? AND model_version = ?",
        *(row, model_version_row),
    )
    quality = json.loads(text) if text else {}
    names = [(ORGAN_NAMES[organ - 1], float(size)) for organ, size in rows]
    return tuple(ListedOrgan(name, size, quality.get(name)) for name, size in names)


def states(tx: Transaction) -> dict[str, int]:
    """Count the volumes that are there by what may be shown, see :data:`Show`."""
    found = dict(
        tx.connection.execute(
            f"SELECT {_STATE} AS state, count(*) FROM volume v LEFT JOIN lease l ON l.id = v.lease"
            " WHERE v.present = 1 GROUP BY state",
            {"now": tx.now},
        ).fetchall()
    )
    found["failed"] = tx.value("SELECT count(*) FROM volume WHERE counted = 1 AND failed = 1")
    found["review"] = tx.value(
        "SELECT count(DISTINCT r.volume) FROM review r JOIN volume v ON v.id = r.volume"
        " WHERE r.closed_at IS NULL AND v.present = 1"
    )
    found["alike"] = tx.value(f"SELECT count(DISTINCT id) FROM ({_ALIKE})")
    return {name: found.get(name, 0) for name in get_args(Show) if name != "all"}


def sources(tx: Transaction) -> dict[str, int]:
    """Count the volumes that are there by source dataset, by name."""
    return dict(
        tx.run(
            "SELECT source, count(*) FROM volume WHERE present = 1 GROUP BY source ORDER BY source"
        )
    )


def distribution(tx: Transaction, model_version: str, number: int | None, most: int) -> list[Bin]:
    """Return the figures of the priority list in order, in so many bins at most.

    Parameters
    ----------
    number
        The round whose list it is, as it was drawn; None, or one without a list: as scored now.
    """
    drawn = number is not None and tx.exists("SELECT 1 FROM plan WHERE round = ?", number)
    line = (
        "SELECT place, ml, volume FROM plan_volume WHERE round = :row"
        if drawn
        else "SELECT row_number() OVER (ORDER BY rank_ml DESC, volume) AS place, rank_ml AS ml,"
        " volume FROM result WHERE model_version = :row AND counted = 1 AND rank_ml IS NOT NULL"
    )
    row = number if drawn else ranking.model_version_row(tx, model_version)
    rows = tx.connection.execute(
        f"WITH line AS ({line}), size AS (SELECT count(*) AS n FROM line)"
        " SELECT min(line.place), max(line.place), avg(line.ml), max(line.ml),"
        " sum(v.status <> 'open'), count(*)"
        " FROM line CROSS JOIN size CROSS JOIN volume v ON v.id = line.volume"
        " GROUP BY (line.place - 1) * min(:most, size.n) / size.n ORDER BY 1",
        {"row": row, "most": most},
    )
    return [Bin(*one) for one in rows]


def mean_figures(tx: Transaction) -> dict[str, float]:
    """Return the mean figure that volumes rank by, by model version, of those that are complete."""
    return dict(
        tx.run(
            "SELECT s.name, avg(r.rank_ml) FROM model_version s"
            " JOIN result r ON r.model_version = s.id WHERE s.completed_at IS NOT NULL"
            " AND r.counted = 1 AND r.rank_ml IS NOT NULL"
            " GROUP BY s.id ORDER BY s.id"
        )
    )


def seconds_each(tx: Transaction, model_version: str, last: int = 20) -> float | None:
    """Return how long a volume took to score, mean over the last ones; None: none was scored."""
    seconds: float | None = tx.value(
        "SELECT avg(seconds) FROM (SELECT seconds FROM result WHERE model_version = ?"
        " AND seconds IS NOT NULL ORDER BY at DESC LIMIT ?)",
        *(ranking.model_version_row(tx, model_version), last),
    )
    return seconds


def annotators(tx: Transaction) -> list[str]:
    """Return the keys of who has worked on lists of rounds, by their first submission.

    Their numbers in every report are the places in this list, from 1; who may not see others'
    readings of gold cases numbers them alike.
    """
    rows: Any = tx.run(
        "SELECT p.holder FROM main.submission p WHERE p.round IS NOT NULL AND p.restored IS NULL"
        " AND (p.purpose IN ('revise', 'double_read', 'gold') OR (p.purpose = 'review' AND EXISTS"
        " (SELECT 1 FROM main.submission q WHERE q.volume = p.volume AND q.round = p.round"
        " AND q.purpose = 'revise'))) GROUP BY p.holder ORDER BY min(p.id)"
    )
    return [key for (key,) in rows]


def campaign_mark(tx: Transaction) -> tuple[Any, ...]:
    """Return something that changes with all that reports of a campaign are made of.

    A look at a label, or a label file that is checked, changes the store and not this.
    """
    return tx.one(
        "SELECT (SELECT max(id) FROM submission), (SELECT count(*) FROM submission_organ),"
        " (SELECT max(id) || ' ' || count(closed_at) FROM review),"
        " (SELECT max(id) || ' ' || count(ended_at) FROM lease),"
        " (SELECT max(id) || ' ' || count(closed_at) || ' ' || total(budget) FROM round),"
        " (SELECT count(*) || ' ' || total(drawn_at) FROM plan), (SELECT max(id) FROM training),"
        " (SELECT count(*) || ' ' || total(at) FROM label_check),"
        " (SELECT max(id) FROM usability), (SELECT count(*) FROM agreement),"
        " (SELECT count(*) || ' ' || total(at) FROM provenance),"
        " (SELECT total(present) || ' ' || total(failed) || ' ' || total(status <> 'open')"
        " FROM volume),"
        " (SELECT group_concat(scored || ' ' || coalesce(completed_at, 0)) FROM model_version),"
        " (SELECT max(id) || ' ' || count(undone_at) FROM sweep_look),"
        " (SELECT group_concat(key || value) FROM setting)"
    )
