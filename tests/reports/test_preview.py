"""Pictures show the patient the right way round, whatever the file's axes are."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib.colors
import matplotlib.image
import nibabel as nib
import numpy as np
import pytest

from atlas8k.core.errors import GridMismatchError
from atlas8k.core.volume import Grid, Volume
from atlas8k.reports.preview import ATTENTION_COLOR, best_point, draw_planes


def scene() -> tuple[Volume, np.ndarray]:
    """A block of tissue in air, a bright cube at the patient's right front, RAS."""
    ct = np.full((40, 32, 24), -1000.0, np.float32)
    ct[4:36, 4:28] = 40
    ct[26:32, 20:26, 8:14] = 1000  # large x: right; large y: front
    label = np.zeros(ct.shape, np.uint8)
    label[26:32, 20:26, 8:14] = 5
    grid = Grid(ct.shape, np.diag([2.0, 2.0, 3.0, 1.0]))
    return Volume(ct, grid), label


def reorient(volume: Volume, codes: tuple[str, ...]) -> Volume:
    target = nib.orientations.axcodes2ornt(codes)
    array = nib.orientations.apply_orientation(volume.array, target_from(volume, target))
    affine = volume.grid.affine @ nib.orientations.inv_ornt_aff(
        target_from(volume, target), volume.grid.shape
    )
    return Volume(array, Grid(array.shape, affine))


def target_from(volume: Volume, target: np.ndarray) -> np.ndarray:
    return nib.orientations.ornt_transform(
        nib.orientations.io_orientation(volume.grid.affine), target
    )


CODES = [
    codes
    for pairs in itertools.permutations([("L", "R"), ("P", "A"), ("I", "S")])
    for codes in itertools.product(*pairs)
]


@pytest.mark.parametrize("codes", CODES[::9])
def test_every_orientation_gives_the_same_picture(tmp_path: Path, codes):
    ct, label = scene()
    draw_planes(tmp_path / "ras.png", ct, label, label > 0)
    turned = reorient(ct, codes)
    turned_label = reorient(Volume(label, ct.grid), codes).array
    assert turned.grid.orientation == "".join(codes)
    draw_planes(tmp_path / "turned.png", turned, turned_label, turned_label > 0)
    np.testing.assert_array_equal(
        matplotlib.image.imread(tmp_path / "ras.png"),
        matplotlib.image.imread(tmp_path / "turned.png"),
    )


def test_attention_is_outlined_in_every_plane(tmp_path: Path):
    ct, label = scene()
    attention = np.zeros(label.shape, bool)
    attention[10:18, 8:16, 8:16] = True
    for name, marked in (("with", attention), ("without", None)):
        draw_planes(tmp_path / f"{name}.png", ct, label, marked, point=(14, 12, 12))
    pixels = matplotlib.image.imread(tmp_path / "with.png")[..., :3]
    plain = matplotlib.image.imread(tmp_path / "without.png")[..., :3]
    pictures = int(0.88 * len(pixels))  # the legend is below
    for part, before in zip(
        np.array_split(pixels[:pictures], 3, axis=1),
        np.array_split(plain[:pictures], 3, axis=1),
        strict=True,
    ):
        red = np.abs(part - matplotlib.colors.to_rgb(ATTENTION_COLOR)).max(axis=-1) < 0.02
        assert red.sum() > 20
        assert not np.array_equal(part, before)
    assert not (np.abs(plain - matplotlib.colors.to_rgb(ATTENTION_COLOR)).max(axis=-1) < 0.02).any()


def test_right_is_left_and_front_is_up(tmp_path: Path):
    ct, _ = scene()
    draw_planes(tmp_path / "ct.png", ct, point=(28, 22, 10))
    picture = matplotlib.image.imread(tmp_path / "ct.png").mean(axis=2)
    height, width = picture.shape
    axial = picture[int(0.12 * height) : int(0.9 * height), : width // 3]
    rows, columns = np.nonzero(axial > 0.99)
    tissue_rows, tissue_columns = np.nonzero(axial > 0.5)
    assert columns.mean() < tissue_columns.mean()
    assert rows.mean() < tissue_rows.mean()


def test_best_point_is_where_most_is():
    mask = np.zeros((10, 10, 10), bool)
    mask[2, 1:9, 1:3] = True
    mask[7, 4, 5] = True
    assert best_point(mask)[0] == 2
    assert best_point(np.zeros((10, 8, 6), bool)) == (5, 4, 3)


def test_arrays_on_another_grid_are_refused(tmp_path: Path):
    ct, label = scene()
    with pytest.raises(GridMismatchError, match="label"):
        draw_planes(tmp_path / "x.png", ct, label[1:])
