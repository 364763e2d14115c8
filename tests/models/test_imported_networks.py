"""What a network that was brought keeps: its precision, and the mirroring it was trained with."""

import dataclasses

import numpy as np
import pytest
import safetensors.torch
import torch
from tests.models.tiny import body_ct, tiny

from atlas8k.models.checkpoint import save_checkpoint
from atlas8k.models.predict import Predictor
from atlas8k.models.store import ModelStore

BROUGHT = {"imported_as": "nnunet", "file": "w.pth", "sha256": "0", "mirroring_axes": [1, 2]}
TUNED = {"cases": 3, "trained_from": {"cases": 2, "trained_from": BROUGHT}}


def of(origin):
    return dataclasses.replace(tiny("unet"), origin=origin)


def kinds(path):
    return {t.dtype for t in safetensors.torch.load_file(path).values() if t.ndim > 1}


@pytest.mark.parametrize(
    ("origin", "kind"),
    [({"cases": 3}, torch.float16), (BROUGHT, torch.float32), (TUNED, torch.float32)],
)
def test_what_was_brought_stays_float32_through_fine_tuning_and_publishing(origin, kind, tmp_path):
    assert kinds(save_checkpoint(tmp_path / "a.safetensors", of(origin))) == {kind}
    store = ModelStore(tmp_path / "model")
    store.publish({"unet": of(origin)})  # as the gate does
    assert kinds(store.served().checkpoints["unet"]) == {kind}
    loaded = store.served().load()["unet"]
    assert dict(loaded.origin) == origin


@pytest.mark.parametrize(
    ("origin", "asked", "same_as"),
    [
        (BROUGHT, "trained", (1, 2)),
        (TUNED, "trained", (1, 2)),
        ({**BROUGHT, "mirroring_axes": []}, "trained", ()),
        ({**BROUGHT, "mirroring_axes": []}, (0, 1), ()),
        (BROUGHT, (0, 1), (1,)),
        ({}, "trained", ()),
        ({}, (0, 1), (0, 1)),
    ],
)
def test_windows_are_mirrored_as_the_network_was_trained(origin, asked, same_as):
    ct = body_ct()

    def probabilities(origin, axes):
        predictor = Predictor({"unet": of(origin)}, grid_mm=6.0, mirror_axes=axes)
        return predictor.predict(ct).probs

    found = probabilities(origin, asked)
    np.testing.assert_array_equal(found, probabilities({}, same_as))
    if same_as:
        assert not np.array_equal(found, probabilities({}, ()))
