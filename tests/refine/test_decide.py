"""What strokes change and what they leave, by judges whose judgement is known."""

from __future__ import annotations

import numpy as np
import pytest

from atlas8k.refine.decide import NEAR_MM, REACH_MM, decide, doubtful, region_of
from atlas8k.refine.features import FEATURES, OPINIONS, Scene, features_of, table
from atlas8k.refine.geodesic import FAR, geodesic_mm
from atlas8k.refine.model import WITH_OPINIONS, embedded_model

SHAPE = (40, 40, 40)
MM = (2.0, 2.0, 2.0)


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    """Voxels within so many voxels of a place."""
    x, y, z = np.indices(SHAPE)
    a, b, c = centre
    return (x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 <= radius**2


def scene(
    organ: np.ndarray,
    inside: np.ndarray | None = None,
    outside: np.ndarray | None = None,
    other: np.ndarray | None = None,
    probs: np.ndarray | None = None,
) -> Scene:
    none = np.zeros(SHAPE, dtype=bool)
    ct = np.where(organ, 120, -80).astype(np.int16)
    return Scene(
        ct,
        organ,
        none if other is None else other,
        none if inside is None else inside,
        none if outside is None else outside,
        MM,
        probs,
        None if probs is None else np.zeros(SHAPE, np.float32),
    )


def knows(truth: np.ndarray):
    """A judge that knows the truth."""
    return lambda scene, where: np.where(truth[where], 6.0, -6.0).astype(np.float32)


def point(*at: int) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[at] = True
    return mask


def test_a_missing_piece_comes_by_one_voxel_and_another_one_stays_missing() -> None:
    label, piece, far = ball((20, 20, 20), 6), ball((20, 20, 27), 3), ball((20, 20, 10), 3)
    truth = label | piece | far
    now, _ = decide(scene(label, inside=point(20, 20, 28)), knows(truth))
    assert not (now & far & ~label).any()  # hangs together with no stroke
    missing = piece & ~label
    assert (now & missing).sum() > 0.9 * missing.sum()
    assert not (now & ~truth).any()
    assert (now & label).sum() == label.sum()


def test_too_much_goes_and_strokes_that_the_label_agrees_with_ask_for_nothing() -> None:
    truth, more = ball((20, 20, 20), 6), ball((20, 20, 27), 3)
    label = truth | more
    now, _ = decide(scene(label, outside=point(20, 20, 28)), knows(truth))
    assert (now != truth).sum() < 0.1 * (more & ~truth).sum()
    same, field = decide(scene(label, inside=point(20, 20, 20)), knows(truth))
    assert np.array_equal(same, label)
    assert np.array_equal(field > 0, label)


def test_what_nobody_doubts_stays_where_it_is_far() -> None:
    label = np.zeros(SHAPE, dtype=bool)
    everything = np.ones(SHAPE, dtype=bool)
    sure = np.zeros((3, *SHAPE), np.float32)
    stroke = point(20, 20, 2)
    now, _ = decide(scene(label, inside=stroke, probs=sure), knows(everything))
    away = 2.0 * np.abs(np.arange(40) - 2)
    reached = away[now.any(axis=(0, 1))].max()
    assert NEAR_MM - 2 <= reached <= NEAR_MM
    unsure = sure + 0.3
    now, _ = decide(scene(label, inside=stroke, probs=unsure), knows(everything))
    reached = away[now.any(axis=(0, 1))].max()
    assert REACH_MM - 2 <= reached <= REACH_MM
    assert not doubtful(scene(label, probs=sure)).any()
    assert doubtful(scene(label, probs=unsure)).all()


def test_other_organs_keep_their_voxels_unless_a_stroke_is_on_them() -> None:
    label, other = ball((20, 20, 14), 5), ball((20, 20, 26), 5)
    truth = label | other
    beside = point(20, 20, 20)
    now, _ = decide(scene(label, inside=beside, other=other & ~label), knows(truth | beside))
    assert not (now & other & ~label).any()
    on = point(20, 20, 26)
    now, _ = decide(scene(label, inside=on, other=other & ~label), knows(truth))
    assert (now & other).sum() > 0.9 * other.sum()


def test_strokes_bind_even_where_the_judge_says_otherwise() -> None:
    label = ball((20, 20, 20), 6)
    inside, outside = point(20, 20, 29), point(20, 20, 20)
    now, _ = decide(scene(label, inside=inside, outside=outside), knows(label))
    assert now[20, 20, 29]
    assert not now[20, 20, 20]
    assert (now ^ label).sum() == 2


def test_the_region_holds_all_that_may_change() -> None:
    box = region_of(point(20, 0, 39), MM, start=(100, 0, 50))
    assert box is not None
    more = int(REACH_MM / 2) + 1
    assert [(s.start, s.stop) for s in box] == [
        (120 - more, 120 + more + 1),
        (0, more + 1),
        (89 - more, 89 + more + 1),
    ]
    assert region_of(np.zeros(SHAPE, dtype=bool), MM) is None


def test_a_way_around_a_wall_is_longer_than_through_air() -> None:
    values = np.zeros((9, 9, 3), np.float32)
    values[4, :8] = 1000
    seeds = np.zeros(values.shape, dtype=bool)
    seeds[0, 0, 1] = True
    found = geodesic_mm(values, seeds, (1.0, 2.0, 5.0), 1.0)
    assert found[0, 0, 1] == 0
    assert found[3, 0, 1] == pytest.approx(3)
    assert found[0, 3, 1] == pytest.approx(6)
    assert found[0, 0, 2] == pytest.approx(5)
    around = 2 * np.hypot(1, 2) * 4  # four steps down, four up again, slanting
    assert found[8, 0, 1] > 16
    assert found[8, 0, 1] <= around + 16 + 1e-3
    assert (geodesic_mm(values, ~np.ones_like(seeds), (1, 1, 1), 1.0) == FAR).all()


def test_features_of_a_scene_with_and_without_networks() -> None:
    label = ball((20, 20, 20), 6)
    probs = np.stack([label * 0.9 + 0.05] * 3).astype(np.float32)
    both = features_of(scene(label, inside=point(20, 20, 28), probs=probs))
    assert set(both) == {*FEATURES, *OPINIONS}
    assert both["organ_mm"][20, 20, 26] == pytest.approx(4)
    assert both["to_outline_mm"][20, 20, 20] > 0 > both["to_outline_mm"][0, 0, 0]
    assert both["mean"][20, 20, 20] == pytest.approx(np.log(0.95 / 0.05), abs=1e-4)
    assert (both["mean_at_organ"] == both["mean"][20, 20, 28]).all()
    assert np.isnan(both["hu_from_not"]).all()
    alone = features_of(scene(label, inside=point(20, 20, 28)))
    assert set(alone) == set(FEATURES)
    assert table(both, label, WITH_OPINIONS).shape == (label.sum(), len(WITH_OPINIONS))


def test_one_network_that_is_right_wins_the_piece_that_a_stroke_is_on() -> None:
    small, piece = ball((20, 20, 16), 7), ball((20, 20, 26), 6)
    truth = small | piece
    soft = np.where(small, 0.97, 0.02).astype(np.float32)
    right = np.where(truth, 0.95, 0.02).astype(np.float32)
    probs = np.stack([soft, soft, right])
    stroke = np.zeros(SHAPE, dtype=bool)
    stroke[20, 17:24, 27] = True
    rng = np.random.default_rng(0)
    ct = np.where(truth, 110, -60) + rng.normal(0, 10, SHAPE)
    begun = Scene(ct, small, stroke & False, stroke, stroke & False, MM, probs, probs[0] * 0)
    now, _ = decide(begun, embedded_model())
    missing = truth & ~small
    assert (now & missing).sum() > 0.7 * missing.sum()
    assert (now & ~truth).sum() < 0.2 * missing.sum()
