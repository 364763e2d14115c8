"""Which cases are trained on and which are measured on: a patient's own hash says.

Volumes of one patient look alike, and may be phases of one examination: a network that has
learned from one of them is not measured on another. So it is patients that are held out,
and a volume of which no patient is known is a patient of its own.

Public datasets label some organs each, and the largest of them few. Of a few thousand such
cases, the first fifty in any order that knows nothing of organs hold the liver fifty times,
and the stomach once. So those that are measured are a subset that holds every organ.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Container, Sequence
from pathlib import Path
from typing import TypeVar

from atlas8k.core.errors import EvaluationError, SettingsError
from atlas8k.core.structures import normalise
from atlas8k.reports.sheets import read_sheet
from atlas8k.training.data import Case

FEWEST_TO_SPLIT = 5
QUOTA = 10
"""Cases of an organ that are looked for before any other case is taken: twice what a paired
test needs, since an organ that is labeled may be absent."""
COLUMNS = ("patient", "patient_id", "subject", "subject_id")

AnyCase = TypeVar("AnyCase", bound=Case)


def split(
    cases: Sequence[AnyCase], share: float, seen: Container[str] = ()
) -> tuple[list[AnyCase], list[AnyCase]]:
    """Return the cases to train on and the cases to measure on.

    Only what people have labeled is measured on; a case that has pseudo labels alone and
    would be held out is on neither side, so that it can be once somebody labels it.
    A case's side follows from its patient alone, so that it stays where it is when labels
    arrive. With fewer than five cases, or none on the one side, all are trained on and
    none is measured: a number from a trained case would say nothing. For the same reason
    what networks have seen is not held out from them later.

    Parameters
    ----------
    share
        Of the patients to measure on, about.
    seen
        Patients, or names of cases, that were trained on.
    """
    known = {patient_of(case) for case in cases if case.name in seen or patient_of(case) in seen}
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
    """Return whose case it is; the case's own name where nobody said."""
    return case.patient or case.name


def held_out(patient: str, share: float, seen: Container[str] = ()) -> bool:
    """Return whether a patient is one to measure on."""
    return _position(patient) < share and patient not in seen


def by_hash(cases: Sequence[AnyCase]) -> list[AnyCase]:
    """Return the cases in an order that follows from each one's name alone."""
    return sorted(cases, key=lambda case: _position(case.name))


def stratified(cases: Sequence[AnyCase], most: int) -> list[AnyCase]:
    """Return at most so many of the cases, every organ in as many of them as can be.

    First a case of every organ, then a second one, up to :data:`QUOTA`; what room is left
    then goes to any. Among those that would do, the order is that of a hash of the name.

    Parameters
    ----------
    cases
        Those in which nobody has labeled an organ are not taken: nothing is measured there.

    Returns
    -------
    list
        In the order of the hash.
    """
    there = [case for case in by_hash(cases) if case.known_organs]
    if len(there) <= most:
        return there
    taken: set[str] = set()
    counts: Counter[str] = Counter()
    for level in (*range(1, QUOTA + 1), len(there)):
        for case in there:
            wanted = any(counts[organ] < level for organ in case.known_organs)
            if wanted and case.name not in taken and len(taken) < most:
                taken.add(case.name)
                counts.update(case.known_organs)
    return [case for case in there if case.name in taken]


def _position(name: str) -> float:
    """A number from 0 to 1 that is a name's own."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def read_patients(path: Path) -> dict[str, str]:
    """Read whose CT is whose from a table, a row a volume.

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
    at = next((names.index(name) for name in COLUMNS if name in names), None)
    if at is None:
        raise SettingsError(
            f"patients: {path}: has no column for the patient beside {sheet.case_column!r}; "
            "name it 'patient'"
        )
    return {volume: fields[at] for volume, (_, fields) in sheet.rows.items() if fields[at]}
