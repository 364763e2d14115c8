"""Both kidneys under one value: the right names in every orientation, doubt where there is."""

from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest

from abdomen_phantom import generate
from atlas8k.core.grid import Grid, Volume
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.labels.kidneys import (
    LEFT,
    RIGHT,
    Midline,
    find_midline,
    split_kidneys,
)

FORTY_EIGHT = [
    [[axis, flip] for axis, flip in zip(order, flips, strict=True)]
    for order in permutations(range(3))
    for flips in product((1, -1), repeat=3)
]

SPINE = Midline(0.0, 10.0, "bones")


def turned(volume: Volume, orientation: list[list[int]]) -> Volume:
    """The same patient in another voxel order."""
    array = nib.orientations.apply_orientation(volume.array, orientation)
    inverse = nib.orientations.inv_ornt_aff(orientation, volume.array.shape)
    return Volume(array, Grid(array.shape, volume.grid.affine @ inverse))


def is_organ(label: np.ndarray, organ: str) -> np.ndarray:
    return label == ORGAN_IDS[organ]


def balls(*places: tuple[float, float, float, float], grid: Grid) -> np.ndarray:
    """Balls of centre x, y, z and radius, mm."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1)
    world = index @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    out = np.zeros(grid.shape, bool)
    for *centre, radius in places:
        out |= np.linalg.norm(world - centre, axis=-1) <= radius
    return out


@pytest.fixture(scope="module")
def grid() -> Grid:
    """240 × 90 × 120 mm around the origin, 3 mm, oblique by 10 degrees about z."""
    turn = np.deg2rad(10)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine[:3, :3] *= 3
    affine[:3, 3] = affine[:3, :3] @ [-39.5, -14.5, -19.5]
    return Grid((80, 30, 40), affine)


@pytest.fixture(scope="module")
def patient() -> tuple[Volume, Volume]:
    phantom = generate(1000, grid_spacing_mm=4.0)
    return phantom.ct, phantom.label


@pytest.mark.parametrize("orientation", FORTY_EIGHT, ids=str)
def test_both_kidneys_on_the_right_side_in_every_orientation(
    patient: tuple[Volume, Volume], orientation: list[list[int]]
) -> None:
    ct, label = (turned(volume, orientation) for volume in patient)
    left, right = is_organ(label.array, "kidney_left"), is_organ(label.array, "kidney_right")
    line = find_midline(ct.array, left | right, ct.grid)
    assert line is not None
    assert line.found_by == "bones"
    for midline in (line, None):
        found = split_kidneys(left | right, label.grid, midline)
        np.testing.assert_array_equal(found.sides == LEFT, left)
        np.testing.assert_array_equal(found.sides == RIGHT, right)
        assert (found.left, found.right, found.notes) == ("present", "present", ())


@pytest.mark.parametrize("seed", range(1000, 1006))
@pytest.mark.parametrize("missing", ["kidney_left", "kidney_right"])
def test_one_kidney_keeps_its_side_and_the_other_is_absent(seed: int, missing: str) -> None:
    phantom = generate(seed, grid_spacing_mm=5.0)
    there = "kidney_right" if missing == "kidney_left" else "kidney_left"
    mask = is_organ(phantom.label.array, there)
    found = split_kidneys(
        mask, phantom.label.grid, find_midline(phantom.ct.array, mask, phantom.ct.grid)
    )
    states = {"kidney_left": found.left, "kidney_right": found.right}
    assert states == {there: "present", missing: "absent"}
    number = LEFT if there == "kidney_left" else RIGHT
    np.testing.assert_array_equal(found.sides, number * mask.astype(np.uint8))


def test_no_bones_in_the_ct_the_body_counts(patient: tuple[Volume, Volume]) -> None:
    ct, label = patient
    mask = is_organ(label.array, "kidney_left")
    line = find_midline(np.minimum(ct.array, 200), mask, ct.grid)
    assert line is not None
    assert line.found_by == "body"
    assert split_kidneys(mask, label.grid, line).left == "present"
    assert find_midline(np.full_like(ct.array, 40), mask, ct.grid) is None


def test_contrast_agent_in_the_bowel_does_not_move_the_midline(
    patient: tuple[Volume, Volume],
) -> None:
    ct, label = patient
    kidneys = is_organ(label.array, "kidney_left") | is_organ(label.array, "kidney_right")
    before = find_midline(ct.array, kidneys, ct.grid)
    bright = ct.array.copy()
    bright[is_organ(label.array, "stomach")] = 900
    bright[kidneys] = 600
    after = find_midline(bright, kidneys, ct.grid)
    assert before is not None
    assert after is not None
    assert abs(after.x_mm - before.x_mm) < 15


def test_a_bright_single_kidney_is_no_bone(patient: tuple[Volume, Volume]) -> None:
    ct, _ = patient
    kidney = balls((-60, -40, 0, 40), grid=ct.grid)
    bright = np.where(kidney, 600, np.where(ct.array > 250, 200, ct.array))
    bright[balls((0, -40, 0, 12), grid=ct.grid)] = 700
    line = find_midline(bright, kidney, ct.grid)
    assert line is not None
    assert line.found_by == "bones"
    assert abs(line.x_mm) < 5


def test_a_detached_cyst_and_debris_go_to_the_nearer_kidney(grid: Grid) -> None:
    left = balls((-60, 0, 0, 25), grid=grid)
    right = balls((60, 0, 0, 25), grid=grid)
    cyst = balls((-95, 0, 30, 14), grid=grid)  # 11 ml, a piece of its own
    speck = balls((-12, 0, 0, 4), grid=grid)  # towards the other side, but nearer the left
    found = split_kidneys(left | right | cyst | speck, grid, Midline(-18.0, 10.0, "bones"))
    np.testing.assert_array_equal(found.sides == LEFT, left | cyst | speck)
    np.testing.assert_array_equal(found.sides == RIGHT, right)


def test_a_tumour_that_crosses_the_midline_stays_with_its_kidney(grid: Grid) -> None:
    left = balls((-30, 0, 0, 40), grid=grid)
    right = balls((70, 0, 0, 22), grid=grid)
    found = split_kidneys(left | right, grid, Midline(-15.0, 10.0, "bones"))
    np.testing.assert_array_equal(found.sides == LEFT, left)
    np.testing.assert_array_equal(found.sides == RIGHT, right)
    assert "reaches across" in found.notes[0]


def test_a_horseshoe_is_cut_at_the_spine_and_said(grid: Grid) -> None:
    isthmus = balls(*[(x, 0, -20, 8) for x in range(-50, 51, 6)], grid=grid)
    mask = balls((-50, 0, 0, 25), (50, 0, 0, 25), grid=grid) | isthmus
    found = split_kidneys(mask, grid, SPINE)
    assert (found.left, found.right) == ("present", "present")
    np.testing.assert_array_equal(found.sides > 0, mask)
    share = np.count_nonzero(found.sides == LEFT) / np.count_nonzero(mask)
    assert 0.45 < share < 0.55
    assert "horseshoe" in found.notes[0]
    doubtful = split_kidneys(mask, grid, Midline(0.0, 20.0, "body"))
    assert (doubtful.left, doubtful.right) == ("unknown", "unknown")
    assert not doubtful.sides.any()


@pytest.mark.parametrize(
    ("places", "line", "reason"),
    [
        ([(4, 0, 0, 25)], Midline(12.0, 10.0, "bones"), "cannot be determined"),
        ([(20, 0, 0, 15)], None, "image centre"),
        ([(-95, 0, 0, 20), (-5, 0, 0, 20)], Midline(40.0, 10.0, "bones"), "same side"),
    ],
    ids=["in the middle", "one kidney and no midline", "two kidneys on one side"],
)
def test_what_cannot_be_told_stays_unknown(
    grid: Grid, places: list[tuple[float, float, float, float]], line: Midline | None, reason: str
) -> None:
    found = split_kidneys(balls(*places, grid=grid), grid, line)
    assert (found.left, found.right) == ("unknown", "unknown")
    assert not found.sides.any()
    assert reason in found.notes[0]


def test_specks_far_from_the_only_kidney_make_no_second_one(grid: Grid) -> None:
    kidney = balls((-60, 0, 0, 25), grid=grid)
    speck = balls((70, 0, 0, 4), grid=grid)
    found = split_kidneys(kidney | speck, grid, SPINE)
    np.testing.assert_array_equal(found.sides == LEFT, kidney)
    assert (found.left, found.right) == ("present", "unknown")
    assert "left out" in found.notes[0]


def test_a_small_kidney_is_one(grid: Grid) -> None:
    atrophic = balls((65, 0, 0, 13), grid=grid)  # 9 ml beside 65 ml
    found = split_kidneys(balls((-60, 0, 0, 25), grid=grid) | atrophic, grid, SPINE)
    np.testing.assert_array_equal(found.sides == RIGHT, atrophic)


def test_no_voxels_are_no_kidneys(grid: Grid) -> None:
    found = split_kidneys(np.zeros(grid.shape, bool), grid)
    assert (found.left, found.right) == ("absent", "absent")
