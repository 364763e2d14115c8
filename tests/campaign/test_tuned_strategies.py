"""Strategies with fine-tuning: what a round does, and what is left of one that was ended.

Networks and CTs are figures in memory; tests/benchmarks/campaign_fine_tuning.py has real ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from atlas8k.campaign.strategies import REFERENCE, Strategy
from atlas8k.campaign.tuned_strategies import (
    PREDICTED,
    REVIEWED,
    STAGE,
    Plan,
    Seen,
    results,
    round_folder,
    run,
)
from atlas8k.core.errors import LedgerError

STRATEGIES = {
    "expected_error": Strategy("expected_error", "ranking"),
    REFERENCE: Strategy("expected_error", "random_foreground"),
}
PLAN = Plan(seeds=2, rounds=3, budget=2, size=8)
SPACING = (2.0, 2.0, 2.0)


class Interrupted(BaseException):
    """As a signal would: nothing catches it."""


def true_label(volume: str) -> np.ndarray:
    label = np.zeros((24, 8, 8), np.uint8)
    label[2:20] = 5
    label[20:22, 2:6] = 8
    return label


class Place:
    """Networks that cut off less of a liver the more volumes they have learned from."""

    def __init__(self, folder: Path, stop_at: int | None = None) -> None:
        self.folder, self.left, self.calls = folder, stop_at, 0
        self.volumes = [f"v{i:02d}" for i in range(10)]
        self.first_networks = folder / "first"
        self.first_networks.mkdir(exist_ok=True)
        (self.first_networks / "skill").write_text("0")
        self.trained: list[list[str]] = []

    def step(self) -> None:
        self.calls += 1
        if self.left is not None and self.calls > self.left:
            raise Interrupted

    def lacking(self, networks: Path, volume: str) -> int:
        """How much of the liver is cut off: more of volumes with a high number."""
        return max(0, 1 + int(volume[1:]) - int((networks / "skill").read_text()) // 2)

    def predict(self, networks: Path, volumes: Sequence[str]) -> Iterator[Seen]:
        for volume in volumes:
            self.step()
            cut = self.lacking(networks, volume)
            label, places = true_label(volume), np.zeros((24, 8, 8), bool)
            label[2 : 2 + cut] = 0
            places[2 : 2 + cut // 2] = True
            error = {"liver": float(cut), "spleen": None}
            yield Seen(volume, label, places, {"expected_error": error}, {"organs": True})

    def truth(self, volume: str) -> tuple[np.ndarray, tuple[float, float, float]]:
        return true_label(volume), SPACING

    def train(self, networks: Path, labels: Mapping[str, np.ndarray], out: Path, seed: int) -> None:
        self.step()
        self.trained.append(sorted(labels))
        right = sum(bool((labels[volume] == true_label(volume)).all()) for volume in labels)
        out.mkdir(parents=True, exist_ok=True)
        (out / "skill").write_text(str(right))
        self.step()

    def held_out(self, networks: Path) -> dict[str, list[list[float]]]:
        self.step()
        skill = int((networks / "skill").read_text())
        return {"unet": [[0.5 + skill / 100, float("nan")], [0.7 + skill / 100, 0.9]]}


def stages(folder: Path) -> dict[str, dict[str, object]]:
    found = {}
    for path in sorted(folder.rglob(STAGE)):
        stage = json.loads(path.read_text())
        stage.pop("seconds")
        found[str(path.relative_to(folder))] = stage
    return found


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_round_draws_corrects_learns_and_predicts_again(tmp_path: Path) -> None:
    place = Place(tmp_path)
    run(place, STRATEGIES, PLAN, tmp_path / "out")
    assert len(stages(tmp_path / "out")) == 1 + 2 * 2 * 3
    best = [
        json.loads(
            (round_folder(tmp_path / "out", PLAN, "expected_error", 0, r) / STAGE).read_text()
        )
        for r in range(4)
    ]
    part = sorted([*best[1]["volumes"], *best[1]["reviewed"]])
    assert len(part) == 8
    assert [len(stage["volumes"]) for stage in best] == [10, 6, 4, 2]  # what nobody has seen
    order = [volume for stage in best[1:] for volume in stage["reviewed"]]
    assert order == part[::-1][:6]  # the worst of the seed's volumes first
    # Each round learns from all volumes that were corrected by then.
    assert [len(labels) for labels in place.trained[:3]] == [2, 4, 6]
    # Networks that learned see more of what nobody has corrected.
    rest = [volume for volume in part if volume not in order]
    assert all(best[3]["volumes"][v]["dsc"][4] > best[0]["volumes"][v]["dsc"][4] for v in rest)
    assert all(one["wrong_ml"] == 0 for stage in best[1:] for one in stage["reviewed"].values())


def test_results_compare_with_random_and_tell_of_held_out_cts(tmp_path: Path) -> None:
    place = Place(tmp_path)
    run(place, STRATEGIES, PLAN, tmp_path / "out")
    found = results(tmp_path / "out", STRATEGIES, PLAN, place.volumes)
    assert found.seeds == (0, 1)
    best, random = found.compared["expected_error"], found.compared[REFERENCE]
    assert (random.gain, random.revisions) == (0, 1)
    assert best.gain > 0
    assert best.revisions < 1
    assert best.removed >= random.removed > 0.5
    # Of two organs the first is in both CTs, the second in one.
    assert found.held_out["expected_error"]["unet"][0] == pytest.approx([0.75, 0.76, 0.77, 0.78])
    # A run that goes on: only seeds that are whole count.
    (round_folder(tmp_path / "out", PLAN, REFERENCE, 1, 3) / STAGE).unlink()
    assert results(tmp_path / "out", STRATEGIES, PLAN, place.volumes).seeds == (0,)
    (round_folder(tmp_path / "out", PLAN, REFERENCE, 0, 1) / STAGE).unlink()
    assert results(tmp_path / "out", STRATEGIES, PLAN, place.volumes).compared == {}


@pytest.mark.parametrize("oracle", ["everything", "places", "noisy"])
def test_ended_anywhere_it_comes_to_the_same(tmp_path: Path, oracle: str) -> None:
    plan = Plan(seeds=1, rounds=2, budget=2, size=6, oracle=oracle)  # type: ignore[arg-type]
    whole = made(tmp_path / "whole")
    place = Place(whole)
    run(place, STRATEGIES, plan, whole / "out")
    expected, calls = stages(whole / "out"), place.calls
    assert calls > 30
    for stop_at in range(0, calls, 3 if oracle == "everything" else 9):
        folder = made(tmp_path / f"at{stop_at}")
        with pytest.raises(Interrupted):
            run(Place(folder, stop_at), STRATEGIES, plan, folder / "out")
        again = Place(folder)
        run(again, STRATEGIES, plan, folder / "out")
        assert stages(folder / "out") == expected, stop_at
    run(again, STRATEGIES, plan, folder / "out")  # nothing is left to do
    assert again.calls <= calls


def test_places_alone_leave_what_no_place_shows(tmp_path: Path) -> None:
    plan = Plan(seeds=1, rounds=1, budget=2, size=6, oracle="places")
    run(Place(tmp_path), STRATEGIES, plan, tmp_path / "out")
    done = round_folder(tmp_path / "out", plan, "expected_error", 0, 1)
    reviewed = json.loads((done / STAGE).read_text())["reviewed"]
    with np.load(done / REVIEWED) as labels, np.load(tmp_path / "out/start" / PREDICTED) as drafts:
        for volume, one in reviewed.items():
            wrong_before = np.count_nonzero(drafts[f"{volume} label"] != true_label(volume))
            wrong_after = np.count_nonzero(labels[volume] != true_label(volume))
            assert 0 < wrong_after < wrong_before
            assert one["wrong_ml"] == pytest.approx(wrong_after * 0.008)
            assert one["touched"] == 1


def test_results_of_another_plan_are_not_mixed(tmp_path: Path) -> None:
    run(Place(tmp_path), STRATEGIES, Plan(1, 1, 2, 6), tmp_path / "out")
    with pytest.raises(LedgerError, match="another plan"):
        run(Place(tmp_path), STRATEGIES, Plan(1, 1, 3, 6), tmp_path / "out")
    run(Place(tmp_path), STRATEGIES, Plan(2, 1, 2, 6), tmp_path / "out")  # more seeds may follow
    with pytest.raises(LedgerError, match="3 rounds of 3 volumes"):
        run(Place(tmp_path), STRATEGIES, Plan(1, 3, 3, 8), tmp_path / "other")
