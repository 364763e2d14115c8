"""What was done in rounds: submissions with what they say, and trainings."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from atlas8k.ledger.records import OrganChange
from atlas8k.ledger.records_campaign import Trained, Worked
from atlas8k.organs import ORGAN_NAMES


def submissions(connection: sqlite3.Connection, number: int | None = None) -> list[Worked]:
    """Submissions of one round or of all, oldest first."""
    where = "" if number is None else " WHERE p.round = ?"
    given = () if number is None else (number,)
    organs: dict[int, dict[str, OrganChange]] = defaultdict(dict)
    for submission, organ, *change in connection.execute(
        "SELECT o.submission, o.organ, o.state, o.voxels_before, o.voxels_after,"
        " o.voxels_changed, o.dsc, o.note FROM submission p JOIN submission_organ o"
        f" ON o.submission = p.id{where} ORDER BY o.submission, o.organ",
        given,
    ):
        organs[submission][ORGAN_NAMES[organ - 1]] = OrganChange(*change)
    rows = connection.execute(
        "SELECT p.id, p.round, v.name, p.holder, p.anonymous, p.submitted_at, p.lease, p.minutes,"
        " p.purpose, s.name FROM submission p JOIN volume v ON v.id = p.volume"
        f" LEFT JOIN signature s ON s.id = p.signature{where} ORDER BY p.id",
        given,
    )
    return [
        Worked(i, r, v, h, bool(a), at, lease, minutes, purpose, organs.get(i, {}), made)
        for i, r, v, h, a, at, lease, minutes, purpose, made in rows
    ]


def note_training(
    connection: sqlite3.Connection,
    number: int | None,
    key: str,
    detail: Mapping[str, Any],
    now: float,
) -> bool:
    """Keep a training's statistics with a round; False where they are kept already."""
    text = json.dumps(detail, sort_keys=True, default=str)
    return bool(
        connection.execute(
            "INSERT INTO training (round, key, at, detail) VALUES (?,?,?,?)"
            " ON CONFLICT (key) DO NOTHING",
            (number, key, now, text),
        ).rowcount
    )


def trainings(connection: sqlite3.Connection) -> list[Trained]:
    """Every training, oldest first."""
    rows = connection.execute("SELECT round, at, detail FROM training ORDER BY id")
    return [Trained(number, at, json.loads(detail)) for number, at, detail in rows]


def public_organs(connection: sqlite3.Connection) -> dict[str, int]:
    """How many organs of a volume have a public label, of volumes that count."""
    return dict(
        connection.execute(
            "SELECT v.name, count(*) FROM provenance o JOIN volume v ON v.id = o.volume"
            " WHERE o.source = 'public' AND o.state IN ('present', 'absent') AND v.counted = 1"
            " GROUP BY v.id"
        )
    )
