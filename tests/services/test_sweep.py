"""Who is given which volumes of a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.store.test_sweeps import put, sha

from atlas8k.services import sweep as module
from atlas8k.services.errors import ConflictError, NotFoundError
from atlas8k.services.sweep import Sweep
from atlas8k.store import Holder, Ledger

ANNA, BERT = Holder("user:anna", False), Holder("user:bert", False)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    found = Ledger(tmp_path / "ledger.sqlite")
    found.add_volumes(f"ct_{number:02d}" for number in range(30))
    for number in range(30):
        put(found, f"ct_{number:02d}")
    return found


def names(sweep: Sweep, holder: Holder, count: int = 10, without: tuple[str, ...] = ()) -> set[str]:
    given, _ = sweep.next(holder, "worst", None, count=count, without=without)
    return {one.volume for one in given}


def test_two_people_are_not_given_the_same(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = Sweep(ledger)
    mine, theirs = names(sweep, ANNA, 20), names(sweep, BERT, 20)
    assert len(mine) == 20
    assert len(theirs) == 10
    assert not mine & theirs
    assert names(sweep, ANNA, 20) == mine  # as when the page is loaded anew
    first = min(mine)
    assert first not in names(sweep, ANNA, 20, without=(first,))
    monkeypatch.setattr(module.time, "monotonic", lambda: 1e9)  # everybody went home
    assert len(names(sweep, BERT, 30)) == 30


def test_the_number_that_waits_is_of_all(ledger: Ledger) -> None:
    sweep = Sweep(ledger)
    sweep.look("ct_03", sha("ct_03"), "fine", ANNA)
    _, waiting = sweep.next(BERT, "random", None, count=5, without=("ct_04",))
    assert waiting == 28


def test_what_cannot_be_recorded_is_said(ledger: Ledger) -> None:
    sweep = Sweep(ledger)
    with pytest.raises(ConflictError, match="another label by now"):
        sweep.look("ct_03", sha("ct_03", 2), "fine", ANNA)
    look = sweep.look("ct_03", sha("ct_03"), "fine", ANNA)
    with pytest.raises(NotFoundError):
        sweep.undo(look, BERT)
    assert sweep.undo(look, ANNA) == "ct_03"
