"""What was predicted of the labels of a model version, beside what annotators found."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import NamedTuple

from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.store.records import QualityFound, QualitySeen
from atlas8k.store.transaction import Transaction

APART = 0.05
"""Of the DSC: submissions of a volume that differ by more contradict each other."""
AT_RANDOM = ("random", "random_foreground")
"""Selections whose first places are drawn at random."""


class SeenQuality(NamedTuple):
    """All that a model version can be judged by.

    ``contradicting``: organs of volumes left out, as their submissions contradict each other.
    """

    seen: tuple[QualitySeen, ...]
    contradicting: int


def seen(tx: Transaction, model_version: str) -> SeenQuality:
    """Return by organ what was predicted under a model version, and what was found.

    Of a volume the first submission counts, organ by organ, unless another one contradicts it. A
    volume stands for as many of its round's list as there are of its kind for each one seen:
    those of the budget for places of the budget, audits for all that lie behind.
    """
    row = tx.value("SELECT id FROM model_version WHERE name = ?", model_version)
    if row is None:  # networks that have not been registered yet
        return SeenQuality((), 0)
    found: dict[int, list[tuple[str, int, dict[str, QualityFound]]]] = defaultdict(list)
    listed: dict[int, tuple[int | None, str]] = {}
    for volume, name, number, text, round_, kind in tx.run(
        "SELECT p.volume, v.name, p.id, json_extract(p.detail, '$.quality'), l.round, CASE"
        f" WHEN l.selection IN {AT_RANDOM} AND n.place IS NOT NULL THEN 'drawn'"
        " WHEN n.place <= l.top THEN 'top' WHEN n.audit IS NOT NULL THEN 'audit' ELSE '' END"
        " FROM submission p JOIN volume v ON v.id = p.volume"
        " LEFT JOIN plan l ON l.round = p.round AND l.model_version = p.model_version"
        " LEFT JOIN plan_volume n ON n.round = l.round AND n.volume = p.volume"
        " WHERE p.model_version = ? AND json_extract(p.detail, '$.quality') IS NOT NULL"
        " ORDER BY p.id",
        row,
    ):
        said = {organ: QualityFound(*values) for organ, values in json.loads(text).items()}
        found[volume].append((name, number, said))
        listed.setdefault(volume, (round_, kind))
    changed = _changed(tx, row)
    weights = _weights(tx, listed)
    kept, contradicting = [], 0
    for volume, submissions in found.items():
        for organ in ORGAN_NAMES:
            own = {number: said[organ] for _, number, said in submissions if organ in said}
            if not own:
                continue
            quality, *others = own.values()
            revised = (dsc for number, dsc in changed.get((volume, organ), ()) if number not in own)
            if any(abs(one.found_dice - quality.found_dice) > APART for one in others) or any(
                dsc < 1 - APART for dsc in revised
            ):
                contradicting += 1
                continue
            drawn = listed[volume][1] in ("drawn", "audit")
            kept.append(QualitySeen(submissions[0][0], organ, quality, weights[volume], drawn))
    return SeenQuality(tuple(kept), contradicting)


def mark(tx: Transaction) -> int:
    """Return something that changes whenever :func:`seen` may."""
    last: int | None = tx.value("SELECT max(id) FROM submission")
    return last or 0


def _changed(tx: Transaction, row: int) -> dict[tuple[int, str], list[tuple[int, float]]]:
    """Return by volume and organ the submissions that changed it, with the DSC to their draft."""
    out = defaultdict(list)
    for volume, organ, number, dsc in tx.run(
        "SELECT p.volume, o.organ, p.id, o.dsc FROM submission p"
        " JOIN submission_organ o ON o.submission = p.id"
        " WHERE o.state IN ('revised', 'absent') AND o.dsc IS NOT NULL AND p.volume IN"
        " (SELECT volume FROM submission WHERE volume IN"
        " (SELECT volume FROM submission WHERE model_version = ?)"
        " GROUP BY volume HAVING count(*) > 1)",
        row,
    ):
        out[volume, ORGAN_NAMES[organ - 1]].append((number, float(dsc)))
    return out


def _weights(tx: Transaction, listed: dict[int, tuple[int | None, str]]) -> dict[int, float]:
    """Return by volume how many volumes of its round's list it stands for."""
    sizes: dict[tuple[int | None, str], int] = {}
    for number, top, lines in tx.run(
        "SELECT l.round, l.top, count(*) FROM plan l JOIN plan_volume n ON n.round = l.round"
        " GROUP BY l.round"
    ):
        sizes |= {(number, "top"): top, (number, "audit"): lines - top, (number, "drawn"): lines}
    counts: dict[tuple[int | None, str], int] = defaultdict(int)
    for key in listed.values():
        counts[key] += 1
    return {
        volume: max(1.0, sizes.get(key, 0) / counts[key]) if key[1] else 1.0
        for volume, key in listed.items()
    }
