"""Rounds and simulations on a real ledger; networks and files are figures in memory.

The real trainer, label_service and files run in tests/cli/test_campaign_command.py. Here a campaign
is interrupted at every one of its steps, which takes a place that works in microseconds.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.store.kit import ANNA, BEN, check_consistent, query, sizes

from atlas8k.campaign.oracles import Oracle
from atlas8k.campaign.simulation import FILE, Truth
from atlas8k.core.errors import LedgerError
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.core.volume import write_nifti
from atlas8k.services.campaign import advance
from atlas8k.services.simulation import Simulation, side_by_side
from atlas8k.store import Holder, Ledger, OrganChange

GRID = Grid((12, 3, 2), np.diag([2.0, 2.0, 2.0, 1.0]))
NAMES = [f"v{i}" for i in range(6)]


def truth_of(volume: str) -> np.ndarray:
    array = np.zeros(GRID.shape, np.uint8)
    array[2 : 5 + int(volume[1:]) % 4] = 5
    return array


class Interrupted(BaseException):
    """As a signal would: nothing catches it."""


class Place:
    """A workplace whose networks shave off a slab less after every training."""

    def __init__(
        self, folder: Path, *, gate: bool = True, stop_at: int | None = None, budget: float = 0.34
    ) -> None:
        self.folder, self.gate = folder, gate
        self.left = stop_at
        self.calls = 0
        self.ledger = Ledger(folder / "ledger.sqlite", budget=budget)
        self.ledger.set_campaign(audit_percent=0)  # unless a test asks for them
        self.ledger.sync_volumes(NAMES)
        self.kept = folder / "labels"
        self.kept.mkdir(exist_ok=True)

    def step(self) -> None:
        self.calls += 1
        if self.left is not None and self.calls > self.left:
            raise Interrupted

    @property
    def skill(self) -> int:
        path = self.folder / "skill"
        return int(path.read_text()) if path.exists() else 0

    def model_version(self) -> str:
        name = f"networks{self.skill}"
        self.ledger.register_model_version(name)
        return name

    def score(self) -> None:
        name = self.model_version()
        for volume in self.ledger.stale(name):
            self.step()
            self.ledger.record_score(volume, name, sizes(1.0 + int(volume[1:])))

    def train(self) -> None:
        self.step()
        number, served = self.ledger.rounds()[-1].number, f"networks{self.skill}"
        if self.gate:
            (self.folder / "skill").write_text(str(self.skill + 1))
        self.step()
        gate = {"on": True, "publish": ["unet"] if self.gate else [], "refused": {}}
        self.ledger.note_training(
            number, f"{number} {served}", {"gate": gate, "trained_from": served}
        )
        self.step()

    def volumes(self) -> list[str]:
        return NAMES

    def start(self, volume: str) -> tuple[np.ndarray, Grid]:
        self.step()
        file = self.kept / f"{volume}.npy"
        if file.exists():
            return np.load(file), GRID
        made = truth_of(volume)
        made[: 4 - self.skill] = 0
        return made, GRID

    def places(self, volume: str) -> np.ndarray:
        self.step()
        shown = np.zeros(GRID.shape, bool)
        shown[2:3] = True  # of what the networks shave off
        return shown

    def submit(
        self, volume: str, array: np.ndarray, grid: Grid, absent: tuple[str, ...],
        holder: Holder, lease: int,
    ) -> None:  # fmt: skip
        self.step()
        before, _ = self.start(volume)
        np.save(self.kept / f"{volume}.npy", array)
        state = "confirmed" if (before == array).all() else "revised"
        organs = {o: OrganChange("absent", 0, 0, 0) for o in absent}
        organs["liver"] = OrganChange(state, int((before > 0).sum()), int((array > 0).sum()))
        self.ledger.submit(volume, holder, organs=organs, lease=lease)
        self.step()


@pytest.fixture
def truth(tmp_path: Path) -> Truth:
    folder = tmp_path / "truth"
    folder.mkdir()
    for name in NAMES:
        write_nifti(folder / f"{name}.nii.gz", truth_of(name), GRID)
    return Truth(folder)


def simulate(
    folder: Path, truth: Truth, rounds: int = 2, oracle: Oracle = "everything", **more: object
) -> Place:
    place = Place(folder, **more)  # type: ignore[arg-type]
    try:
        Simulation(place, truth, folder / "out", oracle=oracle).run(rounds)
    finally:
        place.ledger.close()
    return place


def told(folder: Path) -> list[dict[str, object]]:
    rounds = json.loads((folder / "out" / FILE).read_text())["rounds"]
    for one in rounds:
        if one["training"]:
            one["training"]["at"] = 0
    return list(rounds)


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_two_rounds_correct_the_top_and_make_better_networks(tmp_path: Path, truth: Truth) -> None:
    folder = made(tmp_path / "a")
    place = simulate(folder, truth)
    one, two = told(folder)
    assert [r["round"] for r in (one, two)] == [1, 2]
    assert [r["reviewed"] for r in (one, two)] == [2, 2]
    values = [r[p]["dsc"] for r in (one, two) for p in ("before", "revised", "after")]  # type: ignore[index]
    assert values == sorted(values)
    assert one["after"] == two["before"]
    assert [r["training"]["verdict"] for r in (one, two)] == ["published"] * 2  # type: ignore[index]
    reviewed = query(place.ledger.path, "SELECT volume, round FROM submission ORDER BY id")
    assert reviewed == [(6, 1), (5, 1), (4, 2), (3, 2)]  # by attention, largest first
    assert [r.closed_at is None for r in place.ledger.rounds()] == [False, False, True]
    check_consistent(place.ledger.path)


def test_interrupted_anywhere_it_comes_to_the_same(tmp_path: Path, truth: Truth) -> None:
    whole = made(tmp_path / "whole")
    calls = simulate(whole, truth).calls
    expected = told(whole)
    assert calls > 40
    for stop_at in range(0, calls):
        folder = made(tmp_path / f"at{stop_at}")
        with pytest.raises(Interrupted):
            simulate(folder, truth, stop_at=stop_at)
        place = simulate(folder, truth)
        found = told(folder)
        for one, other in zip(found, expected, strict=True):
            # A training that was killed after it had published may have told nobody, and
            # then there is no label as it was before it any more.
            if one["training"] is None:
                one["training"] = other["training"]
        assert found == expected, stop_at
        assert query(place.ledger.path, "SELECT count(*), count(DISTINCT volume) FROM submission") \
            == [(4, 4)], stop_at  # fmt: skip
        check_consistent(place.ledger.path)


def test_a_round_ends_where_the_gate_refuses_as_well(tmp_path: Path, truth: Truth) -> None:
    folder = made(tmp_path / "a")
    place = simulate(folder, truth, gate=False)
    assert [one["training"]["verdict"] for one in told(folder)] == ["refused"] * 2  # type: ignore[index]
    assert {one.model_version for one in place.ledger.rounds()} == {"networks0"}


def test_audits_are_done_beside_the_budget(tmp_path: Path, truth: Truth) -> None:
    folder = made(tmp_path / "a")
    place = Place(folder)
    place.ledger.set_campaign(audit_percent=50)
    (one,) = Simulation(place, truth, folder / "out").run(1)
    assert one.reviewed == 4
    assert place.ledger.rounds()[0].audited == 2


def test_it_ends_with_a_word_when_nothing_is_left(tmp_path: Path, truth: Truth) -> None:
    folder = made(tmp_path / "a")
    with pytest.raises(LedgerError, match="round 4 has no list"):
        simulate(folder, truth, rounds=9)
    assert len(told(folder)) == 3


def test_a_folder_of_another_simulation_is_refused(tmp_path: Path, truth: Truth) -> None:
    folder = made(tmp_path / "a")
    place = simulate(folder, truth, rounds=1)
    with pytest.raises(LedgerError, match="another simulation"):
        Simulation(place, truth, folder / "out", below=0.5)
    with pytest.raises(LedgerError, match="another simulation"):
        Simulation(place, truth, folder / "out", oracle="noisy")


def test_an_oracle_that_is_shown_places_corrects_these_alone(tmp_path: Path, truth: Truth) -> None:
    place = simulate(made(tmp_path / "a"), truth, rounds=1, oracle="places")
    for volume in ("v4", "v5"):
        label = np.load(place.kept / f"{volume}.npy")
        assert (label[2] == truth_of(volume)[2]).all()  # the place
        assert label[2].all()
        assert not label[3].any()  # what the networks left out, and nothing showed


def test_a_volume_without_a_truth_is_named(tmp_path: Path, truth: Truth) -> None:
    place = Place(made(tmp_path / "a"))
    (truth.folder / "v3.nii.gz").unlink()
    with pytest.raises(LedgerError, match="no true label of v3;"):
        Simulation(place, Truth(truth.folder), tmp_path / "out")


def test_orders_of_review_are_compared_without_training(tmp_path: Path, truth: Truth) -> None:
    place = Place(made(tmp_path / "a"))
    asked = {"seeds": 2, "rounds": 2, "share": 0.2}
    found = side_by_side(place, truth, **asked)  # type: ignore[arg-type]
    assert set(found) == {"eq4", "random", "random_foreground", "stratified"}
    for one in found.values():
        assert 0 < one.area < one.final <= 1
    assert place.ledger.worked() == []  # nobody has submitted anything
    assert place.skill == 0
    for name in NAMES[:3]:
        (truth.folder / f"{name}.nii.gz").unlink()
    with pytest.raises(LedgerError, match="3 volumes have a score and a true label; 4 are needed"):
        side_by_side(place, Truth(truth.folder), **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("oracle", ["everything", "places", "noisy"])
def test_a_comparison_that_was_ended_goes_on(tmp_path: Path, truth: Truth, oracle: Oracle) -> None:
    def compare(folder: Path, stop_at: int | None = None) -> tuple[object, int]:
        place = Place(folder, stop_at=stop_at)
        try:
            found = side_by_side(
                place, truth, seeds=2, rounds=2, share=0.2, oracle=oracle,
                folder=folder / "measured",
            )  # fmt: skip
        finally:
            place.ledger.close()
        return found, place.calls

    expected, calls = compare(made(tmp_path / "whole"))
    for stop_at in range(0, calls, 3):
        folder = made(tmp_path / f"at{stop_at}")
        with pytest.raises(Interrupted):
            compare(folder, stop_at)
        assert compare(folder)[0] == expected, stop_at
    # What was measured is not measured again: places are asked for once.
    again = compare(tmp_path / "whole")
    assert again == (expected, len(NAMES))
    for file in (tmp_path / "whole" / "measured" / oracle).iterdir():
        file.write_text(file.read_text().replace("networks0", "networks9"))
    assert compare(tmp_path / "whole")[1] == len(NAMES) * (2 if oracle == "places" else 1)


# --- the next round, with people ------------------------------------------------------------


def work(place: Place, n: int) -> None:
    for _ in range(n):
        sample = place.ledger.next_sample(holder=ANNA, model_version=place.model_version())
        assert sample is not None
        array = truth_of(sample.volume)
        place.submit(sample.volume, array, GRID, ORGAN_NAMES[:4], ANNA, sample.lease)


def test_next_does_what_is_due_and_no_more(tmp_path: Path) -> None:
    place = Place(tmp_path)
    said: list[str] = []
    first = advance(place, report=said.append)
    assert (first.ended, first.round, first.drawn) == (None, 1, True)
    assert said == ["predicting under networks0"]
    assert advance(place, report=said.append) == first  # nothing to do
    work(place, 1)
    assert advance(place, report=said.append).ended is None  # one of two
    assert advance(place, train=False, early=True, report=said.append).ended is None
    early = advance(place, early=True, report=said.append)
    assert (early.ended, early.round, early.drawn) == (1, 2, True)
    assert early.trained is not None
    assert early.trained.verdict == "published"
    assert advance(place, early=True, report=said.append).ended is None  # nothing submitted
    work(place, 2)
    used = advance(place, score=False, report=said.append)
    assert (used.ended, used.round, used.drawn) == (2, 3, False)


def test_next_waits_for_the_audits_of_a_round(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.ledger.set_campaign(audit_percent=25, stop_after=2)  # one of four
    advance(place, report=str)
    work(place, 1)
    audit = place.ledger.next_sample(holder=BEN, model_version=place.model_version())
    assert audit is not None
    assert audit.audit
    work(place, 1)
    assert advance(place, report=str).ended is None  # in hand
    place.ledger.release(audit.volume, BEN)
    assert advance(place, report=str).ended is None  # to come
    work(place, 1)
    done = advance(place, report=str)
    assert done.ended == 1
    assert place.ledger.rounds()[0].audited == 1
    assert done.stop is not None  # who reads of the end is told what the rule was
    assert (done.stop.round, done.stop.needed, done.stop.broken_by) == (1, 2, "v5")


def test_next_need_not_wait_for_audits(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.ledger.set_campaign(audit_percent=25)
    advance(place, report=str)
    work(place, 1)
    assert advance(place, early=True, report=str).ended == 1


def test_next_trains_on_the_last_volumes_of_a_collection(tmp_path: Path) -> None:
    place = Place(tmp_path, budget=0.84)  # five of six
    advance(place, report=str)
    work(place, 5)
    assert advance(place, report=str).ended == 1
    work(place, 1)  # all that is left
    last = advance(place, report=str)
    assert (last.ended, last.round, last.drawn) == (2, 3, False)
    assert advance(place, report=str).ended is None


def test_next_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    for stop_at in range(0, 12):
        folder = made(tmp_path / str(stop_at))
        place = Place(folder)
        advance(place, report=str)
        work(place, 2)
        place.left, place.calls = stop_at, 0
        try:
            advance(place, report=str)
        except Interrupted:
            place.left = None
            advance(place, report=str)
        assert [r.closed_at is None for r in place.ledger.rounds()] == [False, True]
        assert place.skill == 1
        assert len(place.ledger.trainings()) <= 1
        assert place.ledger.plan(2) is not None
        place.ledger.close()
