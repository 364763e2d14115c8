"""Packed maps come back as they were, or not at all."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from atlas8k.attention import attention_sizes
from atlas8k.attention.packed import pack, pack_codes, unpack, unpack_codes
from atlas8k.attention.slabs import quantise
from atlas8k.core.errors import AttentionError
from atlas8k.core.grid import Grid


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=3, max_dims=5, max_side=6),
        elements=st.sampled_from([0, 0, 0, 1, 7, 255]),
    )
)
def test_round_trip(maps) -> None:
    again, meta = unpack(pack(maps, {"a": 1.5}))
    assert np.array_equal(again, maps)
    assert again.shape == maps.shape
    assert meta == {"a": 1.5}


def test_codes_keep_their_sizes() -> None:
    probs = (np.random.default_rng(0).random((3, 9, 12, 11, 10)) ** 8).astype(np.float16)
    codes, grid = quantise(probs), Grid((12, 11, 10), np.eye(4))
    again = unpack_codes(pack_codes(codes, grid))[0]
    assert np.array_equal(again.codes, codes.codes)
    assert attention_sizes(again, 1.0) == attention_sizes(codes, 1.0)


def test_empty_maps_take_next_to_nothing() -> None:
    assert len(pack(np.zeros((27, 100, 100, 100), np.uint8))) < 2000


@pytest.mark.parametrize("end", [0, 3, 6, 40, -1])
def test_cut_short_is_an_error_that_names_the_volume(end) -> None:
    data = pack(np.random.default_rng(0).integers(0, 255, (2, 9, 9, 9), dtype=np.uint8))
    with pytest.raises(AttentionError, match="BDMAP_5"):
        unpack(data[:end], "BDMAP_5")


def test_other_files_are_errors() -> None:
    with pytest.raises(AttentionError, match="BDMAP_5"):
        unpack(b"\x1f\x8b not ours at all", "BDMAP_5")
    with pytest.raises(AttentionError, match="no probabilities"):
        unpack_codes(pack(np.ones((2, 3, 3, 3), np.uint8)))
