"""Versions of a dataset told by names, values and anatomy; doubt is asked about."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from abdomen_phantom import generate
from atlas8k.core.grid import Volume
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.labels.datasets import DatasetMapError, find_dataset, find_versions
from atlas8k.labels.survey import (
    FileSurvey,
    contradictions,
    others_that_fit,
    stated_names,
    survey,
    survey_file,
    version_of,
)

V1, V2 = (find_dataset(f"TotalSegmentator v{n}") for n in (1, 2))


@pytest.fixture(scope="module")
def truth() -> Volume:
    return generate(1000, grid_spacing_mm=6.0).label


def raw_of(truth: Volume, values: dict[int, str], *only: str) -> np.ndarray:
    raw = np.zeros_like(truth.array)
    for value, organ in values.items():
        if not only or organ in only:
            raw[truth.array == ORGAN_IDS[organ]] = value
    return raw


def written(path: Path, array: np.ndarray, truth: Volume, names: dict[int, str] | None) -> Path:
    """With a label table in the header, as TotalSegmentator writes it."""
    image = nib.Nifti1Image(array, truth.grid.affine)
    if names is not None:
        labels = "".join(
            f'<Label Key="{value}" Red="1" Green="0" Blue="0" Alpha="1"><![CDATA[{name}]]></Label>'
            for value, name in names.items()
        )
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?> <CaretExtension><VolumeInformation Index="0">'
            f"<LabelTable>{labels}</LabelTable></VolumeInformation></CaretExtension>"
        )
        image.header.extensions.append(nib.nifti1.Nifti1Extension(0, xml.encode()))
    nib.save(image, path)
    return path


NAMES1 = {5: "liver", 7: "aorta", 8: "inferior_vena_cava", 10: "pancreas"}


def test_names_in_the_header_are_read_and_contradict_the_other_version(
    truth: Volume, tmp_path: Path
) -> None:
    path = written(tmp_path / "a.nii.gz", raw_of(truth, dict(V1.values)), truth, NAMES1)
    assert stated_names(path) == (NAMES1, "its header")
    assert contradictions(NAMES1, V1) == []
    (text,) = contradictions({7: "aorta"}, V2)
    assert text == "value 7 is named 'aorta' and would be taken for pancreas"
    (text,) = contradictions({8: "adrenal_gland_right"}, V1)
    assert "postcava" in text
    assert contradictions({8: "arota", 2: "kidney cyst"}, V1) == []


@pytest.mark.parametrize("by_name", [True, False])
def test_names_of_a_sidecar_either_way_round(by_name: bool, truth: Volume, tmp_path: Path) -> None:
    labels = {"background": 0, "liver": 5, "aorta": 7}
    said = labels if by_name else {str(v): k for k, v in labels.items()}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": said}))
    (tmp_path / "labelsTr").mkdir()
    path = written(tmp_path / "labelsTr" / "a.nii", raw_of(truth, dict(V1.values)), truth, None)
    names, where = stated_names(path)
    assert (names[5], names[7]) == ("liver", "aorta")
    assert where == f"{tmp_path.name}/dataset.json"


@pytest.mark.parametrize("text", ["{", "[]", '{"labels": 3}', '{"labels": {"0": ["a"]}}'])
def test_a_sidecar_of_something_else_says_nothing(text: str, truth: Volume, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(text)
    path = written(tmp_path / "a.nii", raw_of(truth, dict(V1.values)), truth, None)
    assert stated_names(path)[0] in ({}, {0: ["a"]})


def test_names_tell_where_anatomy_cannot(truth: Volume, tmp_path: Path) -> None:
    """Only a pancreas: value 7 of version 2, which version 1 calls the aorta."""
    array = raw_of(truth, {7: "pancreas", 5: "liver"})
    silent = written(tmp_path / "a.nii", raw_of(truth, {5: "liver"}), truth, None)
    (look,) = survey([silent], [V1, V2])
    assert look.fits == ()  # aorta and postcava are absent in both
    named = written(tmp_path / "b.nii", array, truth, {7: "pancreas"})
    look = survey_file(named, [V1, V2])
    assert any("value 7" in text for text in look.objections["TotalSegmentator v1"])


@pytest.mark.parametrize(("true", "other"), [(V1, V2), (V2, V1)])
def test_the_version_is_told_by_anatomy(true, other, truth: Volume, tmp_path: Path) -> None:
    path = written(tmp_path / "a.nii", raw_of(truth, dict(true.values)), truth, None)
    (look,) = survey([path], [V1, V2])
    assert look.fits == (true.name,)
    assert version_of([look], [V1, V2]) is true
    assert others_that_fit([path], other, [V1, V2, find_dataset("BTCV")]) == [true.name]


def of(fits: str | None, number: int = 1) -> list[FileSurvey]:
    names = (V1.name, V2.name)
    against = {n: () if fits in (None, n) else ("x",) for n in names}
    return [FileSurvey(Path("x"), against, tuple(n for n in names if not against[n]))] * number


@pytest.mark.parametrize(
    ("looks", "found"),
    [
        (of(None, 5), None),
        ([], None),
        (of(V1.name), V1),
        (of(None, 50) + of(V2.name), V2),
        (of(V1.name, 95) + of(V2.name, 5), V1),
        (of(V1.name, 80) + of(V2.name, 20), None),
    ],
)
def test_a_version_needs_nearly_all_files_that_tell(looks, found) -> None:
    assert version_of(looks, [V1, V2]) is found


@pytest.mark.parametrize(
    ("true", "taken", "organ"),
    [
        ("BTCV", "AMOS22", "duodenum"),
        ("FLARE21", "FLARE22", "kidney_right"),
        ("Pancreas-CT", "Pancreas-CT multi-organ", "spleen|liver"),
        ("AbdomenCT-1K", "AbdomenCT-12organ", "aorta"),
        ("WORD", "AbdomenAtlas 1.1", "liver|aorta"),
        ("AMOS22", "FLARE22", "liver|aorta|pancreas"),
        ("FLARE22", "BTCV", "aorta|spleen"),
    ],
)
def test_numbers_of_other_datasets_are_found_too(
    true: str, taken: str, organ: str, truth: Volume, tmp_path: Path
) -> None:
    own, other = find_dataset(true), find_dataset(taken)
    array = np.zeros_like(truth.array)
    for value, name in own.values.items():
        for one in ("kidney_left", "kidney_right") if name == "kidneys" else (name,):
            if one in ORGAN_IDS:
                array[truth.array == ORGAN_IDS[one]] = value
    # An adrenal gland above each kidney, a few voxels as in people.
    for value, name in own.structures.items():
        if name.startswith("adrenal"):
            side = name.removeprefix("adrenal_gland_")
            there = np.argwhere(truth.array == ORGAN_IDS[f"kidney_{side}"])
            top = there[
                there[:, 2].argmax() if truth.grid.affine[2, 2] > 0 else there[:, 2].argmin()
            ]
            step = 3 if truth.grid.affine[2, 2] > 0 else -3
            at = (slice(top[0], top[0] + 3), slice(top[1], top[1] + 3), top[2] + step)
            array[at] = np.where(array[at] == 0, value, array[at])
    path = written(tmp_path / "a.nii", array, truth, None)
    look = survey_file(path, [own, other])
    assert look.objections[true] == ()
    text = " ".join(look.objections[taken])
    assert any(name in text for name in organ.split("|")), text


def test_a_familys_name_means_all_its_versions() -> None:
    assert [one.name for one in find_versions("totalsegmentator")] == [V1.name, V2.name]
    assert [one.name for one in find_versions("FLARE")] == ["FLARE21", "FLARE22", "FLARE23"]
    assert find_versions("TotalSegmentator V2") == (V2,)
    with pytest.raises(DatasetMapError, match="TotalSegmentator v1 or TotalSegmentator v2"):
        find_dataset("TotalSegmentator")
