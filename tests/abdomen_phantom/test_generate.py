"""Same seed, same bytes; one patient on every grid; hard cases; noise."""

from dataclasses import replace
from types import MappingProxyType

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from abdomen_phantom import SHIFTED, STANDARD, generate
from abdomen_phantom.scanner import (
    ALL_ORIENTATIONS,
    add_noise,
    interpolated_noise,
    orient,
    ras_grid,
)
from abdomen_phantom.scanner import Scan as ScanSettings
from abdomen_phantom.setting import Dice
from atlas8k.core.structures import ORGAN_IDS, ORGANS
from atlas8k.core.volume import Grid, resample

WIDE = MappingProxyType(dict.fromkeys(STANDARD.hard_cases, 0.0))


def only(**chances):
    """The standard setting with these chances of hard cases and no others."""
    return replace(STANDARD, hard_cases=MappingProxyType({**WIDE, **chances}))


def ml(phantom, organ):
    return (phantom.label.array == ORGAN_IDS[organ]).sum() * phantom.label.grid.voxel_ml


def test_same_seed_same_bytes_and_other_seed_other_bytes():
    one, two, other = (generate(seed, grid_spacing_mm=6.0) for seed in (4, 4, 5))
    assert one.ct.array.tobytes() == two.ct.array.tobytes()
    assert one.label.array.tobytes() == two.label.array.tobytes()
    assert one.case == two.case
    assert one.ct.array.tobytes() != other.ct.array.tobytes()


def test_a_scan_is_deterministic_too(scans):
    again = generate(scans[0].case.seed)
    assert again.ct.array.tobytes() == scans[0].ct.array.tobytes()
    assert again.label.array.tobytes() == scans[0].label.array.tobytes()


def test_types_ranges_and_case(scans):
    for phantom in scans:
        assert phantom.ct.array.dtype == np.int16
        assert phantom.label.array.dtype == np.uint8
        assert set(np.unique(phantom.label.array)) <= {0, *range(1, 10)}
        assert phantom.ct.grid.same_as(phantom.label.grid)
        assert phantom.ct.grid.orientation == phantom.case.orientation
        assert phantom.ct.grid.spacing == pytest.approx(phantom.case.spacing_mm)
        low, high = min(phantom.case.spacing_mm), max(phantom.case.spacing_mm)
        assert low >= 1.0
        assert high <= 5.0
        assert phantom.ct.array.min() >= -1024
        assert phantom.ct.array.max() > 300


@pytest.mark.parametrize("spacing", [0, -1.0, float("nan")])
def test_a_spacing_that_is_no_length_is_refused(spacing):
    with pytest.raises(ValueError, match="positive"):
        generate(0, grid_spacing_mm=spacing)


def test_coarse_grid_shows_the_same_patient_as_the_scan(scans):
    for phantom in scans[:3]:
        coarse = generate(phantom.case.seed, grid_spacing_mm=3.0)
        label = resample(phantom.label.array, phantom.label.grid, coarse.label.grid, linear=False)
        for organ in ORGANS:
            a, b = label == organ.id, coarse.label.array == organ.id
            if b.any():
                assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.9


def test_coarse_grid_is_as_noisy_and_as_sharp_as_the_resampled_scan(scans):
    for phantom in scans[:3]:
        coarse = generate(phantom.case.seed, grid_spacing_mm=3.0)
        ct = resample(
            phantom.ct.array.astype(np.float32),
            phantom.ct.grid, coarse.ct.grid, linear=True, fill=-1000,
        )  # fmt: skip
        liver = binary_erosion(coarse.label.array == ORGAN_IDS["liver"], iterations=2)

        def grain(array, within=liver):
            steps, both = np.diff(array, axis=0), within[1:] & within[:-1]
            return steps[both].std()

        direct = coarse.ct.array.astype(np.float32)
        assert grain(direct) == pytest.approx(grain(ct), rel=0.25)
        assert direct[liver].mean() == pytest.approx(ct[liver].mean(), abs=3)
        window = [np.clip(a[12:-12, 12:-12, 3:-3], -175, 250) for a in (direct, ct)]
        sharp, reference = (np.abs(np.diff(a, axis=1)).mean() for a in window)
        assert sharp == pytest.approx(reference, rel=0.15)


def test_all_48_orientations_keep_every_voxel_in_its_place():
    rng = np.random.default_rng(0)
    array = rng.integers(0, 1000, (3, 4, 5))
    affine = np.diag([1.5, 2.0, 3.0, 1.0])
    affine[:3, 3] = (-7, 11, 13)
    grid = Grid((3, 4, 5), affine)
    assert len(set(ALL_ORIENTATIONS)) == 48
    handed = set()
    for codes in ALL_ORIENTATIONS:
        out, at = orient(array, grid, codes)
        assert at.orientation == codes
        handed.add(np.sign(np.linalg.det(at.affine)))
        back = nib.orientations.apply_orientation(out, nib.orientations.io_orientation(at.affine))
        assert np.array_equal(back, array)
        assert at.canonical().same_as(grid)
    assert handed == {-1.0, 1.0}


def test_missing_gall_bladder():
    there = generate(8, only(), grid_spacing_mm=4.0)
    gone = generate(8, only(missing_gall_bladder=1.0), grid_spacing_mm=4.0)
    assert ml(there, "gall_bladder") > 5
    assert ml(gone, "gall_bladder") == 0
    # Nothing else moved.
    same = (there.label.array == gone.label.array) | (there.label.array == 2)
    assert same.all()


def test_enlarged_pancreas_tail_grows_on_the_left():
    def tail(phantom):
        x = np.argwhere(phantom.label.array == ORGAN_IDS["pancreas"])[:, 0]
        x = x * 4.0 + phantom.label.grid.affine[0, 3]
        return (x < -30).sum()

    plain = generate(8, only(), grid_spacing_mm=4.0)
    large = generate(8, only(enlarged_pancreas_tail=1.0), grid_spacing_mm=4.0)
    assert tail(large) > 1.5 * tail(plain)


def test_fluid_filled_stomach_has_no_air():
    for seed in (8, 9):
        full = generate(seed, only(fluid_filled_stomach=1.0), grid_spacing_mm=4.0)
        stomach = full.ct.array[full.label.array == ORGAN_IDS["stomach"]]
        assert np.median(stomach) < 60
        assert (stomach < -300).mean() < 0.01


def test_cut_off_field_of_view_is_smaller_and_cuts_organs():
    for seed in range(20, 24):
        whole = generate(seed, only(), grid_spacing_mm=6.0)
        cut = generate(seed, only(cut_off_field_of_view=1.0), grid_spacing_mm=6.0)
        assert cut.ct.array.size < 0.93 * whole.ct.array.size
        organs = [ml(cut, o.name) for o in ORGANS]
        assert sum(organs) < sum(ml(whole, o.name) for o in ORGANS) * 1.02
        assert sum(v > 0 for v in organs) >= 5


def test_shifted_is_noisier_than_standard():
    def noise(setting):
        return np.mean([generate(s, setting, grid_spacing_mm=15.0).case.noise_hu for s in range(8)])

    assert noise(SHIFTED) > 1.4 * noise(STANDARD)


def scan(**changes):
    base = ScanSettings(
        in_plane_mm=1.4, thickness_mm=2.0, orientation="RAS", noise_hu=20.0, kernel_mm=0.8,
        edge_gain=0.0, low=(-80.0, -80.0, -40.0), high=(80.0, 80.0, 40.0),
    )  # fmt: skip
    return replace(base, **changes)


@pytest.mark.parametrize("edge_gain", [0.0, 0.8])
def test_noise_has_the_asked_deviation(edge_gain):
    hu = np.zeros((30, 100, 100), np.float32)
    add_noise(hu, Dice(1, STANDARD), scan(edge_gain=edge_gain), 1.4)
    assert hu.std() == pytest.approx(20, rel=0.02)
    assert abs(hu.mean()) < 0.5


def test_share_of_noise_after_resampling_is_what_resampling_leaves():
    rng = np.random.default_rng(3)
    settings = scan(kernel_mm=0.2)  # far under a voxel: white noise
    native = ras_grid(settings, (1.4, 1.4, 2.0))
    target = ras_grid(settings, (3.0, 3.0, 3.0))
    white = rng.standard_normal(native.shape).astype(np.float32)
    inside = resample(white, native, target, linear=True)[1:-1, 1:-1, 1:-1]
    within, across = interpolated_noise(settings, native, target)
    assert within * across == pytest.approx(inside.std(), rel=0.03)
