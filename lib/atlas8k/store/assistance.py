"""Which tools from outside of the project helped to draw what: a row a volume, person and organ.

It is kept when the tool answers, so that a label says so whichever client submits it.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from atlas8k.store import ranking, volumes
from atlas8k.store.transaction import Transaction


@dataclass(frozen=True, order=True)
class Assistance:
    """A tool that somebody asked about an organ.

    Attributes
    ----------
    tool
        Its name.
    licence
        Of its weights, as it stated then.
    """

    tool: str
    licence: str


def note(
    tx: Transaction, volume: str, organ: str, used: Assistance, holders: Collection[str]
) -> None:
    """Keep that a person, under each of their keys, was helped with an organ."""
    row, number = volumes.volume_row(tx, volume), ranking.organ_id(organ)
    for holder in holders:
        tx.run(
            "INSERT OR IGNORE INTO assistance VALUES (?,?,?,?,?,?)",
            *(row, holder, number, used.tool, used.licence, tx.now),
        )


def of(tx: Transaction, volume: str, holder: str) -> dict[str, list[Assistance]]:
    """Return by organ what helped a person with a volume; nothing of the others."""
    found: dict[str, list[Assistance]] = {}
    for organ, tool, licence in tx.run(
        "SELECT s.name, a.tool, a.licence FROM assistance a JOIN structure s ON s.id = a.organ"
        " JOIN volume v ON v.id = a.volume WHERE v.name = ? AND a.holder = ?"
        " ORDER BY s.id, a.tool, a.licence",
        volume,
        holder,
    ):
        found.setdefault(organ, []).append(Assistance(tool, licence))
    return found


def of_submission(tx: Transaction, number: int) -> dict[str, list[Assistance]]:
    """Return by organ what a submission says has helped."""
    text = tx.value("SELECT json_extract(detail, '$.tools') FROM submission WHERE id = ?", number)
    said = json.loads(text) if text else {}
    return {organ: [Assistance(**one) for one in used] for organ, used in said.items()}
