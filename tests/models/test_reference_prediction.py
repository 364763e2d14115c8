"""The fast path gives the labels of a plain one: speed may not cost accuracy.

The embedded networks, phantoms, and the real CT and DICOM series where they are beside the
repository (or in ``$ATLAS8K_DATA``). By default two phantoms; all twelve of the samples::

    ATLAS8K_PHANTOMS=12 pytest tests/models/test_reference_prediction.py
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from tests.benchmarks._prediction_reference import (
    cases,
    dsc,
    embedded,
    largest_piece,
    nearest_voxel,
    plain_label,
)

from atlas8k.core.grid import Grid
from atlas8k.models.predict import Predictor

PHANTOMS = int(os.environ.get("ATLAS8K_PHANTOMS", "2"))
AT_LEAST = 0.999
CASES = cases(PHANTOMS)


@pytest.fixture(scope="module")
def served():
    return embedded()


@pytest.fixture(scope="module")
def predictor(served):
    return Predictor(served)


@pytest.mark.parametrize("name", CASES)
def test_labels_are_those_of_a_plain_prediction(name, served, predictor):
    ct = CASES[name]()
    expected = plain_label(ct, served)
    found = predictor.predict(ct).label_on(ct.grid)
    agreement = dsc(found, expected)
    assert len(agreement) >= 7, f"{name}: hardly any organ to compare"
    assert min(agreement.values()) >= AT_LEAST, (name, agreement)


def test_the_comparison_sees_a_voxel():
    one = np.zeros((9, 9, 9), dtype=np.uint8)
    one[2:6, 2:6, 2:6] = 5
    other = one.copy()
    other[2, 2, 2] = 0
    assert dsc(one, one) == {"liver": 1.0}
    assert dsc(one, other) == {"liver": pytest.approx(2 * 63 / (64 + 63))}
    assert dsc(one, np.zeros_like(one)) == {"liver": 0.0}


def test_the_plain_steps():
    mask = np.zeros((6, 6, 6), dtype=bool)
    mask[0, 0, :2] = mask[3:5, 3, 3] = mask[5, 4, 4] = True
    assert largest_piece(mask).sum() == 3
    assert not largest_piece(np.zeros((3, 3, 3), dtype=bool)).any()
    label = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    source = Grid((3, 3, 3), np.diag([2.0, 2.0, 2.0, 1.0]))
    turned = Grid((3, 3, 3), np.array([[-2.0, 0, 0, 4], [0, 2, 0, 0], [0, 0, 2, 2], [0, 0, 0, 1]]))
    expected = np.zeros_like(label)
    expected[:, :, :2] = label[::-1, :, 1:]
    assert np.array_equal(nearest_voxel(label, source, turned), expected)
