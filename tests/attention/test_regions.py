"""A region's box through other grids."""

import nibabel as nib
import numpy as np
import pytest

from atlas8k.attention.regions import Region, find_regions
from atlas8k.core.volume import Grid

CODES = ["RAS", "LPS", "LAS", "SAR", "PIR", "ILA"]


def test_a_region_of_known_shape() -> None:
    mask = np.zeros((12, 10, 14), bool)
    mask[2:5, 3:7, 6:12] = True
    mask[2:9, 3:7, 8] = True  # widest at z = 8
    attention = np.where(mask, 0.5, 9.0)
    regions, shown = find_regions(
        mask, lambda box: attention[box], "liver", 0.01, min_ml=0.5, origin=(100, 0, 0)
    )
    (region,) = regions
    assert region.start == (102, 3, 6)
    assert region.stop == (109, 7, 12)
    assert region.ml == pytest.approx(0.01 * (72 + 16))
    assert region.attention_ml == pytest.approx(region.ml / 2)
    assert region.largest_slice[2] == 8
    assert np.array_equal(shown, mask)


def ct_grid(codes: str, spacing: float) -> Grid:
    """A grid of any orientation over about the same patient as ``WORKING``."""
    ras = Grid((120, 100, round(135 / spacing)), np.diag([0.75, 0.9, spacing, 1.0]))
    to = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(ras.affine), nib.orientations.axcodes2ornt(codes)
    )
    array = nib.orientations.apply_orientation(np.zeros(ras.shape, np.uint8), to)
    return Grid(array.shape, ras.affine @ nib.orientations.inv_ornt_aff(to, ras.shape))


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("spacing", [1.0, 5.0])
def test_box_holds_the_region_in_the_cts_own_index(codes, spacing) -> None:
    ct = ct_grid(codes, spacing)
    assert ct.orientation == codes
    working = ct.working(1.5)
    region = Region("liver", 1.0, 1.0, (10, 20, 31), (22, 34, 51), (15.2, 27, 41), (14, 26, 44))
    moved = region.on(working, ct)

    # Every CT voxel centre inside the region's outer faces must lie in the box, and the
    # box must reach no further than one voxel beyond such a centre.
    index = np.stack(np.meshgrid(*map(np.arange, ct.shape), indexing="ij"), -1).reshape(-1, 3)
    to_working = np.linalg.solve(working.affine, ct.affine)
    place = index @ to_working[:3, :3].T + to_working[:3, 3]
    low, high = np.array(region.start) - 0.5, np.array(region.stop) - 0.5
    inside = index[((place > low) & (place < high)).all(axis=1)]
    assert (inside.min(axis=0) >= moved.start).all()
    assert (inside.max(axis=0) < moved.stop).all()
    assert (inside.min(axis=0) - moved.start <= 1).all()
    assert (np.array(moved.stop) - 1 - inside.max(axis=0) <= 1).all()

    # The slice to open is the one that holds the working grid's largest slice.
    point = working.affine[:3, :3] @ np.array([14, 26, 44]) + working.affine[:3, 3]
    expected = np.linalg.solve(ct.affine, [*point, 1])[:3]
    assert np.abs(np.array(moved.largest_slice) - expected).max() <= 0.5 + 1e-6
    assert moved.ml == region.ml


@pytest.mark.parametrize("codes", CODES)
def test_there_and_back_is_the_same_box_on_equal_spacing(codes) -> None:
    ct = ct_grid(codes, 1.5)
    ras = ct.canonical()
    region = Region("liver", 1.0, 1.0, (10, 20, 31), (22, 34, 51), (15.2, 27, 41), (14, 26, 44))
    back = region.on(ras, ct).on(ct, ras)
    assert (back.start, back.stop, back.largest_slice) == (
        region.start,
        region.stop,
        region.largest_slice,
    )
    assert back.centre == pytest.approx(region.centre)


def test_a_flip_mirrors_the_box() -> None:
    ras = Grid((40, 30, 20), np.diag([1.5, 1.5, 1.5, 1.0]))
    flipped = Grid((40, 30, 20), np.array([[-1.5, 0, 0, 58.5], *np.diag([1.5] * 3 + [1.0])[1:]]))
    region = Region("liver", 1.0, 1.0, (3, 4, 5), (9, 8, 7), (5.0, 5.5, 5.5), (4, 5, 6))
    moved = region.on(ras, flipped)
    assert moved.start == (40 - 9, 4, 5)
    assert moved.stop == (40 - 3, 8, 7)
    assert moved.largest_slice == (39 - 4, 5, 6)


def test_a_region_at_the_edge_stays_within_the_ct() -> None:
    ct = Grid((20, 20, 9), np.diag([1.5, 1.5, 5.0, 1.0]))
    region = Region("liver", 1.0, 1.0, (0, 0, 28), (20, 20, 30), (9.5, 9.5, 28.5), (9, 9, 29))
    moved = region.on(ct.working(1.5), ct)
    assert moved.start == (0, 0, 8)
    assert moved.stop == (20, 20, 9)
    assert moved.largest_slice[2] == 8
