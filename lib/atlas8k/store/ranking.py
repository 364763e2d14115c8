"""The priority list: by which figure and which organs volumes rank, and in what order."""

from __future__ import annotations

from collections.abc import Sequence

from atlas8k.core.errors import LedgerError
from atlas8k.core.rankings import EQ4, RANKINGS
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.store import audit_trail, gold
from atlas8k.store.errors import NotMeasuredError, UnknownModelVersionError
from atlas8k.store.records import OrganAttention, Ranked
from atlas8k.store.transaction import Transaction
from atlas8k.store.volumes import STATUS_SQL, volume_row

DEFAULT = EQ4
"""Of a file in which none was chosen: it is of a release that had no other."""

SUPERSEDED = (
    "SELECT s.id FROM model_version s"
    " WHERE s.id < (SELECT max(c.id) FROM model_version c WHERE c.completed_at IS NOT NULL)"
)
"""SQL: model versions that a later one has taken the place of."""


def organ_id(organ: str) -> int:
    """Return an organ's id, 1 to 9; :class:`LedgerError` where none has that name."""
    if organ not in ORGAN_IDS:
        raise LedgerError(f"{organ}: no such organ; there are {', '.join(ORGAN_NAMES)}")
    return ORGAN_IDS[organ]


def model_version_row(tx: Transaction, model_version: str) -> int:
    """Return the row of a model version; :class:`UnknownModelVersionError` where there is none."""
    row = tx.value("SELECT id FROM model_version WHERE name = ?", model_version)
    if row is None:
        raise UnknownModelVersionError(model_version)
    return int(row)


def ranking_model_version(tx: Transaction, current: str) -> str | None:
    """Return the model version to rank by while `current` is being scored.

    The current one from when it was first complete (volumes that appear later are just
    unscored), else the one that was complete last, else the current one. None where nothing
    is registered.
    """
    name: str | None = tx.value(
        "SELECT name FROM model_version WHERE name = ?1 OR completed_at IS NOT NULL"
        " ORDER BY completed_at IS NOT NULL AND name = ?1 DESC, completed_at IS NOT NULL DESC,"
        " completed_at DESC, id DESC LIMIT 1",
        current,
    )
    return name


# By which figure


def figure(ranking: str) -> str:
    """Return SQL for a ranking's figure in a row `c` of `score`.

    Raises
    ------
    LedgerError
        There is no such ranking.
    """
    if ranking not in RANKINGS:
        raise LedgerError(f"{ranking}: no such ranking; there are {', '.join(RANKINGS)}")
    return "c.attention_ml" if ranking == EQ4 else f"json_extract(c.figures, '$.{ranking}')"


def _unmeasured(ranking: str, result: str) -> str:
    """Return SQL for whether a result has an organ without this ranking's figure.

    A figure of null was measured: the organ has none.
    """
    if ranking == EQ4:
        return "0"
    return (
        f"EXISTS (SELECT 1 FROM score c WHERE c.volume = {result}.volume AND c.model_version ="
        f" {result}.model_version AND json_type(c.figures, '$.{ranking}') IS NULL)"
    )


def _missing(tx: Transaction, ranking: str, model_version_row: int) -> tuple[int, int]:
    """Return how many volumes have no figure of a ranking, of how many with a score."""
    missing, scored = tx.one(
        f"SELECT coalesce(sum({_unmeasured(ranking, 'r')}), 0), count(*) FROM result r"
        " WHERE r.model_version = ? AND r.counted = 1 AND r.rank_ml IS NOT NULL",
        model_version_row,
    )
    return int(missing), int(scored)


def measured_rankings(tx: Transaction, model_version: str) -> list[str]:
    """Return the rankings that a model version's volumes can be listed by; reads all of them."""
    s = model_version_row(tx, model_version)
    return [ranking for ranking in RANKINGS if not _missing(tx, ranking, s)[0]]


def _check_measured(tx: Transaction, ranking: str, model_version_row: int) -> None:
    """Raise where volumes would be put in order by a figure that they do not have."""
    in_use = not tx.exists(f"SELECT 1 WHERE ? IN ({SUPERSEDED})", model_version_row)
    if ranking == current(tx) and in_use:
        return  # scores without it were forgotten when it was chosen
    missing, scored = _missing(tx, ranking, model_version_row)
    if missing:
        raise NotMeasuredError(
            f"{missing} of {scored} volumes were scored by a release without the figures of"
            f" ranking {ranking}; score again: `--conf ranking {ranking}` with the server or"
            " `atlas8k score`, which predicts them anew"
        )


def current(tx: Transaction) -> str:
    """Return the current ranking, one of :data:`~atlas8k.core.rankings.RANKINGS`."""
    return tx.setting("ranking") or DEFAULT


def set_ranking(tx: Transaction, ranking: str) -> bool:
    """Order the list by a ranking; True where another one was current.

    Kept in the file, since all processes must rank alike. Scores without its figures, from a
    release that kept only Eq. 4, are forgotten under the model versions in use: their volumes are
    stale and the next scoring makes them again.
    """
    figure(ranking)  # there is one of that name
    if ranking == current(tx):
        return False
    audit_trail.record(tx, "settings", changed={"ranking": [current(tx), ranking]})
    tx.set("ranking", ranking)
    forget_unmeasured(tx, f"model_version NOT IN ({SUPERSEDED})")
    # The order of every model version, since a rollback may serve an old one again.
    tx.run(f"UPDATE result SET rank_ml = {_score(ranking, 'result')} WHERE rank_ml IS NOT NULL")
    return True


def forget_unmeasured(tx: Transaction, where: str, *values: object) -> None:
    """Forget scores without the current ranking's figures: their volumes are stale.

    `where` is SQL on `result`.
    """
    unmeasured = _unmeasured(current(tx), "result")
    tx.run(f"DELETE FROM result WHERE reason IS NULL AND {where} AND {unmeasured}", *values)


def propose_ranking(tx: Transaction, ranking: str) -> bool:
    """Order a list that is new by a ranking; True where that was done.

    Nothing is changed where a ranking was chosen before or anything is scored: the
    order that annotators work in changes only when somebody asks for it.
    """
    if tx.setting("ranking") is not None or tx.exists("SELECT 1 FROM result"):
        return False
    changed = set_ranking(tx, ranking)
    tx.set("ranking", ranking)
    return changed


# By which organs


def known_organs(tx: Transaction, row: int) -> frozenset[int]:
    """Return the organs of a volume that are public or revised, and so not ranked by.

    A gold case ranks by its revised organs, too: new networks would tell it from those that
    nobody has read.
    """
    if tx.setting("rank_all_organs") is not None:
        return frozenset()
    rows = tx.run(
        "SELECT organ FROM provenance WHERE volume = ?1"
        " AND (source = 'public' OR source = 'revised' AND NOT ?2)"
        " AND state NOT IN ('unknown', 'not_assessed')",
        *(row, gold.is_gold(tx, row)),
    )
    return frozenset(organ for (organ,) in rows)


def refresh(tx: Transaction, row: int) -> None:
    """Rank a volume anew by the organs that are still pseudo labels.

    A submitted volume keeps the place it was given out for until it is reopened or scored
    under another model_version.
    """
    if tx.value("SELECT status FROM volume WHERE id = ?", row) != "open":
        return
    known = ", ".join(map(str, known_organs(tx, row)))
    tx.run(f"UPDATE score SET ranked = organ NOT IN ({known}) WHERE volume = ?", row)
    tx.run(
        f"UPDATE result SET rank_ml = {_score(current(tx), 'result')}"
        " WHERE volume = ? AND rank_ml IS NOT NULL",
        row,
    )


def rank_all_organs(tx: Transaction, on: bool) -> None:
    """Rank by all organs, or (default) leave out those that are public or revised.

    Kept in the file, since all processes must rank alike; looks at every volume when it
    changes.
    """
    if on == (tx.setting("rank_all_organs") is not None):
        return
    audit_trail.record(tx, "settings", changed={"rank_all_organs": [not on, on]})
    if on:
        tx.set("rank_all_organs", 1)
    else:
        tx.run("DELETE FROM setting WHERE key = 'rank_all_organs'")
    for (row,) in tx.run("SELECT DISTINCT volume FROM provenance").fetchall():
        refresh(tx, row)


def _score(ranking: str, result: str, organs: Sequence[str] | None = None) -> str:
    """Return SQL for a ranking's figure of a result, of its organs that are ranked by."""
    only = ", ".join(str(organ_id(organ)) for organ in organs or ())
    over = "avg" if RANKINGS[ranking].over_organs == "mean" else "sum"
    return (
        f"(SELECT coalesce({over}({figure(ranking)}), 0) FROM score c"
        f" WHERE c.volume = {result}.volume AND c.model_version = {result}.model_version"
        " AND c.ranked = 1" + (f" AND c.organ IN ({only}))" if only else ")")
    )


# In what order


def place(tx: Transaction, row: int, model_version_row: int) -> int | None:
    """Return a volume's place in the priority list from 1, None where it is not in it."""
    ml = tx.value(
        "SELECT rank_ml FROM result WHERE volume = ? AND model_version = ? AND counted = 1",
        row,
        model_version_row,
    )
    if ml is None:
        return None
    above = tx.value(
        "SELECT count(*) FROM result WHERE model_version = ?1 AND counted = 1 AND rank_ml >= ?2"
        " AND (rank_ml > ?2 OR volume < ?3)",
        *(model_version_row, ml, row),
    )
    return 1 + int(above)


def rank(tx: Transaction, volume: str, model_version: str) -> int | None:
    """Return a volume's place in the whole list, from 1; None where it has no score."""
    return place(tx, volume_row(tx, volume), model_version_row(tx, model_version))


def organs_in_order(
    tx: Transaction, row: int, model_version_row: int
) -> tuple[OrganAttention, ...]:
    """Return the organs that a volume is ranked by, most attention first."""
    rows = tx.run(
        "SELECT organ, attention_ml FROM score WHERE volume = ? AND model_version = ?"
        " AND ranked = 1 ORDER BY attention_ml DESC, organ",
        row,
        model_version_row,
    )
    return tuple(OrganAttention(ORGAN_NAMES[organ - 1], ml) for organ, ml in rows)


def sizes(tx: Transaction, model_version: str) -> list[tuple[float, bool]]:
    """Return every scored volume's figure of the current ranking, and whether it is open.

    Largest first; much cheaper than :func:`listing`, which names volumes and organs.
    """
    rows = tx.run(
        "SELECT r.rank_ml, v.status = 'open' FROM result r CROSS JOIN volume v ON v.id = r.volume"
        " WHERE r.model_version = ? AND r.counted = 1 AND r.rank_ml IS NOT NULL"
        " ORDER BY r.rank_ml DESC, r.volume",
        model_version_row(tx, model_version),
    )
    return [(float(size), bool(is_open)) for size, is_open in rows]


def listing(
    tx: Transaction,
    model_version: str,
    *,
    organs: Sequence[str] | None = None,
    source: str | None = None,
    open_only: bool = False,
    limit: int | None = None,
    by: str | None = None,
) -> list[Ranked]:
    """Return the priority list, largest first; sizes of `organs` only where given.

    `by` names a ranking, by default the current one. Reads every
    volume when `organs` are given, or another ranking than the current one.

    Raises
    ------
    LedgerError
        There is no such ranking.
    NotMeasuredError
        Volumes were scored without its figures.
    """
    s = model_version_row(tx, model_version)
    used = by or current(tx)
    figure(used)
    _check_measured(tx, used, s)
    size = order = "r.rank_ml"
    if organs or used != current(tx):
        size, order = _score(used, "r", organs), "score"
    attention = size if used == DEFAULT else _score(EQ4, "r", organs)
    # The rank is the place in the whole list, so that filters of state come after numbering.
    rows = tx.run(
        f"SELECT v.id, v.name, {size} AS score, {attention}, {STATUS_SQL}, v.source, v.available"
        " FROM result r CROSS JOIN volume v ON v.id = r.volume WHERE r.model_version = ?1"
        " AND r.counted = 1 AND r.rank_ml IS NOT NULL AND (?2 IS NULL OR v.source = ?2)"
        f" ORDER BY {order} DESC, r.volume",
        s,
        source,
    )
    found: list[Ranked] = []
    for number, (row, name, score, ml, status, origin, available) in enumerate(rows, start=1):
        if open_only and not available:
            continue
        if limit is not None and len(found) >= limit:
            break
        in_order = organs_in_order(tx, row, s)
        found.append(Ranked(name, ml, number, in_order, status, origin, used, score))
    return found
