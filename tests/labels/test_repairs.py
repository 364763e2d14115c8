"""Repairs are proposed for planted faults, say what they do, and leave the rest alone."""

from __future__ import annotations

import numpy as np
import pytest

from abdomen_phantom import generate
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.labels.checks import label_findings
from atlas8k.labels.repairs import Repair, propose, repaired

AORTA, LIVER, SPLEEN = (ORGAN_IDS[name] for name in ("aorta", "liver", "spleen"))
LEFT, RIGHT = ORGAN_IDS["kidney_left"], ORGAN_IDS["kidney_right"]


@pytest.fixture(scope="module")
def truth() -> tuple[np.ndarray, Grid]:
    phantom = generate(1000, grid_spacing_mm=4.0)
    clean = repaired(phantom.label.array, propose(phantom.label.array, phantom.label.grid))
    assert propose(clean, phantom.label.grid) == []  # done once, nothing is left to do
    return clean, phantom.label.grid


def only(array: np.ndarray, grid: Grid, rule: str) -> Repair:
    (one,) = propose(array, grid)
    assert one.rule == rule
    return one


def exchanged(array: np.ndarray) -> np.ndarray:
    out = array.copy()
    out[array == LEFT], out[array == RIGHT] = RIGHT, LEFT
    return out


def test_swapped_kidneys_are_exchanged_and_nothing_else(truth: tuple[np.ndarray, Grid]) -> None:
    array, grid = truth
    wrong = exchanged(array)
    kept = wrong.copy()
    one = only(wrong, grid, "swapped")
    assert np.array_equal(wrong, kept)  # a proposal changes nothing
    assert np.array_equal(repaired(wrong, [one]), array)


def test_of_a_mirrored_patient_no_two_organs_are_exchanged(
    truth: tuple[np.ndarray, Grid],
) -> None:
    array, grid = truth
    assert "swapped" not in {one.rule for one in propose(array[::-1], grid)}


def test_islands_are_taken_off(truth: tuple[np.ndarray, Grid]) -> None:
    array, grid = truth
    wrong = array.copy()
    free = np.argwhere(array[5:-5, 5:-5, 5:-5] == 0)[0] + 5
    wrong[tuple(free)] = SPLEEN
    one = only(wrong, grid, "islands")
    assert (one.organ, one.ml) == ("spleen", pytest.approx(grid.voxel_ml))
    assert np.array_equal(repaired(wrong, [one]), array)


def test_a_piece_inside_another_organ_goes_to_that(truth: tuple[np.ndarray, Grid]) -> None:
    array, grid = truth
    wrong = array.copy()
    centre = np.argwhere(array == LIVER).mean(axis=0).astype(int)
    block = tuple(slice(c - 1, c + 2) for c in centre)
    assert (array[tuple(slice(c - 2, c + 3) for c in centre)] == LIVER).all()
    wrong[block] = SPLEEN
    one = only(wrong, grid, "inside")
    assert "inside liver" in one.text
    assert np.array_equal(repaired(wrong, [one]), array)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_a_broken_aorta_is_drawn_through(
    truth: tuple[np.ndarray, Grid], axes: tuple[int, int, int]
) -> None:
    array, grid = truth
    wrong = array.copy()
    slices = np.flatnonzero((array == AORTA).any(axis=(0, 1)))
    gone = slices[len(slices) // 2 : len(slices) // 2 + 6]
    part = wrong[:, :, gone]
    part[part == AORTA] = 0
    wrong[:, :, gone] = part
    affine = grid.affine.copy()
    affine[:3, :3] = affine[:3, :3][:, list(axes)]
    turned, on = np.transpose(wrong, axes), Grid(tuple(np.array(grid.shape)[list(axes)]), affine)
    one = only(turned, on, "gap")
    fixed = np.transpose(repaired(turned, [one]), np.argsort(axes))
    drawn, true = fixed[:, :, gone] == AORTA, array[:, :, gone] == AORTA
    dsc = 2 * (drawn & true).sum() / (drawn.sum() + true.sum())
    assert dsc > 0.8
    outside = np.setdiff1d(np.arange(array.shape[2]), gone)
    assert np.array_equal(fixed[:, :, outside], array[:, :, outside])
    assert "gap" not in {found.rule for found in label_findings(fixed, grid)}


def test_a_long_gap_is_not_guessed(truth: tuple[np.ndarray, Grid]) -> None:
    array, grid = truth
    wrong = array.copy()
    slices = np.flatnonzero((array == AORTA).any(axis=(0, 1)))
    wrong[:, :, slices[2:-2]] = np.where(
        array[:, :, slices[2:-2]] == AORTA, 0, array[:, :, slices[2:-2]]
    )
    assert "gap" not in {one.rule for one in propose(wrong, grid)}


def test_of_two_repairs_of_a_voxel_the_first_counts(truth: tuple[np.ndarray, Grid]) -> None:
    array, _ = truth
    at = tuple(np.array([axis]) for axis in np.argwhere(array == LIVER)[0])
    one, two = (
        Repair("liver", "islands", "", at, np.array([value], np.uint8), 1.0)
        for value in (0, SPLEEN)
    )
    assert repaired(array, [one, two])[at] == 0
    assert repaired(array, [two, one])[at] == SPLEEN


def test_an_empty_map_has_nothing_to_repair() -> None:
    grid = Grid((8, 8, 8), np.eye(4))
    assert propose(np.zeros(grid.shape, np.uint8), grid) == []
