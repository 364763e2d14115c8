"""Split cases into those to train on and those to measure on, by a hash of the patient.

Volumes of one patient look alike, and may be phases of one examination: a network that has
learned from one of them is not measured on another. So it is patients that are held out,
and a volume of which no patient is known is a patient of its own.

Public datasets label some organs each, and the largest of them few. Of a few thousand such
cases, the first fifty in an order regardless of organs hold the liver fifty times and the
stomach once. So measurements are on a stratified subset that holds every organ.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Container, Sequence
from pathlib import Path
from typing import TypeVar

from atlas8k.core.errors import EvaluationError, SettingsError
from atlas8k.core.structure_sets import normalise
from atlas8k.reports.sheets import read_sheet
from atlas8k.training.data import Case

FEWEST_TO_SPLIT = 5
QUOTA = 10
"""Cases of each organ to choose before any other case: twice what a paired test needs, since
an organ that is labeled may be absent."""
COLUMNS = ("patient", "patient_id", "subject", "subject_id")

AnyCase = TypeVar("AnyCase", bound=Case)


def split(
    cases: Sequence[AnyCase], share: float, trained_on: Container[str] = ()
) -> tuple[list[AnyCase], list[AnyCase]]:
    """Return the cases to train on and the cases to measure on.

    Only cases that people have labeled are measured on; a case that has pseudo labels alone
    and would be held out is in neither set, so that it can be once somebody labels it.
    A case's set follows from its patient alone, so that it stays the same when labels
    arrive. With fewer than five cases, or all of them held out, all are trained on and none
    is measured: a score of a trained case means nothing. For the same reason cases that
    networks were trained on are not held out later.

    Parameters
    ----------
    share
        Share of the patients to measure on, about.
    trained_on
        Patients, or names of cases, that were trained on.
    """
    known = {
        patient_of(case)
        for case in cases
        if case.name in trained_on or patient_of(case) in trained_on
    }
    labeled = [case for case in cases if case.known_organs]
    validation = [case for case in labeled if held_out(patient_of(case), share, known)]
    if len(labeled) < FEWEST_TO_SPLIT or len(validation) == len(labeled):
        validation = []
    apart = {patient_of(case) for case in validation}
    training = [
        case
        for case in cases
        if patient_of(case) not in apart
        and (case.known_organs or not held_out(patient_of(case), share, known))
    ]
    return training, validation


def patient_of(case: Case) -> str:
    """Return the patient of a case; the case's own name where none is known."""
    return case.patient or case.name


def held_out(patient: str, share: float, trained_on: Container[str] = ()) -> bool:
    """Return whether a patient is one to measure on."""
    return _position(patient) < share and patient not in trained_on


def by_hash(cases: Sequence[AnyCase]) -> list[AnyCase]:
    """Return the cases in an order that follows from each one's name alone."""
    return sorted(cases, key=lambda case: _position(case.name))


def stratified(cases: Sequence[AnyCase], most: int) -> list[AnyCase]:
    """Choose at most so many of the cases, with every organ in as many of them as can be.

    First a case of every organ, then a second one, up to :data:`QUOTA`; then any others.
    Among equals, the order is that of a hash of the name.

    Parameters
    ----------
    cases
        Cases in which nobody has labeled an organ are not chosen: nothing is measured there.

    Returns
    -------
    list
        In the order of the hash.
    """
    labeled = [case for case in by_hash(cases) if case.known_organs]
    if len(labeled) <= most:
        return labeled
    chosen: set[str] = set()
    counts: Counter[str] = Counter()
    for quota in (*range(1, QUOTA + 1), len(labeled)):
        for case in labeled:
            useful = any(counts[organ] < quota for organ in case.known_organs)
            if useful and case.name not in chosen and len(chosen) < most:
                chosen.add(case.name)
                counts.update(case.known_organs)
    return [case for case in labeled if case.name in chosen]


def _position(name: str) -> float:
    """Return a number from 0 to 1 by a hash of the name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def read_patients(path: Path) -> dict[str, str]:
    """Read the patient of each volume from a table, a row a volume.

    Parameters
    ----------
    path
        CSV with a column ``volume`` (or another name of a case) and one of
        :data:`COLUMNS`. A volume without a patient is a patient of its own.

    Returns
    -------
    dict
        Patients by volume.

    Raises
    ------
    SettingsError
        The file cannot be read, has no such columns, or names a volume twice.
    """
    try:
        sheet = read_sheet(path)
    except EvaluationError as error:
        raise SettingsError(f"patients: {error}") from error
    names = [normalise(column) for column in sheet.columns]
    column = next((names.index(name) for name in COLUMNS if name in names), None)
    if column is None:
        raise SettingsError(
            f"patients: {path}: has no column for the patient beside {sheet.case_column!r}; "
            "name it 'patient'"
        )
    return {volume: fields[column] for volume, (_, fields) in sheet.rows.items() if fields[column]}
