from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from tests.campaign.kit import CONFIRMED, REVISED, full, planned, review, worked
from tests.store.kit import ANNA, Clock

from atlas8k.campaign import pictures
from atlas8k.campaign.reviewed import reviewed
from atlas8k.campaign.status import status
from atlas8k.store import Ledger


def test_every_place_has_the_colour_of_what_became_of_it() -> None:
    axes = Figure().subplots()
    work = [worked(1, "a", organs={"liver": REVISED}), worked(2, "b"), worked(3, "e")]
    pictures._list(axes, planned("abcdef", top=2, audits="e"), reviewed(work))
    colours = Counter(to_hex(bar.get_facecolor()) for bar in axes.patches)
    assert colours == {pictures.CHANGED: 1, pictures.CONFIRMED: 2, pictures.OPEN: 3}
    marks, budget = axes.lines[:2]
    assert list(marks.get_xdata()) == [5]
    assert list(budget.get_xdata()) == [2.5, 2.5]


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_picture_is_written_whole(
    tmp_path: Path, ledger: Ledger, clock: Clock, suffix: str
) -> None:
    path = tmp_path / "made" / f"p.{suffix}"
    pictures.draw(path, status(ledger), None, [])  # nothing yet: it says so
    full(ledger, 10)
    review(ledger, clock, ANNA, REVISED)
    review(ledger, clock, ANNA, CONFIRMED)
    pictures.draw(path, status(ledger), ledger.plan(1), ledger.worked(1))
    assert path.stat().st_size > 5000
    assert [one.name for one in path.parent.iterdir()] == [path.name]
