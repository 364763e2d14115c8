"""Strokes on a CT of any spacing and orientation: checked, answered, all else as it was."""

from __future__ import annotations

import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

from atlas8k.core.grid import Grid
from atlas8k.refine.features import Scene
from atlas8k.refine.strokes import Opinions, StrokeError, Strokes, refine

NONE = np.zeros((0, 3), dtype=np.intp)
GRID = Grid((60, 50, 40), np.diag([1.5, 1.5, 2.0, 1.0]))


def ball(grid: Grid, centre: tuple[float, ...], radius_mm: float) -> np.ndarray:
    at = np.indices(grid.shape).reshape(3, -1)
    mm = grid.affine[:3, :3] @ at + grid.affine[:3, 3:]
    near = np.linalg.norm(mm.T - centre, axis=1) <= radius_mm
    return near.reshape(grid.shape)


def bright(scene: Scene, where: np.ndarray) -> np.ndarray:
    """A judge: what is bright is the organ."""
    return np.where(np.asarray(scene.ct)[where] > 20, 6.0, -6.0).astype(np.float32)


def nobody(_: Grid) -> Opinions | None:
    return None


def case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A CT, its label and its truth; 7 is another organ."""
    truth = ball(GRID, (45, 37, 40), 12) | ball(GRID, (45, 37, 56), 7)
    label = np.where(ball(GRID, (45, 37, 40), 12), 3, 0).astype(np.uint8)
    label[2:6, 2:6, 2:6] = 7
    return np.where(truth, 100, -60).astype(np.int16), label, truth


def voxels(grid: Grid, *places_mm: tuple[float, float, float]) -> np.ndarray:
    inverse = np.linalg.inv(grid.affine)
    return np.rint(np.array(places_mm) @ inverse[:3, :3].T + inverse[:3, 3]).astype(np.intp)


def test_a_stroke_brings_the_missing_piece_and_nothing_else() -> None:
    ct, label, truth = case()
    found = refine(ct, label, GRID, 3, Strokes(voxels(GRID, (45, 37, 58)), NONE), nobody, bright)
    missing = truth & (label == 0)
    assert ((found.label == 3) & missing).sum() > 0.85 * missing.sum()
    assert ((found.label == 3) & ~truth).sum() < 0.1 * missing.sum()
    assert np.array_equal(found.label == 7, label == 7)
    assert not ((label == 3) & (found.label != 3)).any()
    assert found.added == ((found.label == 3) & (label != 3)).sum()
    assert found.removed == 0
    assert not found.predicted
    assert label[voxels(GRID, (45, 37, 58))[0][0], 0, 0] == 0  # what was given is not written to


@pytest.mark.parametrize("way", ["LPS", "PIR", "SRA", "ASL"])
def test_the_orientation_of_the_file_changes_nothing(way: str) -> None:
    ct, label, _ = case()
    straight = refine(ct, label, GRID, 3, Strokes(voxels(GRID, (45, 37, 58)), NONE), nobody, bright)
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(way))
    turned = apply_orientation(label, turn)
    affine = GRID.affine @ inv_ornt_aff(turn, GRID.shape)
    grid = Grid(turned.shape, affine)
    there = Strokes(voxels(grid, (45, 37, 58)), NONE)
    found = refine(apply_orientation(ct, turn), turned, grid, 3, there, nobody, bright)
    assert np.array_equal(found.label, apply_orientation(straight.label, turn))


def test_on_fine_voxels_the_outline_is_as_smooth_as_the_ct() -> None:
    fine = Grid((110, 100, 100), np.diag([0.8, 0.8, 0.8, 1.0]))
    truth = ball(fine, (40, 40, 30), 12) | ball(fine, (40, 40, 46), 8)
    label = np.where(ball(fine, (40, 40, 30), 12), 5, 0).astype(np.uint8)
    ct = np.where(truth, 100, -60).astype(np.int16)
    found = refine(ct, label, fine, 5, Strokes(voxels(fine, (40, 40, 49)), NONE), nobody, bright)
    mask = found.label == 5
    wrong = (mask ^ truth).sum()
    assert wrong < 0.25 * (truth & (label == 0)).sum()


def test_too_much_is_taken_away_and_becomes_nothing() -> None:
    ct, label, truth = case()
    label[ball(GRID, (45, 37, 16), 8) & ~truth] = 3
    found = refine(ct, label, GRID, 3, Strokes(NONE, voxels(GRID, (45, 37, 14))), nobody, bright)
    assert found.added == 0
    assert set(np.unique(found.label[label != found.label])) == {0}
    assert ((found.label == 3) & ~truth).sum() < 0.15 * ((label == 3) & ~truth).sum()


@pytest.mark.parametrize(
    ("inside", "outside", "says"),
    [
        (NONE, NONE, "no voxel is marked"),
        ([[60, 0, 0]], NONE, "a stroke has voxel 60, 0, 0; the CT has 60 x 50 x 40"),
        ([[0, 0, -1]], NONE, "a stroke has voxel 0, 0, -1"),
        ([[5, 5, 5], [1, 2, 3]], [[1, 2, 3]], "1 voxels are marked as organ and as not this organ"),
    ],
)
def test_strokes_that_cannot_be_meant_are_refused(inside: list, outside: list, says: str) -> None:
    strokes = Strokes(np.array(inside, dtype=np.intp), np.array(outside, dtype=np.intp))
    with pytest.raises(StrokeError, match=says):
        strokes.check(GRID.shape, "a CT")


def test_strokes_all_over_a_ct_are_refused_and_thousands_in_one_place_are_not() -> None:
    grid = Grid((400, 400, 400), np.eye(4))
    label = np.zeros(grid.shape, dtype=np.uint8)
    ends = Strokes(np.array([[10, 10, 10], [390, 390, 390]]), NONE)
    with pytest.raises(StrokeError, match="send those of one place at a time"):
        ends.contradicting(label, 1).box(grid, "a CT")
    rng = np.random.default_rng(1)
    ct, small, _ = case()
    many = np.unique(rng.integers(20, 30, (10_000, 3)), axis=0)
    found = refine(ct, small, GRID, 3, Strokes(many, NONE), nobody, bright)
    assert (found.label[tuple(many.T)] == 3).all()
