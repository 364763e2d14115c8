"""What clients may note."""

from __future__ import annotations

from typing import Any

import pytest

from atlas8k.server.notes import checked, without_others
from atlas8k.services.errors import RequestError

META = {
    "status": "approved",
    "approvedBy": "Ruth",
    "level": "easy",
    "comment": "",
    "editTime": 1_700_000_000,
}
"""As 3D Slicer's module sends it."""


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"segmentationMeta": META},
        {"comment": "a stent", "difficulty": 3, "keywords": ["stent"], "client_id": "anna"},
        {"difficulty": "hard"},
    ],
)
def test_notes_come_back_as_they_are(given: dict[str, Any]) -> None:
    assert checked(given) == given


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"id": "b"}, "'id'"),
        ({"lease": 1}, "'lease'"),
        ({"strategy": 5}, "'strategy'"),
        ({"path": "/etc/passwd"}, "'path'"),
        ({"PatientName": "x"}, "'PatientName'"),
        ({"comment": 5}, "comment"),
        ({"comment": "x" * 3000}, "comment"),
        ({"keywords": "x"}, "keywords"),
        ({"difficulty": float("nan")}, "difficulty"),
        ({"segmentationMeta": {"status": {"a": 1}}}, "segmentationMeta.status"),
        ({"segmentationMeta": {"id": "b"}}, "segmentationMeta.id"),
        ({"approved_by": "x"}, "'approved_by'"),
    ],
)
def test_other_names_and_types_are_refused(given: dict[str, Any], word: str) -> None:
    with pytest.raises(RequestError, match=word):
        checked(given)


def test_what_was_noted_by_an_earlier_release_is_left_out() -> None:
    stored = {"id": "b", "lease": 7, "comment": "x", "name": "n", "strategy": {}}
    info = {**stored, "name": "a.nii.gz", "StudyInstanceUID": "1.2"}
    assert without_others(info, stored) == {
        "comment": "x",
        "name": "a.nii.gz",
        "strategy": {},
        "StudyInstanceUID": "1.2",
    }
