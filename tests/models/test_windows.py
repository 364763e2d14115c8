"""Windows: MONAI's own sliding-window inference is the truth, skipping changes nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from tests.models.tiny import tiny

from atlas8k.models.body import whole
from atlas8k.models.checkpoint import network
from atlas8k.models.windows import probabilities, tile

WINDOW = (16, 16, 16)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).random((37, 20, 45)).astype(np.float32)


def run(checkpoint, array, tiling, **options):
    return probabilities(
        network(checkpoint),
        array,
        tiling,
        channels=checkpoint.out_channels,
        softmax=checkpoint.activation == "softmax",
        **options,
    )


@pytest.mark.parametrize("name", ["unet", "nnunet"])
@pytest.mark.parametrize(
    ("shape", "overlap", "batch"),
    [
        ((37, 20, 45), 0.5, 1),
        ((37, 20, 45), 0.25, 3),
        ((37, 20, 45), 0.75, 4),
        ((37, 20, 45), 0.0, 2),
        ((9, 20, 16), 0.5, 1),  # smaller than the window along one axis
        ((5, 6, 7), 0.5, 1),  # and along all
        ((16, 16, 90), 0.5, 2),
        ((16, 40, 17), 0.99, 8),
    ],
)
def test_the_result_is_that_of_sliding_window_inference(image, name, shape, overlap, batch):
    checkpoint = tiny(name, window=WINDOW)
    array = np.tile(image, (1, 2, 2))[: shape[0], : shape[1], : shape[2]]
    with torch.inference_mode():
        logits = sliding_window_inference(
            torch.from_numpy(array)[None, None],
            WINDOW,
            batch,
            network(checkpoint),
            overlap=overlap,
            mode="gaussian",
        )[0]
    expected = logits.softmax(0)[1:] if name == "nnunet" else logits.sigmoid()
    found = run(checkpoint, array, tile(array, WINDOW, overlap), batch=batch)
    assert found.shape == (9, *shape)
    assert found.dtype == torch.float16
    assert (found.float() - expected).abs().max() < 6e-4  # float16 near 1 is 2.4e-4 apart


def test_air_is_not_run_and_nothing_else_changes(image):
    checkpoint = tiny(window=WINDOW)
    array = np.zeros((80, 20, 45), dtype=np.float32)
    array[:10, :, :10] = image[:10, :, :10]
    full = tile(array, WINDOW, 0.5)
    some = tile(array, WINDOW, 0.5, keep=whole(array.shape))
    assert 0 < some.n_windows < full.n_windows / 2
    expected, found = run(checkpoint, array, full), run(checkpoint, array, some)
    # Where no left-out window lies, bit for bit the same.
    assert torch.equal(found[:, :16, :, :16], expected[:, :16, :, :16])
    # Windows start every 8 voxels; those that start at 16 or later show only air.
    assert (found[:, 32:] == 0).all()
    assert (found[..., 32:] == 0).all()
    assert (expected[:, 32:] > 0).all()


def test_outside_the_box_nothing_is_run(image):
    keep = (slice(0, 8), slice(0, 20), slice(0, 8))
    some = tile(image, WINDOW, 0.5, keep=keep)
    assert all(z < 8 and all(x < 8 for x, _ in places) for z, places in some.layers)
    assert some.n_windows == 2  # x and z one window, y (20 voxels) two


def test_an_empty_volume_runs_nothing_and_holds_no_organ():
    array = np.zeros((20, 20, 20), dtype=np.float32)
    tiling = tile(array, WINDOW, 0.5, keep=whole(array.shape))
    assert tiling.n_windows == 0
    assert not run(tiny(window=WINDOW), array, tiling).any()


def test_memory_does_not_grow_with_the_length(image):
    # The sums hold one layer of windows; a generator of finished slices shows it.
    from atlas8k.models import windows

    array = np.tile(image, (1, 1, 8))
    tiling = tile(array, WINDOW, 0.5)
    seen = []
    weight = torch.ones(WINDOW)
    for first, stop, total, _ in windows._layers(
        lambda w: w.expand(-1, 9, -1, -1, -1), torch.from_numpy(array), weight, tiling, 9, 1, "cpu"
    ):
        seen += list(range(first, stop))
        assert total.shape[-1] <= WINDOW[2]
    assert seen == list(range(array.shape[2]))
