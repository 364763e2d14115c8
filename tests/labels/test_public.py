"""Public label files on disk: on the CT's grid whatever their axes, or refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tests.labels.kit import of_state

from abdomen_phantom import generate
from atlas8k.core.errors import (
    EmptyVolumeError,
    GridMismatchError,
    LabelValueError,
    NotFiniteError,
    NotThreeDimensionalError,
    UnreadableVolumeError,
    VolumeError,
)
from atlas8k.core.grid import Grid, Volume
from atlas8k.core.structures import ORGAN_IDS, ORGANS
from atlas8k.core.volume import write_nifti
from atlas8k.labels.datasets import find_dataset
from atlas8k.labels.matching import Matcher, MatchError, find_label_files, parse_rule, plain_name
from atlas8k.labels.public import read_public

TOGETHER = {"KiTS": 1, "AbdomenCT-1K": 2, "CT-ORG": 4, "AbdomenCT-12organ": 2}
"""Datasets with both kidneys under one value, and the value."""

Orientation = list[list[int]]
FORTY_EIGHT: list[Orientation] = [
    [[axis, flip] for axis, flip in zip(order, flips, strict=True)]
    for order in permutations(range(3))
    for flips in product((1, -1), repeat=3)
]


def turned(array: np.ndarray, grid: Grid, orientation: Orientation) -> tuple[np.ndarray, Grid]:
    """The same voxels in the same places, in another order."""
    inverse = nib.orientations.inv_ornt_aff(orientation, grid.shape)
    out = np.ascontiguousarray(nib.orientations.apply_orientation(array, orientation))
    return out, Grid(out.shape, grid.affine @ inverse)


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Volume]:
    """A CT file and its truth."""
    phantom = generate(1000, grid_spacing_mm=6.0)
    path = tmp_path_factory.mktemp("ct") / "ct.nii"
    write_nifti(path, phantom.ct.array, phantom.ct.grid)
    return path, phantom.label


def raw_of(truth: Volume, **values: int) -> np.ndarray:
    raw = np.zeros_like(truth.array)
    for organ, value in values.items():
        raw[truth.array == ORGAN_IDS[organ]] = value
    return raw


@pytest.mark.parametrize("name", TOGETHER)
def test_both_kidneys_in_every_orientation_of_label_and_ct(
    name: str, patient: tuple[Path, Volume], tmp_path: Path
) -> None:
    ct_path, truth = patient
    dataset = find_dataset(name)
    raw = raw_of(truth, kidney_left=TOGETHER[name], kidney_right=TOGETHER[name])
    kidneys = [ORGAN_IDS["kidney_left"], ORGAN_IDS["kidney_right"]]
    wanted = np.where(np.isin(truth.array, kidneys), truth.array, 0)
    ct = np.asarray(nib.load(ct_path).dataobj)
    for number, orientation in enumerate(FORTY_EIGHT):
        label = tmp_path / "label.nii"
        write_nifti(label, *turned(raw, truth.grid, orientation))
        # The CT is turned, too, in another way each time.
        other = FORTY_EIGHT[(7 * number + 5) % 48]
        own_ct = tmp_path / "ct.nii"
        write_nifti(own_ct, *turned(ct, truth.grid, other))
        found = read_public(label, own_ct, dataset)
        np.testing.assert_array_equal(found.array, turned(wanted, truth.grid, other)[0])
        assert {*of_state(found, "present")} == {"kidney_left", "kidney_right"}


def test_a_single_kidney_of_a_file_keeps_its_side(
    patient: tuple[Path, Volume], tmp_path: Path
) -> None:
    ct_path, truth = patient
    path = write_nifti(tmp_path / "a.nii", raw_of(truth, kidney_right=3), truth.grid)
    found = read_public(path, ct_path, find_dataset("KiTS"))
    assert of_state(found, "present") == ["kidney_right"]
    assert of_state(found, "absent") == ["kidney_left"]


def test_a_file_from_which_nothing_can_be_told(
    patient: tuple[Path, Volume], tmp_path: Path
) -> None:
    ct_path, truth = patient
    middle = np.zeros_like(truth.array)
    spine = np.argwhere(truth.array == ORGAN_IDS["aorta"]).mean(0).astype(int)
    middle[spine[0] - 2 : spine[0] + 4, spine[1] - 3 : spine[1], spine[2] - 3 : spine[2] + 3] = 1
    path = write_nifti(tmp_path / "a.nii", middle, truth.grid)
    with pytest.raises(EmptyVolumeError, match="cannot be determined"):
        read_public(path, ct_path, find_dataset("KiTS"))
    raw = np.where(middle > 0, 2, raw_of(truth, liver=1)).astype(np.uint8)
    write_nifti(path, raw, truth.grid)
    found = read_public(path, ct_path, find_dataset("AbdomenCT-1K"))
    assert of_state(found, "present") == ["liver"]
    assert {*of_state(found, "absent")} == {"spleen", "pancreas"}
    assert {"kidney_left", "kidney_right"} < {*of_state(found, "unknown")}
    assert "cannot be determined" in found.notes[0]


def test_a_crop_lies_where_it_was(patient: tuple[Path, Volume], tmp_path: Path) -> None:
    ct_path, truth = patient
    box = (slice(3, -2), slice(1, -4), slice(2, None))
    box = tuple(slice(*s.indices(n)[:2]) for s, n in zip(box, truth.grid.shape, strict=True))
    raw = raw_of(truth, liver=1)
    path = write_nifti(tmp_path / "crop.nii.gz", raw[box], truth.grid.crop(box))
    found = read_public(path, ct_path, find_dataset("LiTS"))
    wanted = np.zeros_like(raw)
    wanted[box] = raw[box]
    np.testing.assert_array_equal(found.array == ORGAN_IDS["liver"], wanted > 0)


def write_raw(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(array, affine), path)


def _nan_affine(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    image = nib.Nifti1Image(array, affine)
    image.header["sform_code"], image.header["qform_code"] = 1, 0
    image.header["srow_x"] = np.nan
    path.write_bytes(image.header.binaryblock + b"\0" * 4 + array.tobytes(order="F"))


BAD: dict[str, tuple[Callable[[Path, np.ndarray, np.ndarray], object], type[VolumeError], str]] = {
    "no bytes": (lambda p, a, m: p.write_bytes(b""), UnreadableVolumeError, "empty"),
    "garbage": (lambda p, a, m: p.write_bytes(b"x" * 999), UnreadableVolumeError, "readable"),
    "truncated": (
        lambda p, a, m: (write_raw(p, a, m), p.write_bytes(p.read_bytes()[:5000])),
        UnreadableVolumeError, "damaged",
    ),
    "no voxel": (lambda p, a, m: write_raw(p, a * 0, m), EmptyVolumeError, "every voxel is 0"),
    "another spacing": (lambda p, a, m: write_raw(p, a, m * 1.1), GridMismatchError, "grid|voxel"),
    "half a voxel off": (lambda p, a, m: write_raw(p, a, _moved(m)), GridMismatchError, "voxel"),
    "an unknown value": (lambda p, a, m: write_raw(p, a * 7, m), LabelValueError, "value 7 "),
    "negative": (
        lambda p, a, m: write_raw(p, -a.astype(np.int16), m), UnreadableVolumeError, "whole|negat",
    ),
    "fractional": (
        lambda p, a, m: write_raw(p, a.astype(np.float32) * 0.5, m),
        UnreadableVolumeError, "whole|fraction",
    ),
    "NaN voxel": (
        lambda p, a, m: write_raw(p, np.where(a > 0, np.nan, 0).astype(np.float32), m),
        NotFiniteError, "NaN",
    ),
    "NaN affine": (_nan_affine, NotFiniteError, "affine"),
    "two volumes": (
        lambda p, a, m: write_raw(p, np.stack([a, a], -1), m), NotThreeDimensionalError, "3D",
    ),
}  # fmt: skip


def _moved(affine: np.ndarray) -> np.ndarray:
    out = affine.copy()
    out[0, 3] += 3
    return out


@pytest.mark.parametrize("fault", BAD)
def test_what_cannot_be_used_says_why(
    fault: str, patient: tuple[Path, Volume], tmp_path: Path
) -> None:
    ct_path, truth = patient
    path = tmp_path / "bad.nii"
    write, error, reason = BAD[fault]
    write(path, raw_of(truth, liver=1), truth.grid.affine.copy())
    with pytest.raises(error, match=reason) as caught:
        read_public(path, ct_path, find_dataset("LiTS"))
    assert str(path) in str(caught.value)


def test_one_mask_an_organ(patient: tuple[Path, Volume], tmp_path: Path) -> None:
    ct_path, truth = patient
    names = {"kidney_left": "kidney_left", "postcava": "inferior_vena_cava", "liver": "liver"}
    folder = tmp_path / "segmentations"
    folder.mkdir()
    for organ, name in names.items():
        mask = (truth.array == ORGAN_IDS[organ]).astype(np.uint8)
        write_nifti(folder / f"{name}.nii.gz", mask, truth.grid)
    write_nifti(folder / "spleen.nii.gz", np.zeros_like(truth.array), truth.grid)
    write_nifti(folder / "lung_left.nii.gz", np.ones_like(truth.array), truth.grid)
    found = read_public(folder, ct_path, find_dataset("TotalSegmentator v2"))
    wanted = np.where(np.isin(truth.array, [ORGAN_IDS[o] for o in names]), truth.array, 0)
    np.testing.assert_array_equal(found.array, wanted)
    assert {*of_state(found, "present")} == {*names}
    assert of_state(found, "absent") == ["spleen"]
    assert len(of_state(found, "unknown")) == len(ORGANS) - len(names) - 1


# --- names ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "volume"),
    [
        ("label0001", "img0001"),
        ("segmentation-0", "volume-0"),
        ("labels-12", "volume-12"),
        ("amos_0001", "amos_0001"),
        ("FLARE22_Tr_0001", "FLARE22_Tr_0001_0000"),
        ("Case_00001", "Case_00001_0000"),
        ("case_00000", "case_00000"),
        ("word_0002_seg", "word_0002"),
        ("1_mask", "1"),
        ("patient7-label", "Patient7_ct"),
        ("s0000", "s0000"),
    ],
)
def test_a_label_finds_its_ct(label: str, volume: str) -> None:
    others = [f"{volume}1", f"x_{volume}", "unrelated"]
    assert Matcher([volume, *others]).volume(label) == volume


def test_case_numbers_of_zeros_are_not_taken_off() -> None:
    assert plain_name("case_00000") == "case_00000"
    assert plain_name("ct") == "ct"
    assert plain_name("label") == "label"


def test_the_datasets_own_rule() -> None:
    own = find_dataset("Pancreas-CT").match
    assert Matcher(["PANCREAS_0001"], own_rules=own).volume("label0001") == "PANCREAS_0001"
    prefixed = Matcher(["nih_PANCREAS_0001"], prefix="nih_", own_rules=own)
    assert prefixed.volume("label0001") == "nih_PANCREAS_0001"


def test_a_prefix_keeps_other_datasets_out() -> None:
    volumes = ["lits_volume-0", "ctorg_volume-0", "volume-0"]
    for prefix in ("lits_", "ctorg_", ""):
        matcher = Matcher(volumes, prefix=prefix)
        assert matcher.volume("segmentation-0") == f"{prefix}volume-0"
    with pytest.raises(MatchError, match="other_volume-1") as caught:
        Matcher(volumes, prefix="other_").volume("volume-1")
    assert caught.value.missing


def test_the_users_rule_goes_first() -> None:
    volumes = ["a1", "b1", "label1"]
    assert Matcher(volumes, rules=[parse_rule(r"label(\d)=b\1")]).volume("label1") == "b1"
    assert Matcher(volumes, rules=[parse_rule(r"(?P<n>\d)x(?=.)=q\g<n>")]).volume("label1")
    with pytest.raises(MatchError, match="looked for c1"):
        Matcher(volumes, rules=[parse_rule(r"label(\d)=c\1")]).volume("label1")


@pytest.mark.parametrize("text", ["", "abc", "=x", "a=", "(=x", r"a=\1"])
def test_a_wrong_rule(text: str) -> None:
    with pytest.raises(ValueError, match=r"REGEX=NAME|group|unterminated"):
        parse_rule(text)


def test_two_cts_of_one_plain_name() -> None:
    with pytest.raises(MatchError, match="2 CTs could be its own") as caught:
        Matcher(["img0001", "ct0001"]).volume("label0001")
    assert not caught.value.missing


def names_in(folder: Path, *files: str) -> tuple[list[str], list[str]]:
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = find_label_files(folder)
    return [f.name for f in found.files], sorted(p.name for p in found.images)


@pytest.mark.parametrize(
    ("files", "names", "images"),
    [
        (["b.nii.gz", "a.nii", ".hidden.nii.gz", "notes.txt"], ["a", "b"], []),
        (["volume-0.nii", "segmentation-0.nii", "volume-1.nii"],
         ["segmentation-0", "volume-1"], ["volume-0.nii"]),
        (["x_0001.nii.gz", "x_0001_0000.nii.gz"], ["x_0001"], ["x_0001_0000.nii.gz"]),
        (["img0001.nii.gz", "img0002.nii.gz"], ["img0001", "img0002"], []),
        (["case_00000/imaging.nii.gz", "case_00000/segmentation.nii.gz", "case_1/imaging.nii.gz"],
         ["case_00000"], []),
        (["BDMAP_1/ct.nii.gz", "BDMAP_1/combined_labels.nii.gz",
          "BDMAP_1/segmentations/liver.nii.gz"], ["BDMAP_1"], []),
        (["s0/ct.nii.gz", "s0/segmentations/liver.nii.gz"], ["s0"], []),
        (["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "labelsVa/b.nii.gz"], ["a", "b"], []),
    ],
)  # fmt: skip
def test_datasets_as_they_are_downloaded(
    tmp_path: Path, files: list[str], names: list[str], images: list[str]
) -> None:
    assert names_in(tmp_path, *files) == (names, images)
