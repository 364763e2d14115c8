"""Which cases are trained on and which are held out to measure on: a patient's own hash says.

Volumes of one patient look alike, and may be phases of one examination: a network that has
learned from one of them is not measured on another. So it is patients that are on a side,
and a volume of which no patient is known is a patient of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Sequence
from typing import TypeVar

from atlas8k.training.data import Case

FEWEST_TO_SPLIT = 5

AnyCase = TypeVar("AnyCase", bound=Case)


def split(
    cases: Sequence[AnyCase], share: float, seen: Container[str] = ()
) -> tuple[list[AnyCase], list[AnyCase]]:
    """Cases to train on and cases to measure on.

    Only what people have labeled is measured on; a case that has pseudo labels alone and
    would be on that side is on none, so that it can be held out once somebody labels it.
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
    labeled = [case for case in cases if _labeled(case)]
    kept_out = [case for case in labeled if held_out(patient_of(case), share, known)]
    if len(labeled) < FEWEST_TO_SPLIT or len(kept_out) == len(labeled):
        kept_out = []
    apart = {patient_of(case) for case in kept_out}
    training = [
        case
        for case in cases
        if patient_of(case) not in apart
        and (_labeled(case) or not held_out(patient_of(case), share, known))
    ]
    return training, kept_out


def patient_of(case: Case) -> str:
    """Whose case it is; the case's own name where nobody said."""
    return getattr(case, "patient", "") or case.name


def held_out(patient: str, share: float, seen: Container[str] = ()) -> bool:
    """Whether a patient is one to measure on."""
    return _position(patient) < share and patient not in seen


def by_hash(cases: Sequence[AnyCase]) -> list[AnyCase]:
    """In an order that follows from each case's name alone."""
    return sorted(cases, key=lambda case: _position(case.name))


def _labeled(case: Case) -> bool:
    """Whether somebody stands for an organ of it."""
    return bool(getattr(case, "known_organs", True))


def _position(name: str) -> float:
    """A number from 0 to 1 that is a name's own."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
