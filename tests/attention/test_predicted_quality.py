"""Predicted quality: features of known predictions, the fitted networks, intervals, the file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from atlas8k.attention.organ_features import FEATURES, organ_features
from atlas8k.attention.perceptron import Perceptron
from atlas8k.attention.probabilities import CODE_ERROR
from atlas8k.attention.quality_fit import Example, fit
from atlas8k.attention.quality_model import (
    QUALITY_FILE,
    QualityModel,
    conformal,
    in_words,
    inputs_of,
    read_quality,
)
from atlas8k.attention.slabs import quantise
from atlas8k.attention.thinned import thinned, thinned_ct
from atlas8k.attention.voxel_features import INPUTS
from atlas8k.core.errors import AttentionError, GridMismatchError
from atlas8k.core.grid import Grid, Volume
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES

SHAPE = (40, 44, 36)
GRID = Grid(SHAPE, np.diag([1.5, 1.5, 1.5, 1.0]))
LIVER, SPLEEN = ORGAN_NAMES.index("liver"), ORGAN_NAMES.index("spleen")


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    at = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1)
    inside: np.ndarray = np.linalg.norm(at - np.array(centre), axis=-1) <= radius
    return inside


def volume(
    spleens: list[np.ndarray], label: np.ndarray, hu: np.ndarray | None = None, sure: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three networks that agree on a liver, and say each its own of the spleen."""
    liver = ball((10, 10, 18), 7)
    probs = np.zeros((3, 9, *SHAPE), np.float16)
    labels = np.zeros(SHAPE, np.uint8)
    probs[:, LIVER, liver] = 1.0
    labels[liver] = ORGAN_IDS["liver"]
    for network, spleen in enumerate(spleens):
        probs[network, SPLEEN, spleen] = sure
    labels[label] = ORGAN_IDS["spleen"]
    every = thinned_ct(GRID, Volume(np.zeros(SHAPE, np.int16) if hu is None else hu, GRID))
    return probs, labels, every


def row(features: np.ndarray, organ: str) -> dict[str, float]:
    return dict(zip(FEATURES, features[ORGAN_NAMES.index(organ)], strict=True))


def test_networks_that_agree_and_are_sure_expect_a_right_label() -> None:
    spleen = ball((28, 28, 18), 8)
    found = row(organ_features(thinned(*_in_order(volume([spleen] * 3, spleen)))), "spleen")
    for name in ("expected_dice", "pairwise_dice", "least_dice", "confidence", "main_piece"):
        assert found[name] == pytest.approx(1.0), name
    for name in ("doubt_mm", "spread_mm", "outside", "claimed", "edge", "log_spread"):
        assert found[name] == pytest.approx(0.0), name
    # The spleen's centre less the liver's, millimetres.
    assert found["right_mm"] == pytest.approx(27.0, abs=1.0)
    assert found["up_mm"] == pytest.approx(0.0, abs=1.0)
    assert np.exp(found["log_ml"]) - 1 == pytest.approx(
        np.count_nonzero(spleen) * GRID.voxel_ml, rel=0.1
    )


def test_a_network_apart_lowers_the_agreement_by_as_much_as_counted() -> None:
    spleen, small = ball((28, 28, 18), 8), ball((28, 28, 18), 5)
    found = row(
        organ_features(thinned(*_in_order(volume([spleen, spleen, small], spleen)))), "spleen"
    )
    # Counted on every second voxel along each axis.
    share = np.count_nonzero(small[1::2, 1::2, 1::2]) / np.count_nonzero(spleen[1::2, 1::2, 1::2])
    apart = 2 * share / (1 + share)
    assert found["least_dice"] == pytest.approx(apart)
    assert found["pairwise_dice"] == pytest.approx((1 + 2 * apart) / 3)
    assert found["log_spread"] == pytest.approx(-np.log(share), abs=0.05)
    assert found["doubt_mm"] > 0.1
    assert found["spread_mm"] > 0.1


def test_what_nobody_sees_has_no_features_and_one_network_no_pairs() -> None:
    spleen = ball((28, 28, 18), 8)
    probs, label, hu = volume([spleen] * 3, spleen)
    features = organ_features(thinned(probs[:1], label, GRID, hu))
    assert np.isnan(features[ORGAN_NAMES.index("stomach"), :-1]).all()  # the last is of the others
    assert np.isnan(row(features, "spleen")["pairwise_dice"])
    assert row(features, "spleen")["least_dice"] == pytest.approx(1.0)


def test_codes_say_the_same_as_probabilities() -> None:
    spleen = ball((28, 28, 18), 8)
    probs, label, hu = volume([spleen] * 3, spleen, sure=0.8)
    exact = organ_features(thinned(probs, label, GRID, hu))
    coded = organ_features(thinned(quantise(probs), label, GRID, hu))
    first = FEATURES.index("expected_dice")
    assert np.abs(exact - coded)[SPLEEN, first] < 2 * CODE_ERROR
    assert (np.isnan(exact) == np.isnan(coded)).all()


def test_the_thinned_ct_lies_where_its_grid_says() -> None:
    """A CT whose values are its own millimetres, stored the other way round and finer."""
    shape = (90, 80, 60)
    affine = np.array([[-0.8, 0, 0, 65.0], [0, 0.9, 0, -2.0], [0, 0, 1.1, -3.0], [0, 0, 0, 1]])
    at = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    mm = at @ affine[:3, :3].T + affine[:3, 3]
    for axis in range(3):
        ct = Volume(mm[..., axis].astype(np.float32), Grid(shape, affine))
        out = thinned(
            np.zeros((1, 9, *SHAPE), np.float16), ball((20, 20, 18), 5) * np.uint8(5), GRID,
            thinned_ct(GRID, ct),
        )  # fmt: skip
        part = out.parts[0]
        index = np.argwhere(part.mask) + [span.start for span in part.box]
        where = index @ out.grid.affine[:3, :3].T + out.grid.affine[:3, 3]
        assert part.hu[part.mask] == pytest.approx(where[:, axis], abs=1e-3)


def test_shapes_that_differ_are_refused() -> None:
    spleen = ball((28, 28, 18), 8)
    probs, label, hu = volume([spleen] * 3, spleen)
    with pytest.raises(GridMismatchError):
        thinned(probs, label[:-1], GRID, hu)
    with pytest.raises(GridMismatchError):
        thinned(probs, label, GRID, hu[:-1])


def _in_order(parts: tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple:  # type: ignore[type-arg]
    probs, label, hu = parts
    return probs, label, GRID, hu


# Fitting


def examples(count: int = 60, seed: int = 0) -> list[Example]:
    """CTs whose Dice follows from the first feature, with some noise, voxels that follow one."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        features = rng.normal(size=(9, len(FEATURES)))
        features[:, 0] = rng.uniform(0.3, 1.0, 9)
        dice = np.clip(features[:, 0] * 0.9 + rng.normal(0, 0.03, 9), 0.01, 0.99)
        voxels = rng.normal(size=(400, INPUTS)).astype(np.float32)
        error = voxels[:, 2] > 1.0
        made.append(Example(features, dice, 100 * (1 - dice), voxels, error, np.ones(400)))
    return made


@pytest.fixture(scope="module")
def model() -> QualityModel:
    return fit(examples(), "sixty made up CTs")


def test_what_was_fitted_holds_on_ct_that_were_not_seen(model: QualityModel) -> None:
    unseen = examples(60, seed=1)
    inside, off, wrong = [], [], []
    for one in unseen:
        for index, organ in enumerate(ORGAN_NAMES):
            found = model.predict(one.features)[organ]
            assert found.low is not None
            assert found.high is not None
            inside.append(found.low <= one.dice[index] <= found.high)
            off.append(abs(found.dice - one.dice[index]))
            wrong.append((found.wrong_ml, one.wrong_ml[index]))
    assert np.mean(off) < 0.05  # noise alone is 0.024
    assert 0.84 <= np.mean(inside) <= 0.96
    assert np.corrcoef(np.array(wrong).T)[0, 1] > 0.9
    voxels = np.concatenate([one.voxels for one in unseen])
    error = np.concatenate([one.error for one in unseen])
    chance = model.chance(voxels)
    assert chance[error].mean() > 0.7
    assert chance[~error].mean() < 0.15


def test_the_file_holds_all_of_it(model: QualityModel, tmp_path: Path) -> None:
    path = tmp_path / QUALITY_FILE
    path.write_text(json.dumps(model.as_dict()), encoding="utf-8")
    again, one = read_quality(path), examples(1)[0]
    for organ, found in model.predict(one.features).items():
        assert again.predict(one.features)[organ] == pytest.approx(found, abs=1e-3)
    assert again.chance(one.voxels) == pytest.approx(model.chance(one.voxels), abs=1e-3)
    assert again.fits(3)
    assert not again.fits(2)
    assert path.stat().st_size < 500_000


@pytest.mark.parametrize(
    "spoil",
    [
        lambda told: told.update(format="atlas8k-predicted-quality/0"),
        lambda told: told["features"].reverse(),
        lambda told: told["organ"]["layers"].pop(),
        lambda told: told["voxel"]["scale"].__setitem__(0, 0.0),
        lambda told: told["voxel"]["mean"].pop(),
        lambda told: told.pop("residuals"),
    ],
)
def test_a_file_that_is_something_else_is_refused_by_name(
    model: QualityModel, tmp_path: Path, spoil: object
) -> None:
    told = json.loads(json.dumps(model.as_dict()))
    spoil(told)  # type: ignore[operator]
    path = tmp_path / QUALITY_FILE
    path.write_text(json.dumps(told), encoding="utf-8")
    if len(told.get("organ", {}).get("layers", "..")) == 1:
        model_of = read_quality(path)  # one layer fewer is a network, too, of another width
        with pytest.raises(ValueError, match="unpack"):
            model_of.predict(examples(1)[0].features)
        return
    with pytest.raises(AttentionError, match=QUALITY_FILE):
        read_quality(path)


def test_too_few_cases_make_no_interval(model: QualityModel) -> None:
    assert conformal(np.arange(19.0), 0.9) is None
    assert conformal(np.arange(1.0, 21.0), 0.9) == 19.0  # ceil(21 x 0.9) = 19th of 20
    assert conformal(np.arange(1.0, 21.0), 0.99) is None
    few = QualityModel(model.organ, model.voxel, {}, "none")
    found = few.predict(examples(1)[0].features)["liver"]
    assert (found.low, found.high) == (None, None)
    assert in_words(found.as_dict()) == f"{found.dice:.2f}"
    assert in_words(None) == ""


def test_an_input_that_is_not_known_counts_as_the_mean() -> None:
    one = Perceptron(
        np.array([2.0, 3.0], np.float32), np.ones(2, np.float32),
        (np.array([[1.0], [10.0]], np.float32),), (np.zeros(1, np.float32),),
    )  # fmt: skip
    assert one(np.array([[5.0, np.nan]])) == pytest.approx(np.array([[3.0]]))
    codes = inputs_of(np.zeros((9, len(FEATURES))))[:, len(FEATURES) :]
    assert (codes == np.eye(9)).all()
