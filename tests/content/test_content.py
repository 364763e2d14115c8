"""What is in a volume: HU or not, a label map, an abdomen or none."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from tests.content.kit import (
    ABDOMENS,
    NO_ABDOMENS,
    heights,
    not_hu,
    painted,
    real,
    still_hu,
)

from abdomen_phantom import SHIFTED, STANDARD, generate
from atlas8k.content import inspect_content
from atlas8k.content.damage import damage_remarks
from atlas8k.content.intensity import intensity_remarks, unexplained
from atlas8k.core.grid import Grid, Volume
from atlas8k.core.volume import read_label

WIDE = replace(
    SHIFTED,
    name="wide",
    noise_hu=(3.0, 60.0),
    body_scale=(0.65, 1.3),
    fat_mm=(0.0, 70.0),
    roll_deg=90.0,
    place_mm=12.0,
    size_spread=0.3,
)


def kinds(volume: Volume) -> list[str]:
    """Kinds of what leaves a volume out; notes are no alarm."""
    return [one.kind for one in inspect_content(volume) if one.level != "note"]


def text(volume: Volume) -> str:
    (found,) = inspect_content(volume)
    return found.text


@pytest.fixture(scope="module")
def phantom() -> Volume:
    made = generate(3, STANDARD, grid_spacing_mm=4.0).ct
    return Volume(made.array.astype(np.float32), made.grid)


@pytest.mark.parametrize("setting", [STANDARD, SHIFTED, WIDE], ids=lambda one: one.name)
@pytest.mark.parametrize("seed", range(4))
def test_phantoms_of_any_setting_raise_no_alarm(setting: object, seed: int) -> None:
    ct = generate(100 + seed, setting, grid_spacing_mm=4.0).ct  # type: ignore[arg-type]
    assert inspect_content(Volume(ct.array.astype(np.float32), ct.grid)) == ()


@pytest.mark.parametrize("name", [*ABDOMENS, "cptac-pda-dicom"])
def test_real_abdominal_cts_raise_no_alarm(name: str) -> None:
    ct = real(name)
    assert kinds(ct) == []
    for how, array in still_hu(ct.array):
        assert kinds(Volume(array, ct.grid)) == [], how


@pytest.mark.parametrize("name", [*ABDOMENS, *NO_ABDOMENS, "cptac-pda-dicom"])
def test_values_of_another_scale_are_seen_in_real_cts(name: str) -> None:
    ct = real(name)
    ct = Volume(np.where(ct.array < -1300, -1024, ct.array), ct.grid)
    for how, array in not_hu(ct.array):
        assert kinds(Volume(array, ct.grid)) == ["not_hu"], how


def test_values_of_another_scale_are_seen_in_phantoms_and_hu_are_not(phantom: Volume) -> None:
    for how, array in still_hu(phantom.array):
        assert kinds(Volume(array, phantom.grid)) == [], how
    for how, array in not_hu(phantom.array):
        assert kinds(Volume(array, phantom.grid)) == ["not_hu"], how


@pytest.mark.parametrize(
    ("shift", "said"),
    [
        (1024, "values look shifted by about +1024: air at 24 HU. "
         "Export the CT again in HU, or subtract 1024."),
        (-1024, "values look shifted by about -1024: air at -2024 HU. "
         "Export the CT again in HU, or add 1024."),
        (500, "values look shifted by +500: air at -500 HU."),
    ],
)  # fmt: skip
def test_a_shift_is_named_with_what_undoes_it(phantom: Volume, shift: float, said: str) -> None:
    found = text(Volume(phantom.array + shift, phantom.grid))
    if shift == 500:  # guessed from where air or soft tissue would be: to the width of a peak
        assert found.startswith("values look shifted by about +")
        assert abs(int(found.split("about +")[1].split(":")[0]) - shift) <= 40
    else:
        assert found == said


def test_grey_levels_and_padding_are_named(phantom: Volume) -> None:
    grey = np.rint(np.clip((phantom.array + 175) / 425, 0, 1) * 255)
    assert "from 0 to 255: a window of grey levels" in text(Volume(grey, phantom.grid))
    assert "from 0 to 1: scaled" in text(Volume(grey / 255, phantom.grid))
    padded = phantom.array.copy()
    padded[:6] = -3024
    assert "padding of -3024; taken for air" in text(Volume(padded, phantom.grid))
    cut = np.clip(phantom.array, -175, 250)
    assert "cut off at -175 and 250 HU" in text(Volume(cut, phantom.grid))


def test_a_label_map_is_no_ct() -> None:
    label = generate(3, STANDARD, grid_spacing_mm=4.0).label
    found = text(Volume(label.array.astype(np.float32), label.grid))
    assert found.startswith("10 whole numbers from 0 to 9 without noise: a label map")
    mask = (label.array == 5).astype(np.float32)
    assert kinds(Volume(mask, label.grid)) == ["label_map"]
    assert kinds(Volume(mask * 255, label.grid)) == ["label_map"]


@pytest.mark.parametrize("subject", ["s0000", "s0002", "s0003", "s0006", "s0009"])
def test_label_maps_of_real_bodies_are_no_ct(subject: str) -> None:
    from tests.content.kit import BODIES

    path = BODIES / f"{subject}_structures.nii.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    label = read_label(path)
    assert kinds(Volume(label.array.astype(np.float32), label.grid)) == ["label_map"]


@pytest.mark.parametrize("name", NO_ABDOMENS)
def test_head_and_neck_hold_no_abdomen(name: str) -> None:
    ct = real(name)
    assert kinds(ct) == ["no_abdomen"]
    assert "a head or neck" in text(ct)
    clipped = Volume(np.clip(ct.array, -1024, 1023), ct.grid)
    assert kinds(clipped) == ["no_abdomen"]


def test_a_limb_holds_no_abdomen_and_trunks_do() -> None:
    assert kinds(painted("s0000")) == ["no_abdomen"]
    for subject in ("s0001", "s0006", "s0328"):
        assert kinds(painted(subject)) == [], subject


@pytest.mark.parametrize("subject", ["s0004", "s0327"])
def test_of_a_trunk_only_the_chest_holds_no_abdomen(subject: str) -> None:
    trunk = painted(subject)
    assert kinds(trunk) == []
    assert kinds(heights(trunk, 0.4, 0.75)) == []
    chest = heights(trunk, 0.72, 0.95)
    assert kinds(chest) == ["no_abdomen"]


def test_a_trunk_stored_upside_down_is_seen_by_its_lungs() -> None:
    trunk = painted("s0004")
    assert "upside down" in text(Volume(trunk.array[..., ::-1], trunk.grid))


def test_few_slices_and_topograms_hold_no_abdomen(phantom: Volume) -> None:
    n = phantom.grid.shape
    few = (slice(0, n[0]), slice(0, n[1]), slice(20, 23))
    ct = Volume(phantom.array[few], phantom.grid.crop(few))
    assert text(ct).startswith("no abdomen found: it has 3 axial slices over 12 mm")
    thin = (slice(0, n[0]), slice(n[1] // 2, n[1] // 2 + 2), slice(0, n[2]))
    topogram = Volume(phantom.array[thin], phantom.grid.crop(thin))
    assert "2 coronal slices over 8 mm" in text(topogram)


@pytest.mark.parametrize("scale", [(10, 10, 10), (10, 10, 1), (1, 1, 10), (0.1, 0.1, 0.1)])
def test_a_voxel_size_that_is_a_factor_off_is_seen(
    scale: tuple[float, float, float], phantom: Volume
) -> None:
    affine = phantom.grid.affine @ np.diag([*scale, 1.0])
    said = text(Volume(phantom.array, Grid(phantom.grid.shape, affine)))
    assert ("its voxel size may be wrong" in said) == (max(scale) > 1)


def test_the_look_for_damage_copies_no_ct() -> None:
    """It is done on every CT: its work is a share of the voxels, not all of them again."""
    array = np.random.default_rng(0).normal(0, 50, (192, 192, 192)).astype(np.float32)
    array = np.asfortranarray(array)
    tracemalloc.start()
    assert damage_remarks(array, (0.8, 0.8, 1.0)) == ()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.6 * array.nbytes


def test_air_alone_holds_no_abdomen() -> None:
    noise = np.random.default_rng(0).normal(-1000, 8, (40, 40, 40)).astype(np.float32)
    assert kinds(Volume(noise, Grid((40, 40, 40), np.diag([4.0, 4.0, 4.0, 1.0])))) != []


def test_a_shift_is_far_from_what_noise_does(phantom: Volume) -> None:
    assert unexplained(phantom.array) < 0.4
    assert unexplained(phantom.array + 1024) > 1.0


@pytest.mark.parametrize("axes", [(1, 0, 2), (0, 2, 1), (2, 1, 0)])
@pytest.mark.parametrize("name", [*ABDOMENS, "phantom"])
def test_sizes_exchanged_in_a_header_are_seen(
    phantom: Volume, name: str, axes: tuple[int, int, int]
) -> None:
    volume = phantom if name == "phantom" else real(name)
    shape = tuple(volume.array.shape[axis] for axis in axes)
    array = volume.array.ravel(order="F").reshape(shape, order="F")
    if shape == volume.array.shape:
        pytest.skip("these axes are of one size")
    found = inspect_content(Volume(array, Grid(shape, volume.grid.affine)))
    assert {one.kind for one in found if one.level == "blocked"} == {"damaged"}
    assert "exchanged" in next(one.text for one in found if one.kind == "damaged")


def test_slices_of_another_scale_are_seen(phantom: Volume) -> None:
    array = phantom.array.copy()
    array[..., 20] += 1024
    (found,) = inspect_content(Volume(array, phantom.grid))
    assert (found.kind, found.level) == ("damaged", "blocked")
    assert "slices 20 and 21 of" in found.text


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_slices_that_did_not_arrive_are_named(phantom: Volume, share: float) -> None:
    array = phantom.array.copy()
    array[:, : round(share * array.shape[1]), 20] = 0
    found = inspect_content(Volume(array, phantom.grid))
    assert "blank_slices" in {one.kind for one in found}


@pytest.mark.parametrize("value", [1e30, -1e9, 3e38])
def test_values_beyond_any_scanner_are_named(phantom: Volume, value: float) -> None:
    array = phantom.array.copy()
    array[3, 4, 5] = value
    (found,) = inspect_content(Volume(array, phantom.grid))
    assert found.kind == "outliers"
    assert found.text.startswith("1 voxels are beyond")
    # As when a type is wrongly said: no histogram is made of so wide a scale.
    assert kinds(Volume(phantom.array * np.float32(1e32), phantom.grid)) == ["not_hu"]


@pytest.mark.parametrize("air", [-1024, -1000])
def test_air_of_one_number_around_the_body_is_hu(phantom: Volume, air: int) -> None:
    masked = np.where(phantom.array < -600, air, phantom.array)
    wide = np.full((2 * masked.shape[0], 2 * masked.shape[1], masked.shape[2]), air, masked.dtype)
    wide[: masked.shape[0], : masked.shape[1]] = masked
    assert intensity_remarks(wide) == ()
    assert [one.kind for one in intensity_remarks(wide + 1024)] == ["not_hu"]
