"""Studies of one patient are known to be, and no patient is written down."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.e2e.orthanc import tiny_uid

from atlas8k.services.archive.client import Found, _found
from atlas8k.services.archive.folder import ArchiveFolder
from atlas8k.services.archive.listing import same_patient


def found(uid: str, study: str, patient: str = "") -> Found:
    return Found(uid, study, "CT", 1, patient)


def test_studies_of_one_patient_share_the_one_that_was_first():
    first = [found("1.1", "2.5", "A"), found("1.2", "2.5", "A"), found("1.3", "2.7", "B")]
    known = same_patient(first, {})
    assert known == {"2.5": "2.5", "2.7": "2.7"}
    more = [*first, found("1.4", "2.1", "A"), found("1.5", "2.9", "B"), found("1.6", "2.2")]
    new = same_patient(more, known)
    assert new == {"2.1": "2.5", "2.9": "2.7", "2.2": "2.2"}  # what was known stays
    assert same_patient(more, known | new) == {}


def test_without_ids_every_study_is_of_another_patient():
    series = [found("1.1", "2.1"), found("1.2", "2.1"), found("1.3", "2.2")]
    assert same_patient(series, {}) == {"2.1": "2.1", "2.2": "2.2"}


def test_an_archive_says_it_and_nothing_of_a_patient_is_kept(
    working: Callable[..., ArchiveFolder],
) -> None:
    folder = working()
    folder.refresh()
    listed = folder.lister._archive.series()
    firsts = folder.series_index.patients()
    assert firsts.keys() == {one.study for one in listed.values()}
    assert tiny_uid(0) in listed
    folder.ledger.close()
    kept = b"".join(path.read_bytes() for path in folder.ledger.path.parent.glob("*sqlite*"))
    for one in listed.values():
        assert one.patient
        # These archives' made-up ids are the study's UID; any other must not be there.
        assert one.patient == one.study or one.patient.encode() not in kept


@pytest.mark.parametrize(
    ("patient", "day", "words", "name"),
    [
        ("4711", "20240503", "Abdomen 1.0", "4711, 2024-05-03, Abdomen 1.0"),
        ("4711", "", "", "4711"),
        ("", "2024", "Abdomen", "2024, Abdomen"),
        ("", "", "Abdomen", ""),  # as many others
    ],
)
def test_what_people_know_a_series_by(patient: str, day: str, words: str, name: str) -> None:
    said = {"0020000E": "1.2", "0020000D": "1.3", "00100020": patient}
    said |= {"00080020": day, "0008103E": words}
    one = _found({tag: {"Value": [value]} for tag, value in said.items() if value})
    assert one is not None
    assert one.name == name
    assert not patient or patient not in repr(one)
