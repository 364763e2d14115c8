"""Geometry and NIfTI: any orientation, spacing and handedness, and files that are no CT."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas8k.core import errors
from atlas8k.core.volume import (
    Grid,
    LabelWriter,
    Volume,
    read_ct,
    read_label,
    resample,
    to_canonical,
    write_nifti,
)

ORIENTATIONS = [
    (order, signs)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def oriented(order, signs, spacing=(1.0, 2.0, 3.0), origin=(-40.0, 12.5, 700.0)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign * spacing[axis]
    affine[:3, 3] = origin
    return affine


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(12, 9, 15)).astype(np.float32)


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_every_orientation_goes_to_ras_and_back(array, order, signs):
    grid = Grid(array.shape, oriented(order, signs))
    canonical = to_canonical(Volume(array, grid))
    assert canonical.grid.orientation == "RAS"
    assert canonical.grid.voxel_ml == pytest.approx(grid.voxel_ml)
    back = resample(canonical.array, canonical.grid, grid, linear=False)
    np.testing.assert_array_equal(back, array)
    # The same point of the patient has the same value on both grids.
    index = np.array([3, 4, 5])
    world = grid.affine @ [*index, 1]
    there = np.rint(np.linalg.solve(canonical.grid.affine, world)[:3]).astype(int)
    assert canonical.array[tuple(there)] == array[tuple(index)]


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS[::7])
def test_linear_resampling_is_exact_on_a_linear_field(order, signs):
    shape = (14, 10, 12)
    grid = Grid(shape, oriented(order, signs))
    index = np.stack([*np.meshgrid(*map(np.arange, shape), indexing="ij"), np.ones(shape)])
    world = np.einsum("ij,jxyz->ixyz", grid.affine, index)
    field = (0.3 * world[0] - 0.2 * world[1] + 0.7 * world[2]).astype(np.float32)
    target = grid.working(2.0)
    out = resample(field, grid, target, linear=True)
    index = np.stack(
        [*np.meshgrid(*map(np.arange, target.shape), indexing="ij"), np.ones(target.shape)]
    )
    world = np.einsum("ij,jxyz->ixyz", target.affine, index)
    expected = 0.3 * world[0] - 0.2 * world[1] + 0.7 * world[2]
    inner = np.s_[2:-2, 2:-2, 2:-2]
    np.testing.assert_allclose(out[inner], expected[inner], atol=1e-3)


def test_oblique_grid_keeps_its_directions_and_extent():
    c, s = np.cos(0.3), np.sin(0.3)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag([-0.8, 0.8, 5.0])
    grid = Grid((50, 60, 20), affine)
    working = grid.working(1.5)
    assert working.spacing == pytest.approx((1.5, 1.5, 1.5))
    assert working.orientation == "RAS"
    assert np.prod(working.shape) * working.voxel_ml == pytest.approx(
        np.prod(grid.shape) * grid.voxel_ml, rel=0.02
    )
    ones = resample(np.ones(grid.shape, np.float32), grid, working, linear=True, fill=0)
    assert ones.mean() > 0.97


def test_crop_moves_the_origin(array):
    grid = Grid(array.shape, oriented((2, 0, 1), (-1, 1, -1)))
    box = (slice(2, 9), slice(1, 8), slice(4, 11))
    cropped = grid.crop(box)
    np.testing.assert_allclose(cropped.affine @ [0, 0, 0, 1], grid.affine @ [2, 1, 4, 1])
    np.testing.assert_array_equal(resample(array, grid, cropped, linear=False), array[box])


@settings(max_examples=25, deadline=None)
@given(
    factor=st.floats(0.2, 3.0),
    shape=st.tuples(*[st.integers(2, 40)] * 3),
)
def test_working_grid_covers_the_same_extent(factor, shape):
    grid = Grid(shape, oriented((0, 1, 2), (-1, -1, 1)))
    working = grid.working(factor)
    corner = grid.canonical().affine @ [-0.5, -0.5, -0.5, 1]
    np.testing.assert_allclose(working.affine @ [-0.5, -0.5, -0.5, 1], corner, atol=1e-9)
    far = np.array(working.shape) * factor - np.array(grid.canonical().shape) * np.array(
        grid.canonical().spacing
    )
    assert np.all((np.abs(far) <= factor / 2 + 1e-9) | (np.array(working.shape) == 1))


def test_same_as_sees_a_hundredth_of_a_voxel():
    grid = Grid((100, 100, 100), np.diag([1.0, 1, 1, 1]))
    shifted = np.eye(4)
    shifted[0, 3] = 0.009
    assert grid.same_as(Grid(grid.shape, shifted))
    shifted[0, 3] = 0.02
    assert not grid.same_as(Grid(grid.shape, shifted))
    assert not grid.same_as(Grid((100, 100, 99), grid.affine))
    # A scale that is off by 0.1 % is small at the origin and large at the far corner.
    assert not grid.same_as(Grid(grid.shape, np.diag([1.001, 1, 1, 1])))


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_file_round_trip(tmp_path: Path, dtype, suffix):
    array = np.random.default_rng(1).integers(0, 200, (5, 6, 7)).astype(dtype)
    grid = Grid(array.shape, oriented((1, 2, 0), (-1, 1, 1)))
    path = write_nifti(tmp_path / f"ct{suffix}", array, grid)
    volume = read_ct(path)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.grid.same_as(grid)
    assert [p.name for p in tmp_path.iterdir()] == [f"ct{suffix}"]


@pytest.mark.parametrize("order", ["C", "F"])
def test_many_labels_of_one_grid_are_the_same_files(tmp_path: Path, order):
    grid = Grid((5, 6, 7), oriented((1, 2, 0), (-1, 1, 1)))
    writer = LabelWriter(grid)
    for seed in range(2):
        array = np.random.default_rng(seed).integers(0, 9, grid.shape).astype(np.uint8, order=order)
        plain = write_nifti(tmp_path / "plain.nii", array, grid).read_bytes()
        digest = writer.write(tmp_path / "label.nii.gz", array)
        packed = (tmp_path / "label.nii.gz").read_bytes()
        assert gzip.decompress(packed) == plain
        assert hashlib.sha256(packed).hexdigest() == digest
        assert read_label(tmp_path / "label.nii.gz").grid.same_as(grid)
    with pytest.raises(errors.GridMismatchError):
        writer.write(tmp_path / "label.nii.gz", array[:4])


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch):
    grid = Grid((4, 4, 4), np.eye(4))
    old = np.arange(64, dtype=np.uint8).reshape(4, 4, 4)
    path = write_nifti(tmp_path / "label.nii.gz", old, grid)

    def disk_full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib.Nifti1Image, "to_file_map", disk_full)
    with pytest.raises(OSError, match="No space"):
        write_nifti(path, old * 0, grid)
    np.testing.assert_array_equal(read_label(path).array, old)
    assert [p.name for p in tmp_path.iterdir()] == ["label.nii.gz"]


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def bad_files(folder: Path) -> dict[str, tuple[Path, type[errors.VolumeError]]]:
    noise = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    good = save(folder / "good.nii.gz", noise)
    truncated = folder / "truncated.nii.gz"
    truncated.write_bytes(good.read_bytes()[:3000])
    empty = folder / "zero_bytes.nii.gz"
    empty.touch()
    garbage = folder / "garbage.nii.gz"
    garbage.write_bytes(np.random.default_rng(0).bytes(5000))
    nan = noise.copy()
    nan[3, 3, 3] = np.nan
    header_lies = folder / "lies.nii"
    raw = bytearray(save(folder / "plain.nii", noise).read_bytes())
    raw[42:48] = np.array([30000, 30000, 30000], np.int16).tobytes()
    header_lies.write_bytes(raw)
    return {
        "missing": (folder / "missing.nii.gz", errors.UnreadableVolumeError),
        "zero bytes": (empty, errors.UnreadableVolumeError),
        "garbage": (garbage, errors.UnreadableVolumeError),
        "truncated": (truncated, errors.UnreadableVolumeError),
        "10^13 voxels": (header_lies, errors.UnreadableVolumeError),
        "2D": (save(folder / "2d.nii.gz", noise[:, :, 0]), errors.NotThreeDimensionalError),
        "one slice": (
            save(folder / "slice.nii.gz", noise[:, :, :1]),
            errors.NotThreeDimensionalError,
        ),
        "4D": (
            save(folder / "4d.nii.gz", np.stack([noise, noise], -1)),
            errors.NotThreeDimensionalError,
        ),
        "constant": (save(folder / "zeros.nii.gz", noise * 0), errors.EmptyVolumeError),
        "NaN": (save(folder / "nan.nii.gz", nan), errors.NotFiniteError),
    }


def test_what_is_no_ct_is_refused_by_name(tmp_path: Path):
    for what, (path, kind) in bad_files(tmp_path).items():
        with pytest.raises(kind) as caught:
            read_ct(path)
        assert path.name in str(caught.value), what
        assert caught.value.reason, what


def test_a_trailing_axis_of_one_is_no_fourth_dimension(tmp_path: Path):
    array = np.random.default_rng(0).normal(size=(5, 6, 7, 1)).astype(np.float32)
    assert read_ct(save(tmp_path / "ct.nii.gz", array)).array.shape == (5, 6, 7)


@pytest.mark.parametrize("value", [0.5, -1.0, 256.0])
def test_label_values_are_whole_numbers(tmp_path: Path, value):
    array = np.zeros((5, 5, 5), np.float32)
    array[2, 2, 2] = value
    with pytest.raises(errors.UnreadableVolumeError, match="whole numbers"):
        read_label(save(tmp_path / "label.nii.gz", array))


def test_errors_survive_a_process_boundary():
    err = errors.NotFiniteError("a.nii.gz", "the image holds NaN")
    again = pickle.loads(pickle.dumps(err))
    assert (type(again), str(again)) == (type(err), str(err))


def test_shapes_that_do_not_fit_are_refused(tmp_path: Path):
    grid = Grid((4, 4, 4), np.eye(4))
    with pytest.raises(errors.GridMismatchError):
        Volume(np.zeros((4, 4, 5)), grid)
    with pytest.raises(errors.GridMismatchError):
        write_nifti(tmp_path / "a.nii.gz", np.zeros((4, 4, 5), np.uint8), grid)
    with pytest.raises(errors.NotFiniteError):
        Grid((4, 4, 4), np.diag([1.0, 1, 0, 1]))


@pytest.mark.parametrize("off", [6e-8, 1e-4, 9e-4, -9e-4])
def test_rounding_dust_in_a_label_is_rounded_off(tmp_path: Path, off: float) -> None:
    truth = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / "label.nii.gz"
    nib.save(nib.Nifti1Image(truth.astype(np.float64) + off * (truth != 1), np.eye(4)), path)
    np.testing.assert_array_equal(read_label(path).array, truth)


@pytest.mark.parametrize(("slope", "inter"), [(1 / 3, 0.0), (0.1, -2.0), (1.0000001, 0.0)])
def test_a_label_that_the_header_scales_to_whole_numbers(
    tmp_path: Path, slope: float, inter: float
) -> None:
    truth = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    stored = np.rint((truth - inter) / slope).astype(np.int16)
    image = nib.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(slope, inter)
    image.to_filename(tmp_path / "label.nii")
    np.testing.assert_array_equal(read_label(tmp_path / "label.nii").array, truth)


def test_a_fraction_that_is_no_dust_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "label.nii"
    nib.save(nib.Nifti1Image(np.full((2, 2, 2), 3.002, np.float32), np.eye(4)), path)
    with pytest.raises(errors.LabelValueError, match="fractions"):
        read_label(path)
