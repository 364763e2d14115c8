"""Mirrored test-time augmentation: a mirrored CT gets the mirrored answer."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from tests.models.tiny import body_ct, tiny

from atlas8k.core.volume import Volume
from atlas8k.models import predict
from atlas8k.models.body import whole
from atlas8k.models.predict import Predictor, flips_along, forward

SUBSETS = [some for n in range(1, 4) for some in itertools.combinations(range(3), n)]


def test_every_set_of_axes_once_the_plain_window_first():
    assert flips_along(()) == ((),)
    assert flips_along((1,)) == ((), (3,))
    assert flips_along((2, 0)) == ((), (2,), (4,), (2, 4))
    assert len(set(flips_along((0, 1, 2)))) == 8


@pytest.mark.parametrize("axes", [(3,), (-1,), (0, 0)])
def test_axes_that_are_none_are_refused(axes):
    with pytest.raises(ValueError, match="mirror axes"):
        flips_along(axes)


def test_the_mean_is_over_answers_turned_back():
    torch.manual_seed(0)
    module = torch.nn.Conv3d(1, 2, 3, padding=1)
    windows = torch.rand(2, 1, 5, 6, 7)
    with torch.inference_mode():
        wanted = sum(
            torch.flip(module(torch.flip(windows, dims)), dims) for dims in ((), (3,), (4,), (3, 4))
        )
        found = forward(module, torch.float32, flips_along((1, 2)), windows)
        plain = forward(module, torch.float32, flips_along(()), windows)
    torch.testing.assert_close(found, wanted / 4)
    torch.testing.assert_close(plain, module(windows), rtol=0, atol=0)
    assert (found - plain).abs().max() > 0.01


@pytest.mark.parametrize("axes", SUBSETS)
def test_a_mirrored_ct_has_the_mirrored_answer(axes, monkeypatch):
    monkeypatch.setattr(predict, "body_box", lambda ct: whole(ct.grid.shape))
    ct = body_ct((14, 12, 10))
    predictor = Predictor({"u": tiny("unet")}, grid_mm=6.0, mirror_axes=axes, precision="float32")
    probs = predictor.predict(ct).probs.astype(np.float32)
    for axis in range(3):
        mirrored = Volume(np.flip(ct.array, axis).copy(), ct.grid)
        found = np.flip(predictor.predict(mirrored).probs, 2 + axis).astype(np.float32)
        # An axis that is not averaged over shows what the test could lose.
        assert (np.abs(found - probs).max() < 2e-3) == (axis in axes), axis
