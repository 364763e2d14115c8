"""What was changed inside the places shown, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from atlas8k.core.grid import Grid
from atlas8k.core.organ_states import OrganChange, PlacesChanged
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.labels import places_changed as module
from atlas8k.labels.places_changed import places_changed

GRID = Grid((10, 10, 10), np.diag([10.0, 10.0, 10.0, 1.0]))
"""A voxel is a millilitre."""
LIVER, SPLEEN = ORGAN_IDS["liver"], ORGAN_IDS["spleen"]
ORGANS = {
    "liver": OrganChange("revised"),
    "spleen": OrganChange("confirmed"),
    "stomach": OrganChange("not_assessed"),
}


def box(organ: str, start: tuple[int, ...], stop: tuple[int, ...]) -> dict[str, object]:
    return {"organ": organ, "start": list(start), "stop": list(stop), "slice": 0}


@pytest.mark.parametrize("block", [1, 250, 1 << 22])
@pytest.mark.parametrize("order", ["C", "F"])
def test_changes_are_counted_once_and_by_organ(
    block: int, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    draft = np.zeros(GRID.shape, np.uint8, order=order)  # type: ignore[call-overload]
    draft[2:6, 2:6, 2:6] = LIVER
    label = draft.copy(order="K")
    label[5, 2:6, 2:6] = 0  # 16 ml taken off
    label[2, 2, 2] = SPLEEN  # and one given to another organ
    shown = [
        box("liver", (4, 2, 2), (7, 4, 6)),  # 8 of the 16
        box("liver", (5, 3, 2), (6, 5, 6)),  # 4 of these again, 4 more
        box("spleen", (0, 0, 0), (3, 3, 3)),  # the one voxel
        box("liver", (8, 8, 8), (10, 10, 10)),
        box("stomach", (0, 0, 0), (10, 10, 10)),
    ]
    found = places_changed(draft, label, GRID, ORGANS, shown[:4])
    assert found == {
        "liver": PlacesChanged(3, 2, 17.0, 13.0),
        "spleen": PlacesChanged(1, 1, 1.0, 1.0),
    }
    assert places_changed(draft, label, GRID, ORGANS, shown)["liver"].inside_ml == 17.0
    assert places_changed(draft, label, GRID, ORGANS, []) == {
        "liver": PlacesChanged(0, 0, 17.0, 0.0),
        "spleen": PlacesChanged(0, 0, 1.0, 0.0),
    }


def test_nothing_changed_is_nothing_found() -> None:
    label = np.full(GRID.shape, LIVER, np.uint8)
    found = places_changed(label, label, GRID, ORGANS, [box("liver", (0, 0, 0), (9, 9, 9))])
    assert found["liver"] == PlacesChanged(1, 0, 0.0, 0.0)
