"""What a volume is exported with: its state, its fused label, and where each organ comes from."""

from __future__ import annotations

import json
from typing import NamedTuple

from atlas8k.core.findings import Finding
from atlas8k.store import (
    assistance,
    checks,
    label_files,
    overview,
    provenance,
    submissions,
    volumes,
)
from atlas8k.store.assistance import Assistance
from atlas8k.store.label_files import LabelVersion
from atlas8k.store.records import OrganSource, Submission
from atlas8k.store.transaction import Transaction

_ORIGINAL, _UNKNOWN = "original", "public-unknown"
_MADE_OF = ("pseudo", "public")


class Exported(NamedTuple):
    """One volume as the store has it at one moment.

    Attributes
    ----------
    number
        Its row, which stays the same as volumes are added.
    status
        See :data:`~atlas8k.store.records.Status`.
    questions
        Kinds of question that a reviewer has not answered.
    organs
        Where organs come from; those not named are pseudo labels.
    readings
        Submissions that `organs` name, by number.
    current
        The current submission.
    label, unknown
        The fused label; voxels of a public label that could be any organ.
    parts
        When the files that the fused label is made of were written, by tag, UTC seconds.
    dice
        Predicted Dice by organ.
    findings
        What anatomical rules have against the fused label; None: it was not checked.
    helped
        What tools from outside helped with, by submission of `readings` and organ.
    """

    number: int
    source: str
    status: str
    questions: tuple[str, ...]
    organs: dict[str, OrganSource]
    readings: dict[int, Submission]
    current: Submission | None
    label: LabelVersion | None
    unknown: LabelVersion | None
    parts: dict[str, float]
    dice: dict[str, float]
    findings: list[Finding] | None
    helped: dict[int, dict[str, list[Assistance]]]


def names(tx: Transaction) -> list[str]:
    """Return every volume that was ever seen, by name."""
    return [name for (name,) in tx.run("SELECT name FROM volume ORDER BY name")]


def annotators(tx: Transaction) -> dict[str, int]:
    """Return the number of each who has submitted, as reports do; others come after those."""
    rows = tx.run("SELECT holder FROM submission GROUP BY holder ORDER BY min(id)")
    keys = dict.fromkeys([*overview.annotators(tx), *(key for (key,) in rows)])
    return {key: number for number, key in enumerate(keys, start=1)}


def volume(tx: Transaction, name: str) -> Exported:
    """Return what a volume is exported with.

    Raises
    ------
    UnknownVolumeError
        It was never seen.
    """
    row = volumes.volume_row(tx, name)
    source, status = tx.one(
        f"SELECT v.source, {volumes.STATUS_SQL} FROM volume v WHERE v.id = ?", row
    )
    asked = tx.run(
        "SELECT DISTINCT kind FROM review WHERE volume = ? AND closed_at IS NULL ORDER BY kind", row
    )
    questions = tuple(kind for (kind,) in asked)
    organs = provenance.sources(tx, name)
    numbers = {one.submission for one in organs.values() if one.submission is not None}
    label = label_files.current_version(tx, name, _ORIGINAL)
    parts = {tag: label_files.current_version(tx, name, tag) for tag in _MADE_OF}
    return Exported(
        row,
        source,
        status,
        questions,
        organs,
        {number: submissions.get(tx, number) for number in sorted(numbers)},
        submissions.current(tx, name),
        label,
        label_files.current_version(tx, name, _UNKNOWN),
        {tag: one.written_at for tag, one in parts.items() if one is not None},
        {} if label is None else _dice(tx, row, label.info.get("model_version")),
        checks.current(tx, name),
        {number: assistance.of_submission(tx, number) for number in sorted(numbers)},
    )


def _dice(tx: Transaction, row: int, model_version: object) -> dict[str, float]:
    text = tx.value(
        "SELECT json_extract(e.text, '$.quality') FROM explanation e JOIN model_version s"
        " ON s.id = e.model_version WHERE e.volume = ? AND s.name = ?",
        *(row, model_version),
    )
    found = json.loads(text) if text else {}
    return {organ: one["dice"] for organ, one in found.items() if one.get("dice") is not None}
