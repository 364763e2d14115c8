"""Every dataset map on phantoms with raw labels of that dataset, and files of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.labels.kit import of_state

from abdomen_phantom import generate
from atlas8k.core.errors import EmptyVolumeError, LabelValueError
from atlas8k.core.grid import Volume
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.labels.datasets import (
    PACKAGED,
    DatasetMapError,
    find_dataset,
    known_datasets,
    read_maps,
)
from atlas8k.labels.kidneys import find_midline
from atlas8k.labels.public import check_values, interpret

# Written down once more from the datasets' own descriptions, not derived from the maps:
# raw values of each organ, "k" for both kidneys, "?" for voxels of any organ, "-" for others.
BTCV = {
    "spleen": [1], "kidney_right": [2], "kidney_left": [3], "gall_bladder": [4], "liver": [6],
    "stomach": [7], "aorta": [8], "postcava": [9], "pancreas": [11], "-": [5, 10, 12, 13],
}  # fmt: skip
ATLAS = {
    "aorta": [1], "gall_bladder": [2], "kidney_left": [3], "kidney_right": [4], "liver": [5],
    "pancreas": [6], "postcava": [7], "spleen": [8], "stomach": [9],
}  # fmt: skip
TRUTH: dict[str, dict[str, list[int]]] = {
    "BTCV": BTCV,
    "AMOS22": {**BTCV, "pancreas": [10], "-": [5, 11, 12, 13, 14, 15]},
    "Pancreas-CT": {"pancreas": [1]},
    "Pancreas-CT multi-organ": {
        "spleen": [1], "kidney_left": [3], "gall_bladder": [4], "liver": [6], "stomach": [7],
        "pancreas": [11], "-": [5, 14],
    },
    "CHAOS": {"liver": [1]},
    "LiTS": {"liver": [1, 2]},
    "MSD03": {"liver": [1, 2]},
    "KiTS": {"k": [1, 2, 3]},
    "MSD06": {"-": [1]},
    "MSD07": {"pancreas": [1, 2]},
    "MSD08": {"-": [1, 2]},
    "MSD09": {"spleen": [1]},
    "MSD10": {"-": [1]},
    "AbdomenCT-1K": {"liver": [1], "k": [2], "spleen": [3], "pancreas": [4]},
    "CT-ORG": {"liver": [1], "k": [4], "-": [2, 3, 5, 6]},
    "WORD": {
        "liver": [1], "spleen": [2], "kidney_left": [3], "kidney_right": [4], "stomach": [5],
        "gall_bladder": [6], "pancreas": [8], "-": [7, *range(9, 17)],
    },
    "FLARE22": {
        "liver": [1], "kidney_right": [2], "spleen": [3], "pancreas": [4], "aorta": [5],
        "postcava": [6], "gall_bladder": [9], "stomach": [11], "kidney_left": [13],
        "?": [14], "-": [7, 8, 10, 12],
    },
    "AbdomenCT-12organ": {
        "liver": [1], "k": [2], "spleen": [3], "pancreas": [4], "aorta": [5], "postcava": [6],
        "stomach": [7], "gall_bladder": [8], "-": [9, 10, 11, 12],
    },
    "AbdomenAtlas 1.0": ATLAS,
    "AbdomenAtlas 1.1": {**ATLAS, "-": [*range(10, 26)]},
    "PanTS": {
        "aorta": [3], "gall_bladder": [11], "kidney_left": [12], "kidney_right": [13],
        "liver": [14], "pancreas": [17, 18, 19, 20, 21, 28], "postcava": [22], "spleen": [24],
        "stomach": [25], "-": [1, 2, *range(4, 11), 15, 16, 23, 26, 27],
    },
    "TotalSegmentator v1": {
        "spleen": [1], "kidney_right": [2], "kidney_left": [3], "gall_bladder": [4],
        "liver": [5], "stomach": [6], "aorta": [7], "postcava": [8], "pancreas": [10],
        "-": [9, *range(11, 105)],
    },
    "FLARE21": {"liver": [1], "k": [2], "spleen": [3], "pancreas": [4]},
    "TotalSegmentator v2": {
        "spleen": [1], "kidney_right": [2], "kidney_left": [3], "gall_bladder": [4],
        "liver": [5], "stomach": [6], "pancreas": [7], "aorta": [52], "postcava": [63],
        "-": [*range(8, 52), *range(53, 63), *range(64, 118)],
    },
}  # fmt: skip
TRUTH["FLARE23"] = TRUTH["FLARE22"]
TRUTH |= {
    "AATTCT-IDS": {},
    "CTSpine1K": {"-": [*range(1, 26)]},
    "Abdominal Trauma Detection": {
        "liver": [1], "spleen": [2], "kidney_left": [3], "kidney_right": [4], "-": [5],
    },
    "JHH": {},
}  # fmt: skip
PER_CASE = {"FLARE22", "FLARE23"}


@pytest.fixture(scope="module")
def patient() -> tuple[Volume, Volume]:
    phantom = generate(1000, grid_spacing_mm=4.0)
    return phantom.ct, phantom.label


def raw_label(truth: np.ndarray, values: dict[str, list[int]]) -> np.ndarray:
    """What the dataset would hold: an organ with several values has one in each slab."""
    raw = np.zeros_like(truth)
    names = {name: ["kidney_left", "kidney_right"] if name == "k" else [name] for name in values}
    for name, of_name in values.items():
        if name in "-?":
            continue
        mask = np.isin(truth, [ORGAN_IDS[organ] for organ in names[name]])
        slabs = np.arange(truth.shape[2]) // 3 % len(of_name)
        raw[mask] = np.broadcast_to(np.array(of_name)[slabs], truth.shape)[mask]
    background = np.argwhere((truth == 0) & (raw == 0))[::97]
    for number, voxel in zip(values.get("-", []), background, strict=False):
        raw[tuple(voxel)] = number
    return raw


def organs_of(values: dict[str, list[int]]) -> set[str]:
    kidneys = {"kidney_left", "kidney_right"} if "k" in values else set()
    return ({*values} & {*ORGAN_NAMES}) | kidneys


def test_every_dataset_is_in_the_table() -> None:
    assert {*known_datasets()} == {*TRUTH}


@pytest.mark.parametrize("name", [name for name in TRUTH if TRUTH[name]])
def test_raw_labels_become_our_organs(name: str, patient: tuple[Volume, Volume]) -> None:
    ct, truth = patient
    values, dataset = TRUTH[name], find_dataset(name)
    raw = raw_label(truth.array, values)
    check_values(Volume(raw, truth.grid), dataset)
    found = interpret(
        raw, truth.grid, dataset, lambda kidneys: find_midline(ct.array, kidneys, ct.grid)
    )
    labeled = organs_of(values)
    wanted = np.where(np.isin(truth.array, [ORGAN_IDS[o] for o in labeled]), truth.array, 0)
    np.testing.assert_array_equal(found.array, wanted)
    assert {organ for organ, s in found.organs.items() if s.source == "public"} == labeled
    assert {*of_state(found, "present")} == labeled
    assert {*of_state(found, "unknown")} == {*ORGAN_NAMES} - labeled
    assert {s.dataset for s in found.organs.values()} == {name}
    assert found.unknown is None


@pytest.mark.parametrize("name", [name for name in TRUTH if organs_of(TRUTH[name])])
def test_an_organ_without_voxels(name: str, patient: tuple[Volume, Volume]) -> None:
    """Absent where the dataset labels it in every case, unknown where not, or where never."""
    ct, truth = patient
    labeled = organs_of(TRUTH[name])
    for organ in labeled:
        without = np.where(truth.array == ORGAN_IDS[organ], 0, truth.array)
        found = interpret(
            raw_label(without, TRUTH[name]),
            truth.grid,
            find_dataset(name),
            lambda kidneys: find_midline(ct.array, kidneys, ct.grid),
        )
        state = found.organs[organ]
        # Nobody lacks these: beside organs that show where they are, they are not labeled.
        beside = {"liver": {"pancreas", "spleen", "stomach"}, "aorta": {"liver"}}
        beside["postcava"] = beside["aorta"]
        if name in PER_CASE or beside.get(organ, set()) & labeled:
            assert (state.source, state.state) == ("pseudo", "unknown")
        else:
            assert (state.source, state.state) == ("public", "absent")
        assert not (found.array == ORGAN_IDS[organ]).any()
        assert {*of_state(found, "present")} == labeled - {organ}


def test_a_tumour_of_any_organ_leaves_its_voxels_open(patient: tuple[Volume, Volume]) -> None:
    _, truth = patient
    raw = raw_label(truth.array, TRUTH["FLARE22"])
    tumour = np.zeros(raw.shape, bool)
    x, y, z = np.argwhere(raw == 1)[500]
    tumour[x - 1 : x + 2, y, z] = True
    raw[tumour] = 14
    found = interpret(raw, truth.grid, find_dataset("FLARE22"))
    assert found.unknown is not None
    np.testing.assert_array_equal(found.unknown, tumour)
    assert not found.array[tumour].any()


@pytest.mark.parametrize("name", [name for name in TRUTH if organs_of(TRUTH[name])])
def test_a_value_the_dataset_does_not_know(name: str, patient: tuple[Volume, Volume]) -> None:
    _, truth = patient
    raw = raw_label(truth.array, TRUTH[name])
    raw[0, 0, 0] = 200
    with pytest.raises(LabelValueError, match=f"value 200 .*{name}"):
        check_values(Volume(raw, truth.grid), find_dataset(name))
    with pytest.raises(EmptyVolumeError, match="every voxel is 0"):
        check_values(Volume(np.zeros_like(raw), truth.grid), find_dataset(name))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("btcv", "BTCV"),
        ("FLARE'23", "FLARE23"),
        ("flare 2022", "FLARE22"),
        ("amos", "AMOS22"),
        ("Task07_Pancreas", "MSD07"),
        ("abdomenct 1k", "AbdomenCT-1K"),
        ("AbdomenAtlas1.1", "AbdomenAtlas 1.1"),
        ("kits_23", "KiTS"),
        ("total-segmentator v2", "TotalSegmentator v2"),
    ],
)
def test_names_as_people_write_them(text: str, name: str) -> None:
    assert find_dataset(text).name == name


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(
        DatasetMapError, match=r"no such dataset; there are AATTCT-IDS, AbdomenAtlas 1\.0, .*"
    ):
        find_dataset("liver things")


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "my.yaml"
        path.write_text(text)
        return path

    return write


def test_a_file_of_the_users_own(own: Callable[[str], Path]) -> None:
    path = own(
        "Our ward:\n  also: [ward]\n  values: {1: Left Kidney, 2: IVC, 7: both kidneys}\n"
        "  other: [9, 20-22]\n  per_case: true\n"
        r"  match: [{label: 'w(\d+)', volume: 'ward_\1'}]"
        "\nLiTS:\n  values: {3: liver}\n"
    )
    ward = find_dataset("WARD", path)
    assert dict(ward.values) == {1: "kidney_left", 2: "postcava", 7: "kidneys"}
    assert ward.organs == ("kidney_left", "kidney_right", "postcava")
    assert ward.other == {9, 20, 21, 22}
    assert ward.per_case
    assert ward.match[0][0].fullmatch("w12")
    assert dict(find_dataset("lits", path).values) == {3: "liver"}
    assert dict(find_dataset("lits").values) == {1: "liver", 2: "liver"}
    assert find_dataset("BTCV", path).name == "BTCV"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "a dataset's name"),
        ("- A", "a dataset's name"),
        ("A: [1", "not YAML"),
        ("A: {values: {1: liver, 1: spleen}}", "the key 1 is there twice"),
        ("A: {values: {1: lung}}", r"A: values\.1: 'lung' is none of"),
        ("A: {values: {0: liver}}", r"A: values\.0"),
        ("A: {values: {256: liver}}", r"A: values\.256"),
        ("A: {values: {1.5: liver}}", r"A: values\.1\.5"),
        ("A: {values: {yes: liver}}", r"A: values"),
        ("A: {values: {1: [liver]}}", r"A: values\.1"),
        ("A: {value: {1: liver}}", r"A: value"),
        ("A: {also: [b]}", "A: values: Field required"),
        ("A: 3", "A: entry"),
        ("A: {values: {1: liver}, other: [1]}", "A: other: 1 is under values"),
        ("A: {values: {1: liver}, other: [9-7]}", "A: other: '9-7'"),
        ("A: {values: {1: liver}, other: [300]}", "A: other: 300"),
        ("A: {values: {1: liver}, per_case: 1}", "A: per_case"),
        ("A: {values: {1: liver}, match: [{label: '(', volume: x}]}", "A: match: '\\('"),
        ("A: {values: {1: liver}, match: [{label: a, volume: '\\1'}]}", "A: match: 'a'"),
        ("A: {values: {1: liver}}\na: {values: {2: liver}}", "a name in common"),
    ],
)
def test_a_wrong_file_names_the_place(own: Callable[[str], Path], text: str, reason: str) -> None:
    path = own(text)
    with pytest.raises(DatasetMapError, match=reason) as caught:
        read_maps(path)
    assert str(caught.value).startswith(str(path))


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(DatasetMapError, match="cannot be read"):
        read_maps(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DatasetMapError, match="not YAML"):
        read_maps(tmp_path / "binary.yaml")


def test_the_packaged_maps_are_a_file_of_the_same_form() -> None:
    assert {*read_maps(PACKAGED)} == {*TRUTH}
