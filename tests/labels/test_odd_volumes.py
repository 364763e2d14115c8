from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.labels.plausibility import PEOPLE_ML, find_odd_volumes
from atlas8k.labels.submission_diff import withhold_odd_volumes
from atlas8k.store import OrganChange

STATISTICS = Path(__file__).parents[3] / "shared" / "data" / "anatomy" / "organ_statistics.csv"
GRID = Grid((40, 40, 40), np.diag([5.0, 5.0, 5.0, 1.0]))  # 0.125 ml a voxel


def block(organ: str, edge: int, at: int = 4) -> np.ndarray:
    array = np.zeros(GRID.shape, np.uint8)
    array[at : at + edge, at : at + edge, at : at + edge] = ORGAN_IDS[organ]
    return array


@pytest.mark.skipif(not STATISTICS.is_file(), reason="shared/data/anatomy is not there")
def test_the_constants_are_those_of_the_statistics() -> None:
    with STATISTICS.open() as stream:
        found = {
            row["organ"]: (float(row["p5"]), float(row["p95"]))
            for row in csv.DictReader(stream)
            if row["quantity"] == "volume"
        }
    assert found == PEOPLE_ML


def test_limits() -> None:
    assert set(PEOPLE_ML) == set(ORGAN_NAMES)
    array, asked = block("liver", 2), "where 344.9 to 7,531.5 ml are plausible"
    assert find_odd_volumes(array, GRID, {"liver": 2760}) == {}  # 345.0 ml
    assert find_odd_volumes(array, GRID, {"liver": 2752}) == {"liver": f"344.0 ml, {asked}"}
    assert find_odd_volumes(array, GRID, {"spleen": 14400, "gall_bladder": 4}).keys() == {
        "spleen", "gall_bladder",
    }  # fmt: skip


def test_an_organ_cut_by_the_border_is_not_judged_by_its_volume() -> None:
    for edge, at, odd in [(4, 4, True), (4, 0, False), (4, 36, False), (18, 4, False)]:
        array = block("liver", edge, at)
        found = find_odd_volumes(array, GRID, {"liver": int((array > 0).sum()), "spleen": 0})
        assert bool(found) is odd, (edge, at)


def test_an_odd_volume_is_not_certified_until_somebody_says_that_it_is_right() -> None:
    array = block("spleen", 3)
    organs = {
        "spleen": OrganChange("revised", 20, 27, 47, 0.0),
        "liver": OrganChange("absent", 9, 0, 9, 0.0),
        "stomach": OrganChange("not_assessed", 9, 9, 0, 1.0),
    }
    found = withhold_odd_volumes(organs, array, GRID)
    assert found["spleen"] == OrganChange(
        "not_assessed", 20, 27, 47, 0.0, "3.4 ml, where 27.9 to 1,779.6 ml are plausible"
    )
    assert found["spleen"].drawn_unassessed
    assert {o: found[o] for o in ("liver", "stomach")} == {
        o: organs[o] for o in ("liver", "stomach")
    }
    assert withhold_odd_volumes(organs, array, GRID, {"spleen"}) == organs
    confirmed = {"spleen": OrganChange("confirmed", 27, 27, 0, 1.0)}
    assert withhold_odd_volumes(confirmed, array, GRID)["spleen"].state == "not_assessed"
