"""The simulated annotator draws in the image, whatever the error is."""

from __future__ import annotations

import numpy as np

from atlas8k.refine.annotator import next_stroke


def test_a_disc_in_the_last_slice_gets_a_stroke() -> None:
    truth = np.zeros((60, 60, 5), bool)
    x, y = np.ogrid[:60, :60]
    truth[(x - 30) ** 2 + (y - 30) ** 2 < 150, 4] = True
    for seed in range(60):
        rng = np.random.default_rng(seed)
        stroke = next_stroke(np.zeros_like(truth), truth, (0.8, 0.8, 1.0), rng)
        assert stroke is not None
        assert stroke.organ
        assert len(stroke.voxels)
