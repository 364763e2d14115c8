"""Boxes that Slicer loads, checked by doing what Slicer does with the numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from atlas8k.attention import Region
from atlas8k.attention.markups import MAX_BOXES, box_axes, markups, write_markups
from atlas8k.core.errors import UnreadableVolumeError
from atlas8k.core.volume import Grid

REGION = Region("pancreas", 4.2, 1.3, (3, 4, 5), (9, 6, 8), (5.0, 4.6, 6.2), (5, 4, 6))


def rotated(degrees: float = 20.0) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, c, -s], [0, s, c]]
    )


def grid_of(matrix: np.ndarray, offset: tuple[float, float, float] = (11, -7, 130)) -> Grid:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix, offset
    return Grid((20, 18, 16), affine)


SPACING = np.diag([0.8, 0.9, 5.0])
GRIDS = {
    "RAS": grid_of(SPACING),
    "LPS": grid_of(np.diag([-1, -1, 1]) @ SPACING),
    "left-handed": grid_of(np.diag([-1, 1, 1]) @ SPACING),
    "oblique": grid_of(rotated() @ SPACING),
    "oblique, axes permuted": grid_of(rotated() @ SPACING[:, [2, 0, 1]]),
    "oblique, left-handed": grid_of(rotated() @ np.diag([1, 1, -1]) @ SPACING),
}


def as_slicer_reads(roi: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre, axes (columns) and size in Slicer's own RAS, after its ROI reader."""
    assert roi["coordinateSystem"] == "LPS"
    center = np.array(roi["center"])
    center[:2] *= -1
    orientation = np.array(roi["orientation"])
    orientation[:6] *= -1
    return center, orientation.reshape(3, 3), np.array(roi["size"])


@pytest.mark.parametrize("name", GRIDS)
def test_a_box_holds_the_regions_voxels_and_no_others(name: str) -> None:
    grid = GRIDS[name]
    center, axes, size = as_slicer_reads(markups([REGION], grid)["markups"][0])
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-5)
    assert np.linalg.det(axes) == pytest.approx(1)
    index = np.indices(grid.shape).reshape(3, -1).T
    mm = nib.affines.apply_affine(grid.affine, index)
    inside = (np.abs((mm - center) @ axes) <= size / 2 + 1e-4).all(axis=1)
    expected = ((index >= REGION.start) & (index < REGION.stop)).all(axis=1)
    assert np.array_equal(inside, expected)
    # To the outer faces of the voxels, as the box of the array has it.
    spacing = np.asarray(grid.spacing)
    extent = np.subtract(REGION.stop, REGION.start) * spacing
    assert np.sort(size) == pytest.approx(np.sort(extent), abs=1e-4)


def test_a_sheared_ct_gets_an_orthogonal_box_that_holds_the_region() -> None:
    tilt = np.array([[1, 0, 0], [0, 1, 0.2], [0, 0, 1.0]])
    grid = grid_of(tilt @ SPACING)
    center, axes, size = as_slicer_reads(markups([REGION], grid)["markups"][0])
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-5)
    index = np.indices(np.subtract(REGION.stop, REGION.start)).reshape(3, -1).T + REGION.start
    mm = nib.affines.apply_affine(grid.affine, index)
    assert (np.abs((mm - center) @ axes) <= size / 2 + 1e-4).all()


@pytest.mark.parametrize("name", GRIDS)
def test_axes_are_those_of_the_voxels(name: str) -> None:
    grid = GRIDS[name]
    directions = grid.affine[:3, :3] / np.asarray(grid.spacing)
    assert np.allclose(np.abs(np.sum(box_axes(grid) * directions, axis=0)), 1)


def test_a_region_is_named_by_rank_organ_and_volume() -> None:
    second = Region("liver", 2.0, 0.5, (0, 0, 0), (1, 1, 1), (0.0, 0.0, 0.0), (0, 0, 0))
    boxes = markups([REGION, second], GRIDS["LPS"])["markups"]
    assert [m["name"] for m in boxes] == [
        "1 pancreas 4.2 ml",
        "2 liver 2.0 ml",
        "attention regions",
    ]
    assert [m["type"] for m in boxes] == ["ROI", "ROI", "Fiducial"]
    # The Slicer module renames boxes; the point list keeps every name.
    assert [p["label"] for p in boxes[2]["controlPoints"]] == [
        "1 pancreas 4.2 ml",
        "2 liver 2.0 ml",
    ]
    assert boxes[2]["display"]["pointLabelsVisibility"]
    position = np.array(boxes[2]["controlPoints"][0]["position"]) * [-1, -1, 1]
    assert position == pytest.approx(nib.affines.apply_affine(GRIDS["LPS"].affine, REGION.centre))
    assert all(m["locked"] for m in boxes)
    assert not any(m["display"].get("fillVisibility", True) for m in boxes)


def test_there_is_a_markup_even_where_there_is_no_region(tmp_path: Path) -> None:
    path = write_markups(tmp_path / "x.json", [], GRIDS["RAS"])
    (only,) = json.loads(path.read_text())["markups"]  # Slicer refuses an empty list
    assert only["type"] == "Fiducial"
    assert only["controlPoints"] == []
    assert "no region" in only["name"]


def test_so_many_boxes_and_no_more() -> None:
    found = markups([REGION] * 70, GRIDS["RAS"])["markups"]
    assert [m["type"] for m in found].count("ROI") == MAX_BOXES == len(found[-1]["controlPoints"])


def test_the_name_must_say_json(tmp_path: Path) -> None:
    with pytest.raises(UnreadableVolumeError, match="json"):
        write_markups(tmp_path / "x.nii.gz", [REGION], GRIDS["RAS"])


def test_what_slicer_reads_without_asking_is_there() -> None:
    """Keys that its readers take by name and without looking whether they are there."""
    document = markups([REGION], GRIDS["oblique"])
    assert document["@schema"].endswith("markups-schema-v1.0.3.json#")
    for markup in document["markups"]:
        assert {"type", "name", "coordinateSystem", "controlPoints", "display"} <= set(markup)
        for point in markup["controlPoints"]:
            assert len(point["position"]) == 3
            assert len(point["orientation"]) == 9
    json.dumps(document, allow_nan=False)
