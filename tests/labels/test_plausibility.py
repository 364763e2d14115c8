"""What no patient has is found; what patients do have is not, cut off or operated on."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from abdomen_phantom import generate
from atlas8k.core.grid import Grid, Volume
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.labels.datasets import Dataset, find_dataset
from atlas8k.labels.plausibility import find_impossible, find_missing
from atlas8k.labels.survey import survey_file

BODIES = Path(__file__).parents[3] / "shared" / "data" / "totalsegmentator-bodies"
ABDOMENS = ["s0001", "s0004", "s0006", "s0009", "s0327", "s0328"]
NAMES = {
    "aorta": "aorta", "gallbladder": "gall_bladder", "kidney_left": "kidney_left",
    "kidney_right": "kidney_right", "liver": "liver", "pancreas": "pancreas",
    "inferior_vena_cava": "postcava", "spleen": "spleen", "stomach": "stomach",
}  # fmt: skip
OTHERS = ("adrenal_gland_right", "adrenal_gland_left", "lung_upper_lobe_left", "duodenum")


@pytest.fixture(scope="module")
def truth() -> Volume:
    return generate(1000, grid_spacing_mm=6.0).label


def without(array: np.ndarray, *organs: str) -> np.ndarray:
    return np.where(np.isin(array, [ORGAN_IDS[o] for o in organs]), 0, array).astype(np.uint8)


def absent(array: np.ndarray) -> list[str]:
    return [o for o, i in ORGAN_IDS.items() if not (array == i).any()]


def swapped(array: np.ndarray, one: str, two: str) -> np.ndarray:
    out = array.copy()
    out[array == ORGAN_IDS[one]] = ORGAN_IDS[two]
    out[array == ORGAN_IDS[two]] = ORGAN_IDS[one]
    return out


@pytest.mark.parametrize("seed", range(1000, 1010))
def test_phantoms_are_possible_whole_and_cut_off(seed: int) -> None:
    label = generate(seed, grid_spacing_mm=6.0).label
    assert find_impossible(label.array, label.grid, absent(label.array)) == []
    rng = np.random.default_rng(seed)
    for _ in range(8):
        box = []
        for axis, size in enumerate(label.array.shape):
            n = int(size * rng.uniform(0.3 if axis == 2 else 0.5, 1))
            start = int(rng.integers(0, size - n + 1))
            box.append(slice(start, start + n))
        part = label.array[tuple(box)]
        found = find_impossible(part, label.grid.crop(tuple(box)), absent(part))
        assert found == [], box


@pytest.mark.parametrize(
    "gone",
    [("gall_bladder",), ("spleen",), ("kidney_left",), ("kidney_right",), ("stomach", "pancreas")],
)
def test_what_an_operation_takes_is_possible(gone: tuple[str, ...], truth: Volume) -> None:
    array = without(truth.array, *gone)
    assert find_impossible(array, truth.grid, absent(array)) == []


@pytest.mark.parametrize("organ", ["aorta", "postcava", "liver"])
def test_what_nobody_lacks_is_missed_only_where_a_label_says_it_is_absent(
    organ: str, truth: Volume
) -> None:
    array = without(truth.array, organ)
    assert find_impossible(array, truth.grid) == []  # a dataset that does not label it
    (one,) = find_impossible(array, truth.grid, [organ])
    assert (one.organ, one.rule) == (organ, "missing")
    assert find_missing(array, truth.grid, [organ]) == [one]


def test_vessels_are_not_missed_where_the_image_does_not_reach(truth: Volume) -> None:
    """A narrow image of the right side: no aorta in it, and no word."""
    array = without(truth.array, "aorta", "postcava")
    liver = np.argwhere(array == ORGAN_IDS["liver"])
    right = truth.grid.affine[0, 0] > 0
    middle = int(np.median(liver[:, 0]))
    part = slice(middle, array.shape[0]) if right else slice(0, middle)
    box = (part, slice(0, array.shape[1]), slice(0, array.shape[2]))
    assert find_impossible(array[box], truth.grid.crop(box), ["aorta", "postcava"]) == []


def test_a_mirrored_body_is_asked_about_once_for_each_pair(truth: Volume) -> None:
    found = find_impossible(truth.array[::-1], truth.grid)
    assert {one.rule for one in found} == {"mirrored"}
    assert "situs inversus" in found[0].text


@pytest.mark.parametrize(("axis", "word"), [(1, "in front of"), (2, "above")])
def test_a_body_that_stands_on_its_head_or_looks_back_is_seen_by_its_kidneys(
    truth: Volume, axis: int, word: str
) -> None:
    found = find_impossible(np.flip(truth.array, axis), truth.grid)
    kidneys = [one for one in found if one.rule == "mirrored"]
    assert {one.organ for one in kidneys} >= {"kidney_right"}
    assert all(word in one.text for one in kidneys)


@pytest.mark.parametrize(
    ("one", "two", "organ", "rule"),
    [
        ("pancreas", "aorta", "pancreas", "shape"),
        ("pancreas", "aorta", "aorta", "shape"),
        ("kidney_left", "kidney_right", "kidney_left", "mirrored"),
        ("liver", "pancreas", "pancreas", "volume"),
        ("spleen", "kidney_right", "kidney_right", "place"),
        ("postcava", "gall_bladder", "gall_bladder", "shape"),
    ],
)
def test_organs_under_each_others_name(
    one: str, two: str, organ: str, rule: str, truth: Volume
) -> None:
    found = find_impossible(swapped(truth.array, one, two), truth.grid)
    rules = {(f.organ, f.rule) for f in found}
    if (organ, rule) == ("kidney_right", "place"):
        assert {r for _, r in rules} & {"place", "mirrored"}
    else:
        assert (organ, rule) in rules, [f.text for f in found]


def test_both_kidneys_under_one_name(truth: Volume) -> None:
    array = truth.array.copy()
    array[array == ORGAN_IDS["kidney_left"]] = ORGAN_IDS["kidney_right"]
    (one,) = find_impossible(array, truth.grid)
    assert (one.organ, one.rule) == ("kidney_right", "two")


def test_a_mask_of_the_liver_is_no_aorta(truth: Volume) -> None:
    mask = (truth.array == ORGAN_IDS["liver"]).astype(np.uint8)
    assert {one.organ for one in find_impossible(mask, truth.grid)} == {"aorta"}


def body(subject: str) -> tuple[np.ndarray, dict[str, int], Grid]:
    path = BODIES / f"{subject}_structures.nii.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    with (BODIES / "structures.csv").open() as stream:
        values = {row["structure"]: int(row["value"]) for row in csv.DictReader(stream)}
    image = nib.load(path)
    array = np.asarray(image.dataobj).astype(np.uint8)[::2, ::2, ::2]
    affine = image.affine.copy()
    affine[:3, :3] *= 2
    return array, values, Grid(array.shape, affine)


def as_dataset(array: np.ndarray, values: dict[str, int], dataset: Dataset) -> np.ndarray:
    """The body in a dataset's numbers, structures beside the nine included."""
    raw = np.zeros_like(array)
    ours = {organ: value for value, organ in dataset.values.items()}
    theirs = {organ: structure for structure, organ in NAMES.items()}
    for organ, value in ours.items():
        raw[array == values[theirs[organ]]] = value
    for value, name in dataset.structures.items():
        if name in values:
            raw[array == values[name]] = value
    return raw


V1, V2 = (find_dataset(f"TotalSegmentator v{n}") for n in (1, 2))


@pytest.mark.parametrize("subject", [*ABDOMENS, "s0000", "s0002", "s0003"])
def test_real_bodies_are_possible(subject: str) -> None:
    array, values, grid = body(subject)
    label = np.zeros_like(array)
    for structure, organ in NAMES.items():
        label[array == values[structure]] = ORGAN_IDS[organ]
    said = absent(label) if subject in ABDOMENS else []
    assert find_impossible(label, grid, [o for o in said if o in ORGAN_NAMES]) == []


@pytest.mark.parametrize("subject", ABDOMENS)
@pytest.mark.parametrize(("true", "taken"), [(V1, V2), (V2, V1)], ids=["v1 as v2", "v2 as v1"])
def test_numbers_of_the_other_version_on_real_bodies(
    subject: str, true: Dataset, taken: Dataset, tmp_path: Path
) -> None:
    array, values, grid = body(subject)
    path = tmp_path / "label.nii"
    nib.save(nib.Nifti1Image(as_dataset(array, values, true), grid.affine), path)
    look = survey_file(path, [V1, V2])
    assert look.objections[true.name] == ()
    if (subject, true) == ("s0006", V2):  # lungs and pancreas are cut: nothing to tell it by
        return
    assert look.fits == (true.name,)
