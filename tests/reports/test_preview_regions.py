"""The picture of regions: the right way round, at the right place, on any grid."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest

from atlas8k.core.errors import UnreadableVolumeError
from atlas8k.core.volume import Grid, Volume
from atlas8k.reports.preview import (
    PIXELS,
    View,
    draw_regions,
    lookup,
    middle_mm,
    plane_points,
    window_mm,
)

CODES = [
    "".join(codes)
    for pairs in itertools.permutations(["LR", "PA", "IS"])
    for codes in itertools.product(*pairs)
]


def ct(codes: str = "RAS") -> Volume:
    """Tissue in air with a bright block at the patient's right front."""
    array = np.full((60, 50, 40), -1000.0, np.float32)
    array[6:54, 6:44] = 40
    array[40:48, 30:38, 14:24] = 1000
    grid = Grid(array.shape, np.diag([2.0, 2.0, 3.0, 1.0]))
    to = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(grid.affine), nib.orientations.axcodes2ornt(codes)
    )
    turned = nib.orientations.apply_orientation(array, to)
    affine = grid.affine @ nib.orientations.inv_ornt_aff(to, grid.shape)
    return Volume(turned, Grid(turned.shape, affine))


def view(volume: Volume, title: str = "1 liver") -> View:
    mask = volume.array > 500
    middle = np.argwhere(mask).mean(axis=0)
    point = volume.grid.affine[:3, :3] @ middle + volume.grid.affine[:3, 3]
    return View(point, title, Volume(mask, volume.grid))


@pytest.mark.parametrize("codes", CODES)
def test_pixels_lie_where_a_radiologist_looks_for_them(codes: str) -> None:
    volume = ct(codes)
    directions = np.eye(3)
    points = plane_points((60.0, 50.0, 57.0), directions, 0, 1, 140.0)
    image = lookup(volume, points, order=0, fill=-2000)
    rows, columns = np.nonzero(image > 500)
    assert len(rows)
    # Large x is the patient's right, drawn at the left; large y the front, drawn at the top.
    assert columns.max() < PIXELS / 2
    assert rows.max() < PIXELS / 2
    assert image.shape == (PIXELS, PIXELS)
    mm = len(rows) * (140.0 / PIXELS) ** 2
    assert mm == pytest.approx(16 * 16, rel=0.03)


@pytest.mark.parametrize("codes", ["RAS", "LPI", "SAL"])
def test_the_window_is_around_the_region(codes: str) -> None:
    found = view(ct(codes))
    assert middle_mm(found) == pytest.approx((87, 67, 55.5))
    assert window_mm(found.mask) == 130  # 30 mm with margins is less than the least
    empty = Volume(np.zeros((4, 4, 4), bool), Grid((4, 4, 4), np.eye(4)))
    assert window_mm(empty) == 300
    long = Volume(np.ones((4, 4, 60), bool), Grid((4, 4, 60), np.diag([1.0, 1.0, 3.0, 1.0])))
    assert window_mm(long) == 230


def draw(path: Path, volume: Volume, n: int = 1, heat: float = 0.8) -> np.ndarray:
    label = Volume(np.where(volume.array > 500, 5, 0).astype(np.uint8), volume.grid)
    warm = Volume(np.where(volume.array > 500, heat, 0).astype(np.float32), volume.grid)
    draw_regions(path, volume, label, warm, [view(volume)] * n, title="case")
    return matplotlib.image.imread(path)


def test_the_picture_does_not_depend_on_the_files_axes(tmp_path: Path) -> None:
    plain, turned = (draw(tmp_path / f"{codes}.png", ct(codes)) for codes in ("RAS", "ILP"))
    assert plain.shape == turned.shape
    # Contours may fall on either side of a pixel.
    assert (np.abs(plain - turned).max(axis=2) > 0.15).mean() < 0.01


def test_heat_shows(tmp_path: Path) -> None:
    cold, warm = draw(tmp_path / "a.png", ct(), heat=0), draw(tmp_path / "b.png", ct(), heat=0.8)
    assert (np.abs(cold - warm).max(axis=2) > 0.1).mean() > 0.01


def test_a_row_a_region(tmp_path: Path) -> None:
    one, three = (draw(tmp_path / f"{n}.png", ct(), n) for n in (1, 3))
    assert three.shape[0] > 2 * one.shape[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.png", "3.png"]


@pytest.mark.parametrize(("name", "n"), [("x.txt", 1), ("x.png", 0)])
def test_what_cannot_be_drawn_is_said(tmp_path: Path, name: str, n: int) -> None:
    with pytest.raises(UnreadableVolumeError, match=r"x\."):
        draw(tmp_path / name, ct(), n)
    assert not list(tmp_path.iterdir())
