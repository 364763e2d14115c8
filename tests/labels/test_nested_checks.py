"""Anatomy goes by the whole organ: a liver with a large tumour is no small liver with a hole."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from atlas8k.core.grid import Grid
from atlas8k.core.structure_sets import from_dict
from atlas8k.core.structures import using
from atlas8k.labels.checks import label_findings
from atlas8k.labels.plausibility import Body, find_odd_volumes
from atlas8k.labels.repairs import propose

SET = from_dict({"name": "tumours", "structures": ["spleen", "liver", "liver_tumor"]})
SPLEEN, LIVER, TUMOR = (SET.ids[name] for name in ("spleen", "liver", "liver_tumor"))
GRID = Grid((60, 60, 60), np.diag([4.0, 4.0, 4.0, 1.0]))


@pytest.fixture(autouse=True)
def structures() -> Iterator[None]:
    with using(SET):
        yield


def label() -> np.ndarray:
    """A liver of 1.5 l, four fifths of it tumour: a plate of healthy liver on each side."""
    array = np.zeros(GRID.shape, np.uint8)
    array[20:50, 20:48, 20:48] = LIVER
    array[21:48, 20:48, 20:48] = TUMOR
    return array


def test_volume_and_pieces_are_those_of_the_whole_organ() -> None:
    array = label()
    assert not [one.text for one in label_findings(array, GRID) if one.organ == "liver"]
    whole = Body.of(array, GRID).organs["liver"]
    assert whole.ml == pytest.approx(30 * 28 * 28 * 0.064)
    healthy = int((array == LIVER).sum())
    assert not find_odd_volumes(array, GRID, {"liver": healthy})
    # The rest alone is a liver that nobody has, in two pieces.
    array[array == TUMOR] = 0
    rules = {one.rule for one in label_findings(array, GRID) if one.organ == "liver"}
    assert "volume" in rules
    assert find_odd_volumes(array, GRID, {"liver": healthy})


def test_names_that_are_stated_are_those_of_a_file() -> None:
    organs = Body.of(label(), GRID, {LIVER: "liver", TUMOR: "lesion"}).organs
    assert organs["lesion"].ml == pytest.approx(27 * 28 * 28 * 0.064)
    assert organs["liver"].ml == pytest.approx(3 * 28 * 28 * 0.064)


def test_a_tumour_is_no_loose_piece_of_its_organ() -> None:
    array = np.zeros(GRID.shape, np.uint8)
    array[20:48, 20:48, 20:48] = LIVER
    array[30:40, 30:40, 30:40] = TUMOR
    array[50:52, 30:33, 30:33] = TUMOR  # beside it
    array[5:15, 5:15, 5:15] = SPLEEN
    array[8:10, 8:10, 8:10] = TUMOR  # in the spleen
    array[35, 35, 35] = LIVER  # healthy, in the middle of the tumour
    assert not propose(array, GRID)
    # A loose piece of the organ is one as before.
    array[52:54, 50:52, 50:52] = LIVER
    (found,) = propose(array, GRID)
    assert (found.organ, found.rule) == ("liver", "islands")
