"""A network that fails at every CT ends a run, and leaves the CTs to the next one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.tiny import checkpoint

from atlas8k.core.errors import CheckpointError
from atlas8k.core.settings import Settings
from atlas8k.core.volume import Grid, write_nifti
from atlas8k.models.checkpoint import Checkpoint, save_checkpoint
from atlas8k.models.predict import Predictor, Prepared
from atlas8k.services.context import Context
from atlas8k.services.failures import IN_A_ROW
from atlas8k.services.opening import open_context
from atlas8k.services.scoring import Scoring, ThisProcess

NAME = "unet"


def greedy() -> Checkpoint:
    """One with windows that no memory holds."""
    one = checkpoint(NAME)
    return replace(one, preprocessing=replace(one.preprocessing, window_size=(40_000,) * 3))


def broken() -> Checkpoint:
    """One that is read, and cannot be run: its windows cannot be halved as often as it does."""
    one = checkpoint(NAME)
    return replace(one, preprocessing=replace(one.preprocessing, window_size=(15,) * 3))


def bring(models: Path, one: Checkpoint) -> None:
    save_checkpoint(models / "embedded" / f"{NAME}.safetensors", one)


@pytest.fixture
def many(tmp_path: Path, models: Path) -> Iterator[Context]:
    """As many small CTs as tell, and one more; one is damaged, which says nothing of a network."""
    grid = Grid((8, 7, 6), np.diag([-12.0, 12.0, 15.0, 1.0]))
    noise = np.random.default_rng(0).normal(40, 60, (IN_A_ROW + 1, *grid.shape))
    for number, hu in enumerate(noise):
        write_nifti(tmp_path / "small" / f"ct_{number}.nii.gz", hu.astype(np.int16), grid)
    (tmp_path / "small" / "a_damaged.nii.gz").write_bytes(b"no CT")
    settings = Settings(device="cpu", check_content=False)
    opened = open_context(settings, str(tmp_path / "small"), models)
    yield opened
    opened.close()


@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.parametrize(("made", "words"), [(greedy, "memory"), (broken, "RuntimeError")])
def test_a_run_ends_and_the_next_one_tries_them_again(
    many: Context, models: Path, made: object, words: str, ahead: int
) -> None:
    bring(models, made())  # type: ignore[operator]
    with pytest.raises(
        CheckpointError, match=f"{NAME}: fails at every CT.*first [56] failed"
    ) as told:
        Scoring(many, workers=ThisProcess(many, ahead)).run()
    assert words in str(told.value)
    version = many.model_version()
    assert list(many.ledger.failures(version)) == ["a_damaged"]
    assert len(many.ledger.stale(version)) == IN_A_ROW + 1
    bring(models, checkpoint(NAME))
    counts = Scoring(many, workers=ThisProcess(many, ahead)).run()
    assert counts == {"scored": IN_A_ROW + 1, "failed": 1, "set_aside": 0}


def test_fewer_cts_than_tell_have_failed_at_the_end(many: Context, models: Path) -> None:
    bring(models, broken())
    for number in range(2):
        (many.studies.path / f"ct_{number}.nii.gz").unlink()
    assert Scoring(many).run() == {"scored": 0, "failed": IN_A_ROW, "set_aside": 0}
    assert len(many.ledger.failures(many.model_version())) == IN_A_ROW


def test_a_network_that_has_worked_before_ends_no_run(
    many: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is left of a collection may be CTs that it fails at."""
    run, begun = Predictor._run, []

    def odd(self: Predictor, name: str, *more: object) -> object:
        if name == NAME:
            begun.append(name)
            if len(begun) > 1:
                raise RuntimeError("sizes of tensors must match")
        return run(self, name, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "_run", odd)
    for _ in range(2):  # within a run, and in a later one
        many.ledger.retry_failures(many.model_version())
        Scoring(many).run()
        assert len(many.ledger.failures(many.model_version())) == IN_A_ROW + 1
    assert many.progress().scored == 1


def test_a_network_that_recovers_fails_only_at_those_before(
    many: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, begun = Predictor._run, []

    def odd(self: Predictor, name: str, *more: object) -> object:
        if name == NAME:
            begun.append(name)
            if len(begun) < IN_A_ROW:
                raise RuntimeError(f"size {len(begun)} is odd")  # numbers make no other reason
        return run(self, name, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "_run", odd)
    counts = Scoring(many).run()
    assert counts == {"scored": 2, "failed": IN_A_ROW, "set_aside": 0}
    assert len(many.ledger.failures(many.model_version())) == IN_A_ROW


def test_reasons_that_differ_end_no_run(many: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def odd(self: Predictor, name: str, *more: object) -> object:
        begun.append(name)
        raise RuntimeError("x" * (len(begun) // 3))

    monkeypatch.setattr(Predictor, "_run", odd)
    assert Scoring(many).run() == {"scored": 0, "failed": IN_A_ROW + 2, "set_aside": 0}
    assert len(many.ledger.failures(many.model_version())) == IN_A_ROW + 2


@pytest.mark.parametrize("ahead", [0, 2])
def test_large_cts_at_the_front_keep_no_small_one_from_being_scored(
    many: Context, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """Nor does each run begin and end with them."""
    grid = Grid((16, 14, 12), np.diag([-12.0, 12.0, 15.0, 1.0]))
    noise = np.random.default_rng(1).normal(40, 60, (IN_A_ROW, *grid.shape))
    for number, hu in enumerate(noise):
        path = many.studies.path / f"a_large_{number}.nii.gz"
        write_nifti(path, hu.astype(np.int16), grid)
    whole, run = Predictor.predict, Predictor._run
    large: list[bool] = []

    def counted(self: Predictor, ct: Any) -> Any:
        large[:] = [(ct.ct if isinstance(ct, Prepared) else ct).grid.shape == grid.shape]
        return whole(self, ct)

    def odd(self: Predictor, name: str, *more: Any) -> Any:
        if name == NAME and large[0]:
            raise RuntimeError("the index is out of range")
        return run(self, name, *more)

    monkeypatch.setattr(Predictor, "predict", counted)
    monkeypatch.setattr(Predictor, "_run", odd)
    counts = Scoring(many, workers=ThisProcess(many, ahead)).run()
    assert counts == {"scored": IN_A_ROW + 1, "failed": IN_A_ROW + 1, "set_aside": 0}
