from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from tests.models.tiny import turned

from atlas8k.core.errors import GridMismatchError
from atlas8k.core.volume import Grid, Volume, resample
from atlas8k.models.regrid import interpolate_into, nearest, parallel_axes

ORIENTATIONS = [
    "".join(codes)
    for axes in itertools.permutations(["LR", "PA", "IS"])
    for codes in itertools.product(*axes)
]


def base(shape=(21, 17, 30), spacing=(0.8, 0.8, 2.5)):
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-80, 12.5, 300)
    return Grid(shape, affine)


def oblique(grid):
    angle = 0.2
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return Grid(grid.shape, turn @ grid.affine)


def onto(probs, source, target):
    out = torch.zeros((len(probs), *target.shape))
    for one, result in zip(probs, out, strict=True):
        interpolate_into(result, one, source, target)
    return out


@pytest.mark.parametrize("tilt", [lambda grid: grid, oblique])
@pytest.mark.parametrize(("coarse", "fine"), [(3.0, 1.5), (1.5, 1.5), (1.5, 4.0), (2.7, 1.1)])
def test_working_grids_of_one_ct_interpolate_as_a_general_resampling_does(tilt, coarse, fine):
    ct = tilt(base())
    source, target = ct.working(coarse), ct.working(fine)
    probs = torch.rand(2, *source.shape)
    found = onto(probs, source, target)
    for one, expected in zip(found, probs, strict=True):
        assert np.allclose(
            one.numpy(),
            resample(expected.numpy(), source, target, linear=True),
            atol=2e-5,
        )


def test_a_crop_is_the_same_as_cropping_afterwards():
    ct = base()
    source, target = ct.working(3.0), ct.working(1.5)
    box = (slice(3, 9), slice(2, 8), slice(11, 40))
    probs = torch.rand(1, *source.shape, dtype=torch.float16)
    full = onto(probs, source, target)
    assert torch.allclose(onto(probs, source, target.crop(box)), full[:, *box], atol=1e-6)


def test_a_ramp_is_exact_and_the_edge_is_held():
    source = Grid((4, 2, 2), np.eye(4))
    target = Grid((8, 4, 4), np.diag([0.5, 0.5, 0.5, 1]) + np.outer([1, 1, 1, 0], [0, 0, 0, -0.25]))
    probs = torch.arange(4.0).view(1, 4, 1, 1).expand(1, 4, 2, 2)
    expected = [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]
    assert onto(probs, source, target)[0, :, 1, 2].tolist() == pytest.approx(expected)


def test_beyond_the_source_there_is_nothing():
    source = Grid((4, 4, 4), np.eye(4))
    target = Grid((9, 9, 9), np.diag([1.0, 1, 1, 1]) + np.outer([1, 1, 1, 0], [0, 0, 0, -2.0]))
    found = onto(torch.ones(1, 4, 4, 4), source, target)[0]
    assert found[2:6, 2:6, 2:6].eq(1).all()
    assert found.sum() == 64


def test_half_precision_in_and_out():
    ct = base()
    probs = torch.rand(1, *ct.working(3.0).shape, dtype=torch.float16)
    out = torch.zeros((1, *ct.working(1.5).shape), dtype=torch.float16)
    interpolate_into(out[0], probs[0], ct.working(3.0), ct.working(1.5))
    assert torch.allclose(
        out.float(), onto(probs.float(), ct.working(3.0), ct.working(1.5)), atol=5e-4
    )


def test_shapes_that_do_not_fit_are_refused():
    grid = base()
    with pytest.raises(GridMismatchError, match="does not fit"):
        interpolate_into(torch.zeros(2, 2, 2), torch.zeros(grid.shape), grid, grid)


@pytest.mark.parametrize("spacing", [1.5, 3.0])
def test_labels_return_to_every_orientation(spacing):
    ct = Volume(np.zeros(base().shape, dtype=np.int16), base())
    rng = np.random.default_rng(1)
    for orientation in ORIENTATIONS:
        target = turned(ct, orientation).grid
        source = target.working(spacing)
        label = rng.integers(0, 10, source.shape).astype(np.uint8)
        found = nearest(label, source, target)
        assert found.shape == target.shape
        assert found.dtype == np.uint8
        # Ties, voxels midway between two labels, may go to either: compare off them.
        axes = parallel_axes(source, target)
        clear = np.ones(target.shape, dtype=bool)
        for i, (_, at) in enumerate(axes):
            shape = [1, 1, 1]
            shape[i] = -1
            clear &= (np.abs(at % 1 - 0.5) > 1e-3).reshape(shape)
        expected = resample(label, source, target, linear=False)
        assert clear.mean() > 0.5
        assert np.array_equal(found[clear], expected[clear]), orientation


def test_labels_between_oblique_grids():
    source, target = oblique(base()), base()
    assert parallel_axes(source, target) is None
    label = np.random.default_rng(2).integers(0, 10, source.shape).astype(np.uint8)
    assert np.array_equal(
        nearest(label, source, target), resample(label, source, target, linear=False)
    )


def test_labels_outside_a_crop_are_background():
    grid = base()
    box = (slice(5, 9), slice(0, 17), slice(20, 30))
    found = nearest(np.full((4, 17, 10), 7, dtype=np.uint8), grid.crop(box), grid)
    assert (found[box] == 7).all()
    assert found.sum() == 7 * 4 * 17 * 10
    apart = nearest(np.ones((4, 17, 10), np.uint8), grid.crop(box), grid.crop((slice(12, 15),) * 3))
    assert not apart.any()


@pytest.mark.parametrize("box", [((3, 9), (0, 17), (5, 6)), ((0, 21), (2, 17), (0, 30))])
def test_a_part_of_the_same_grid_is_copied(box):
    source = base()
    part = tuple(slice(*b) for b in box)
    probs = torch.rand(2, *source.shape, dtype=torch.float16)
    found = onto(probs, source, source.crop(part))
    assert torch.equal(found, probs[:, part[0], part[1], part[2]].float())
    # And the other way about: nothing beyond the part.
    whole = onto(probs[:, part[0], part[1], part[2]], source.crop(part), source)
    assert torch.equal(whole[:, part[0], part[1], part[2]], found)
    assert torch.count_nonzero(whole) == torch.count_nonzero(found)


def test_grids_apart_by_whole_voxels_share_nothing():
    source = base()
    affine = source.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ (100, 0, 0)
    assert not onto(torch.ones(1, *source.shape), source, Grid((4, 4, 4), affine)).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_what_is_no_number_stays_none(dtype):
    ct = base()
    source, target = ct.working(3.0), ct.working(1.5)
    probs = torch.zeros(source.shape, dtype=dtype)
    probs[4, 3, 8] = torch.nan
    out = torch.zeros(target.shape, dtype=dtype)
    interpolate_into(out, probs, source, target, 2.0**-15)
    assert out.isnan().any()
    assert not out.isnan().all()
