"""Places to look at: found where networks disagree, few, in order, said in words."""

from __future__ import annotations

import numpy as np
import pytest
from tests.attention.test_predicted_quality import GRID, LIVER, SHAPE, ball, volume

from atlas8k.attention.organ_features import FEATURES
from atlas8k.attention.perceptron import Perceptron
from atlas8k.attention.places import PlaceSettings, find_places, upsampled
from atlas8k.attention.quality_model import QualityModel
from atlas8k.attention.thinned import Thinned, thinned
from atlas8k.attention.voxel_features import INPUTS, VOXEL_FEATURES
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_IDS

NAMES = ("swin_unetr", "unet", "nnunet")


def by_spread(threshold: float = 0.3) -> QualityModel:
    """A model that finds an error likely where the networks' spread is above a threshold."""
    weight = np.zeros((INPUTS, 1), np.float32)
    weight[VOXEL_FEATURES.index("spread")] = 100.0
    voxel = Perceptron(
        np.zeros(INPUTS, np.float32),
        np.ones(INPUTS, np.float32),
        (weight,),
        (np.array([-100.0 * threshold], np.float32),),
    )
    inputs = len(FEATURES) + 9
    organ = Perceptron(
        np.zeros(inputs, np.float32),
        np.ones(inputs, np.float32),
        (np.zeros((inputs, 3), np.float32),),
        (np.zeros(3, np.float32),),
    )
    return QualityModel(organ, voxel, {}, "by hand")


def doubtful(extra: np.ndarray | None = None, label: bool = True) -> Thinned:
    """A spleen, and beside it a lump that the U-Net alone leaves out (or takes in)."""
    spleen, lump = ball((20, 30, 18), 6), ball((33, 30, 18), 5)
    both = spleen | lump
    if extra is not None:
        both |= extra
    odd = spleen if label else both
    usual = both if label else spleen
    probs, labels, hu = volume([usual, odd, usual], usual)
    return thinned(probs, labels, GRID, hu)


def test_the_place_is_where_one_network_differs() -> None:
    found = find_places(doubtful(), by_spread(), NAMES, PlaceSettings(wrong_ml=0.3))
    (place,) = found.regions
    assert place.organ == "spleen"
    assert place.centre == pytest.approx((33, 30, 18), abs=1.0)
    lump_ml = np.count_nonzero(ball((33, 30, 18), 5)) * GRID.voxel_ml
    assert place.ml == pytest.approx(lump_ml, rel=0.15)
    assert place.wrong_ml == pytest.approx(place.ml, rel=0.05)  # the chance is nearly 1
    assert place.chance > 0.95
    assert "U-Net leaves it out" in place.why
    assert all(a < c < b for a, c, b in zip(place.start, (33, 30, 18), place.stop, strict=True))
    assert len(found.voxels[0]) * 8 * GRID.voxel_ml == pytest.approx(place.ml)
    drawn = upsampled(found, GRID, (2, 2, 2))
    assert drawn.shape == SHAPE
    lump = ball((33, 30, 18), 5)
    assert np.count_nonzero(lump & (drawn == ORGAN_IDS["spleen"])) > 0.7 * np.count_nonzero(lump)
    assert not drawn[~ball((33, 30, 18), 8)].any()


def test_a_viewer_jumps_into_a_place_that_is_hollow() -> None:
    spleen = ball((12, 30, 18), 5)
    shell = ball((33, 30, 18), 9) & ~ball((33, 30, 18), 6)
    probs, labels, hu = volume([spleen | shell, spleen, spleen | shell], spleen | shell)
    found = find_places(thinned(probs, labels, GRID, hu), by_spread(), NAMES)
    place = found.regions[0]
    at = tuple(round(n) for n in place.centre)
    assert at[2] == place.largest_slice[2]
    assert shell[at]
    assert not shell[33, 30, 18]  # where the centroid is


def test_the_words_say_which_network_takes_it_in() -> None:
    found = find_places(doubtful(label=False), by_spread(), NAMES, PlaceSettings(wrong_ml=0.3))
    assert "U-Net takes it in" in found.regions[0].why


def test_an_end_that_differs_is_said_in_centimetres() -> None:
    spleen = np.zeros(SHAPE, bool)
    spleen[20:30, 20:30, 6:20] = True
    higher = spleen.copy()
    higher[20:30, 20:30, 20:34] = True
    probs, labels, hu = volume([higher, spleen, spleen], spleen)
    found = find_places(thinned(probs, labels, GRID, hu), by_spread(), NAMES)
    assert "Swin UNETR ends 2 cm higher" in found.regions[0].why
    assert "Swin UNETR takes it in" in found.regions[0].why


def test_another_organ_on_the_same_place_is_named() -> None:
    spleen, liver = ball((20, 30, 18), 6), ball((10, 10, 18), 7)
    probs, labels, hu = volume([spleen | liver, spleen, spleen], spleen)
    found = find_places(thinned(probs, labels, GRID, hu), by_spread(), NAMES)
    assert any("spleen and liver both claim it" in one.why for one in found.regions)


def between(*livers: tuple[tuple[int, int, int], float]) -> Thinned:
    """A lump that the first network takes for spleen, and lumps that it takes for liver."""
    spleen, lump = ball((30, 36, 18), 4), ball((22, 20, 18), 6)
    probs, labels, hu = volume([spleen | lump, spleen, spleen], spleen)
    for centre, radius in livers:
        probs[0, LIVER, ball(centre, radius)] = 1.0
    return thinned(probs, labels, GRID, hu)


def test_places_of_two_organs_that_touch_are_one_that_names_both() -> None:
    beside, apart = ((30, 20, 18), 3), ((22, 20, 30), 3)
    settings = PlaceSettings(wrong_ml=0.1)
    found = find_places(between(beside, apart), by_spread(), NAMES, settings)
    assert [one.organs for one in found.regions] == [("spleen", "liver"), ("liver",)]
    both, other = found.regions
    alone = find_places(between(), by_spread(), NAMES, settings).regions[0]
    assert both.ml == pytest.approx(alone.ml + other.ml, rel=0.2)
    assert both.wrong_ml == pytest.approx(alone.wrong_ml + other.wrong_ml, rel=0.2)
    assert both.start[0] == alone.start[0]
    assert both.stop[0] > alone.stop[0] + 2
    assert "liver: Swin UNETR takes it in" in both.why
    assert len(found.voxels[0]) * 8 * GRID.voxel_ml == pytest.approx(both.ml)
    at = found.voxels[0]
    assert set(found.mask[tuple(at.T)]) == {ORGAN_IDS["spleen"]}


def test_where_two_organs_claim_the_same_voxels_these_count_once() -> None:
    alone = find_places(between(), by_spread(), NAMES).regions[0]
    (both,) = find_places(between(((22, 20, 18), 6)), by_spread(), NAMES).regions
    assert set(both.organs) == {"spleen", "liver"}
    assert both.ml == pytest.approx(alone.ml)
    assert both.wrong_ml == pytest.approx(alone.wrong_ml, rel=0.05)


def test_a_place_brings_no_chain_of_others_with_it() -> None:
    """Spleen, liver and a second, smaller spleen in a row."""
    spleen = ball((30, 36, 18), 4)
    large, small = ball((10, 20, 18), 6), ball((27, 20, 18), 3)
    probs, labels, hu = volume([spleen | large | small, spleen, spleen], spleen)
    probs[0, LIVER, ball((20, 20, 18), 4)] = 1.0
    whole = thinned(probs, labels, GRID, hu)
    found = find_places(whole, by_spread(), NAMES, PlaceSettings(wrong_ml=0.1)).regions
    assert [one.organs for one in found] == [("spleen", "liver"), ("spleen",)]


def test_few_are_shown_and_the_worst_come_first() -> None:
    lumps = np.zeros(SHAPE, bool)
    for x in range(4, 40, 8):
        for z in range(4, 36, 8):
            lumps |= ball((x, 40, z), 1.5 + (x * 7 + z) % 20 / 10)
    spleen = ball((20, 20, 18), 6)
    probs, labels, hu = volume([spleen | lumps, spleen, spleen], spleen)
    whole = thinned(probs, labels, GRID, hu)
    every = find_places(whole, by_spread(), NAMES, PlaceSettings(wrong_ml=0.01, most=100)).regions
    ten = find_places(whole, by_spread(), NAMES, PlaceSettings(wrong_ml=0.01)).regions
    assert len(every) > 10
    assert ten == every[:10]
    assert [one.wrong_ml for one in ten] == sorted((one.wrong_ml for one in ten), reverse=True)
    least = find_places(whole, by_spread(), NAMES, PlaceSettings(wrong_ml=ten[4].wrong_ml)).regions
    assert least == ten[: len(least)]
    assert len(least) == sum(one.wrong_ml >= ten[4].wrong_ml for one in ten)


def test_networks_that_agree_leave_nothing_to_look_at() -> None:
    spleen = ball((20, 30, 18), 6)
    probs, labels, hu = volume([spleen] * 3, spleen)
    found = find_places(thinned(probs, labels, GRID, hu), by_spread(), NAMES)
    assert found.regions == ()
    assert not found.mask.any()


@pytest.mark.parametrize("flip", [(), (0,), (1, 2), (0, 1, 2)])
def test_a_place_lies_right_on_a_ct_of_any_orientation(flip: tuple[int, ...]) -> None:
    place = find_places(doubtful(), by_spread(), NAMES, PlaceSettings(wrong_ml=0.3)).regions[0]
    affine = np.diag([0.7, 0.9, 2.5, 1.0])
    shape = (86, 74, 22)
    for axis in flip:
        affine[:, axis] *= -1
        affine[axis, 3] = abs(affine[axis, axis]) * (shape[axis] - 1)
    ct = Grid(shape, affine)
    there = place.on(GRID, ct)
    mm = affine[:3, :3] @ there.centre + affine[:3, 3]
    assert mm == pytest.approx(np.array((33, 30, 18)) * 1.5, abs=1.6)
