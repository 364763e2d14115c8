"""Reading and keeping beside the prediction of another CT, as with a GPU: the same result."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.server.tiny import checkpoint, write_ct

from atlas8k.core.errors import CheckpointError, PredictionError
from atlas8k.core.settings import Settings
from atlas8k.core.volume import read_label
from atlas8k.models.predict import Predictor
from atlas8k.models.store import ModelStore
from atlas8k.services.context import Context
from atlas8k.services.device_lock import Turn
from atlas8k.services.errors import UpstreamError
from atlas8k.services.opening import open_context
from atlas8k.services.scoring import Scoring, ThisProcess, image_of
from atlas8k.store import Progress

LIMIT_S = 60


def score(context: Context, report: Any = None) -> dict[str, int]:
    return Scoring(context, report, ThisProcess(context, ahead=2)).run()


def found(context: Context) -> dict[str, tuple[Any, ...]]:
    """What is kept of each volume."""
    version = context.model_version()
    labels = context.studies.path / "labels" / "original"
    return {
        row.volume: (
            row.attention_ml,
            context.ledger.explanation(row.volume, version),
            read_label(labels / f"{row.volume}.nii.gz").array.tobytes(),
        )
        for row in context.ledger.ranking(version)
    }


def test_it_is_what_one_after_another_gives(
    context: Context, studies: Path, models: Path, tmp_path: Path
) -> None:
    (studies / "broken.nii.gz").write_bytes(b"no CT")
    other = tmp_path / "other"
    other.mkdir()
    for path in studies.glob("*.nii.gz"):
        (other / path.name).hardlink_to(path)
    assert score(context) == {"scored": 3, "failed": 1, "set_aside": 0}
    alone = open_context(Settings(device="cpu"), str(other), models)
    try:
        assert Scoring(alone).run() == {"scored": 3, "failed": 1, "set_aside": 0}
        ours, theirs = found(context), found(alone)
        assert ours.keys() == theirs.keys() == set("abc")
        for volume in "abc":
            assert ours[volume] == theirs[volume]
        assert context.ledger.failures(context.model_version()).keys() == {"broken"}
    finally:
        alone.close()


def test_the_next_ct_is_read_while_one_is_predicted(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, running, beside = context.engine, threading.Event(), threading.Event()
    read, predict = engine.read, engine.predict

    def reading(path: Path) -> Any:
        if not path.name.startswith("c"):
            return read(path)
        # Not before a prediction runs, so that it cannot be over by then.
        assert running.wait(LIMIT_S)
        result = read(path)
        beside.set()
        return result

    def predicting(path: Path, *more: Any) -> Any:
        running.set()
        assert beside.wait(LIMIT_S)
        return predict(path, *more)

    monkeypatch.setattr(engine, "read", reading)
    monkeypatch.setattr(engine, "predict", predicting)
    assert score(context)["scored"] == 3


def test_networks_published_meanwhile_are_taken_up(context: Context, models: Path) -> None:
    seen: list[Progress] = []

    def publish(progress: Progress, seconds_each: float, left: int) -> None:
        if not seen:
            ModelStore(models).publish({"nnunet": checkpoint("nnunet", 5)})
        seen.append(progress)

    score(context, publish)
    assert context.progress().complete
    for volume in "abc":
        info = json.loads(context.studies.known_label(volume, "original").info)
        assert info["model_version"] == context.model_version()


def test_a_network_that_is_damaged_ends_it(context: Context, models: Path, studies: Path) -> None:
    for file in (models / "embedded").iterdir():
        file.write_bytes(b"no network")
    write_ct(studies / "d.nii.gz", 9)
    with pytest.raises(CheckpointError):
        score(context)
    assert not context.ledger.failures(context.model_version())
    assert not any(one.name.startswith("read-ahead") for one in threading.enumerate())


@pytest.mark.parametrize("ahead", [0, 2])
def test_one_network_that_fails_at_one_ct_keeps_no_other_ct_from_being_scored(
    context: Context, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    run, whole, begun = Predictor._run, Predictor.predict, []

    def counted(self: Any, ct: Any) -> Any:
        begun.append(ct)
        return whole(self, ct)

    def odd(self: Any, name: str, *arguments: Any) -> Any:
        if name == "unet" and len(begun) == 1:
            raise RuntimeError("sizes of tensors must match")
        return run(self, name, *arguments)

    monkeypatch.setattr(Predictor, "predict", counted)
    monkeypatch.setattr(Predictor, "_run", odd)
    counts = Scoring(context, workers=ThisProcess(context, ahead)).run()
    assert counts == {"scored": 2, "failed": 1, "set_aside": 0}
    [why] = context.ledger.failures(context.model_version()).values()
    assert "unet failed at this CT" in why


def test_a_file_that_is_replaced_after_it_was_read_is_answered_as_it_was_read(
    context: Context, studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept of the first patient must not be taken for the second's."""
    path = studies / "a.nii.gz"
    read = context.engine.read(path)
    write_ct(path, 99, 1.0)
    context.engine.begin_answers(path, Turn.SCORING, "a", read)()
    predicted = []
    whole = Predictor.predict
    monkeypatch.setattr(
        Predictor, "predict", lambda self, ct: predicted.append(ct) or whole(self, ct)
    )
    context.engine.answers(path, Turn.SCORING, "a")
    assert len(predicted) == 1


def test_memory_that_is_short_beside_others_is_tried_again_alone(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends, begun = threading.Event(), []
    kept, begin = ThisProcess._kept, context.engine.begin_answers

    def slow(*arguments: Any) -> Any:
        ends.wait(LIMIT_S)
        return kept(*arguments)

    def short(*arguments: Any) -> Any:
        begun.append(arguments)
        if len(begun) == 2:
            threading.Timer(0.2, ends.set).start()
            raise PredictionError("needs 9 GB, 1 GB are free")
        return begin(*arguments)

    monkeypatch.setattr(ThisProcess, "_kept", slow)
    monkeypatch.setattr(context.engine, "begin_answers", short)
    assert score(context) == {"scored": 3, "failed": 0, "set_aside": 0}
    assert len(begun) == 4


def test_nobody_waits_for_an_archive_once_the_run_has_ended(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(volume: str) -> Path:
        raise UpstreamError("the archive does not answer")

    monkeypatch.setattr(context.studies, "image_path", gone)
    ended = threading.Event()
    threading.Timer(0.2, ended.set).start()
    with pytest.raises(UpstreamError):
        image_of(context, "a", ended)
