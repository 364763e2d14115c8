"""Recalibration of predicted quality: coverage, bias, weights of audits, too few."""

from __future__ import annotations

import numpy as np
import pytest

from atlas8k.attention.quality_model import Predicted
from atlas8k.attention.recalibration import EMBEDDED, FEWEST, Calibration, calibrate
from atlas8k.core.organ_states import QualityFound, QualitySeen

SPREAD = 0.05


def one(
    volume: int, found: float, organ: str = "liver", dice: float = 0.9, weight: float = 1.0,
    drawn: bool = False, ml: float = 10.0,
) -> QualitySeen:  # fmt: skip
    quality = QualityFound(dice, SPREAD, 5.0, dice, None, None, 0, found, ml)
    return QualitySeen(f"v{volume}", organ, quality, weight, drawn)


def noisy(n: int, seed: int, off: float = 0.0, width: float = 0.03) -> list[QualitySeen]:
    rng = np.random.default_rng(seed)
    return [one(i, float(0.9 + off + width * rng.standard_normal())) for i in range(n)]


def shown(calibration: Calibration, organ: str = "liver", dice: float = 0.9) -> Predicted:
    fields = calibration.applied({organ: Predicted(dice, 0.89, 0.91, 5.0, SPREAD).as_dict()})
    assert fields[organ].pop("calibrated") >= 0
    return Predicted(**fields[organ])


def test_under_twenty_volumes_everything_stays_as_embedded() -> None:
    for calibration in (EMBEDDED, calibrate([]), calibrate(noisy(FEWEST - 1, 0))):
        assert calibration.pooled is None
        assert shown(calibration) == Predicted(0.9, 0.89, 0.91, 5.0, SPREAD)
        assert f"{calibration.volumes} of {FEWEST}" in calibration.text
    # Nine organs of few volumes are no more volumes.
    many = [one(i % 10, 0.9, organ) for i, organ in enumerate(["liver", "spleen"] * 20)]
    assert calibrate(many).pooled is None


def test_intervals_hold_what_they_say_of_volumes_after_them() -> None:
    """Of many campaigns of 40 volumes, the next volume of each; networks off by 0.1."""
    inside = 0
    for seed in range(400):
        *before, after = noisy(41, seed, off=-0.1)
        found = shown(calibrate(before))
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.dice < found.high
        inside += found.low <= after.quality.found_dice <= found.high
    assert 0.87 <= inside / 400 <= 0.96  # 90 to 90 + 2 / 41 % are expected


def test_networks_that_are_too_hopeful_are_put_right() -> None:
    found = shown(calibrate(noisy(40, 1, off=-0.1)))
    assert found.dice == pytest.approx(0.8, abs=0.02)
    assert found.wrong_ml == pytest.approx(10.0)  # twice what was predicted


def test_an_organ_goes_by_its_own_errors_where_enough_are_known() -> None:
    seen = [*noisy(30, 2), *(one(i, 0.7, "pancreas") for i in range(30))]
    calibration = calibrate([*seen, one(1, 0.9, "spleen")])
    assert set(calibration.organs) == {"liver", "pancreas"}
    assert shown(calibration, "pancreas").dice == pytest.approx(0.7)
    assert shown(calibration).dice == pytest.approx(0.9, abs=0.02)
    assert calibration.errors("spleen") == calibration.pooled
    assert calibration.errors("stomach") == calibration.pooled  # never seen


def test_audits_stand_for_what_nobody_reviews_and_their_lack_is_said() -> None:
    worst = [one(i, 0.6) for i in range(40)]
    alone = calibrate(worst)
    assert alone.pooled is not None
    assert not alone.pooled.fair
    assert "not drawn at random" in alone.text
    few = calibrate([*worst, *(one(100 + i, 0.9, weight=50, drawn=True) for i in range(5))])
    assert few.pooled is not None
    assert not few.pooled.fair  # five cannot say where nine tenths lie
    audited = [one(100 + i, 0.9, weight=50, drawn=True) for i in range(30)]
    fair = calibrate([*worst, *audited])
    assert fair.pooled is not None
    assert fair.pooled.fair
    assert shown(fair).dice == pytest.approx(0.9)
    assert shown(alone).dice == pytest.approx(0.6)
    assert "stand for the ones that nobody reviewed" in fair.text


def test_what_an_earlier_release_kept_is_left_as_it_is() -> None:
    calibration = calibrate(noisy(30, 3))
    before = {"dice": 0.5, "low": None, "high": None, "wrong_ml": 3.0}
    assert calibration.applied({"liver": before}) == {"liver": {**before, "calibrated": 0}}
    assert calibration.dice("liver", before) == 0.5
    assert calibration.dice("liver", None) is None


def test_what_contradicts_is_said() -> None:
    assert "3 organs left out" in calibrate(noisy(30, 4), 3).text
