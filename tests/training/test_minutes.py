"""A training of so many minutes: the clock bounds what is prepared, trained and measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from atlas8k.training import time_budget
from atlas8k.training.config import TrainingConfig
from atlas8k.training.loop import Progress, train_network

from .conftest import tiny
from .test_time_budget import Now


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Now:
    made = Now()
    monkeypatch.setattr(time_budget, "time", made)
    return made


@dataclasses.dataclass
class Slow:
    """A case that takes seconds to prepare."""

    case: Any
    now: Now
    seconds: float
    loads: list[str]

    @property
    def name(self) -> str:
        return str(self.case.name)

    def load(self, preprocessing: Any) -> Any:
        self.now.now += self.seconds
        self.loads.append(self.name)
        return self.case.load(preprocessing)


def trained(
    case: Callable[..., Any], now: Now, minutes: float, *, slow: float, steps: int, cases: int = 12
) -> tuple[list[Progress], list[str], list[str], float, int]:
    """Progress, names prepared to train and to measure on, seconds taken, and steps."""
    learnt, measured, seen = [], [], []
    everything = [case(f"case{i}") for i in range(cases)]

    def second(progress: Progress) -> None:
        seen.append(progress)

    began = now.now
    made = train_network(
        tiny("unet"),
        [Slow(one, now, slow, learnt) for one in everything],
        TrainingConfig(minutes=minutes, steps_per_epoch=steps, workers=0, validate_every=100),
        validation=[Slow(one, now, slow, measured) for one in everything[:6]],
        on_epoch=second,
        should_stop=lambda: bool(setattr(now, "now", now.now + 1)),  # a step takes a second
    )
    return seen, learnt, measured, now.now - began, int(made.origin["steps"])


def test_an_epoch_ends_in_its_middle_and_is_measured(case: Callable[..., Any], now: Now) -> None:
    seen, learnt, measured, seconds, steps = trained(case, now, 2, slow=0.1, steps=1000)
    assert [one.epoch for one in seen] == [1]
    assert seen[0].fraction == 1
    assert set(seen[0].dsc) == {"liver", "spleen"}
    assert len(learnt) == 12
    assert len(measured) == 6
    assert 90 < steps < 100  # of 120 s, a fifth is kept for the measurement
    assert seconds < 120 + 1


def test_volumes_are_prepared_as_far_as_time_allows(case: Callable[..., Any], now: Now) -> None:
    seen, learnt, measured, seconds, steps = trained(case, now, 2, slow=5, steps=10)
    # An eighth of 120 s at the start, a quarter of what is over later; none twice.
    assert len(set(learnt[:3])) == 3
    assert 3 < len(learnt) == len(set(learnt)) <= 6
    assert steps > 50
    assert 1 <= len(measured) <= 5
    assert seen[-1].dsc
    assert seconds < 120 + 5 + 1


def test_with_no_time_at_all_there_is_one_step_and_one_case(
    case: Callable[..., Any], now: Now
) -> None:
    seen, learnt, measured, _, steps = trained(case, now, 0.01, slow=100, steps=50)
    assert (steps, len(seen), len(learnt), len(measured)) == (1, 1, 1, 1)
    assert seen[-1].fraction == 1


def test_what_a_measurement_has_shown_is_kept_and_no_more(
    case: Callable[..., Any], now: Now
) -> None:
    config = TrainingConfig(minutes=10, steps_per_epoch=30, workers=0, validate_every=1)
    watched: list[str] = []
    made = train_network(
        tiny("unet"),
        [case("a")],
        config,
        validation=[Slow(case("b"), now, 2, watched)],
        should_stop=lambda: bool(setattr(now, "now", now.now + 1)),
    )
    # 32 s an epoch, and two for the last measurement, not 120.
    assert int(made.origin["steps"]) > 540
    assert len(watched) == -(-int(made.origin["steps"]) // 30)
