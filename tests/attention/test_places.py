from __future__ import annotations

import json

import numpy as np
import pytest

from atlas8k.attention.explain import Place, place_of
from atlas8k.core.grid import Grid

SHAPE = (6, 5, 4)


def grid_of(codes: str, spacing: tuple[float, float, float] = (1.0, 2.0, 5.0)) -> Grid:
    """Axes in these directions, the first voxel at (10, 20, 30) mm."""
    affine = np.eye(4)
    for axis, code in enumerate(codes):
        affine[:3, axis] = 0
        world = "RASLPI".index(code)
        affine[world % 3, axis] = (1 if world < 3 else -1) * spacing[axis]
    affine[:3, 3] = 10, 20, 30
    return Grid(SHAPE, affine)


def test_a_place_in_every_viewers_terms() -> None:
    """An axial series as scanners make it, slices stored from the feet up."""
    found = place_of(grid_of("LPS"), 2, 3, (2.0, 1.0, 2.4))
    assert found == Place(
        plane="axial",
        ohif_slice=1,  # the last of the file is the first from the head
        slices=4,
        axis=2,
        file_slice=3,
        ras_mm=(10 - 2.0, 20 - 2.0, 30 + 15.0),  # in the slice, not where the centre is
        lps_mm=(-8.0, -18.0, 45.0),
    )
    assert found.ohif == "axial 1 of 4"
    assert found.slicer == "R 8.0, A 18.0, S 45.0 mm (RAS)"
    assert found.dicom == "L -8.0, P -18.0, S 45.0 mm (LPS)"
    assert found.file == "3 along axis 2, from 0"
    assert found.text == (
        "OHIF slice axial 1 of 4; 3D Slicer R 8.0, A 18.0, S 45.0 mm (RAS); "
        "file index 3 along axis 2, from 0"
    )
    assert Place.from_dict(json.loads(json.dumps(found.as_dict()))) == found
    assert Place.from_dict(None) is None


@pytest.mark.parametrize(
    ("codes", "axis", "plane", "first"),
    [
        ("LPS", 2, "axial", 3),
        ("RAS", 2, "axial", 3),
        ("LAS", 2, "axial", 3),
        ("LPI", 2, "axial", 0),
        ("LAI", 2, "axial", 0),
        ("SRP", 0, "axial", 5),
        ("IPR", 0, "axial", 0),
        ("LIP", 2, "coronal", 3),
        ("RSA", 2, "coronal", 0),
        ("PIR", 2, "sagittal", 3),
        ("LSP", 0, "sagittal", 0),
    ],
)
def test_which_slice_ohif_shows_first(codes: str, axis: int, plane: str, first: int) -> None:
    grid = grid_of(codes)
    found = [place_of(grid, axis, n, (0.0, 0.0, 0.0)) for n in range(SHAPE[axis])]
    assert {one.plane for one in found} == {plane}
    counted = [one.ohif_slice for one in found]
    assert sorted(counted) == list(range(1, SHAPE[axis] + 1))
    assert counted[first] == 1
