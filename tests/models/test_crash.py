"""Killed, failing or out of disk at every step of publishing networks: a whole set is served."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.apart import CONTEXT
from tests.faults import MODES, Mode, at_every_step
from tests.models.tiny import tiny

from atlas8k.models.checkpoint import save_checkpoint
from atlas8k.models.store import UNFINISHED, ModelStore

pytestmark = pytest.mark.slow


def publish(store: ModelStore) -> None:
    store.publish({"unet": tiny("unet", seed=2)}, note="third")


def roll_back(store: ModelStore) -> None:
    store.rollback("back")


def add_imported(store: ModelStore) -> None:
    store.add_imported(tiny("unet", seed=3), replace=True)


def seen(store: ModelStore) -> tuple[str, list[str], list[str]]:
    """What is served, and all that is there to serve; everything can be read."""
    served = store.served()
    assert set(served.load()) == {"unet", "nnunet"}
    for network in store.networks():
        assert not network.problem
    return (
        served.model_version,
        [one["set"] for one in store.history()],
        sorted(network.sha256 for network in store.networks()),
    )


@pytest.mark.parametrize("act", [publish, roll_back, add_imported], ids=lambda act: act.__name__)
@pytest.mark.parametrize("mode", MODES)
def test_at_every_step_a_whole_set_is_served(
    tmp_path: Path, act: Callable[[ModelStore], None], mode: Mode
) -> None:
    root, kept = tmp_path / "model", tmp_path / "kept"
    for name in ("unet", "nnunet"):
        save_checkpoint(root / "embedded" / f"{name}.safetensors", tiny(name))
    ModelStore(root).publish({"unet": tiny("unet", seed=1)}, note="second")
    ModelStore(root).add_imported(tiny("unet", seed=2))
    shutil.copytree(root, kept)
    nothing = seen(ModelStore(root))
    act(ModelStore(root))
    whole = seen(ModelStore(root))
    assert whole != nothing
    shutil.rmtree(root)
    shutil.copytree(kept, root)
    found = []
    for n in at_every_step(mode, prepared(root), act, context=CONTEXT):
        now = seen(ModelStore(root))
        assert now in (nothing, whole), n
        found.append(now)
        if act is not roll_back:  # done again it is as if it had been done once
            act(ModelStore(root))
            assert seen(ModelStore(root))[::2] == whole[::2], n
            if act is publish:  # and nothing half there is left
                assert [one for one in root.iterdir() if one.name.startswith(UNFINISHED)] == []
        shutil.rmtree(root)
        shutil.copytree(kept, root)
    assert found[0] == nothing
    assert found[-1] == whole
    assert len(found) > 3


class prepared:  # noqa: N801 - a function that can be sent to another process
    """Opens the folder there."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self) -> ModelStore:
        return ModelStore(self.root)
