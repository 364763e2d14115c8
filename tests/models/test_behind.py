"""What follows from one network is done beside the next: the same numbers, and no more than one."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from tests.models.tiny import body_ct, tiny

from atlas8k.core.errors import PredictionError
from atlas8k.models import predict
from atlas8k.models.behind import Behind
from atlas8k.models.predict import Predictor

LIMIT_S = 60


def test_the_caller_goes_on_and_the_next_waits() -> None:
    may_end, seen = threading.Event(), []

    def first() -> None:
        assert may_end.wait(LIMIT_S)
        seen.append("first")

    with Behind(True) as behind:
        behind.do(first)  # returns though it has not ended
        assert not seen
        threading.Timer(0.1, may_end.set).start()
        behind.do(lambda: seen.append("second"))
        assert seen[:1] == ["first"]
    assert seen == ["first", "second"]


def test_without_a_thread_it_is_done_at_once() -> None:
    seen: list[threading.Thread] = []
    with Behind(False) as behind:
        behind.do(lambda: seen.append(threading.current_thread()))
        assert seen == [threading.current_thread()]


def test_what_it_raises_is_raised_at_the_next_or_at_the_end() -> None:
    def fails() -> None:
        raise PredictionError("no memory")

    seen: list[int] = []

    def two() -> None:
        with Behind(True) as behind:
            behind.do(fails)
            behind.do(lambda: seen.append(1))

    with pytest.raises(PredictionError, match="no memory"):
        two()
    assert not seen
    with pytest.raises(PredictionError, match="no memory"), Behind(True) as behind:
        behind.do(fails)


def test_it_has_ended_where_its_caller_fails() -> None:
    ended = []

    def caller() -> None:
        with Behind(True) as behind:
            behind.do(lambda: ended.append(1))
            raise KeyError

    with pytest.raises(KeyError):
        caller()
    assert ended


@pytest.mark.parametrize("broken", [None, "unet"])
def test_probabilities_are_the_same(monkeypatch: pytest.MonkeyPatch, broken: str | None) -> None:
    ct = body_ct()
    networks = {"unet": tiny("unet"), "other": tiny("unet"), "nnunet": tiny("nnunet", spacing=7.0)}
    run = Predictor._run

    def some(self: Predictor, name: str, *more: object) -> object:
        if name == broken:
            raise RuntimeError("broken")
        return run(self, name, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "_run", some)
    plain = Predictor(networks, grid_mm=6.0).predict(ct)
    threads = set()
    spread = Predictor._spread

    def noted(*arguments: object) -> None:
        threads.add(threading.current_thread().name)
        spread(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(predict, "Behind", lambda on: Behind(True))
    monkeypatch.setattr(Predictor, "_workers", lambda self, names: 1)
    monkeypatch.setattr(Predictor, "_spread", noted)
    beside = Predictor(networks, grid_mm=6.0).predict(ct)
    assert all(name.startswith("behind") for name in threads)
    assert beside.names == plain.names
    assert len(plain.names) == (3 if broken is None else 2)
    assert np.array_equal(beside.probs, plain.probs)
