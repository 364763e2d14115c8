"""What becomes of trained networks when other things happen meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.tiny import GRID, checkpoint

from atlas8k.core.errors import ServedChangedError
from atlas8k.core.volume import write_nifti
from atlas8k.models.predict import Predictor
from atlas8k.models.store import ModelStore
from atlas8k.services.context import Context
from atlas8k.services.training import publishing
from atlas8k.services.training.cases import Seen, cases
from atlas8k.services.training.publishing import settle
from atlas8k.store import Holder
from atlas8k.training.config import TrainingConfig
from atlas8k.training.data import TrainingCase
from atlas8k.training.gate import Decision
from atlas8k.training.time_budget import OWN_DEVICE

Settle = Callable[..., dict[str, Any]]


@pytest.fixture
def submitted(context: Context, tmp_path: Path) -> Context:
    array = np.zeros(GRID.shape, np.uint8)
    array[8:14, 8:13, 6:12] = 5
    assert context.label_service is not None
    path = write_nifti(tmp_path / "sent.nii.gz", array, GRID)
    context.label_service.submit("a", path, Holder.identify(user="anna"))
    return context


@pytest.fixture
def settled(submitted: Context) -> Settle:
    """Settles a training from the set that is served when it is made; no better and no worse."""
    store = submitted.models
    served = store.served()
    found = cases(submitted)

    def run(trained: Any = None, **more: Any) -> dict[str, Any]:
        given: dict[str, Any] = {"gate": True, "margin": 0.02, "overlap": None, **more}
        trained = trained or {"unet": replace(served.load()["unet"], origin={"trained": True})}
        return settle(store, served, trained, found, TrainingConfig(), **given)

    return run


def note(store: ModelStore) -> str:
    return store.served().note


def test_a_rare_organ_is_measured_where_it_is_held_out(
    submitted: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    class MeasuredError(Exception):
        pass

    def measure_both(chosen: Any, **_: Any) -> Any:
        raise MeasuredError(sum("stomach" in case.known_organs for case in chosen), len(chosen))

    monkeypatch.setattr(publishing, "measure_both", measure_both)
    held = [TrainingCase(f"L{i}", Path("x"), Path("y"), ("liver",)) for i in range(480)]
    held += [TrainingCase(f"R{i}", Path("x"), Path("y")) for i in range(9)]
    given = {"training": [], "device": "cpu", "margin": 0.02, "overlap": None, "pseudo": []}
    with pytest.raises(MeasuredError) as measured:
        publishing.compared(
            submitted.models.served(),
            trained={},
            held_out=held,
            ensemble=None,
            place=OWN_DEVICE,
            **given,
        )
    assert measured.value.args == (9, 50)


@pytest.mark.parametrize("gate", [True, False])
def test_a_roll_back_during_a_training_is_not_undone(submitted: Context, gate: bool) -> None:
    store = submitted.models
    embedded = store.served().model_version
    bad = store.publish({"unet": checkpoint("unet", seed=5)}, "bad")
    served = store.served()
    trained = {"unet": served.load()["unet"]}
    store.rollback("taken back")
    stats = settle(
        store, served, trained, cases(submitted), TrainingConfig(),
        gate=gate, margin=0.02, overlap=None,
    )  # fmt: skip
    assert store.served().model_version == stats["model_version"] == embedded
    assert stats["gate"]["publish"] == []
    assert stats["message"].startswith(f"not published, {embedded} is served still: ")
    assert f"trained from {bad}" in stats["message"]
    assert (store.root / stats["gate"]["kept_aside"] / "unet.safetensors").is_file()
    assert "a" not in Seen(store.root)


def test_what_was_published_during_a_training_is_compared_with(
    submitted: Context, settled: Settle
) -> None:
    store = submitted.models
    between = store.publish({"nnunet": checkpoint("nnunet", seed=5)}, "by hand")
    other = store.served().checkpoints["nnunet"].read_bytes()
    stats = settled()
    assert stats["gate"]["publish"] == ["unet"], stats["message"]
    assert f"compared with {between}" in note(store)
    assert store.served().checkpoints["nnunet"].read_bytes() == other  # not undone


def test_what_is_published_during_the_gate_is_compared_with_too(
    submitted: Context, settled: Settle, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, compared = submitted.models, []
    real = publishing.compared

    def slow(now: Any, **more: Any) -> Any:
        decided = real(now, **more)
        compared.append(now.model_version)
        if len(compared) == 1:
            store.publish({"nnunet": checkpoint("nnunet", seed=5)}, "by hand")
        return decided

    monkeypatch.setattr(publishing, "compared", slow)
    embedded = store.served().model_version
    stats = settled()
    assert len(compared) == 2
    assert compared[0] == embedded
    assert f"compared with {compared[1]}" in note(store)
    assert stats["model_version"] == store.served().model_version


def test_what_is_published_at_the_last_moment_is_not_undone(
    submitted: Context, settled: Settle, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, tries = submitted.models, []
    real = store.publish

    def late(*networks: Any, **more: Any) -> str:
        tries.append(more["expected"])
        if len(tries) == 1:
            raise ServedChangedError(store.root, "another set is served by now")
        return real(*networks, **more)

    monkeypatch.setattr(store, "publish", late)
    assert settled()["gate"]["publish"] == ["unet"]
    assert len(tries) == 2


def test_a_network_that_was_left_out_meanwhile_does_not_come_back(
    submitted: Context, settled: Settle
) -> None:
    alone = submitted.models.publish({"nnunet": checkpoint("nnunet")}, "only", alone=True)
    stats = settled()
    assert stats["model_version"] == submitted.models.served().model_version == alone
    assert "unet is no longer served" in stats["message"]


@pytest.mark.parametrize("which", ["unet", "unet (new)", ""])
def test_networks_that_could_not_be_measured_are_not_published(
    submitted: Context, settled: Settle, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """As where six networks do not fit into a GPU's memory."""
    real = Predictor._run

    def run(self: Predictor, name: str, array: Any, keep: Any) -> Any:
        if name == which or (not which and name.startswith("unet")):
            raise RuntimeError("CUDA out of memory")
        return real(self, name, array, keep)

    before = submitted.models.served().model_version
    monkeypatch.setattr(Predictor, "_run", run)
    stats = settled({"unet": checkpoint("unet", seed=77)})
    assert stats["gate"]["publish"] == []
    assert submitted.models.served().model_version == before
    assert "CUDA out of memory" in stats["message"]


def test_what_passed_is_served_where_the_rest_cannot_be_kept(
    submitted: Context, settled: Settle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    half = Decision(("unet",), {"nnunet": "worse"}, {}, "trained on", 0.02, ())
    monkeypatch.setattr(publishing, "keep_aside", full)
    monkeypatch.setattr(publishing, "decide", lambda *given, **more: half)
    before = submitted.models.served().model_version
    stats = settled({name: checkpoint(name, seed=9) for name in ("unet", "nnunet")})
    assert stats["model_version"] == submitted.models.served().model_version != before
    assert stats["message"].startswith("unet published")
    assert "kept_aside" not in stats["gate"]


def test_the_note_says_who_has_not_seen_the_labels_that_came(
    submitted: Context, settled: Settle
) -> None:
    """A network that was through before labels were added is published with those that were not."""
    served = submitted.models.served().load()
    trained = {
        name: replace(served[name], origin={"cases": cases})
        for name, cases in (("unet", 1), ("nnunet", 2))
    }
    settled(trained, gate=False, added=1)
    assert "labeled volumes (unet 1, nnunet 2)" in note(submitted.models)
    assert "interrupted 1 times" in note(submitted.models)
