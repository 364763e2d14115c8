"""NSD against the surface-distance package and against surfaces of known area."""

import warnings

import numpy as np
import pytest

from abdomen_phantom import generate
from atlas8k.core.errors import GridMismatchError, VolumeError
from atlas8k.metrics.surface import element_areas, nsd, surface_areas

reference = pytest.importorskip("surface_distance")
SPACINGS = [(1.0, 1.0, 1.0), (0.7, 0.7, 5.0), (1.5, 0.9, 2.3), (3.0, 1.0, 0.6)]


def by_reference(pred, truth, spacing, tolerance):
    """surface-distance's NSD per organ, NaN where the truth lacks the organ."""
    values = []
    for organ in range(1, 10):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            distances = reference.compute_surface_distances(truth == organ, pred == organ, spacing)
            value = reference.compute_surface_dice_at_tolerance(distances, tolerance)
        values.append(value if (truth == organ).any() else np.nan)
    return np.array(values)


def damaged(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A prediction of that truth: shifted, bitten, one organ missing, one renamed."""
    shift = rng.integers(-2, 3, 3)
    out = np.roll(label, shift, (0, 1, 2))
    lost, renamed = rng.choice(np.arange(1, 10), 2, replace=False)
    out[out == lost] = 0
    out[out == renamed] = rng.integers(1, 10)
    corner = [rng.integers(0, n) for n in label.shape]
    out[corner[0] :, corner[1] :, corner[2] :] = 0
    return out


@pytest.mark.parametrize("spacing", SPACINGS)
def test_element_areas_are_the_reference_table(spacing):
    from surface_distance import lookup_tables

    want = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    np.testing.assert_allclose(element_areas(spacing), want, rtol=1e-12)


@pytest.mark.parametrize("seed", range(30))
def test_equals_reference_on_phantoms(seed):
    rng = np.random.default_rng(seed)
    phantom = generate(seed, grid_spacing_mm=6.0).label
    truth = phantom.array
    if seed % 3 == 1:  # organs cut by the border of the array
        low = [
            int(np.flatnonzero((truth > 0).any(axis=a))[0]) + 6 for a in ((1, 2), (0, 2), (0, 1))
        ]
        truth = truth[low[0] : -14, low[1] : -14, low[2] : -6]
    if seed % 3 == 2:  # an organ absent from both, another predicted only
        truth = np.where(np.isin(truth, (2, 6)), 0, truth).astype(np.uint8)
    pred = damaged(truth, rng)
    if seed % 3 == 2:
        pred[10:14, 10:14, 10:14] = 6
        pred[pred == 2] = 0
    spacing = phantom.grid.spacing if seed % 2 else tuple(rng.uniform(0.5, 5.0, 3))
    tolerance = (1.0, 1.5, 6.5)[seed % 3]
    if seed % 4 == 0:
        truth, pred = np.asfortranarray(truth), np.asfortranarray(pred)
    value = nsd(pred, truth, spacing, tolerance)
    np.testing.assert_allclose(value, by_reference(pred, truth, spacing, tolerance), atol=1e-9)
    assert np.isnan(value[[1, 5]]).all() == (seed % 3 == 2)


def test_noise_meets_every_neighbourhood():
    rng = np.random.default_rng(0)
    pred, truth = rng.integers(0, 10, (2, 14, 15, 16)).astype(np.uint8)
    spacing = (0.8, 1.3, 2.1)
    want = by_reference(pred, truth, spacing, 1.3)
    np.testing.assert_allclose(nsd(pred, truth, spacing, 1.3), want, atol=1e-12)


def test_a_wall_has_its_area():
    label = np.zeros((6, 30, 40), np.uint8)
    label[2:4] = 1
    area = surface_areas(label, label, (1.0, 0.5, 2.0))[0, 0, 0]
    # Two walls of 30 x 0.5 by 40 x 2 mm; the rim is rounded off and adds less than its band.
    walls, rim = 2 * 15 * 80, 2 * (15 + 80) * 2
    assert walls * 0.95 < area < walls + rim


def test_shifted_cube_crosses_the_tolerance():
    truth = np.zeros((30, 30, 30), np.uint8)
    truth[8:20, 8:20, 8:20] = 1
    pred = np.roll(truth, 2, axis=0)
    assert nsd(pred, truth, (1, 1, 1), 2.0)[0] == 1.0
    assert 0.6 < nsd(pred, truth, (1, 1, 1), 1.9)[0] < 0.9
    assert nsd(pred, truth, (0.9, 1, 1), 1.8)[0] == 1.0


def test_empty_maps_and_absent_organs():
    none = np.zeros((8, 8, 8), np.uint8)
    some = none.copy()
    some[2:5, 2:5, 2:5] = 4
    assert np.isnan(nsd(none, none, (1, 1, 1))).all()
    assert np.isnan(nsd(some, none, (1, 1, 1))).all()
    value = nsd(none, some, (1, 1, 1))
    assert value[3] == 0.0
    assert np.isnan(np.delete(value, 3)).all()


@pytest.mark.parametrize(
    ("spacing", "tolerance", "message"),
    [((1, 1), 1, "three positive"), ((1, 0, 1), 1, "positive"), ((1, 1, 1), -1, "not a length"),
     ((1, 1, 1), 60, "48 voxels"), ((1, np.nan, 1), 1, "positive")],
)  # fmt: skip
def test_bad_lengths_are_refused(spacing, tolerance, message):
    label = np.ones((4, 4, 4), np.uint8)
    with pytest.raises(VolumeError, match=message):
        nsd(label, label, spacing, tolerance)


def test_other_shape_is_refused():
    with pytest.raises(GridMismatchError):
        nsd(np.zeros((2, 2, 2), np.uint8), np.zeros((2, 3, 2), np.uint8), (1, 1, 1))
