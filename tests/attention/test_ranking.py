"""The three rankings' definitions; their order is the ledger's."""

import numpy as np
import pytest

from atlas8k.attention import SalientSettings, attention_sizes, equations, salient_regions
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.core.volume import Grid


def test_the_three_rankings_are_as_defined() -> None:
    grid = Grid((24, 20, 16), np.diag([1.5, 1.5, 1.5, 1.0]))
    rng = np.random.default_rng(5)
    probs = (rng.random((3, 9, 24, 20, 16)) ** 4).astype(np.float16)
    probs[:, 2] = 0  # an organ nobody sees has no largest value to divide by
    salient = salient_regions(probs, grid, SalientSettings(opening_mm=0.0))
    scores = salient.sizes.per_slice_ml(grid.shape[2])
    eq4 = equations.attention(probs)
    per_slice = [m.sum() / m.max() / 16 if m.max() else 0.0 for m in eq4]
    any_salient = (
        (equations.inconsistency(probs) > 0.1)
        | (equations.uncertainty(probs) > 0.05)
        | (equations.overlap(probs) > 0)
    )
    ml = grid.voxel_ml
    assert salient.sizes.total_ml == pytest.approx(eq4.sum() * ml, rel=1e-5)
    assert sum(scores.values()) == pytest.approx(sum(per_slice) * ml, rel=1e-5)
    assert sum(salient.salient_ml.values()) == pytest.approx(any_salient.sum() * ml, rel=1e-5)
    assert scores["kidney_left"] == 0
    assert set(scores) == set(salient.salient_ml) == set(ORGAN_NAMES)


def test_thin_slices_do_not_rank_higher() -> None:
    probs = (np.random.default_rng(1).random((3, 9, 12, 12, 12)) ** 3).astype(np.float16)
    thin = np.repeat(probs, 3, axis=4)
    ml = 0.01
    assert attention_sizes(thin, ml / 3).total_ml == pytest.approx(
        attention_sizes(probs, ml).total_ml, rel=1e-5
    )
