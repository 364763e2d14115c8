"""The slice to open and the box, checked on a CT's own voxels."""

import json

import nibabel as nib
import numpy as np
import pytest

from atlas8k.attention import SalientSettings, salient_regions
from atlas8k.attention.explain import explanation, slice_axis
from atlas8k.core.volume import Grid, resample

CODES = ["RAS", "LPS", "SAL", "PIR", "AIL"]


def reoriented(codes: str, spacing=(1.0, 1.0, 4.0), shape=(60, 50, 16)) -> Grid:
    ras = Grid(shape, np.diag([*spacing, 1.0]))
    to = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(ras.affine), nib.orientations.axcodes2ornt(codes)
    )
    array = nib.orientations.apply_orientation(np.zeros(shape, np.uint8), to)
    return Grid(array.shape, ras.affine @ nib.orientations.inv_ornt_aff(to, shape))


@pytest.mark.parametrize("codes", CODES)
def test_the_slice_named_is_the_one_that_shows_most(codes) -> None:
    ct = reoriented(codes)
    working = ct.working(1.5)
    # A pyramid standing on its tip: its cross-section grows from slice to slice, up.
    x, y, z = np.ogrid[tuple(slice(n) for n in working.shape)]
    wide = np.maximum(np.abs(x - 20), np.abs(y - 16)) <= (z - 10) / 1.5 + 2
    probs = np.zeros((3, 9, *working.shape), np.float16)
    probs[0, 4] = wide & (z >= 10) & (z < 28)
    salient = salient_regions(probs, working, SalientSettings(opening_mm=0.0))
    note = explanation(salient, ct, name="case 3")
    assert note["name"] == "case 3"
    assert ct.orientation[note["slice_axis"]] in "SI"
    assert note["plane"] == "axial"
    assert note["slices"] == 16
    (region,) = note["regions"]
    on_ct = resample(probs[0, 4].astype(np.uint8), working, ct, linear=False)
    index = np.argwhere(on_ct)
    assert (index.min(axis=0) >= region["start"]).all()
    assert (index.max(axis=0) < region["stop"]).all()
    areas = on_ct.sum(axis=tuple(a for a in range(3) if a != note["slice_axis"]))
    assert areas[region["slice"]] == areas.max()
    back = ct.affine @ [*region["centre"], 1]
    assert back[:3] == pytest.approx(region["centre_mm"], abs=0.01)


def test_organs_are_in_order_and_add_up() -> None:
    grid = Grid((20, 20, 20), np.diag([1.5, 1.5, 1.5, 1.0]))
    probs = (np.random.default_rng(2).random((3, 9, 20, 20, 20)) ** 5).astype(np.float16)
    salient = salient_regions(probs, grid)
    note = explanation(salient, grid)
    order = [o["attention_ml"] for o in note["organs"]]
    assert order == sorted(order, reverse=True)
    assert sum(order) == pytest.approx(note["attention_ml"], abs=0.01)
    assert note["attention_ml"] == round(salient.sizes.total_ml, 3)
    for organ in note["organs"]:
        assert organ["attention_ml"] == pytest.approx(
            organ["inconsistency_ml"] + organ["uncertainty_ml"] + organ["overlap_ml"], abs=0.002
        )
        assert organ["regions"] == len(salient.of(organ["organ"]))
    assert json.loads(json.dumps(note))["organs"] == note["organs"]


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [
        ((0.8, 0.8, 5.0), 2),
        ((0.8, 5.0, 0.8), 1),
        ((0.9, 0.9, 0.7), 2),
        ((0.7, 0.9, 0.9), 0),
        ((1.5, 1.5, 1.5), 2),
        ((0.8, 0.9, 1.0), 2),
    ],
)
def test_slice_axis(spacing, axis) -> None:
    assert slice_axis(Grid((8, 8, 8), np.diag([*spacing, 1.0]))) == axis
