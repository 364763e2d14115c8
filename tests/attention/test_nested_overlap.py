"""Eq. 3 where a structure lies within another: both at a voxel are one thing, not two claims."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest

from atlas8k.attention import attention_sizes, equations
from atlas8k.attention.equations import OverlapMode
from atlas8k.attention.slabs import quantise
from atlas8k.core.structure_sets import from_dict
from atlas8k.core.structures import containers, using
from atlas8k.models.attention_on_device import attention_sizes_on

SET = from_dict({"name": "tumours", "structures": ["liver", "spleen", "liver_tumor", "aorta"]})
LIVER, SPLEEN, TUMOR, AORTA = range(4)
CASES = [
    # what networks predict, expected per network, expected across networks
    ([(LIVER, TUMOR)], (), ()),
    ([(LIVER, TUMOR, SPLEEN)], (LIVER, SPLEEN, TUMOR), (LIVER, SPLEEN, TUMOR)),
    ([(TUMOR, SPLEEN)], (SPLEEN, TUMOR), (SPLEEN, TUMOR)),
    ([(LIVER,), (TUMOR,)], (), (LIVER, TUMOR)),
    ([(LIVER, TUMOR), (LIVER,)], (), ()),
    ([(LIVER, TUMOR), (SPLEEN,)], (), (LIVER, SPLEEN, TUMOR)),
]


@pytest.fixture(autouse=True)
def structures() -> Iterator[None]:
    with using(SET):
        yield


def test_where_a_structure_lies_goes_by_the_organs_at_hand() -> None:
    assert containers(SET.names) == (-1, -1, LIVER, -1)
    assert containers(("aorta", "liver_tumor", "liver")) == (-1, 2, -1)
    assert containers(("aorta", "liver_tumor")) == (-1, -1)


@pytest.mark.parametrize(("predicted", "per_network", "across"), CASES)
def test_a_tumour_in_its_liver_is_no_overlap(
    predicted: list[tuple[int, ...]], per_network: tuple[int, ...], across: tuple[int, ...]
) -> None:
    probs = np.zeros((len(predicted), 4, 1), np.float32)
    for network, organs in enumerate(predicted):
        probs[network, list(organs)] = 0.9
    modes: tuple[tuple[OverlapMode, tuple[int, ...]], ...] = (
        ("per_network", per_network),
        ("any", across),
    )
    for mode, due in modes:
        found = equations.overlap(probs, mode, containers(SET.names))[:, 0]
        assert set(np.flatnonzero(found)) == set(due), mode


@pytest.mark.parametrize("mode", ["per_network", "any"])
def test_the_kernels_and_the_device_count_as_the_equation(mode: OverlapMode) -> None:
    rng = np.random.default_rng(3)
    probs = rng.random((3, 4, 9, 30, 20)).astype(np.float16)
    probs[:, TUMOR] *= rng.random((9, 30, 20)) > 0.5
    for given in (probs, quantise(probs, floor=0.0, organs=SET.names)):
        values = given if given is probs else given.probabilities()
        own, cross = (
            equations.overlap(values, one, containers(SET.names)).sum(axis=(1, 2, 3))
            for one in ("per_network", "any")
        )
        assert (own < equations.overlap(values).sum(axis=(1, 2, 3))).any()
        for sizes in (attention_sizes, partial(attention_sizes_on, "cpu")):
            found = sizes(given, 1.0, overlap=mode, organs=SET.names)
            assert list(found.overlap_per_network_ml.values()) == pytest.approx(own)
            assert list(found.overlap_any_ml.values()) == pytest.approx(cross)
