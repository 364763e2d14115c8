"""A training that shares its device: what is left to others, and what the clock counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from atlas8k.training import time_budget
from atlas8k.training.config import TrainingConfig
from atlas8k.training.loop import Progress, train_network
from atlas8k.training.time_budget import TimeBudget

from .conftest import tiny

HOUR = 3600.0


class Now:
    """A clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        self.now += 0.001
        return self.now


class Shared:
    """A device behind which an hour is waited each time it is asked for."""

    def __init__(self, now: Now | None = None) -> None:
        self.held = True
        self.asked = 0
        self._now = now or Now()

    def leave(self) -> None:
        assert self.held
        self.held = False

    def take(self) -> None:
        assert not self.held
        self.held = True
        self._now.now += HOUR

    def give_way(self) -> None:
        assert self.held
        self.asked += 1
        self._now.now += HOUR


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Now:
    made = Now()
    monkeypatch.setattr(time_budget, "time", made)
    return made


def test_waiting_is_no_time_and_what_is_done_meanwhile_is(now: Now) -> None:
    clock = TimeBudget(Shared(now), seconds=20)
    clock.give_way()
    assert clock.seconds() == pytest.approx(20, abs=0.1)
    with clock.aside():
        now.now += 5
    assert clock.seconds() == pytest.approx(25, abs=0.1)


def test_the_device_is_taken_again_whatever_happens() -> None:
    place = Shared()

    def unreadable() -> None:
        assert not place.held
        raise OSError("unreadable")

    with pytest.raises(OSError, match="unreadable"), TimeBudget(place).aside():
        unreadable()
    assert place.held


@dataclasses.dataclass
class Watched:
    """A case that is loaded only while the device is others'."""

    case: Any
    place: Shared
    loads: list[bool]

    @property
    def name(self) -> str:
        return str(self.case.name)

    def load(self, preprocessing: Any) -> Any:
        self.loads.append(self.place.held)
        return self.case.load(preprocessing)


@pytest.mark.parametrize("workers", [0, 2])
def test_volumes_are_prepared_without_the_device(case: Callable[..., Any], workers: int) -> None:
    place, loads = Shared(), []
    cases = [Watched(case(name), place, loads) for name in "abc"]
    config = TrainingConfig(epochs=2, steps_per_epoch=3, validate_every=1, workers=workers)
    train_network(tiny("unet"), cases[:2], config, validation=cases, shared_device=place)
    assert len(loads) == 2 + 2 * 3  # once to train on, and at every measurement
    assert not any(loads)
    assert place.asked == 6  # before every step


def test_minutes_of_a_training_are_those_it_had_the_device(
    case: Callable[..., Any], now: Now
) -> None:
    seen: list[Progress] = []

    def ten_seconds(progress: Progress) -> None:
        seen.append(progress)
        now.now += 10

    config = TrainingConfig(minutes=1, steps_per_epoch=1, workers=0)
    place = Shared(now)
    train_network(tiny("unet"), [case("a")], config, shared_device=place, on_epoch=ten_seconds)
    # Ten seconds each, and hours of waiting.
    assert [p.fraction for p in seen] == pytest.approx([n / 6 for n in range(7)], abs=0.01)
    assert seen[-1].fraction == 1
