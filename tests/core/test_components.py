"""Connected components of masks of any shape, against scipy."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from atlas8k.core.components import label_components, largest_component

NEIGHBOURS = {6: 1, 18: 2, 26: 3}


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 3, 1), (3, 1, 1)])
def test_two_voxels_in_a_row_with_a_gap(shape: tuple[int, int, int]) -> None:
    pieces = label_components(np.array([True, False, True]).reshape(shape))
    assert pieces.ravel().tolist() == [1, 0, 2]


@settings(max_examples=300, deadline=None)
@given(
    mask=arrays.arrays(bool, arrays.array_shapes(min_dims=3, max_dims=3, max_side=9)),
    connectivity=st.sampled_from([6, 18, 26]),
    order=st.sampled_from(["C", "F"]),
)
def test_components_are_those_of_scipy(
    mask: npt.NDArray[Any], connectivity: int, order: Literal["C", "F"]
) -> None:
    structure = ndimage.generate_binary_structure(3, NEIGHBOURS[connectivity])
    expected, count = ndimage.label(mask, structure)
    pieces = label_components(np.asarray(mask, order=order), connectivity)
    assert pieces.shape == mask.shape
    # The same partition, however numbered.
    assert len(np.unique(np.stack([pieces[mask], expected[mask]]), axis=1).T) == count
    assert sorted(np.unique(pieces[mask])) == list(range(1, count + 1))
    assert not pieces[~mask].any()


@given(mask=arrays.arrays(bool, (1, 7, 9)))
def test_every_plane_can_be_counted(mask: npt.NDArray[Any]) -> None:
    for axes in ((0, 1, 2), (1, 0, 2), (1, 2, 0)):
        turned = mask.transpose(axes)
        assert label_components(turned).max() == label_components(mask).max()


def test_largest_of_several_and_of_nothing() -> None:
    mask = np.zeros((5, 5, 5), dtype=bool)
    assert not largest_component(mask).any()
    mask[0, 0, 0] = True
    mask[2:4, 2:4, 2:4] = True
    assert largest_component(mask).sum() == 8
