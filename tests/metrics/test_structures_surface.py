"""Surfaces of more structures than fit into one pass, and of tolerances by structure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from atlas8k.core.structure_sets import StructureSet, built_in
from atlas8k.core.structures import using
from atlas8k.metrics.surface import described, nsd, surface_areas, tolerances

SET = built_in("abdomenatlas-1.1")
SPACING = (1.0, 1.5, 2.0)


def maps() -> tuple[np.ndarray, np.ndarray]:
    """25 boxes that touch each other, and the same moved by a voxel."""
    truth = np.zeros((40, 40, 10), np.uint8)
    for value in range(1, 26):
        x, y = divmod(value - 1, 5)
        truth[7 * x + 1 : 7 * x + 8, 7 * y + 1 : 7 * y + 8, 2 : 4 + value % 5] = value
    return np.roll(truth, 1, 0), truth


@pytest.mark.parametrize("order", ["C", "F"])
def test_each_of_25_is_as_it_is_alone(order: str) -> None:
    pred, truth = (np.asarray(label, order=order) for label in maps())
    with using(SET):
        together = surface_areas(pred, truth, SPACING, 1.0)
        values = nsd(pred, truth, SPACING, 1.0)
    for value in range(1, 26):
        one = [(label == value).astype(np.uint8) for label in (pred, truth)]
        alone = surface_areas(*one, SPACING, 1.0)[0]
        assert together[value - 1] == pytest.approx(alone)
        assert 0 < values[value - 1] <= 1


def test_a_structure_has_the_tolerance_that_the_set_states() -> None:
    organs = [replace(o, tolerance_mm=3.0 if o.name == "rectum" else None) for o in SET.organs]
    pred, truth = maps()
    with using(StructureSet("own", organs)):
        assert described(1.0) == "1 mm (rectum 3 mm)"
        mixed = nsd(pred, truth, SPACING, tolerances(0.5))
        strict, wide = (nsd(pred, truth, SPACING, mm) for mm in (0.5, 3.0))
    rectum = SET.ids["rectum"] - 1
    assert mixed[rectum] == wide[rectum] > strict[rectum]
    assert np.array_equal(np.delete(mixed, rectum), np.delete(strict, rectum))
