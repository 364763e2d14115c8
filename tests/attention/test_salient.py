"""Salient masks, regions and heat on volumes whose answer is known."""

import json

import numpy as np
import pytest

from atlas8k.attention import Salient, SalientSettings, equations, salient_regions
from atlas8k.attention.equations import HEAT_STEPS
from atlas8k.attention.slabs import quantise
from atlas8k.core.errors import AttentionError, GridMismatchError
from atlas8k.core.volume import Grid

SHAPE = (40, 36, 32)
GRID = Grid(SHAPE, np.diag([1.5, 1.5, 1.5, 1.0]))
LIVER, SPLEEN = 4, 7


def doubtful(*boxes: tuple[int, tuple[slice, slice, slice], float]) -> np.ndarray:
    """Three networks, of which the first alone says p of an organ within a box."""
    probs = np.zeros((3, 9, *SHAPE), dtype=np.float32)
    for organ, box, p in boxes:
        probs[(0, organ, *box)] = p
    return probs


BIG = (slice(10, 20), slice(8, 20), slice(4, 16))  # 1440 voxels, 4.86 ml
SMALL = (slice(30, 36), slice(4, 10), slice(20, 26))  # 216 voxels, 0.729 ml
TINY = (slice(30, 35), slice(24, 29), slice(20, 25))  # 125 voxels, 0.42 ml: not shown
THIN = (slice(2, 6), slice(4, 30), slice(4, 30))  # four voxels thick: an outline


def test_regions_are_found_measured_and_ordered() -> None:
    probs = doubtful((LIVER, BIG, 1.0), (SPLEEN, SMALL, 1.0), (LIVER, TINY, 1.0), (LIVER, THIN, 1))
    salient = salient_regions(probs, GRID)
    assert [r.organ for r in salient.regions] == ["liver", "spleen"]
    big, small = salient.regions
    assert big.box == BIG
    assert small.box == SMALL
    assert big.ml == pytest.approx(1440 * 0.003375)
    # One network of three says 1: deviation sqrt(2) / 3, no entropy, no overlap.
    assert big.attention_ml == pytest.approx(big.ml * np.sqrt(2) / 3, rel=1e-6)
    assert big.centre == pytest.approx((14.5, 13.5, 9.5))
    assert salient.salient_ml["liver"] == pytest.approx((1440 + 125) * 0.003375)
    assert salient.mask.sum() == 1440 + 216
    assert salient.mask[LIVER].sum() == 1440
    assert np.array_equal(np.unique(salient.label()), [0, 5, 8])
    assert salient.of("spleen") == (small,)
    assert json.loads(json.dumps(big.as_dict()))["start"] == [10, 8, 4]


def test_thresholds_are_what_lies_above() -> None:
    third = np.sqrt(2) / 3  # deviation per p of one network of three

    def shown(p: float, settings: SalientSettings) -> bool:
        return bool(salient_regions(doubtful((LIVER, BIG, p)), GRID, settings).regions)

    std_only = SalientSettings(uncertainty=1.0)
    assert shown(0.1 / third + 0.001, std_only)
    assert not shown(0.1 / third - 0.001, std_only)
    entropy_only = SalientSettings(inconsistency=1.0)
    assert shown(0.9, SalientSettings(inconsistency=1.0, uncertainty=0.03))
    assert not shown(0.9, entropy_only)  # 0.095 / 3 = 0.032 on average


def test_overlap_is_salient_without_opening() -> None:
    probs = np.zeros((3, 9, *SHAPE), dtype=np.float16)
    line = (slice(5, 6), slice(5, 6), slice(0, 32))
    probs[(slice(None), LIVER, *line)] = 1
    probs[(slice(None), SPLEEN, *line)] = 1
    salient = salient_regions(probs, GRID, SalientSettings(min_ml=0.1))
    assert {r.organ: r.ml for r in salient.regions} == pytest.approx(
        {"liver": 32 * 0.003375, "spleen": 32 * 0.003375}
    )
    assert [r.attention_ml for r in salient.regions] == pytest.approx([32 * 0.003375] * 2)


def test_overlap_across_networks_is_a_setting() -> None:
    probs = np.zeros((2, 9, *SHAPE), dtype=np.float16)
    probs[(0, LIVER, *BIG)] = 1
    probs[(1, SPLEEN, *BIG)] = 1
    settings = SalientSettings(inconsistency=1.0, uncertainty=1.0)
    assert not salient_regions(probs, GRID, settings).regions
    across = SalientSettings(inconsistency=1.0, uncertainty=1.0, overlap="any")
    assert [r.organ for r in salient_regions(probs, GRID, across).regions] == ["liver", "spleen"]


def test_diagonal_neighbours_are_one_region() -> None:
    a = (slice(5, 12), slice(5, 12), slice(5, 12))
    b = (slice(12, 19), slice(12, 19), slice(12, 19))
    salient = salient_regions(doubtful((LIVER, a, 1.0), (LIVER, b, 1.0)), GRID)
    assert [r.box for r in salient.regions] == [(slice(5, 19),) * 3]


def test_published_form_eats_what_millimetres_keep_at_5_mm_slices() -> None:
    grid = Grid(SHAPE, np.diag([1.5, 1.5, 5.0, 1.0]))
    probs = doubtful((LIVER, (slice(10, 20), slice(8, 20), slice(4, 8)), 1.0))
    assert not salient_regions(probs, grid, SalientSettings(opening_mm=None)).regions
    assert salient_regions(probs, grid).regions[0].ml == pytest.approx(480 * 0.01125)


def random_volume() -> np.ndarray:
    """Blurred noise: blobs of disagreement, doubt and overlap."""
    from scipy import ndimage

    rng = np.random.default_rng(3)
    logits = ndimage.gaussian_filter(rng.normal(size=(3, 9, *SHAPE)), (0, 0, 4, 4, 4))
    logits /= logits.std()
    return (1 / (1 + np.exp(-4 * (logits - 1)))).astype(np.float16)


@pytest.mark.parametrize("overlap", ["per_network", "any"])
@pytest.mark.parametrize("opening_mm", [7.5, 0.0, None])
def test_masks_are_those_of_the_equations(overlap, opening_mm) -> None:
    import cc3d
    from scipy import ndimage

    probs = random_volume()
    settings = SalientSettings(overlap=overlap, opening_mm=opening_mm, min_ml=0.0)
    salient = salient_regions(probs, GRID, settings)
    std, entropy = equations.inconsistency(probs), equations.uncertainty(probs)
    eq4 = equations.attention(probs, overlap)
    box = np.ones((1, 1, 1) if opening_mm == 0 else (5, 5, 5))
    for index, organ in enumerate(salient.sizes.organs):
        wide = np.pad(np.stack([std[index] > 0.1, entropy[index] > 0.05]), [(0, 0)] + [(9, 9)] * 3)
        parts = [ndimage.binary_opening(m, box)[9:-9, 9:-9, 9:-9] for m in wide]
        expected = parts[0] | parts[1] | (equations.overlap(probs, overlap)[index] > 0)
        assert np.array_equal(salient.mask[index], expected)
        assert len(salient.of(organ)) == cc3d.connected_components(expected).max()
        total = sum(r.attention_ml for r in salient.of(organ))
        assert total == pytest.approx(eq4[index][expected].sum() * GRID.voxel_ml, rel=1e-5)
    order = [r.attention_ml for r in salient.regions]
    assert order == sorted(order, reverse=True)
    assert salient.sizes.total_ml == pytest.approx(eq4.sum() * GRID.voxel_ml, rel=1e-5)


@pytest.mark.parametrize("overlap", ["per_network", "any"])
def test_heat_is_eq4_in_bytes(overlap) -> None:
    probs = random_volume()
    heat = salient_regions(probs, GRID, SalientSettings(overlap=overlap), heat=True).heat
    assert heat is not None
    gap = heat / HEAT_STEPS - equations.attention(probs, overlap)
    assert np.abs(gap).max() <= 0.5 / HEAT_STEPS + 1e-6


def test_codes_show_the_same_regions() -> None:
    probs = random_volume()
    exact, coded = salient_regions(probs, GRID), salient_regions(quantise(probs), GRID)
    both = exact.mask & coded.mask
    assert 2 * both.sum() / (exact.mask.sum() + coded.mask.sum()) > 0.97
    assert coded.sizes.total_ml == pytest.approx(exact.sizes.total_ml, rel=0.01)


def test_nothing_salient() -> None:
    salient = salient_regions(np.zeros((3, 9, *SHAPE), np.float16), GRID)
    assert isinstance(salient, Salient)
    assert salient.regions == ()
    assert not salient.label().any()
    assert set(salient.salient_ml.values()) == {0.0}


def test_errors_name_the_volume() -> None:
    probs = np.zeros((3, 9, *SHAPE), np.float16)
    with pytest.raises(GridMismatchError, match="BDMAP_3"):
        salient_regions(probs, Grid((40, 36, 31), np.eye(4)), name="BDMAP_3")
    probs[0, 0, 1, 1, 1] = np.nan
    with pytest.raises(AttentionError, match=r"BDMAP_3.*NaN"):
        salient_regions(probs, GRID, name="BDMAP_3")


@pytest.mark.parametrize("field", ["inconsistency", "uncertainty", "opening_mm", "min_ml"])
def test_settings_are_checked(field) -> None:
    with pytest.raises(AttentionError, match=field):
        SalientSettings(**{field: -1.0})


def test_a_regions_own_voxels_are_told_from_its_neighbours() -> None:
    grid = Grid((40, 40, 30), np.diag([1.5, 1.5, 1.5, 1.0]))
    probs = np.zeros((3, 9, *grid.shape), np.float16)
    # A frame around a block: the block lies in the frame's box and is another region.
    probs[0, 4, 2:38, 2:38, 2:12] = 1
    probs[0, 4, 9:31, 9:31] = 0
    probs[0, 4, 15:25, 15:25, 3:11] = 1
    salient = salient_regions(probs, grid, SalientSettings(opening_mm=0.0))
    frame, block = salient.of("liver")
    for region in (frame, block):
        own = salient.voxels_of(region)
        assert np.count_nonzero(own) * grid.voxel_ml == pytest.approx(region.ml)
        index = np.argwhere(own)
        assert tuple(index.min(axis=0)) == region.start
        assert tuple(index.max(axis=0) + 1) == region.stop
    assert salient.voxels_of(block)[20, 20, 5]
    assert not salient.voxels_of(frame)[20, 20, 5]
