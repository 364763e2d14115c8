"""Priority lists: order, filters and the three rankings' definitions."""

import numpy as np
import pytest

from atlas8k.attention import (
    RANKINGS,
    SalientSettings,
    attention_sizes,
    equations,
    priority_list,
    ranking_scores,
    salient_regions,
    scores_of,
)
from atlas8k.errors import AttentionError
from atlas8k.organs import ORGAN_NAMES
from atlas8k.volume import Grid

SCORES = {
    "a": {"liver": 1.0, "spleen": 9.0},
    "b": {"liver": 6.0, "spleen": 2.0},
    "c": {"liver": 0.0, "spleen": 0.0},
}


def test_largest_first_with_organs_in_order() -> None:
    ranked = priority_list(SCORES)
    assert [r.name for r in ranked] == ["a", "b", "c"]
    assert [r.place for r in ranked] == [1, 2, 3]
    assert [r.score for r in ranked] == [10.0, 8.0, 0.0]
    assert list(ranked[0].organs) == ["spleen", "liver"]
    assert ranked[0].as_dict()["place"] == 1


def test_filter_by_organ() -> None:
    assert [r.name for r in priority_list(SCORES, organs=["liver"])] == ["b", "a", "c"]


def test_organs_labeled_by_the_source_do_not_count() -> None:
    ranked = priority_list(SCORES, known={"a": ["spleen"]})
    assert [(r.name, r.score) for r in ranked] == [("b", 8.0), ("a", 1.0), ("c", 0.0)]


def test_ties_are_settled_by_name() -> None:
    ranked = priority_list({name: {"liver": 1.0} for name in "dbca"})
    assert [r.name for r in ranked] == list("abcd")


def test_the_three_rankings_are_as_defined() -> None:
    grid = Grid((24, 20, 16), np.diag([1.5, 1.5, 1.5, 1.0]))
    rng = np.random.default_rng(5)
    probs = (rng.random((3, 9, 24, 20, 16)) ** 4).astype(np.float16)
    probs[:, 2] = 0  # an organ nobody sees has no largest value to divide by
    salient = salient_regions(probs, grid, SalientSettings(opening_mm=0.0))
    scores = scores_of(salient)
    eq4 = equations.attention(probs)
    per_slice = [m.sum() / m.max() / 16 if m.max() else 0.0 for m in eq4]
    any_salient = (
        (equations.inconsistency(probs) > 0.1)
        | (equations.uncertainty(probs) > 0.05)
        | (equations.overlap(probs) > 0)
    )
    ml = grid.voxel_ml
    assert scores.total("eq4") == pytest.approx(eq4.sum() * ml, rel=1e-5)
    assert scores.total("per_slice") == pytest.approx(sum(per_slice) * ml, rel=1e-5)
    assert scores.total("salient") == pytest.approx(any_salient.sum() * ml, rel=1e-5)
    assert scores.per_slice["kidney_left"] == 0
    assert set(scores.as_dict()) == set(RANKINGS)
    for ranking in RANKINGS:
        assert set(scores.by(ranking)) == set(ORGAN_NAMES)
        assert priority_list({"x": scores}, ranking)[0].score == pytest.approx(
            scores.total(ranking)
        )


def test_thin_slices_do_not_rank_higher() -> None:
    probs = (np.random.default_rng(1).random((3, 9, 12, 12, 12)) ** 3).astype(np.float16)
    thin = np.repeat(probs, 3, axis=4)
    ml = 0.01
    assert attention_sizes(thin, ml / 3).total_ml == pytest.approx(
        attention_sizes(probs, ml).total_ml, rel=1e-5
    )


def test_errors_name_the_volume_or_the_ranking() -> None:
    with pytest.raises(AttentionError, match="eq4, salient, per_slice"):
        priority_list(SCORES, "entropy")
    with pytest.raises(AttentionError, match="a: no score of pancreas"):
        priority_list(SCORES, organs=["pancreas"])
    with pytest.raises(AttentionError, match=r"b: .*liver"):
        priority_list({"b": {"liver": float("nan")}})
    sizes = attention_sizes(np.zeros((1, 9, 2, 2, 2), np.float16), 1.0)
    with pytest.raises(AttentionError, match="BDMAP_1"):
        ranking_scores(sizes, {"liver": 1.0}, 16, name="BDMAP_1")
    with pytest.raises(AttentionError, match="slices"):
        ranking_scores(sizes, dict.fromkeys(ORGAN_NAMES, 0.0), 0)
