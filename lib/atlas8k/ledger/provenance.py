"""Where each organ's voxels come from: what follows from datasets, readers and reviewers.

Three things are written down as they happen: what a public label says (`dataset_organ`),
what every submission says (`submission_organ`) and what a reviewer chose (`choice`). Table
`provenance` follows from them and from which submission is in force; it is made anew in
the transaction that changes one of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import NamedTuple

from atlas8k.errors import LedgerError
from atlas8k.ledger import ranking, reviews
from atlas8k.ledger.records import OrganChange, OrganSource
from atlas8k.organs import ORGAN_NAMES

# What a reader said of an organ that leaves nothing to guess about it.
HUMAN_STATES = ("confirmed", "revised", "absent")
CHANGED = ("revised", "absent")


class _Said(NamedTuple):
    """What readers said of an organ, and in which submission."""

    state: str
    submission: int


def sources(connection: sqlite3.Connection, volume: int) -> dict[str, OrganSource]:
    rows = connection.execute(
        "SELECT organ, source, state, dataset, submission, disputed FROM provenance"
        " WHERE volume = ? ORDER BY organ",
        (volume,),
    )
    return {
        ORGAN_NAMES[organ - 1]: OrganSource(source, state, dataset, submission, bool(disputed))
        for organ, source, state, dataset, submission, disputed in rows
    }


def set_sources(
    connection: sqlite3.Connection, volume: int, organs: Mapping[str, OrganSource], now: float
) -> None:
    """Note what a public label says of these organs; `unknown` is what it does not say."""
    for organ, source in organs.items():
        known = source.source == "public" and source.state in ("present", "absent")
        if not known and (source.source, source.state) not in _SILENT:
            raise LedgerError(
                f"{organ}: {source.source} and {source.state} are nothing a public label says; "
                "public organs are present or absent, others unknown"
            )
        if not known and _is_public(connection, volume, organ, source.dataset):
            continue  # another dataset knows it
        connection.execute(
            "INSERT OR REPLACE INTO dataset_organ VALUES (?,?,?,?,?)",
            (
                volume,
                ranking.organ_id(organ),
                source.state if known else "unknown",
                source.dataset,
                now,
            ),
        )
    derive(connection, volume, now)


_SILENT = (("public", "unknown"), ("pseudo", "unknown"))


def _is_public(connection: sqlite3.Connection, volume: int, organ: str, asking: str | None) -> bool:
    """Whether another dataset knows the organ; what one has said itself it may take back."""
    row = connection.execute(
        "SELECT 1 FROM dataset_organ WHERE volume = ? AND organ = ? AND state <> 'unknown'"
        " AND (dataset IS NULL OR dataset IS NOT ?)",
        (volume, ranking.organ_id(organ), asking),
    ).fetchone()
    return row is not None


def dataset_organs(connection: sqlite3.Connection, volume: int) -> dict[str, OrganSource]:
    """What public labels say of the volume's organs, whatever else is known."""
    rows = connection.execute(
        "SELECT organ, state, dataset FROM dataset_organ WHERE volume = ?", (volume,)
    )
    return {
        ORGAN_NAMES[organ - 1]: OrganSource(
            "pseudo" if state == "unknown" else "public", state, dataset
        )
        for organ, state, dataset in rows
    }


def changes(connection: sqlite3.Connection, submission: int) -> dict[str, OrganChange]:
    rows = connection.execute(
        "SELECT organ, state, voxels_before, voxels_after, voxels_changed, dsc, note"
        " FROM submission_organ WHERE submission = ? ORDER BY organ",
        (submission,),
    )
    return {ORGAN_NAMES[organ - 1]: OrganChange(*rest) for organ, *rest in rows}


def keep_changes(
    connection: sqlite3.Connection, submission: int, organs: Mapping[str, OrganChange]
) -> None:
    try:
        connection.executemany(
            "INSERT OR REPLACE INTO submission_organ VALUES (?,?,?,?,?,?,?,?)",
            [(submission, ranking.organ_id(organ), *change) for organ, change in organs.items()],
        )
    except sqlite3.IntegrityError as error:
        raise LedgerError(f"organs of a submission: {error}") from error


def revised_organs(connection: sqlite3.Connection, submission: int) -> dict[str, OrganSource]:
    """Organs of a submission's label that a reader has vouched for, it or one before it."""
    return {
        ORGAN_NAMES[organ - 1]: OrganSource("revised", said.state, submission=said.submission)
        for organ, said in _said(connection, submission).items()
        if said.state in HUMAN_STATES
    }


def _said(connection: sqlite3.Connection, submission: int | None) -> dict[int, _Said]:
    """By organ: the last that was said of it, following what each submission began from.

    What was not assessed takes nothing back, unless its voxels were changed: then they are
    the ones that are shown, and nobody vouches for them.
    """
    found: dict[int, _Said] = {}
    at = submission
    while at is not None:
        row = connection.execute(
            "SELECT restored, start_submission FROM submission WHERE id = ?", (at,)
        ).fetchone()
        if row is None:
            break
        if row[0] is None:
            for organ, state in connection.execute(
                "SELECT organ, state FROM submission_organ WHERE submission = ?"
                " AND (state <> 'not_assessed' OR voxels_changed > 0)",
                (at,),
            ):
                found.setdefault(organ, _Said(state, at))
        earlier = row[1] if row[0] is None else row[0]
        at = earlier if earlier is not None and earlier < at else None
    return found


def derive(connection: sqlite3.Connection, volume: int, now: float) -> None:
    """Make `provenance` anew: per organ public before revised before pseudo.

    A submission that changes a public organ disputes it, for a reviewer, whose choice
    counts from then on: `revised` for good, `public` until somebody changes it again.
    """
    current = connection.execute(
        "SELECT current_submission FROM volume WHERE id = ?", (volume,)
    ).fetchone()[0]
    said = _said(connection, current)
    public = {
        organ: (state, dataset)
        for organ, state, dataset in connection.execute(
            "SELECT organ, state, dataset FROM dataset_organ WHERE volume = ?", (volume,)
        )
    }
    chosen = {
        organ: (source, submission or 0)
        for organ, source, submission in connection.execute(
            "SELECT organ, source, submission FROM choice WHERE volume = ? ORDER BY id", (volume,)
        )
    }
    due = {
        organ: _source(public.get(organ), said.get(organ), chosen.get(organ))
        for organ in sorted({*said, *public})
    }
    _write(connection, volume, due, now)
    disputed = {organ: said[organ].submission for organ, one in due.items() if one.disputed}
    reviews.dispute(connection, volume, disputed, now)
    ranking.refresh(connection, volume)


def _source(
    public: tuple[str, str | None] | None, said: _Said | None, choice: tuple[str, int] | None
) -> OrganSource:
    human = said is not None and said.state in HUMAN_STATES
    if public is not None and public[0] != "unknown":
        state, dataset = public
        changed = said is not None and said.state in CHANGED
        if choice is not None and choice[0] == "revised" and human and said is not None:
            return OrganSource("revised", said.state, None, said.submission)
        decided = choice is not None and said is not None and said.submission <= choice[1]
        return OrganSource("public", state, dataset, None, changed and not decided)
    if said is not None:
        return OrganSource("revised", said.state, None, said.submission)
    assert public is not None
    return OrganSource("pseudo", "unknown", public[1])


def _write(
    connection: sqlite3.Connection, volume: int, due: Mapping[int, OrganSource], now: float
) -> None:
    there = {
        organ: OrganSource(source, state, dataset, submission, bool(disputed))
        for organ, source, state, dataset, submission, disputed in connection.execute(
            "SELECT organ, source, state, dataset, submission, disputed FROM provenance"
            " WHERE volume = ?",
            (volume,),
        )
    }
    for organ in there.keys() | due.keys():
        if there.get(organ) == due.get(organ):
            continue
        connection.execute("DELETE FROM provenance WHERE volume = ? AND organ = ?", (volume, organ))
        if organ in due:
            connection.execute(
                "INSERT INTO provenance (volume, organ, source, state, dataset, submission,"
                " disputed, at) VALUES (?,?,?,?,?,?,?,?)",
                (volume, organ, *due[organ], now),
            )
