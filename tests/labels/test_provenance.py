from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.labels.kit import GRID, label, save_nifti

from atlas8k.core.errors import UnreadableVolumeError
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.core.volume import read_label, write_nifti
from atlas8k.labels.provenance import (
    Provenance,
    from_json,
    read_provenance,
    to_json,
    write_label,
)
from atlas8k.store import OrganChange, OrganSource
from atlas8k.store.records import OLDER_RULE

ORGANS = st.sampled_from(ORGAN_NAMES)
COUNT = st.none() | st.integers(0, 10**9)
STATES = ("present", "absent", "unknown", "confirmed", "revised", "not_assessed")
CHANGES = ("confirmed", "revised", "absent", "not_assessed")
SOURCE = st.builds(
    OrganSource,
    st.sampled_from(["public", "revised", "pseudo"]),
    st.sampled_from(STATES),
    st.none() | st.text(),
    COUNT,
    st.booleans(),
)
CHANGE = st.builds(
    OrganChange,
    st.sampled_from(CHANGES),
    COUNT,
    COUNT,
    COUNT,
    st.none() | st.floats(0, 1),
    st.none() | st.text(),
)
TIME = st.none() | st.floats(0, 1e12)
PROVENANCE = st.builds(
    Provenance,
    kind=st.sampled_from(["assembled", "submission", "public", "pseudo"]),
    organs=st.dictionaries(ORGANS, SOURCE),
    changes=st.dictionaries(ORGANS, CHANGE),
    holder=st.none() | st.text(),
    anonymous=st.booleans(),
    submission=COUNT,
    at=TIME,
    minutes=TIME,
    model_version=st.none() | st.text(),
    start_sha256=st.none() | st.text("0123456789abcdef"),
    detail=st.dictionaries(st.text(), st.integers() | st.text() | st.booleans()).map(
        lambda detail: {**detail, "looked_at": []}
    ),
)


@given(PROVENANCE, st.sampled_from(["a.nii.gz", "a.nii"]))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path: Path, said: Provenance, name: str) -> None:
    path = write_label(tmp_path / name, label(1, 5), GRID, said)
    assert read_provenance(path) == said
    kept = read_label(path)
    assert np.array_equal(kept.array, label(1, 5))
    assert kept.grid.same_as(GRID)


def test_it_survives_another_tool_that_keeps_extensions(tmp_path: Path) -> None:
    said = Provenance("assembled", {"liver": OrganSource("public", "present", "Zürich")})
    path = write_label(tmp_path / "a.nii.gz", label(5), GRID, said)
    image = nib.load(path)
    nib.save(image, tmp_path / "copy.nii.gz")
    assert read_provenance(tmp_path / "copy.nii.gz") == said
    (extension,) = image.header.extensions
    assert extension.get_code() == 6
    assert b"Z\\u00fcrich" in extension.content  # ASCII, as the code says


def test_other_comments_are_passed_over(tmp_path: Path) -> None:
    said = Provenance("public", {"liver": OrganSource("public", "absent", "BTCV")})
    image = nib.Nifti1Image(label(5), GRID.affine)
    for text in (b"made by somebody", b"{}", b"\xff\xfe", to_json(said).encode()):
        image.header.extensions.append(nib.nifti1.Nifti1Extension(6, text))
    nib.save(image, tmp_path / "a.nii.gz")
    assert read_provenance(tmp_path / "a.nii.gz") == said


def test_files_that_say_nothing(tmp_path: Path) -> None:
    assert read_provenance(save_nifti(tmp_path / "a.nii.gz", label(5))) is None
    assert read_provenance(write_nifti(tmp_path / "b.nii.gz", label(5), GRID)) is None
    (tmp_path / "c.nii.gz").write_bytes(b"garbage")
    with pytest.raises(UnreadableVolumeError):
        read_provenance(tmp_path / "c.nii.gz")


GOOD = {"atlas8k_label": 1, "kind": "assembled"}
LIVER = {"source": "public", "state": "present"}


@pytest.mark.parametrize(
    "record",
    [
        "text",
        [],
        None,
        {"kind": "assembled"},
        {**GOOD, "atlas8k_label": 2},
        {**GOOD, "kind": "wish"},
        {**GOOD, "organs": {"heart": LIVER}},
        {**GOOD, "organs": {"liver": {**LIVER, "source": "made up"}}},
        {**GOOD, "organs": {"liver": {**LIVER, "state": "perhaps"}}},
        {**GOOD, "organs": {"liver": {**LIVER, "submission": "x"}}},
        {**GOOD, "organs": {"liver": {}}},
        {**GOOD, "changes": {"liver": {"state": "present"}}},
        {**GOOD, "at": "yesterday"},
        {**GOOD, "at": float("nan")},
        {**GOOD, "minutes": float("inf")},
    ],
)
def test_records_that_cannot_be_used(record: object) -> None:
    assert from_json(json.dumps(GOOD)) == Provenance("assembled")
    assert from_json(json.dumps({**GOOD, "organs": {"liver": LIVER}})) is not None
    assert from_json(json.dumps(record)) is None


def test_what_an_earlier_release_wrote_is_marked() -> None:
    """It took an organ that came back as it went out for confirmed."""
    record = {
        **GOOD,
        "kind": "submission",
        "organs": {
            "liver": {"source": "revised", "state": "confirmed", "submission": 3},
            "aorta": {"source": "pseudo", "state": "not_confirmed", "submission": 3},
        },
        "changes": {
            "liver": {"state": "confirmed", "voxels_before": 9, "voxels_after": 9},
            "spleen": {"state": "revised", "voxels_before": 9, "voxels_after": 8},
            "aorta": {"state": "not_confirmed", "voxels_before": 0, "voxels_after": 0},
            "stomach": {"state": "unchanged", "voxels_before": 5, "voxels_after": 5},
        },
    }
    said = from_json(json.dumps(record))
    assert said is not None
    assert said.changes["liver"] == OrganChange("confirmed", 9, 9, note=OLDER_RULE)
    assert said.changes["spleen"] == OrganChange("revised", 9, 8)
    assert said.changes["aorta"] == OrganChange("not_assessed", 0, 0)
    assert said.changes["stomach"] == OrganChange("not_assessed", 5, 5)
    assert said.organs["aorta"] == OrganSource("pseudo", "unknown")
    today = from_json(json.dumps({**record, "detail": {"looked_at": ["liver"]}}))
    assert today is not None
    assert today.changes["liver"].note is None
