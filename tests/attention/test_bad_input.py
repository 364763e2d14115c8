"""What cannot be used is refused with the volume's name and what to do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from atlas8k.attention import (
    attention_sizes,
    salient_regions,
)
from atlas8k.attention.slabs import quantise
from atlas8k.core.errors import AttentionError, GridMismatchError, VolumeError
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.core.volume import Grid

SHAPE = (6, 5, 4)
GRID = Grid(SHAPE, np.diag([1.5, 1.5, 1.5, 1.0]))
CASE = "BDMAP_00000007"

USES: dict[str, Callable[[object], object]] = {
    "sizes": lambda probs: attention_sizes(probs, 1.0, name=CASE),
    "codes": lambda probs: quantise(probs, name=CASE),
    "regions": lambda probs: salient_regions(probs, GRID, name=CASE),
}


def good(models: int = 3, organs: int = 9, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.full((models, organs, *shape), 0.5, np.float32)


def with_value(value: float) -> np.ndarray:
    probs = good()
    probs[2, 8, -1, -1, -1] = value
    return probs


BAD: dict[str, tuple[object, str]] = {
    "NaN": (with_value(np.nan), "NaN"),
    "above 1": (with_value(1.2), r"0\.\.1"),
    "below 0": (with_value(-0.2), r"0\.\.1"),
    "logits": (good() * 14, r"sigmoid or softmax"),
    "infinite": (with_value(np.inf), r"0\.\.1"),
    "an organ is missing": (good(organs=8), "8 organs where 9"),
    "background among the organs": (good(organs=10), "background"),
    "no network": ([], "no network"),
    "an empty array of networks": (good(models=0), "no network"),
    "no organ axis": (good()[0], r"\(models, organs, X, Y, Z\)"),
    "networks on two grids": (
        [good()[0], good(shape=(6, 5, 5))[0]],
        "network 2 of 2 .*one grid",
    ),
    "networks of two types": (
        [good()[0], good()[0].astype(np.float16)],
        "network 2 of 2",
    ),
    "whole numbers": (good().astype(np.int16), "int16"),
    "no voxel": (good(shape=(0, 5, 4)), "empty"),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("what", BAD)
def test_it_is_named_and_explained(use: str, what: str) -> None:
    probs, text = BAD[what]
    with pytest.raises(AttentionError, match=f"{CASE}: .*{text}") as caught:
        USES[use](probs)
    assert isinstance(caught.value, VolumeError)
    assert caught.value.path == CASE


def test_probabilities_on_another_grid() -> None:
    with pytest.raises(GridMismatchError, match=CASE):
        USES["regions"](good(shape=(6, 5, 5)))


def test_codes_of_other_organs() -> None:
    codes = quantise(good(organs=2), organs=ORGAN_NAMES[:2])
    with pytest.raises(AttentionError, match=f"{CASE}.*2 organs"):
        attention_sizes(codes, 1.0, name=CASE)
