"""Where each organ's voxels come from: what follows from datasets, readers and reviewers.

Three things are written down as they happen: what a public label says (`dataset_organ`),
what every submission says (`submission_organ`) and what a reviewer chose (`choice`). Table
`provenance` follows from them and from which submission is current; it is made anew in
the transaction that changes one of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import NamedTuple

from atlas8k.core.errors import LedgerError
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.store import audit_trail, ranking, reviews
from atlas8k.store.records import OrganChange, OrganSource
from atlas8k.store.transaction import Transaction
from atlas8k.store.volumes import volume_row

# What a reader says of an organ that leaves nothing to guess about it.
HUMAN_STATES = ("confirmed", "revised", "absent")
CHANGED = ("revised", "absent")
_SILENT = (("public", "unknown"), ("pseudo", "unknown"))


class _Reading(NamedTuple):
    """What readers say of an organ, and in which submission."""

    state: str
    submission: int


# What public labels say


def set_sources(tx: Transaction, volume: str, organs: Mapping[str, OrganSource]) -> None:
    """Note what a public label says of these organs: present, absent or unknown.

    `unknown` is what it does not say; it takes nothing back that another dataset knows.
    """
    row = volume_row(tx, volume)
    for organ, source in organs.items():
        known = source.source == "public" and source.state in ("present", "absent")
        if not known and (source.source, source.state) not in _SILENT:
            raise LedgerError(
                f"{organ}: {source.source} and {source.state} are nothing a public label says; "
                "public organs are present or absent, others unknown"
            )
        organ_id = ranking.organ_id(organ)
        if not known and tx.exists(
            "SELECT 1 FROM dataset_organ WHERE volume = ? AND organ = ? AND state <> 'unknown'"
            " AND (dataset IS NULL OR dataset IS NOT ?)",
            *(row, organ_id, source.dataset),
        ):
            continue
        tx.run(
            "INSERT OR REPLACE INTO dataset_organ VALUES (?,?,?,?,?)",
            *(row, organ_id, source.state, source.dataset, tx.now),
        )
    derive(tx, row)
    said = {organ: [source.state, source.dataset] for organ, source in organs.items()}
    audit_trail.record(tx, "import", volume=row, organs=said)


def dataset_organs(tx: Transaction, volume: str) -> dict[str, OrganSource]:
    """Return what public labels say of each organ, whatever else is known."""
    return {
        ORGAN_NAMES[organ - 1]: OrganSource(
            "pseudo" if state == "unknown" else "public", state, dataset
        )
        for organ, (state, dataset) in _public(tx, volume_row(tx, volume)).items()
    }


def _public(tx: Transaction, row: int) -> dict[int, tuple[str, str | None]]:
    """Return state and dataset by organ, as public labels say it."""
    rows = tx.run("SELECT organ, state, dataset FROM dataset_organ WHERE volume = ?", row)
    return {organ: (state, dataset) for organ, state, dataset in rows}


def public_organs(tx: Transaction) -> dict[str, frozenset[int]]:
    """Return the ids of each volume's organs with a public label; volumes without any are out."""
    rows = tx.run(
        "SELECT v.name, group_concat(o.organ) FROM provenance o JOIN volume v ON v.id = o.volume"
        " WHERE o.source = 'public' AND o.state IN ('present', 'absent') AND v.counted = 1"
        " GROUP BY v.id"
    )
    return {name: frozenset(map(int, organs.split(","))) for name, organs in rows}


# What submissions say


def changes(tx: Transaction, submission: int) -> dict[str, OrganChange]:
    """Return what a submission says of each organ."""
    rows = tx.run(
        "SELECT organ, state, voxels_before, voxels_after, voxels_changed, dsc, note"
        " FROM submission_organ WHERE submission = ? ORDER BY organ",
        submission,
    )
    return {ORGAN_NAMES[organ - 1]: OrganChange(*rest) for organ, *rest in rows}


def keep_changes(tx: Transaction, submission: int, organs: Mapping[str, OrganChange]) -> None:
    """Keep what a submission says of these organs."""
    try:
        tx.connection.executemany(
            "INSERT OR REPLACE INTO submission_organ VALUES (?,?,?,?,?,?,?,?)",
            [(submission, ranking.organ_id(organ), *change) for organ, change in organs.items()],
        )
    except sqlite3.IntegrityError as error:
        raise LedgerError(f"organs of a submission: {error}") from error


def revised_organs(tx: Transaction, submission: int) -> dict[str, OrganSource]:
    """Return organs of a submission's label that a reader vouches for, in it or one before it."""
    return {
        ORGAN_NAMES[organ - 1]: OrganSource("revised", read.state, submission=read.submission)
        for organ, read in _readings(tx, submission).items()
        if read.state in HUMAN_STATES
    }


def _readings(tx: Transaction, submission: int | None) -> dict[int, _Reading]:
    """Return by organ what was said last, following what each submission began from.

    What was not assessed takes nothing back, unless its voxels were changed: then they are
    the ones that are shown, and nobody vouches for them.
    """
    found: dict[int, _Reading] = {}
    at = submission
    while at is not None:
        row = tx.find("SELECT restored, start_submission FROM submission WHERE id = ?", at)
        if row is None:
            break
        restored, start = row
        if restored is None:
            for organ, state in tx.run(
                "SELECT organ, state FROM submission_organ WHERE submission = ?"
                " AND (state <> 'not_assessed' OR voxels_changed > 0)",
                at,
            ):
                found.setdefault(organ, _Reading(state, at))
        earlier = start if restored is None else restored
        at = earlier if earlier is not None and earlier < at else None
    return found


# What follows


def sources(tx: Transaction, volume: str) -> dict[str, OrganSource]:
    """Return where each organ comes from; organs not named are pseudo labels."""
    kept = _kept(tx, volume_row(tx, volume))
    return {ORGAN_NAMES[organ - 1]: source for organ, source in kept.items()}


def sources_with(tx: Transaction, volume: str, submission: int | None) -> dict[str, OrganSource]:
    """Return where each organ would come from if this submission, or none, were current."""
    return _named(tx, volume, _readings(tx, submission))


def sources_of(
    tx: Transaction, volume: str, organs: Mapping[str, OrganChange], start: int, number: int
) -> dict[str, OrganSource]:
    """Return where each organ would come from if a submission that says this were current.

    Parameters
    ----------
    start
        The submission that it began from, 0 for none.
    number
        Its own.
    """
    said = {
        ranking.organ_id(organ): _Reading(change.state, number)
        for organ, change in organs.items()
        if change.state != "not_assessed" or (change.voxels_changed or 0) > 0
    }
    return _named(tx, volume, {**_readings(tx, start or None), **said})


def _named(tx: Transaction, volume: str, readings: dict[int, _Reading]) -> dict[str, OrganSource]:
    public = _public(tx, volume_row(tx, volume))
    return {
        ORGAN_NAMES[organ - 1]: _source(public.get(organ), readings.get(organ), None)
        for organ in sorted({*readings, *public})
    }


def _kept(tx: Transaction, row: int) -> dict[int, OrganSource]:
    rows = tx.run(
        "SELECT organ, source, state, dataset, submission, disputed FROM provenance"
        " WHERE volume = ? ORDER BY organ",
        row,
    )
    return {
        organ: OrganSource(source, state, dataset, submission, bool(disputed))
        for organ, source, state, dataset, submission, disputed in rows
    }


def derive(tx: Transaction, row: int) -> None:
    """Make `provenance` anew: per organ public before revised before pseudo.

    A submission that changes a public organ disputes it, for a reviewer, whose choice
    counts from then on: `revised` for good, `public` until somebody changes it again.
    """
    readings = _readings(tx, tx.value("SELECT current_submission FROM volume WHERE id = ?", row))
    public = _public(tx, row)
    chosen = {
        organ: (source, submission or 0)
        for organ, source, submission in tx.run(
            "SELECT organ, source, submission FROM choice WHERE volume = ? ORDER BY id", row
        )
    }
    due = {
        organ: _source(public.get(organ), readings.get(organ), chosen.get(organ))
        for organ in sorted({*readings, *public})
    }
    kept = _kept(tx, row)
    for organ in kept.keys() | due.keys():
        if kept.get(organ) == due.get(organ):
            continue
        tx.run("DELETE FROM provenance WHERE volume = ? AND organ = ?", row, organ)
        if organ in due:
            tx.insert("provenance", volume=row, organ=organ, at=tx.now, **due[organ]._asdict())
    disputed = {o: readings[o].submission for o, source in due.items() if source.disputed}
    reviews.dispute(tx, row, disputed)
    ranking.refresh(tx, row)


def _source(
    public: tuple[str, str | None] | None, read: _Reading | None, choice: tuple[str, int] | None
) -> OrganSource:
    if public is not None and public[0] != "unknown":
        state, dataset = public
        if read is None:
            return OrganSource("public", state, dataset)
        source, known_of = choice or ("", 0)
        if source == "revised" and read.state in HUMAN_STATES:
            return OrganSource("revised", read.state, None, read.submission)
        disputed = read.state in CHANGED and read.submission > known_of
        return OrganSource("public", state, dataset, None, disputed)
    if read is not None:
        return OrganSource("revised", read.state, None, read.submission)
    assert public is not None
    return OrganSource("pseudo", "unknown", public[1])
