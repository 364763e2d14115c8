"""A small picture shows the patient the same way round, however the file's axes lie."""

from __future__ import annotations

import io
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from atlas8k.core.errors import UnreadableVolumeError
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGANS
from atlas8k.core.volume import write_nifti
from atlas8k.reports.thumbnail import ONLY_FIRST, ONLY_SECOND, Spot, draw, draw_compared

CODES = sorted(
    "".join(signs[i][axis] for i, axis in enumerate(order))
    for order in permutations(range(3))
    for signs in product(*[("LPS", "RAI")] * 3)
)
SHAPE, SPACING = (40, 30, 20), (2.0, 2.0, 3.0)


def files(folder: Path, codes: str) -> tuple[Path, Path, Grid]:
    """A CT and a label, drawn in RAS and stored otherwise: a liver at the right and in front."""
    ct = np.full(SHAPE, -1000, np.int16)
    ct[4:36, 4:26] = 40
    label = np.zeros(SHAPE, np.uint8)
    label[24:34, 17:25, 6:14] = 5  # RAS: x grows to the right, y to the front
    affine = np.diag([*SPACING, 1.0])
    out = []
    for name, array in (("ct", ct), ("label", label)):
        image = nib.Nifti1Image(array, affine)
        turn = nib.orientations.ornt_transform(
            nib.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(codes))
        )
        turned = image.as_reoriented(turn)
        grid = Grid(turned.shape, turned.affine)
        out.append(write_nifti(folder / f"{name}.nii.gz", np.asarray(turned.dataobj), grid))
    return out[0], out[1], grid


def opened(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


def where(picture: np.ndarray, color: tuple[int, int, int]) -> tuple[float, float]:
    """Centre of a colour, as shares of the picture's height and width."""
    gray = np.full(3, 200 / 400 * 255)
    seen = np.abs(picture - (0.58 * gray + 0.42 * np.array(color))).max(axis=2) < 30
    colored = (picture.max(axis=2) - picture.min(axis=2)) > 20
    rows, columns = np.nonzero(seen & colored)
    assert len(rows) > 50
    return float(rows.mean() / picture.shape[0]), float(columns.mean() / picture.shape[1])


@pytest.mark.parametrize("codes", CODES)
def test_right_is_left_and_front_is_up(tmp_path: Path, codes: str) -> None:
    ct, label, grid = files(tmp_path, codes)
    axis = next(i for i, code in enumerate(grid.orientation) if code in "SI")
    index = 10 if grid.orientation[axis] == "S" else SHAPE[2] - 1 - 10
    picture = opened(draw(ct, label, Spot(axis, index)))
    assert picture.shape[:2] == (192, 256)  # 60 mm high, 80 mm wide
    row, column = where(picture, ORGANS[4].color)
    # In RAS the patient's right is at large x: at the left of the picture.
    assert column == pytest.approx(1 - 29 / 40, abs=0.02)
    assert row == pytest.approx(1 - 21 / 30, abs=0.02)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAL"])
def test_the_box_is_around_the_region(tmp_path: Path, codes: str) -> None:
    ct, _, grid = files(tmp_path, codes)
    label = nib.load(tmp_path / "label.nii.gz").get_fdata()
    inside = np.argwhere(label > 0)
    axis = next(i for i, code in enumerate(grid.orientation) if code in "SI")
    start, stop = tuple(inside.min(axis=0)), tuple(inside.max(axis=0) + 1)
    spot = Spot(axis, int(inside[:, axis].mean()), start, stop)
    picture = opened(draw(ct, None, spot))
    cyan = (picture[..., 2] - picture[..., 0]) > 100
    rows, columns = np.nonzero(cyan)
    box = [rows.min() / 192, rows.max() / 192, columns.min() / 256, columns.max() / 256]
    assert box == pytest.approx([5 / 30, 13 / 30, 6 / 40, 16 / 40], abs=0.025)


def test_without_label_and_place(tmp_path: Path) -> None:
    ct, label, _ = files(tmp_path, "RAS")
    plain = draw(ct, None, None)
    assert opened(plain).shape == (192, 256, 3)
    other = write_nifti(
        tmp_path / "b.nii.gz", np.ones((4, 4, 4), np.uint8), Grid((4,) * 3, np.eye(4))
    )
    assert draw(ct, other, None) == plain  # of another shape
    (tmp_path / "c.nii.gz").write_bytes(label.read_bytes()[:100])
    assert draw(ct, tmp_path / "c.nii.gz", None) == plain
    assert draw(ct, None, Spot(2, 999)) == plain


def test_a_damaged_ct_is_an_error(tmp_path: Path) -> None:
    ct, _, _ = files(tmp_path, "RAS")
    ct.write_bytes(ct.read_bytes()[:300])
    with pytest.raises(UnreadableVolumeError):
        draw(ct, None, None)


@pytest.mark.parametrize("codes", ["RAS", "LPI", "PIR"])
def test_two_labels_and_what_differs(tmp_path: Path, codes: str) -> None:
    ct, label, grid = files(tmp_path, codes)
    array = nib.load(label).get_fdata().astype(np.uint8)
    empty = write_nifti(tmp_path / "empty.nii.gz", np.zeros_like(array), grid)
    axis = next(i for i, code in enumerate(grid.orientation) if code in "SI")
    spot = Spot(axis, 10 if grid.orientation[axis] == "S" else SHAPE[2] - 1 - 10)
    for pair, color in (((label, empty), ONLY_FIRST), ((empty, label), ONLY_SECOND)):
        sheet = opened(draw_compared(ct, *pair, ORGANS[4], spot))
        height, width = 285, 380
        assert sheet.shape[:2] == (height, 3 * width + 16)
        one, two, differs = (sheet[:, i * (width + 8) :][:, :width] for i in range(3))
        drawn, blank = (one, two) if color is ONLY_FIRST else (two, one)
        where(drawn, ORGANS[4].color)
        assert np.abs(blank - blank.mean(axis=2, keepdims=True)).max() < 12
        near = np.abs(differs - (0.25 * 127 + 0.75 * np.array(color))).max(axis=2) < 30
        rows, columns = np.nonzero(near)
        assert columns.mean() / width == pytest.approx(1 - 29 / 40, abs=0.02)
        assert rows.mean() / height == pytest.approx(1 - 21 / 30, abs=0.02)
    other = opened(draw_compared(ct, label, empty, ORGANS[0], spot))
    assert np.abs(other - other.mean(axis=2, keepdims=True)).max() < 12  # there is no aorta
    with pytest.raises(IndexError):
        draw_compared(ct, label, empty, None, Spot(axis, 999))
